//! Every answer that a sender can get, over real sockets.

mod limits;

use crate::Ingress;
use jiff::Timestamp;
use prost::Message as _;
use std::{fs, path::Path, sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock, Incoming, Partition};
use talaria_core::{config, config::Config, openrouter::signature::sign};
use talaria_proto::v1::{Event, IngressRefusals, QuarantinedCallback, Refusal};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const EVENT: &str = r#"{"type":"video.generation.completed","data":{"id":"job_test","status":"completed"}}"#;

/// An ingress with the tenants acme and other, whose secret is "s3cret".
struct Running {
    address: std::net::SocketAddr,
    config: watch::Sender<Arc<Config>>,
    bus: Bus,
    directory: TempDir,
    leaving: CancellationToken,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with("max_body_bytes: 1000, body_timeout: 300ms").await
    }

    /// With these keys under `ingress`.
    async fn start_with(keys: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), "s3cret").unwrap();
        let config = watch::Sender::new(configured(directory.path(), keys));
        let bus = Bus::embedded(directory.path()).await.unwrap();
        let ingress = Ingress::bind(config.subscribe(), bus.publisher(), Clock::System).await.unwrap();
        let address = ingress.address().unwrap();
        let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
        let server = tokio::spawn(ingress.serve(leaving.clone(), stop.clone()));
        Self { address, config, bus, directory, leaving, stop, server }
    }

    /// Goes on with these keys instead.
    fn reload(&self, keys: &str) {
        self.config.send_replace(configured(self.path(), keys));
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Sends these bytes and reads until the answer is whole or the connection ends.
    async fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        Answer::read(&mut stream).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.exchange(
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
                .as_bytes(),
        )
        .await
    }

    async fn callback(&self, body: &str) -> Answer {
        self.post("/callbacks/acme", &signed("s3cret", body, 0), body).await
    }

    /// What was stored, oldest first.
    async fn stored(&self) -> Vec<Incoming> {
        let count = self.bus.bounds().await.unwrap().last_event;
        let mut events = self.bus.events(Partition::ONLY, 0).await.unwrap();
        let mut stored = Vec::new();
        while (stored.len() as u64) < count {
            stored.extend(events.next(1000).await.unwrap().into_iter().map(|stored| stored.what));
        }
        stored
    }

    async fn events(&self) -> Vec<Arc<Event>> {
        let event = |stored| match stored {
            Incoming::Event(event) => Some(event),
            _ => None,
        };
        self.stored().await.into_iter().filter_map(event).collect()
    }

    async fn quarantined(&self) -> Vec<Arc<QuarantinedCallback>> {
        let callback = |stored| match stored {
            Incoming::Quarantined(callback) => Some(callback),
            _ => None,
        };
        self.stored().await.into_iter().filter_map(callback).collect()
    }
}

fn configured(directory: &Path, keys: &str) -> Arc<Config> {
    let tenant = "{openrouter: {secrets: [{file: secret}]}}";
    let text =
        format!("ingress: {{listen: 127.0.0.1:0, {keys}}}\ntenants: {{acme: {tenant}, other: {tenant}}}");
    let file = directory.join("talaria.yaml");
    fs::write(&file, text).unwrap();
    Arc::new(config::load(&file).unwrap())
}

fn signed(secret: &str, body: &str, age: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() - age).unwrap();
    format!("X-OpenRouter-Signature: {}\r\n", sign(&secret.into(), at, body.as_bytes()))
}

