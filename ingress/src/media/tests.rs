//! Requests over real sockets, with a stand-in for OpenRouter.

use crate::Ingress;
use jiff::Timestamp;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use talaria_bus::Bus;
use talaria_core::{
    config::{Role, testing::Files},
    media::{Claims, sign},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

const KEY: &str = "sk-or-v1-hunter2";
/// Where an answer pauses.
const PAUSE: char = '\u{1}';
const MP4: &str = "\0\0\0\x18ftypisom a video";

/// An ingress with the tenants acme and other, which give links, and `silent`, which gives none.
struct Running {
    address: SocketAddr,
    /// The answers of OpenRouter, the next one last.
    answers: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Lets an answer go on after [`PAUSE`].
    gate: Arc<Notify>,
    _config: watch::Sender<Arc<talaria_core::config::Config>>,
    _files: Files,
    _bus: Bus,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    async fn start(ingress: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let gate = Arc::<Notify>::default();
        tokio::spawn(serve(listener, Arc::clone(&answers), Arc::clone(&asked), Arc::clone(&gate)));
        let tenant = |key: &str, media: &str| {
            format!(
                "{{networks: [loopback], media: {{{media}}}, openrouter: {{secrets: [{{file: secret}}], \
                 api_key: {{file: {key}}}, base_url: '{url}'}}}}"
            )
        };
        let text = format!(
            "ingress: {{listen: 127.0.0.1:0, public_url: 'https://h', {ingress}}}\ntenants:\n  acme: {}\n  \
             other: {}\n  silent: {}\n",
            tenant("key", "mode: link, max_bytes: 1KiB"),
            tenant("other-key", "mode: link"),
            tenant("key", "mode: off"),
        );
        let files = Files::new(&text, &[("secret", "s3cret"), ("key", KEY), ("other-key", "sk-or-v1-other")]);
        let config = watch::Sender::new(Arc::new(files.load(Role::Both)));
        let bus = Bus::embedded(&files.path("")).await.unwrap();
        let ingress = Ingress::bind(config.subscribe(), bus.publisher()).await.unwrap();
        let address = ingress.address().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(ingress.serve(CancellationToken::new(), stop.clone()));
        Self { address, answers, asked, gate, _config: config, _files: files, _bus: bus, stop }
    }

    fn says(&self, answer: String) {
        self.answers.lock().unwrap().insert(0, answer);
    }

    /// The whole answer, until the end of the connection.
    async fn ask(&self, method: &str, token: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} /media/{token} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes=3-\r\n\
             Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A connection that is cut may be reset.
        while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {}
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
        Answer { head, body: body.to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    head: Vec<String>,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head[0].split(' ').nth(1).unwrap().parse().unwrap()
    }
}

async fn serve(
    listener: TcpListener,
    answers: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    gate: Arc<Notify>,
) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
        asked.lock().unwrap().push(String::from_utf8(request).unwrap());
        let answer = answers.lock().unwrap().pop().expect("an answer");
        let (first, rest) = answer.split_once(PAUSE).unwrap_or((&answer, ""));
        stream.write_all(first.as_bytes()).await.unwrap();
        if !rest.is_empty() {
            gate.notified().await;
            stream.write_all(rest.as_bytes()).await.unwrap();
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nSet-Cookie: k={KEY}\r\nX-Upstream: 1\r\n{headers}\r\n{body}"
    )
}

fn video(body: &str) -> String {
    answer("200 OK", &format!("Content-Type: video/mp4\r\nContent-Length: {}\r\n", body.len()), body)
}

fn chunked(body: &str, end: &str) -> String {
    let headers = "Content-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n";
    answer("200 OK", headers, &format!("{:x}\r\n{body}\r\n{end}", body.len()))
}

fn token_with(key: &str, tenant: &str, life: i64) -> String {
    let expires_at = Timestamp::from_second(Timestamp::now().as_second() + life).unwrap();
    let claims = Claims { tenant: tenant.into(), job_id: "job/../1".into(), index: 1, expires_at };
    sign(&key.into(), &claims).unwrap()
}

