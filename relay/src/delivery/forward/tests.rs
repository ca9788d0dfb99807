//! Over real sockets of this machine.

use super::*;
use crate::{decisions::prepare, test_config};
use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use std::time::Duration;
use talaria_core::config::Header;
use talaria_outbound::Answer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

/// Answers one request with these bytes.
async fn serve(answer: &'static [u8]) -> (Url, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/webhooks/r", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(answer).await.unwrap();
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
    HermesRequest { headers, body: Bytes::from_static(b"{}"), remarks: prepare::Remarks::default() }
}

async fn exchange(url: &Url, timeout: Duration) -> Exchange {
    Forwarder::default().exchange(&route(url, timeout), request()).await.0
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let (url, server) =
        serve(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nok").await;
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
async fn header_names_are_in_the_case_in_which_they_were_written() {
    let (url, server) = serve(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
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