#[derive(Debug, PartialEq, Clone)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Self { status, head, body: body.to_owned() };
                }
            }
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "the connection ended without an answer: {text:?}");
            bytes.extend_from_slice(&chunk[..read]);
        }
    }

    /// The detail of a problem document, whose other members are checked.
    fn detail(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        assert!(!document["title"].as_str().unwrap().is_empty());
        document["detail"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_is_answered_204_once_it_is_durable_and_so_is_its_repeat() {
    let running = Running::start().await;
    for _ in 0..3 {
        let answer = running.callback(EVENT).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    }
    let stored = running.events().await;
    assert_eq!((stored.len(), &stored[0].payload[..]), (3, EVENT.as_bytes()), "the owner finds repetitions");
    assert!(!stored[0].idempotency_key_matches, "there was none");

    let other = EVENT.replace("job_test", "job_2");
    let headers = signed("s3cret", &other, 0) + "x-openrouter-idempotency-key: job_2-completed\r\n";
    assert_eq!(running.post("/callbacks/acme", &headers, &other).await.status, 204);
    assert!(running.events().await[3].idempotency_key_matches);
}

/// Promise 6: from outside they are all the same.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_one_and_the_same() {
    let running = Running::start().await;
    let good = signed("s3cret", EVENT, 0);
    let mut answers = Vec::new();
    for (path, headers) in [
        ("/callbacks/acme", String::new()),
        ("/callbacks/acme", "X-OpenRouter-Signature: nonsense\r\n".into()),
        ("/callbacks/acme", "X-OpenRouter-Signature: \u{e9}\r\n".into()),
        ("/callbacks/acme", signed("wrong", EVENT, 0)),
        ("/callbacks/acme", signed("s3cret", EVENT, 400)),
        ("/callbacks/acme", signed("s3cret", EVENT, -400)),
        ("/callbacks/acme", format!("{good}{}", signed("s3cret", EVENT, 1))),
        ("/callbacks/nobody", good.clone()),
        ("/callbacks/%FF", good.clone()),
        ("/callbacks/nobody", String::new()),
    ] {
        let mut answer = running.post(path, &headers, EVENT).await;
        assert_eq!(answer.status, 401, "{path} {headers}");
        answer.head = answer.head.lines().filter(|line| !line.starts_with("date:")).collect();
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(answers[0].detail(), "The callback is not signed by a sender that is known here.");
    // Nothing of it was kept.
    running.callback(EVENT).await;
    assert_eq!(running.events().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bodies_that_are_no_events_are_kept_and_told_why() {
    let running = Running::start().await;
    for (body, why) in [
        ("not json", "the body is not JSON: byte 0: expected a JSON value"),
        ("[]", "the body is not a JSON object"),
        (r#"{"type":"t","data":{}}"#, "`data.id` must be a non-empty string"),
        (r#"{"data":{"id":"j"}}"#, "`type` must be a non-empty string"),
    ] {
        let answer = running.callback(body).await;
        assert_eq!(answer.status, 422);
        assert!(answer.detail().contains(why), "{answer:?}");
    }
    let quarantined = running.quarantined().await;
    assert_eq!(quarantined.len(), 4);
    let first = &quarantined[0];
    assert_eq!((first.tenant.as_str(), first.payload.as_ref()), ("acme", b"not json".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_with_another_body_is_accepted_and_both_are_kept() {
    let running = Running::start().await;
    assert_eq!(running.callback(EVENT).await.status, 204);
    let other = EVENT.replace("{\"id\"", "{\"extra\":1,\"id\"");
    assert_eq!(running.callback(&other).await.status, 204);
    let events = running.events().await;
    assert_eq!((events.len(), &events[0].id), (2, &events[1].id));
    assert_eq!((&events[0].payload[..], &events[1].payload[..]), (EVENT.as_bytes(), other.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_413_before_it_is_read() {
    let running = Running::start().await;
    let head = "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\n";
    // Only announced; also by a client that asks first.
    let announced = running.exchange(format!("{head}Content-Length: 999999999\r\n\r\n").as_bytes()).await;
    let asked = running
        .exchange(format!("{head}Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n").as_bytes())
        .await;
    // In chunks, of which there is no end.
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let chunked = running
        .exchange(format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(3)).as_bytes())
        .await;
    // All of it, by a sender that does not stop to listen.
    let sent = running.callback(&"x".repeat(300_000)).await;
    for answer in [announced, asked, chunked, sent] {
        assert_eq!(answer.status, 413);
        assert_eq!(answer.detail(), "The body is longer than 1000 bytes.");
        assert!(answer.head.contains("connection: close"));
    }
    // Just as much as is allowed.
    let body = format!("{EVENT}{}", " ".repeat(1000 - EVENT.len()));
    assert_eq!(running.callback(&body).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_408_and_one_that_breaks_off_is_no_event() {
    let running = Running::start().await;
    let head = "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\n";
    let stalled = running.exchange(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).await;
    let dripping = {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let drip = tokio::spawn(async move {
            while writing.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("in time") {
            assert!(reading.read_buf(&mut bytes).await.unwrap() > 0);
        }
        drip.abort();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    assert_eq!(stalled.status, 408);
    assert_eq!(stalled.detail(), "The body did not arrive in time.");
    assert!(dripping.starts_with("HTTP/1.1 408 "), "{dripping}");
    // The sender hangs up in the middle: nothing is stored, and the next one is served.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(running.callback(EVENT).await.status, 204);
    assert_eq!(running.events().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_paths_are_405_and_404() {
    let running = Running::start().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let answer = running
            .exchange(format!("{method} /callbacks/acme HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
            .await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.head.matches("allow: post").count(), 1, "{answer:?}");
        answer.detail();
    }
    for path in [
        "/",
        "/callbacks",
        "/callbacks/",
        "/callbacks//",
        "/callbacks/acme//",
        "/callbacks/a/b",
        "//callbacks/acme",
    ] {
        let answer = running.post(path, "", "").await;
        assert_eq!(answer.status, 404, "{path}");
        answer.detail();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_at_the_end_and_a_header_that_is_there_twice_change_nothing() {
    let running = Running::start().await;
    let signature = signed("s3cret", EVENT, 0);
    assert_eq!(running.post("/callbacks/acme/", &signature, EVENT).await.status, 204);
    assert_eq!(running.post("/callbacks/acme", &(signature.clone() + &signature), EVENT).await.status, 204);
    assert_eq!(running.post("/callbacks/nobody/", &signature, EVENT).await.status, 401);
    assert_eq!(running.events().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_find_health_until_it_leaves() {
    let running = Running::start().await;
    let ask = |method: &str| format!("{method} /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    let get = running.exchange(ask("GET").as_bytes()).await;
    assert_eq!((get.status, get.body.as_str()), (200, "ok\n"));
    let post = running.post("/healthz", &signed("s3cret", EVENT, 0), EVENT).await;
    assert!(post.status == 405 && post.head.contains("allow: get, head"), "{post:?}");
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(ask("HEAD").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    running.leaving.cancel();
    let left = running.exchange(ask("GET").as_bytes()).await;
    assert_eq!((left.status, left.body.as_str()), (503, "stopping\n"));
    assert!(running.refused().await.is_empty(), "health is no callback");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_named_and_is_the_same_for_every_tenant() {
    let running = Running::start().await;
    let gzip = "\u{1f}gzip";
    let headers = "Content-Encoding: gzip\r\n";
    let told = |path: &str| {
        let (path, headers) = (path.to_owned(), signed("guessed", gzip, 0) + headers);
        let running = &running;
        async move {
            let answer = running.post(&path, &headers, gzip).await;
            (answer.status, answer.detail())
        }
    };
    let known = told("/callbacks/acme").await;
    assert!(known.0 == 401 && known.1.contains("compressed (gzip)"), "{known:?}");
    assert_eq!(known, told("/callbacks/nobody").await);
    let signed = running.post("/callbacks/acme", &(signed("s3cret", gzip, 0) + headers), gzip).await;
    assert!(signed.status == 422 && signed.detail().contains("compressed (gzip)"), "{signed:?}");
}

impl Running {
    /// What was refused so far, as relays hear it: tenant, reason, how many, and the path of the latest.
    async fn refused(&self) -> Vec<(String, String, u64, String)> {
        let mut refusals = self.bus.refusals().await.unwrap();
        let (_, announcement) = refusals.next().await.unwrap();
        let announced = IngressRefusals::decode(announcement).unwrap();
        let row = |it: Refusal| (it.tenant, it.reason, it.count, it.path);
        announced.refusals.into_iter().map(row).collect()
    }

    /// Waits until relays have heard all of this, in any order.
    async fn refused_when(&self, expected: &[(&str, &str, u64, &str)]) {
        let mut refusals = self.bus.refusals().await.unwrap();
        let mut expected: Vec<_> =
            expected.iter().map(|(tenant, reason, count, path)| (*tenant, *reason, *count, *path)).collect();
        expected.sort_unstable();
        let mut heard = String::new();
        let all = async {
            loop {
                let (_, announcement) = refusals.next().await.unwrap();
                let announced = IngressRefusals::decode(announcement).unwrap().refusals;
                let mut found: Vec<_> = announced
                    .iter()
                    .map(|it| (it.tenant.as_str(), it.reason.as_str(), it.count, it.path.as_str()))
                    .collect();
                found.sort_unstable();
                if found == expected {
                    break;
                }
                heard = format!("{found:#?}");
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(20), all).await;
        assert!(all.is_ok(), "{expected:#?} was not announced, but {heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_is_announced_with_its_reason() {
    let running = Running::start_with("max_body_bytes: 1000, body_timeout: 300ms, head_timeout: 300ms").await;
    let good = signed("s3cret", EVENT, 0);
    // Rightly signed, and at a wrong path, by a wrong method, or for another tenant.
    for path in ["//callbacks/acme", "/callback/acme", "/CALLBACKS/acme", "/callbacks/nobody"] {
        running.post(path, &good, EVENT).await;
    }
    let length = EVENT.len();
    let put =
        format!("PUT /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{good}\r\n{EVENT}");
    assert_eq!(running.exchange(put.as_bytes()).await.status, 405);
    // What is not.
    running.post("/callbacks/acme", "", EVENT).await;
    running.post("/callbacks/acme", "X-OpenRouter-Signature: nonsense\r\n", EVENT).await;
    running.post("/callbacks/acme", &signed("guessed", EVENT, 0), EVENT).await;
    running.post("/callbacks/acme", &signed("s3cret", EVENT, 400), EVENT).await;
    running.post("/callbacks/nobody", &signed("guessed", EVENT, 0), EVENT).await;
    running.post("/.env", "", "").await;
    running.exchange(b"GET /callbacks/acme HTTP/1.1\r\nHost: h\r\n\r\n").await;
    running.callback(&"x".repeat(2000)).await;
    running.exchange(b"POST /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").await;
    // What is no request.
    for bytes in [&b"hello\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"] {
        assert_eq!(running.exchange(bytes).await.status, 400);
    }
    assert_eq!(running.exchange(format!("GET /{}", "x".repeat(70_000)).as_bytes()).await.status, 431);
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"POST /callbacks"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // It is hung up on.
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }
    // Who says nothing at all is no refusal.
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    while silent.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    running
        .refused_when(&[
            ("acme", "misdirected", 5, "/callbacks/acme"),
            ("acme", "missing", 1, "/callbacks/acme"),
            ("acme", "malformed", 1, "/callbacks/acme"),
            ("acme", "mismatch", 1, "/callbacks/acme"),
            ("acme", "stale", 1, "/callbacks/acme"),
            ("", "unknown_tenant", 1, "/callbacks/nobody"),
            ("", "wrong_path", 1, "/.env"),
            ("", "wrong_method", 1, "/callbacks/acme"),
            ("acme", "too_large", 1, "/callbacks/acme"),
            ("acme", "too_slow", 1, "/callbacks/acme"),
            ("", "bad_request", 1, ""),
            ("", "tls", 1, ""),
            ("", "head_too_large", 1, ""),
            ("", "http2", 1, ""),
            ("", "head_too_slow", 1, ""),
        ])
        .await;
    assert!(running.stored().await.is_empty(), "nothing of it is stored");
}

/// Never a 4xx for our fault; and a tenant whose secret is away takes down no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_secret_cannot_be_read_is_503_and_the_others_work() {
    let running = Running::start().await;
    let file = running.path().join("two.yaml");
    let text = "ingress: {listen: 127.0.0.1:0}\ntenants:\n  acme: {openrouter: {secrets: [{file: away}]}}\n  \
                other: {openrouter: {secrets: [{file: secret}]}}\n";
    fs::write(&file, text).unwrap();
    let config = config::read_for(&file, config::Role::Both, config::Missing::Tolerated).config.unwrap();
    running.config.send_replace(Arc::new(config));
    let down = running.post("/callbacks/acme", &signed("what is away", EVENT, 0), EVENT).await;
    assert_eq!((down.status, down.head.contains("retry-after: 60")), (503, true), "{down:?}");
    assert!(down.detail().contains("send it again"));
    // What cannot be signed rightly is what it always is, and the other tenant's is taken.
    assert_eq!(running.post("/callbacks/acme", "", EVENT).await.status, 401);
    assert_eq!(running.post("/callbacks/acme", &signed("what is away", EVENT, 400), EVENT).await.status, 401);
    assert_eq!(running.post("/callbacks/other", &signed("s3cret", EVENT, 0), EVENT).await.status, 204);
    assert_eq!(running.events().await.len(), 1);
}

/// The operator is told what the sender is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_match_comes_with_what_may_be_wrong() {
    let running = Running::start().await;
    fs::write(running.path().join("secret"), "\"s3cret\"").unwrap();
    running.reload("");
    assert_eq!(running.post("/callbacks/acme", &signed("s3cret", EVENT, 0), EVENT).await.status, 401);
    let mut refusals = running.bus.refusals().await.unwrap();
    let hint = async {
        loop {
            let (_, announcement) = refusals.next().await.unwrap();
            let refusals = IngressRefusals::decode(announcement).unwrap().refusals;
            if let Some(refusal) = refusals.into_iter().find(|refusal| !refusal.hint.is_empty()) {
                break refusal;
            }
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(20), hint).await.unwrap();
    assert!(
        refusal.hint.starts_with("it matches the secret here without the quotes around it"),
        "{refusal:?}"
    );
    assert_eq!((refusal.text.as_str(), refusal.answered), ("the signature does not match", 401));
}

/// Promise 1: never a 4xx for our fault, and never a 2xx before it is durable.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_cannot_write_is_503_with_retry_after_and_works_again_by_itself() {
    let running = Running::start().await;
    // Another process holds the file's write lock, as a backup tool might.
    let intruder = rusqlite::Connection::open(running.path().join("bus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for body in [EVENT, "no event"] {
        let answer = running.callback(body).await;
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("retry-after: 5"), "{answer:?}");
        answer.detail();
    }
    drop(intruder);
    assert_eq!(running.callback(EVENT).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_has_begun() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let length = EVENT.len();
    let head = format!(
        "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\n{}Content-Length: {length}\r\n\r\n",
        signed("s3cret", EVENT, 0)
    );
    let (first, rest) = EVENT.split_at(10);
    stream.write_all((head + first).as_bytes()).await.unwrap();
    // Another exchange goes through, so the first one has been seen.
    assert_eq!(running.callback("{}").await.status, 422);
    running.stop.cancel();
    stream.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 204);
    running.server.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_taken_while_it_leaves_and_each_answer_ends_its_connection() {
    let running = Running::start().await;
    let request = |body: &str| {
        let (signature, length) = (signed("s3cret", body, 0), body.len());
        format!(
            "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{signature}\r\n{body}"
        )
    };
    let mut kept = TcpStream::connect(running.address).await.unwrap();
    kept.write_all(request(EVENT).as_bytes()).await.unwrap();
    let before = Answer::read(&mut kept).await;
    assert!(before.status == 204 && !before.head.contains("connection: close"), "{before:?}");
    running.leaving.cancel();
    // On the connection from before, and on new ones; whatever the answer is.
    kept.write_all(request(EVENT).as_bytes()).await.unwrap();
    let answers = [
        (204, Answer::read(&mut kept).await),
        (204, running.exchange(request(EVENT).as_bytes()).await),
        (422, running.callback("{}").await),
        (401, running.post("/callbacks/acme", "", EVENT).await),
        (404, running.post("/elsewhere", "", "").await),
    ];
    for (status, answer) in answers {
        assert!(answer.status == status && answer.head.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0, "hung up on");
    running.stop.cancel();
    running.server.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}
