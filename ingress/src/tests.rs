//! Every answer that a client can get, over real sockets.

mod limits;
mod running;

use prost::Message as _;
use running::{Answer, Running, callback, signed};
use std::{sync::Arc, time::Duration};
use talaria_core::config;
use talaria_proto::v1::IngressRefusals;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const EVENT: &str = r#"{"type":"video.generation.completed","data":{"id":"job_test","status":"completed"}}"#;

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

/// Promise 6: a client cannot distinguish them.
#[tokio::test(flavor = "multi_thread")]
async fn all_strangers_get_the_same_answer() {
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
    // None of it was stored.
    running.callback(EVENT).await;
    assert_eq!(running.events().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bodies_that_are_no_events_are_quarantined_with_the_reason() {
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
    // By its length alone; also from a client that asks first.
    let announced = running.exchange(format!("{head}Content-Length: 999999999\r\n\r\n").as_bytes()).await;
    let asked = running
        .exchange(format!("{head}Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n").as_bytes())
        .await;
    // In endless chunks.
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let chunked = running
        .exchange(format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(3)).as_bytes())
        .await;
    // The whole body, from a client that reads no answer meanwhile.
    let sent = running.callback(&"x".repeat(300_000)).await;
    for answer in [announced, asked, chunked, sent] {
        assert_eq!(answer.status, 413);
        assert_eq!(answer.detail(), "The body is longer than 1000 bytes.");
        assert!(answer.head.contains("connection: close"));
    }
    // Exactly the limit.
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
    // The client closes the connection in the middle: nothing is stored, and the next one is served.
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
        "/callbacks/acme/Job",
        "/callbacks/acme/a/b",
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
async fn a_callback_token_is_copied_into_the_event_and_changes_nothing_else() {
    let running = Running::start().await;
    let good = signed("s3cret", EVENT, 0);
    assert_eq!(running.post("/callbacks/acme/abc234", &good, EVENT).await.status, 204);
    assert_eq!(running.callback(EVENT).await.status, 204);
    let events = running.events().await;
    let tokens: Vec<_> = events.iter().map(|event| event.callback_token.as_str()).collect();
    assert_eq!((tokens, &events[0].id), (vec!["abc234", ""], &events[1].id));
    assert_eq!(running.post("/callbacks/acme/abc234", "", EVENT).await.status, 401, "it is no credential");
    assert_eq!(running.post("/callbacks/nobody/abc234", &good, EVENT).await.status, 401);
    let get = running.exchange(b"GET /callbacks/acme/abc234 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(get.status, 405);
    running
        .refused_when(&[
            ("acme", "missing", 1, "/callbacks/acme"),
            ("acme", "misdirected", 1, "/callbacks/nobody"),
            ("", "wrong_method", 1, "/callbacks/acme"),
        ])
        .await;
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
async fn the_answer_names_compression_and_is_the_same_for_every_tenant() {
    let running = Running::start().await;
    let gzip = "\u{1f}gzip";
    let headers = "Content-Encoding: gzip\r\n";
    let answered = |path: &str| {
        let (path, headers) = (path.to_owned(), signed("guessed", gzip, 0) + headers);
        let running = &running;
        async move {
            let answer = running.post(&path, &headers, gzip).await;
            (answer.status, answer.detail())
        }
    };
    let known = answered("/callbacks/acme").await;
    assert!(known.0 == 401 && known.1.contains("compressed (gzip)"), "{known:?}");
    assert_eq!(known, answered("/callbacks/nobody").await);
    let signed = running.post("/callbacks/acme", &(signed("s3cret", gzip, 0) + headers), gzip).await;
    assert!(signed.status == 422 && signed.detail().contains("compressed (gzip)"), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_announced_with_its_reason() {
    let running = Running::start_with("max_body_bytes: 1000, body_timeout: 300ms, head_timeout: 300ms").await;
    let good = signed("s3cret", EVENT, 0);
    // With a valid signature, and a wrong path, method or tenant.
    for path in ["//callbacks/acme", "/callback/acme", "/CALLBACKS/acme", "/callbacks/nobody"] {
        running.post(path, &good, EVENT).await;
    }
    let length = EVENT.len();
    let put =
        format!("PUT /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{good}\r\n{EVENT}");
    assert_eq!(running.exchange(put.as_bytes()).await.status, 405);
    // Without a valid signature.
    running.post("/callbacks/acme", "", EVENT).await;
    running.post("/callbacks/acme", "X-OpenRouter-Signature: nonsense\r\n", EVENT).await;
    running.post("/callbacks/acme", &signed("guessed", EVENT, 0), EVENT).await;
    running.post("/callbacks/acme", &signed("s3cret", EVENT, 400), EVENT).await;
    running.post("/callbacks/nobody", &signed("guessed", EVENT, 0), EVENT).await;
    running.post("/.env", "", "").await;
    running.exchange(b"GET /callbacks/acme HTTP/1.1\r\nHost: h\r\n\r\n").await;
    running.callback(&"x".repeat(2000)).await;
    running.exchange(b"POST /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").await;
    // Not HTTP requests.
    for bytes in [&b"hello\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"] {
        assert_eq!(running.exchange(bytes).await.status, 400);
    }
    assert_eq!(running.exchange(format!("GET /{}", "x".repeat(70_000)).as_bytes()).await.status, 431);
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"POST /callbacks"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // The connection is closed.
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }
    // A silent client is no refusal.
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

/// Never a 4xx for our fault; and a tenant with a missing secret takes down no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_secret_cannot_be_read_is_503_and_the_others_work() {
    let running = Running::start().await;
    let text = "ingress: {listen: 127.0.0.1:0}\ntenants:\n  acme: {openrouter: {secrets: [{file: away}]}}\n  \
                other: {openrouter: {secrets: [{file: secret}]}}\n";
    running.files.write("two.yaml", text);
    let file = running.files.path("two.yaml");
    let config = config::read_for(&file, config::Role::Both, config::Missing::Tolerated).config.unwrap();
    running.config.send_replace(Arc::new(config));
    let down = running.post("/callbacks/acme", &signed("what is away", EVENT, 0), EVENT).await;
    assert_eq!((down.status, down.head.contains("retry-after: 60")), (503, true), "{down:?}");
    assert!(down.detail().contains("send it again"));
    // A request that cannot have a valid signature gets its usual answer, and the other tenant works.
    assert_eq!(running.post("/callbacks/acme", "", EVENT).await.status, 401);
    assert_eq!(running.post("/callbacks/acme", &signed("what is away", EVENT, 400), EVENT).await.status, 401);
    assert_eq!(running.post("/callbacks/other", &signed("s3cret", EVENT, 0), EVENT).await.status, 204);
    assert_eq!(running.events().await.len(), 1);
}

/// The operator gets a hint that the client does not get.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_does_not_match_has_a_hint() {
    let running = Running::start().await;
    running.files.write("secret", "\"s3cret\"");
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
        refusal.hint.starts_with("the signature matches the configured secret without the quotes around it"),
        "{refusal:?}"
    );
    assert_eq!((refusal.text.as_str(), refusal.answered), ("the signature does not match", 401));
}

/// Promise 1: never a 4xx for our fault, and never a 2xx before it is durable.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_cannot_write_is_503_with_retry_after_and_works_again_by_itself() {
    let running = Running::start().await;
    // Another process has the file's write lock, as a backup tool might.
    let intruder = rusqlite::Connection::open(running.files.path("bus.db")).unwrap();
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
async fn draining_finishes_open_requests() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let length = EVENT.len();
    let head = format!(
        "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\n{}Content-Length: {length}\r\n\r\n",
        signed("s3cret", EVENT, 0)
    );
    let (first, rest) = EVENT.split_at(10);
    stream.write_all((head + first).as_bytes()).await.unwrap();
    // After another exchange, the first one was accepted.
    assert_eq!(running.callback("{}").await.status, 422);
    running.stop.cancel();
    stream.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 204);
    running.server.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_accepted_while_it_leaves_and_each_answer_closes_its_connection() {
    let running = Running::start().await;
    let mut kept = TcpStream::connect(running.address).await.unwrap();
    kept.write_all(callback(EVENT).as_bytes()).await.unwrap();
    let before = Answer::read(&mut kept).await;
    assert!(before.status == 204 && !before.head.contains("connection: close"), "{before:?}");
    running.leaving.cancel();
    // On the open connection and on new ones, with every answer.
    kept.write_all(callback(EVENT).as_bytes()).await.unwrap();
    let answers = [
        (204, Answer::read(&mut kept).await),
        (204, running.callback(EVENT).await),
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
