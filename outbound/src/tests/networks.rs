//! Where connections may lead, and how they are kept.

use super::*;
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// A server that answers every request with 202 and counts connections.
async fn server(address: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if request.ends_with(b"{}") {
                        request.clear();
                        stream
                            .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
                            .await
                            .unwrap();
                    }
                }
            });
        }
    });
    (address, connections)
}

/// Looks every name up as these addresses, in turn and then always as the last one.
fn scripted(script: &[&[IpAddr]]) -> Clients {
    aging(script, MAX_AGE)
}

/// The same, with connections that are given up at this age.
fn aging(script: &[&[IpAddr]], max_age: Duration) -> Clients {
    let script: Vec<Vec<IpAddr>> = script.iter().map(|addresses| addresses.to_vec()).collect();
    let next = Mutex::new(0);
    let resolver = Resolver::asking(move |_| {
        let mut next = next.lock().unwrap();
        let found = script[(*next).min(script.len() - 1)].clone();
        *next += 1;
        Ok(found)
    });
    Clients::new(resolver, max_age)
}

fn to(host: &str, port: u16, networks: &[&str]) -> Target {
    let url = Url::parse(&format!("http://{host}:{port}/webhooks/r")).unwrap();
    Target::new(url, Duration::from_secs(5), networks)
}

