//! An ingress under a flood of junk, while callbacks come: every answer to one of them is 204. The junk is random, from a
//! seed.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    env, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use talaria_tests::{
    http,
    openrouter::OpenRouter,
    seeded,
    stack::{Stack, openrouter_secret, stack},
    until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Strangers who come at once. Each comes again as soon as he is done.
const STRANGERS: u64 = 60;

/// Who sends callbacks, one after another.
const SENDERS: usize = 4;

/// The longest that a stranger stays.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long it goes on. A longer time shows no more but on a whole run.
fn flooded() -> Duration {
    Duration::from_secs(if env::var("TALARIA_WHOLE").is_ok() { 30 } else { 8 })
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_accepted_during_a_flood_of_junk() {
    let mut random = seeded("a flood of junk");
    // Installs the TLS provider.
    drop(http());
    // Less of everything than the strangers have.
    let keys = "ingress: {listen: 127.0.0.1:0, max_body_bytes: 100000, head_timeout: 2s, body_timeout: 2s, limits: \
                {connections: 48, bodies: 1MiB, storing: 32, refused_per_address: 5/min}}";
    let stack = stack().with(keys).tenant("acme", |tenant| tenant).start().await;
    let (end, came) = (Instant::now() + flooded(), Arc::new(AtomicU64::new(0)));
    let mut strangers = JoinSet::new();
    for _ in 0..STRANGERS {
        let (ingress, came) = (stack.ingress(), Arc::clone(&came));
        let mut random = StdRng::seed_from_u64(random.random());
        strangers.spawn(async move {
            while Instant::now() < end {
                // Whatever becomes of it.
                let _ = timeout(PATIENCE, come(ingress, &mut random)).await;
                came.fetch_add(1, Relaxed);
            }
        });
    }
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        // A connection for each callback, as from a fleet of senders.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let openrouter = OpenRouter::with(client, stack.ingress(), "acme", &openrouter_secret("acme"));
        senders.spawn(async move {
            let (mut sent, mut again) = (0_u64, 0_u64);
            while Instant::now() < end {
                match openrouter.try_send(&format!("job-{sender}-{sent}"), "completed").await {
                    Some(204) => sent += 1,
                    // Its connection had to make room, or the disk was slow; it is sent again, as callbacks are.
                    None | Some(503) => again += 1,
                    Some(other) => panic!("a callback was answered {other}"),
                }
            }
            (sent, again)
        });
    }
    let counts = senders.join_all().await;
    strangers.join_all().await;
    let (sent, again) =
        counts.into_iter().fold((0, 0), |(sent, again), next| (sent + next.0, again + next.1));
    let came = came.load(Relaxed);
    eprintln!("{sent} callbacks were accepted, {again} sent again, beside {came} times that strangers came");
    assert!(sent > 0 && again <= sent / 10);
    check_metrics(&stack, sent).await;
}

/// A stranger does one of the things that strangers do, from one of a few addresses.
async fn come(ingress: SocketAddr, random: &mut StdRng) -> io::Result<()> {
    let mut stream = TcpStream::connect(ingress).await?;
    let from = format!("X-Forwarded-For: 198.51.100.{}\r\n", random.random_range(0..20));
    let tenant = ["acme", "nobody", "%00"][random.random_range(0..3)];
    let length = random.random_range(1..200_000);
    let head = format!("POST /callbacks/{tenant} HTTP/1.1\r\nHost: h\r\n{from}");
    let signature = format!("X-OpenRouter-Signature: t={},v1={}\r\n", random.random::<u32>(), "0".repeat(64));
    match random.random_range(0..9) {
        // Nothing at all.
        0 => {}
        // Bytes that are no HTTP.
        1 => {
            let junk: Vec<u8> = (0..random.random_range(1..5000)).map(|_| random.random()).collect();
            stream.write_all(&junk).await?;
        }
        // A head that never ends, at once or in drops.
        2 => stream.write_all(format!("{head}X: {}", "x".repeat(length)).as_bytes()).await?,
        3 => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(b"X: y\r\n").await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(1..200))).await;
            }
        }
        // A promise.
        4 => stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes()).await?,
        // A body that is never whole, or in drops.
        5 => {
            stream.write_all(format!("{head}Content-Length: 100000\r\n\r\n").as_bytes()).await?;
            stream.write_all(&vec![b'x'; 90_000]).await?;
        }
        6 => {
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b"1\r\nx\r\n").await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(1..200))).await;
            }
        }
        // A whole callback without a signature.
        7 => {
            let request = format!("{head}{signature}Content-Length: {length}\r\n\r\n{}", "x".repeat(length));
            stream.write_all(request.as_bytes()).await?;
        }
        // Requests without end, whose answers are never read.
        _ => {
            let requests = format!("GET /{tenant} HTTP/1.1\r\nHost: h\r\n{from}\r\n").repeat(100);
            loop {
                stream.write_all(requests.as_bytes()).await?;
            }
        }
    }
    // Until the other side closes the connection.
    let mut answer = [0; 1024];
    while stream.read(&mut answer).await? > 0 {}
    Ok(())
}

/// Checks that every client is counted, and that no memory is in use any more.
async fn check_metrics(stack: &Stack, sent: u64) {
    let text = until("nothing is held", async || {
        let (_, text) = stack.admin_get("/metrics").await;
        let none = |name| text.contains(&format!("{name} 0\n"));
        (none("talaria_ingress_body_bytes") && none("talaria_ingress_storing")).then_some(text)
    })
    .await;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse::<u64>().unwrap()
    };
    // The last ones may have been accepted without learning of it.
    let accepted = value("talaria_callbacks_total{tenant=\"acme\",result=\"accepted\"}");
    assert!((sent..=sent + SENDERS as u64).contains(&accepted), "{sent}: {text}");
    let limited = |limit| value(&format!("talaria_callbacks_limited_total{{limit=\"{limit}\"}}"));
    assert!(limited("refused_per_address") > 0 && limited("connections") > 0, "{text}");
}
