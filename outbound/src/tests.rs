//! Over real sockets of this machine.

mod networks;
mod tls;

use super::*;
use http::{
    HeaderMap, Request,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use talaria_core::network::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

const LARGEST_ANSWER: usize = 64 * 1024;

/// Where a request goes, and by which rules.
#[derive(Clone)]
struct Target {
    url: Url,
    policy: Policy,
    timeout: Duration,
}

impl Target {
    /// Of a tenant that allows these networks.
    fn new(url: Url, timeout: Duration, networks: &[&str]) -> Self {
        let networks = networks.iter().map(|text| text.parse::<Network>().unwrap()).collect();
        let is_https = url.scheme() == "https";
        Self { url, policy: Policy { peer: Peer::Hermes, networks, is_https, tls: None }, timeout }
    }
}

impl Clients {
    async fn post(&self, target: &Target) -> (Exchange, Timings) {
        let request = Request::post(target.url.as_str()).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let limits = Limits { timeout: target.timeout, jitter: Duration::ZERO, answer: LARGEST_ANSWER };
        self.exchange(&target.policy, request, limits).await
    }
}

fn clients() -> Clients {
    Clients::new(Resolver::system(), MAX_AGE)
}

/// Answers one request with these bytes, then goes on writing `drip` until the client is gone.
async fn serve(answer: &'static [u8], drip: &'static [u8]) -> (Url, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/webhooks/r", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(answer).await.unwrap();
        while !drip.is_empty() && stream.write_all(drip).await.is_ok() {}
        // Holds the connection open where the answer promised more.
        if answer.ends_with(b"...") {
            let _ = stream.read_u8().await;
        }
        String::from_utf8(request).unwrap()
    });
    (url, server)
}

async fn exchange(url: &Url, timeout: Duration) -> Exchange {
    clients().post(&Target::new(url.clone(), timeout, &["loopback"])).await.0
}

async fn answer_to(answer: &'static [u8], drip: &'static [u8]) -> Exchange {
    let (url, _server) = serve(answer, drip).await;
    exchange(&url, Duration::from_millis(500)).await
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let (url, server) =
        serve(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nok", b"").await;
    let expected = Answer {
        status: 202,
        retry_after: Some(Duration::from_secs(7)),
        headers: HeaderMap::from_iter([(CONTENT_LENGTH, 2.into()), (RETRY_AFTER, 7.into())]),
        body: b"ok".into(),
        ..Answer::default()
    };
    assert_eq!(exchange(&url, Duration::from_secs(5)).await, Exchange::Answered(expected));
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_came_compressed_is_read() {
    let Exchange::Answered(answer) = answer_to(
        b"HTTP/1.1 202 Accepted\r\nContent-Encoding: deflate\r\nContent-Length: 7\r\n\r\n\x01\x02\x00\xfd\xffok",
        b"",
    )
    .await
    else {
        panic!()
    };
    assert_eq!((answer.body.as_slice(), answer.cut_short), (b"ok".as_slice(), None));
    let Exchange::Answered(answer) =
        answer_to(b"HTTP/1.1 202 Accepted\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok", b"").await
    else {
        panic!()
    };
    assert_eq!(answer.cut_short, Some(CutShort::Unreadable("it is encoded as br".into())));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let Exchange::Answered(answer) =
        answer_to(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", b"")
            .await
    else {
        panic!()
    };
    assert_eq!((answer.status, answer.location.as_deref()), (302, Some("http://127.0.0.1:1/")));
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_a_dripping_one_ends_at_the_deadline() {
    let Exchange::Answered(endless) =
        answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", &[b'x'; 4096]).await
    else {
        panic!()
    };
    assert_eq!(endless.body.len(), LARGEST_ANSWER);
    assert_eq!(endless.cut_short, Some(CutShort::TooLong(LARGEST_ANSWER)));
    let Exchange::Answered(stalled) =
        answer_to(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n...", b"").await
    else {
        panic!()
    };
    assert_eq!(stalled.cut_short, Some(CutShort::BrokenOff("not whole within 500ms".into())));
}

#[tokio::test]
async fn an_unsent_request_is_distinguished_from_a_lost_answer() {
    // Connections are refused.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let refused = exchange(&url, Duration::from_secs(5)).await;
    assert!(matches!(&refused, Exchange::NotSent(why) if why.contains("refused")), "{refused:?}");
    let nowhere =
        exchange(&Url::parse("http://does-not-exist.invalid/").unwrap(), Duration::from_secs(5)).await;
    assert!(matches!(nowhere, Exchange::NotSent(_)), "{nowhere:?}");
    // One server hangs up, one says nothing, one answers nonsense.
    for answer in [b"".as_slice(), b"...", b"nonsense\r\n\r\n"] {
        let lost = answer_to(answer, b"").await;
        assert!(matches!(lost, Exchange::Lost(_)), "{lost:?}");
    }
}