fn at(address: &str) -> IpAddr {
    address.parse().unwrap()
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_with_its_reason() {
    for (address, expected) in [
        (
            "169.254.169.254",
            "hooks.example leads to 169.254.169.254, which is link-local, and the tenant does not allow that; if Hermes \
             is there, add link-local to the tenant's networks",
        ),
        ("127.0.0.1", "add loopback to the tenant's networks"),
        ("::ffff:10.0.0.1", "leads to ::ffff:10.0.0.1, which is private"),
        ("64:ff9b::7f00:1", "which is loopback"),
        (
            "192.0.2.1",
            "which is reserved, and the tenant does not allow that; if Hermes is there, add 192.0.2.1",
        ),
    ] {
        let target = to("hooks.example", 80, &[]);
        let (exchange, timings) = scripted(&[&[at(address)]]).post(&target).await;
        let Exchange::NotAllowed(why) = &exchange else { panic!("{address}: {exchange:?}") };
        assert!(why.contains(expected), "{why}");
        assert!(
            timings.connecting.dns.is_some()
                && timings.connecting.connect.is_none()
                && timings.first_byte.is_none()
        );
    }
    let mut target = to("api.example", 80, &[]);
    target.policy.peer = Peer::OpenRouter;
    let (exchange, _) = scripted(&[&[at("127.0.0.1")]]).post(&target).await;
    let Exchange::NotAllowed(why) = &exchange else { panic!("{exchange:?}") };
    assert!(why.contains("if OpenRouter is there, add loopback to the tenant's networks"), "{why}");
    let (exchange, _) = scripted(&[&[at("8.8.8.8")]]).post(&target).await;
    let Exchange::NotAllowed(why) = &exchange else { panic!("{exchange:?}") };
    assert_eq!(
        why,
        "api.example leads to 8.8.8.8, which is public, and the key would go there in plain text; write https:// in \
         openrouter.base_url"
    );
    // An address in the URL is judged like one behind a name, however it is written.
    for host in ["127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let (exchange, _) = clients().post(&to(host, 80, &[])).await;
        assert!(
            matches!(&exchange, Exchange::NotAllowed(why) if why.contains(" is ")),
            "{host}: {exchange:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_goes_only_to_an_address_that_was_checked_for_it() {
    let (open, opened) = server("127.0.0.1:0").await;
    let forbidden = TcpListener::bind(("127.0.0.2", open.port())).await.unwrap();
    let elsewhere = at("127.0.0.2");
    // DNS gives one address and then another, as in DNS rebinding.
    let clients = scripted(&[&[open.ip()], &[elsewhere], &[elsewhere, open.ip()]]);
    let target = to("hooks.example", open.port(), &["127.0.0.1"]);
    let (first, timings) = clients.post(&target).await;
    assert!(matches!(first, Exchange::Answered(_)), "{first:?}");
    assert!(timings.connecting.dns.is_some() && timings.connecting.connect.is_some() && !timings.reused);
    // The connection is used again, without another look-up.
    let (again, timings) = clients.post(&target).await;
    assert!(matches!(again, Exchange::Answered(_)) && timings.reused, "{again:?}");
    assert_eq!((opened.load(Ordering::Relaxed), timings.connecting), (1, ConnectTimings::default()));
    // Another policy has its own connections, with their own check.
    let other = to("hooks.example", open.port(), &["127.0.0.1", "private"]);
    let (moved, _) = clients.post(&other).await;
    assert!(matches!(&moved, Exchange::NotAllowed(why) if why.contains("127.0.0.2")), "{moved:?}");
    // Of several addresses the ones that are allowed are used.
    let (mixed, _) = clients.post(&other).await;
    assert!(matches!(mixed, Exchange::Answered(_)), "{mixed:?}");
    let unheard = timeout(Duration::from_millis(50), forbidden.accept()).await;
    assert!(unheard.is_err(), "no connection to the forbidden address");
}

/// Both addresses answer, and the name leads to the second one.
#[tokio::test]
async fn a_connection_of_age_is_given_up_and_its_name_is_looked_up_and_checked_again() {
    let (old, at_old) = server("127.0.0.1:0").await;
    let (new, at_new) = server(&format!("127.0.0.5:{}", old.port())).await;
    let script: [&[IpAddr]; 3] = [&[old.ip()], &[new.ip()], &[at("127.0.0.6")]];
    let target = to("hooks.example", old.port(), &["127.0.0.1", "127.0.0.5"]);
    let connections = || (at_old.load(Ordering::Relaxed), at_new.load(Ordering::Relaxed));

    let clients = aging(&script, Duration::ZERO);
    for expected in [(1, 0), (1, 1)] {
        let (exchange, timings) = clients.post(&target).await;
        assert!(matches!(exchange, Exchange::Answered(_)) && !timings.reused, "{exchange:?}");
        assert_eq!(connections(), expected);
    }
    let (exchange, _) = clients.post(&target).await;
    assert!(matches!(&exchange, Exchange::NotAllowed(why) if why.contains("127.0.0.6")), "{exchange:?}");

    // A younger one is kept.
    let clients = scripted(&script);
    for _ in 0..3 {
        let (exchange, _) = clients.post(&target).await;
        assert!(matches!(exchange, Exchange::Answered(_)), "{exchange:?}");
    }
    assert_eq!(connections(), (2, 1));
}

#[test]
fn a_connection_never_takes_a_request_beyond_its_age_though_it_lay_idle() {
    let clients = clients();
    for (seconds, is_last) in [(0, false), (39, false), (40, true), (60, true), (3_600, true)] {
        assert_eq!(clients.is_last_request(Duration::from_secs(seconds)), is_last, "{seconds}");
    }
}

#[tokio::test]
async fn an_address_that_refuses_leaves_time_for_the_next() {
    let (open, _) = server("127.0.0.1:0").await;
    let closed = at("127.0.0.3");
    let target = to("hooks.example", open.port(), &["loopback"]);
    let (exchange, _) = scripted(&[&[closed, open.ip()]]).post(&target).await;
    assert!(matches!(exchange, Exchange::Answered(_)), "{exchange:?}");
    let (exchange, _) = scripted(&[&[closed]]).post(&target).await;
    assert!(
        matches!(&exchange, Exchange::NotSent(why) if why.contains("cannot connect to 127.0.0.3") && why.contains("refused")),
        "{exchange:?}"
    );
    let (exchange, _) = scripted(&[&[]]).post(&target).await;
    assert_eq!(exchange, Exchange::NotSent("hooks.example has no address".into()));
}

/// An address that listens with a full queue, so that a client gets no answer, as long as the returned sockets are kept.
async fn deaf(address: &str) -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let (address, mut waiting) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    (address, (listener, waiting))
}

#[tokio::test]
async fn a_silent_address_leaves_time_for_the_next() {
    let (open, _) = server("127.0.0.1:0").await;
    let (deaf, _waiting) = deaf(&format!("127.0.0.4:{}", open.port())).await;
    let target = to("hooks.example", open.port(), &["loopback"]);
    let (exchange, timings) = scripted(&[&[deaf.ip(), open.ip()]]).post(&target).await;
    assert!(matches!(exchange, Exchange::Answered(_)), "{exchange:?}");
    assert!(timings.total >= Duration::from_secs(2) && timings.total < target.timeout, "{timings:?}");
}

/// Without a connection nothing can have been sent.
#[tokio::test]
async fn a_deadline_before_there_is_a_connection_is_no_lost_answer() {
    let (full, _waiting) = deaf("127.0.0.1:0").await;
    let mut target = to("127.0.0.1", full.port(), &["loopback"]);
    target.timeout = Duration::from_millis(200);
    let (exchange, timings) = clients().post(&target).await;
    assert_eq!(exchange, Exchange::NotSent("no connection within 200ms".into()));
    assert!(timings.total >= target.timeout && timings.first_byte.is_none());
}
