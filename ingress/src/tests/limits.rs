//! Every limit, over real sockets: a client that reaches it gets an answer, and others are not affected.

use super::*;
use std::io::ErrorKind;

const KNOWN: &str = "X-Forwarded-For: 192.0.2.1\r\n";
const STRANGER: &str = "X-Forwarded-For: 198.51.100.1\r\n";

/// A callback's body for a job of its own.
fn event(job: &str) -> String {
    EVENT.replace("job_test", job)
}

impl Running {
    /// Sends a callback with a valid signature and further headers.
    async fn legitimate(&self, tenant: &str, headers: &str, job: &str) -> Answer {
        let body = event(job);
        self.post(&format!("/callbacks/{tenant}"), &(signed("s3cret", &body, 0) + headers), &body).await
    }

    /// The answer to a request that declares a body and sends none of it.
    async fn promise(&self, tenant: &str, headers: &str, bytes: usize) -> Answer {
        let head = format!(
            "POST /callbacks/{tenant} HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n{headers}\r\n"
        );
        self.exchange(head.as_bytes()).await
    }

    /// A connection on which only these bytes were sent.
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }
}

impl Answer {
    /// The answer without its date.
    fn undated(mut self) -> Self {
        let lines = self.head.lines().filter(|line| !line.starts_with("date:"));
        self.head = lines.map(|line| format!("{line}\n")).collect();
        self
    }

    fn retry_after(&self) -> u64 {
        let line = self.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        line.unwrap_or_else(|| panic!("{self:?}")).parse().unwrap()
    }
}

/// Waits until the other side has closed a connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Promise 6: known and unknown tenants get the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn only_an_address_that_is_refused_too_often_is_429_before_its_body_is_read() {
    let running = Running::start_with("limits: {refused_per_address: 3/h}").await;
    assert_eq!(running.legitimate("acme", KNOWN, "first").await.status, 204);
    for tenant in ["acme", "nobody", "acme"] {
        let path = format!("/callbacks/{tenant}");
        let bad = signed("wrong", EVENT, 0) + STRANGER;
        assert_eq!(running.post(&path, &bad, EVENT).await.status, 401);
    }
    // Without its body, and also with a stale signature.
    let stale = signed("s3cret", EVENT, 400) + STRANGER;
    assert_eq!(running.promise("acme", &stale, 1000).await.status, 429);
    let answers = [
        running.promise("acme", STRANGER, 1000).await.undated(),
        running.promise("nobody", STRANGER, 1000).await.undated(),
    ];
    assert_eq!(
        (answers[0].status, answers[0].detail().as_str()),
        (429, "Too many requests. Send it again later.")
    );
    assert!((1..=1200).contains(&answers[0].retry_after()) && answers[0].head.contains("connection: close"));
    assert_eq!(answers[0], answers[1]);
    // Also for an unknown path, as scanners request.
    assert_eq!(running.post("/.env", STRANGER, "").await.status, 429);
    // A request with a signature is read, and its answer does not reveal the fault or the path.
    let bad = signed("wrong", EVENT, 0) + STRANGER;
    for path in ["/callbacks/acme", "/callbacks/nobody", "/elsewhere"] {
        let answer = running.post(path, &bad, EVENT).await;
        assert_eq!(
            (answer.status, answer.detail().as_str()),
            (429, "Too many requests. Send it again later.")
        );
    }
    // The same tenant from other addresses.
    assert_eq!(running.legitimate("acme", KNOWN, "second").await.status, 204);
    assert_eq!(running.legitimate("acme", "X-Forwarded-For: 203.0.113.9\r\n", "third").await.status, 204);
    assert_eq!(running.legitimate("acme", "", "fourth").await.status, 204);
    // The address of a known client, with refused requests, too.
    for _ in 0..20 {
        assert_eq!(running.post("/callbacks/other", KNOWN, EVENT).await.status, 401);
    }
    assert_eq!(running.legitimate("acme", KNOWN, "fifth").await.status, 204);
    assert_eq!(running.events().await.len(), 5);
}

