//! Over real sockets of this machine.

mod networks;
mod tls;

use super::*;
use crate::{decisions::prepare, test_config};
use bytes::Bytes;
use http::HeaderName;
use talaria_core::config::Header;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

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

/// A route to this URL, of a tenant that allows loopback.
fn route(url: &Url, timeout: Duration) -> Route {
    Route { url: url.clone(), timeout, ..Route::clone(&test_config::route("")) }
}

fn request() -> HermesRequest {
    let mut headers = HeaderMap::new();
    headers.insert("x-github-delivery", "d".parse().unwrap());
    HermesRequest { headers, body: Bytes::from_static(b"{}"), guarded: vec![] }
}

async fn exchange(url: &Url, timeout: Duration) -> Exchange {
    Forwarder::default().exchange(&route(url, timeout), request()).await.0
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
        body: b"ok".into(),
        ..Answer::default()
    };
    assert_eq!(exchange(&url, Duration::from_secs(5)).await, Exchange::Answered(expected));
    server.await.unwrap();
}

#[tokio::test]
async fn header_names_are_in_the_case_in_which_they_were_written() {
    let (url, server) = serve(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", b"").await;
    let own = |name: &str| Header { name: name.into(), value: "v".into() };
    let names = ["X-API-Key", "x-lower", "X-odd-CASE"];
    let route = Route { headers: names.map(own).into(), ..route(&url, Duration::from_secs(5)) };
    let mut request = request();
    for name in prepare::names().into_iter().chain(names) {
        request.headers.insert(HeaderName::try_from(name).unwrap(), "v".parse().unwrap());
    }
    let forwarder = Forwarder::default();
    let (exchange, _) = forwarder.exchange(&route, request).await;
    assert!(matches!(exchange, Exchange::Answered(_)), "{exchange:?}");
    let sent = server.await.unwrap();
    for name in prepare::names().into_iter().chain(names).chain([
        "X-GitHub-Event",
        "X-GitHub-Delivery",
        "Host",
        "Content-Length",
    ]) {
        assert!(sent.contains(&format!("\r\n{name}: ")), "{name}: {sent}");
    }
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

#[test]
fn retry_after_is_a_number_or_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    for (value, expected) in [
        ("0", Some(Duration::ZERO)),
        (" 120 ", Some(Duration::from_secs(120))),
        ("1.5", Some(Duration::from_millis(1500))),
        ("0.25", Some(Duration::from_millis(250))),
        ("18446744073709551616", Some(Duration::MAX)),
        ("99999999999999999999999999999999", Some(Duration::MAX)),
        (&"9".repeat(400), Some(Duration::MAX)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(Duration::from_secs(10))),
        ("Sun, 06 Nov 1994 08:49:27 GMT", Some(Duration::ZERO)),
        ("-1", None),
        ("1.2.3", None),
        (".5", None),
        ("1e3", None),
        ("inf", None),
        ("NaN", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(retry_after(value, now), expected, "{value}");
    }
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