fn token() -> String {
    token_with(KEY, "acme", 600)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_gives_the_file_and_nothing_else_of_openrouters_answer() {
    let running = Running::start("").await;
    running.says(video(MP4));
    let whole = running.ask("GET", &token()).await;
    assert_eq!(whole.body, MP4);
    let mut head = whole.head.clone();
    head.sort();
    assert_eq!(
        head,
        [
            "HTTP/1.1 200 OK",
            "accept-ranges: none",
            "cache-control: private",
            "connection: close",
            "content-disposition: attachment; filename=\"job____1-1.mp4\"",
            "content-length: 20",
            "content-type: video/mp4",
            "x-content-type-options: nosniff",
        ]
    );
    running.says(chunked(MP4, "0\r\n\r\n"));
    let without_length = running.ask("GET", &token()).await;
    assert_eq!(without_length.body, format!("14\r\n{MP4}\r\n0\r\n\r\n"));
    // The answer to HEAD has the same headers.
    for file in [video(MP4), chunked(MP4, "0\r\n\r\n")] {
        running.says(file);
        let head = running.ask("HEAD", &token()).await;
        assert_eq!((head.status(), head.body.as_str()), (200, ""));
        assert!(!head.head.contains(&"content-length: 0".to_owned()), "{head:?}");
    }
    running.says(video(MP4));
    assert_eq!(running.ask("HEAD", &token()).await.head, whole.head);
    for asked in running.asked.lock().unwrap().iter() {
        assert!(asked.starts_with("GET /api/v1/videos/job%2F..%2F1/content?index=1 HTTP/1.1\r\n"), "{asked}");
        assert!(!asked.contains("Range") && !asked.contains("Cookie"), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_link_that_gives_nothing_gets_the_same_answer() {
    let running = Running::start("").await;
    let good = token();
    let changed = good.replacen(&good[9..10], if &good[9..10] == "x" { "y" } else { "x" }, 1);
    running.says(answer("404 Not Found", "Content-Length: 2\r\n", "{}"));
    let gone = running.ask("GET", &good).await;
    assert_eq!(gone.status(), 404);
    assert!(gone.body.contains("There is no such file, or its link has expired."), "{gone:?}");
    for wrong in [
        String::new(),
        "nonsense".into(),
        "x".repeat(5_000),
        format!("{good}/"),
        format!("{good}=="),
        good[1..].to_owned(),
        changed,
        token_with(KEY, "acme", -120),
        token_with("sk-or-v1-other", "acme", 600),
        token_with(KEY, "other", 600),
        token_with(KEY, "nobody", 600),
        token_with("no tenant's", "nobody", 600),
        token_with(KEY, "silent", 600),
    ] {
        assert_eq!(running.ask("GET", &wrong).await, gone, "{wrong}");
    }
    let posted = running.ask("POST", &good).await;
    assert!(posted.status() == 405 && posted.head.contains(&"allow: GET, HEAD".to_owned()), "{posted:?}");
    assert_eq!(running.asked.lock().unwrap().len(), 1, "OpenRouter is asked for what a link gives alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_502_and_nothing_of_it_goes_out() {
    let running = Running::start("").await;
    for refused in [
        answer("200 OK", "Content-Type: text/html\r\nContent-Length: 6\r\n", "<html>"),
        answer("302 Found", "Location: https://elsewhere.example/\r\nContent-Length: 0\r\n", ""),
        answer("401 Unauthorized", "Content-Length: 9\r\n", "hunter2's"),
        answer("500 Oops", "Content-Length: 0\r\n", ""),
        video(&"x".repeat(1_025)),
        String::new(),
    ] {
        running.says(refused.clone());
        let found = running.ask("GET", &token()).await;
        assert_eq!(found.status(), 502, "{refused}");
        assert!(found.body.contains("The file cannot be fetched now."), "{found:?}");
        let text = format!("{found:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("elsewhere") && !text.contains("ocation"),
            "{text}"
        );
    }
    // A fault that is known too late cuts the connection, so that no client takes it for a whole file.
    for cut in [chunked(MP4, ""), chunked(&"x".repeat(1_000), &format!("ff\r\n{}\r\n", "x".repeat(255)))] {
        running.says(cut);
        let found = running.ask("GET", &token()).await;
        assert_eq!(found.status(), 200);
        assert!(!found.body.ends_with("0\r\n\r\n"), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_guesses_is_limited_by_its_address() {
    let running = Running::start("trusted_proxies: [], limits: {refused_per_address: 3/h}").await;
    for _ in 0..3 {
        assert_eq!(running.ask("GET", "nonsense").await.status(), 404);
    }
    let limited = running.ask("GET", &token()).await;
    assert_eq!(limited.status(), 429);
    assert!(limited.head.iter().any(|line| line.starts_with("retry-after: ")), "{limited:?}");
}

/// Otherwise the next client would displace it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_works_until_its_file_is_sent() {
    let running = Running::start("limits: {connections: 1}").await;
    running.says(chunked(MP4, &format!("{PAUSE}0\r\n\r\n")));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /media/{} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", token());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(MP4) {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    let next = running.ask("GET", "nonsense");
    let rest = async {
        running.gate.notify_one();
        while stream.read_buf(&mut bytes).await.unwrap() > 0 {}
        drop(stream);
        String::from_utf8(bytes).unwrap()
    };
    let (next, whole) = tokio::join!(next, rest);
    assert!(whole.ends_with(&format!("{MP4}\r\n0\r\n\r\n")), "{whole}");
    assert_eq!(next.status(), 404);
}