/// As behind an unknown proxy, where all clients have its address.
#[tokio::test(flavor = "multi_thread")]
async fn a_valid_signature_is_never_429_for_the_faults_of_others() {
    let running = Running::start_with("limits: {refused_per_address: 3/h}").await;
    for _ in 0..20 {
        running.post("/callbacks/acme", STRANGER, EVENT).await;
    }
    assert_eq!(running.promise("acme", STRANGER, 1000).await.status, 429);
    // On a wrong path it gets its usual refusal, and makes its address known.
    let misdirected = signed("s3cret", EVENT, 0) + STRANGER;
    assert_eq!(running.post("/callback/acme", &misdirected, EVENT).await.status, 404);
    assert_eq!(running.post("/callbacks/acme", STRANGER, EVENT).await.status, 401, "it is known by now");

    let other = "X-Forwarded-For: 203.0.113.9\r\n";
    for _ in 0..20 {
        running.post("/callbacks/acme", other, EVENT).await;
    }
    assert_eq!(running.promise("acme", other, 1000).await.status, 429);
    assert_eq!(running.legitimate("acme", other, "first").await.status, 204);
    assert_eq!(running.events().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_signature_never_counts_against_its_address() {
    let running = Running::start_with("limits: {refused_per_address: 3/h}").await;
    for number in 0..10 {
        let body = event(&number.to_string());
        let headers = signed("s3cret", &body, 0) + STRANGER;
        for (path, status) in
            [("/callback/acme", 404), ("/callbacks/acme/x/y", 404), ("/callbacks/nobody", 401)]
        {
            assert_eq!(running.post(path, &headers, &body).await.status, status, "{path}");
        }
    }
    // Not even unsigned requests count against it.
    assert_eq!(running.promise("acme", STRANGER, 1_000_000_000).await.status, 413);
    assert_eq!(running.legitimate("acme", STRANGER, "first").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_escapes_a_limit_with_a_forged_address() {
    let keys = "trusted_proxies: [], limits: {refused_per_address: 3/h}";
    let running = Running::start_with(keys).await;
    for number in 0..3 {
        let header = format!("X-Forwarded-For: 192.0.2.{number}\r\n");
        assert_eq!(running.post("/callbacks/acme", &header, EVENT).await.status, 401);
    }
    assert_eq!(running.promise("acme", KNOWN, 10).await.status, 429);
    // Behind a proxy, the proxy's element counts.
    running.reload("limits: {refused_per_address: 3/h}");
    for number in 0..3 {
        let header = format!("X-Forwarded-For: 192.0.2.{number}, 198.51.100.1\r\n");
        assert_eq!(running.post("/callbacks/acme", &header, EVENT).await.status, 401);
    }
    assert_eq!(running.promise("acme", STRANGER, 10).await.status, 429);
    assert_eq!(running.legitimate("acme", KNOWN, "first").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_rate_which_only_verified_callbacks_use() {
    let running = Running::start_with("limits: {per_tenant: 2/h}").await;
    for _ in 0..10 {
        assert_eq!(running.post("/callbacks/acme", &signed("wrong", EVENT, 0), EVENT).await.status, 401);
    }
    assert_eq!(running.legitimate("acme", "", "first").await.status, 204);
    assert_eq!(running.legitimate("acme", "", "second").await.status, 204);
    let limited = running.legitimate("acme", "", "third").await;
    assert_eq!((limited.status, limited.detail().as_str()), (429, "Too many requests. Send it again later."));
    assert!((1..=1800).contains(&limited.retry_after()), "{limited:?}");
    assert_eq!(running.legitimate("other", "", "first").await.status, 204);
    // A client does not learn of it.
    assert_eq!(running.post("/callbacks/acme", &signed("wrong", EVENT, 0), EVENT).await.status, 401);
    // A rate that is changed holds from now on.
    running.reload("limits: {per_tenant: off}");
    assert_eq!(running.legitimate("acme", "", "third").await.status, 204);
    assert_eq!(running.events().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_have_a_rate_for_all_requests() {
    let running = Running::start_with("limits: {per_address: 2/h}").await;
    assert_eq!(running.legitimate("acme", KNOWN, "first").await.status, 204);
    assert_eq!(running.legitimate("acme", KNOWN, "second").await.status, 204);
    assert_eq!(running.legitimate("acme", KNOWN, "third").await.status, 429);
    assert_eq!(running.legitimate("acme", STRANGER, "third").await.status, 204);
    // The client behind these requests is unknown.
    for job in ["4", "5", "6"] {
        assert_eq!(running.legitimate("acme", "", job).await.status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_together_take_no_more_than_there_is_room_for() {
    const LONG: usize = 200_000;
    let keys = "max_body_bytes: 262144, body_timeout: 1h, limits: {bodies: 1MiB}";
    let running = Running::start_with(keys).await;
    assert_eq!(running.legitimate("acme", KNOWN, "first").await.status, 204);
    // Declared lengths take no room: a hundred of them, of 25 MiB together.
    let head =
        format!("POST /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: 262144\r\n{STRANGER}\r\n");
    let mut promised = Vec::new();
    for _ in 0..100 {
        promised.push(running.send(&(head.clone() + "{")).await);
    }
    let long = format!("{}{}", event("long"), " ".repeat(LONG));
    let headers = signed("s3cret", &long, 0) + "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(running.post("/callbacks/acme", &headers, &long).await.status, 204);
    // Received bytes do, until unknown clients have their share.
    let mut held = Vec::new();
    let shed = loop {
        assert!(held.len() < 100, "the room for bodies has no end");
        held.push(running.send(&(head.clone() + &"x".repeat(LONG))).await);
        let answer = tokio::time::timeout(Duration::from_millis(50), running.promise("acme", STRANGER, LONG));
        // While there is room, the body is waited for.
        if let Ok(answer) = answer.await {
            break answer;
        }
    };
    assert_eq!((shed.status, shed.retry_after()), (503, 5));
    assert!(shed.detail().contains("send it again") && shed.head.contains("connection: close"));
    // Known clients have room.
    let long = format!("{}{}", event("long 2"), " ".repeat(LONG / 2));
    let headers = signed("s3cret", &long, 0) + KNOWN;
    assert_eq!(running.post("/callbacks/acme", &headers, &long).await.status, 204);
    // And so have the others after the room is released.
    drop((held, promised));
    let long = format!("{}{}", event("long 3"), " ".repeat(LONG));
    let headers = signed("s3cret", &long, 0) + "X-Forwarded-For: 203.0.113.9\r\n";
    while running.post("/callbacks/acme", &headers, &long).await.status != 204 {
        tokio::task::yield_now().await;
    }
}

/// The bus hangs, and a callback waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_callbacks_that_may_wait_for_the_bus_others_are_503_before_their_bodies_are_read() {
    let running = Running::start_with("limits: {storing: 1}").await;
    let intruder = rusqlite::Connection::open(running.files.path("bus.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = event("first");
    let mut first = running.send(&callback(&body)).await;
    let shed = loop {
        let promise = running.promise("acme", STRANGER, 10);
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), promise).await {
            break answer;
        }
    };
    assert_eq!((shed.status, shed.retry_after()), (503, 5));
    drop(intruder);
    assert!([204, 503].contains(&Answer::read(&mut first).await.status));
    assert_eq!(running.callback(&event("second")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_connections_are_evicted_for_new_ones() {
    let keys = "head_timeout: 1h, body_timeout: 1h, limits: {connections: 4}";
    let running = Running::start_with(keys).await;
    let mut lazy = Vec::new();
    for number in 0..40 {
        let so_far = match number % 3 {
            0 => String::new(),
            1 => "POST /callbacks/acme HTTP/1.1\r\nHost:".to_owned(),
            _ => "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        };
        lazy.push(running.send(&so_far).await);
        assert_eq!(running.callback(&event(&number.to_string())).await.status, 204);
    }
    // Four permits, of which the last callback may still have one.
    for stream in &mut lazy[..36] {
        closed(stream).await;
    }
    // An idle connection after an answer is evicted, too.
    let mut idle = running.send("GET /callbacks/acme HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(Answer::read(&mut idle).await.status, 405);
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(running.send("").await);
    }
    closed(&mut idle).await;
    assert_eq!(running.callback(&event("last")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_of_the_connections() {
    let keys = "head_timeout: 1h, trusted_proxies: [], limits: {connections_per_address: 2}";
    let running = Running::start_with(keys).await;
    let mut lazy = Vec::new();
    for _ in 0..10 {
        lazy.push(running.send("POST").await);
    }
    assert_eq!(running.callback(EVENT).await.status, 204);
    for stream in &mut lazy[..8] {
        closed(stream).await;
    }
    // A trusted proxy's connections are of many clients.
    running.reload("head_timeout: 1h, limits: {connections_per_address: 2}");
    let mut kept = Vec::new();
    for _ in 0..10 {
        let mut stream = running.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(Answer::read(&mut stream).await.status, 404);
        kept.push(stream);
    }
    for stream in &mut kept {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert_eq!(Answer::read(stream).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_length_a_number_of_headers_and_a_deadline() {
    let running = Running::start_with("max_head_bytes: 8192, max_headers: 20, head_timeout: 300ms").await;
    let head = "POST /callbacks/acme HTTP/1.1\r\nHost: h\r\n";
    let long = running.exchange(format!("{head}X: {}\r\n\r\n", "x".repeat(9000)).as_bytes()).await;
    let endless = running.exchange(format!("{head}X: {}", "x".repeat(9000)).as_bytes()).await;
    let many = running.exchange(format!("{head}{}\r\n", "X: y\r\n".repeat(30)).as_bytes()).await;
    let path =
        running.exchange(format!("POST /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000)).as_bytes()).await;
    for answer in [long, endless, many, path] {
        assert_eq!(answer.status, 431, "{answer:?}");
    }
    // A head that drips, one that stalls, and none at all.
    let mut dripping = running.send(head).await;
    let mut stalled = running.send(head).await;
    let mut silent = running.send("").await;
    while dripping.write_all(b"X: y\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    closed(&mut stalled).await;
    closed(&mut silent).await;
    assert_eq!(running.callback(EVENT).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_longer_than_a_head_may_take() {
    let running = Running::start_with("head_timeout: 300ms, idle_timeout: 1h").await;
    let request = |job: &str| callback(&event(job));
    let mut kept = running.send(&request("first")).await;
    assert_eq!(Answer::read(&mut kept).await.status, 204);
    // A connection without a request is closed at the deadline of a head, and this one is not.
    let mut silent = running.send("").await;
    closed(&mut silent).await;
    let mut silent = running.send("").await;
    closed(&mut silent).await;
    kept.write_all(request("second").as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut kept).await.status, 204);
    // Its next head has its own deadline.
    kept.write_all(b"POST").await.unwrap();
    closed(&mut kept).await;

    let running = Running::start_with("head_timeout: 1h, idle_timeout: 300ms").await;
    let mut idle = running.send(&request("third")).await;
    assert_eq!(Answer::read(&mut idle).await.status, 204);
    closed(&mut idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let running = Running::start_with("").await;
    let requests: String = (0..50).map(|job| callback(&event(&job.to_string()))).collect();
    let last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let mut stream = running.send(&(requests + last)).await;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 204").count(), 50);
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 1);
    assert_eq!(running.events().await.len(), 50);
}

/// Unread answers are bounded: at some point no more requests are read, and a deadline closes the connection.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_client_that_reads_no_answers_are_not_read_forever() {
    const MOST: usize = 64 << 20;
    let running = Running::start_with("head_timeout: 1s").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut sent = 0;
    while stream.write_all(requests.as_bytes()).await.is_ok() {
        sent += requests.len();
        assert!(sent < MOST, "{sent} bytes of requests were read of a client that reads no answers");
    }
    assert_eq!(running.callback(EVENT).await.status, 204);
    // A client that reads late gets every answer.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let write = async {
        for _ in 0..20 {
            writing.write_all(requests.as_bytes()).await.unwrap();
        }
        writing.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    };
    let read = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut answers = String::new();
        reading.read_to_string(&mut answers).await.unwrap();
        answers.matches("HTTP/1.1 404").count()
    };
    assert_eq!(tokio::join!(write, read).1, 20_001);
}
