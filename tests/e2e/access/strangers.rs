//! Connections that never authenticate: they are closed, and authenticated ones stay.

use super::{ask::Somebody, entry};
use bytes::Bytes;
use talaria_proto::v1::GetSummaryRequest;
use talaria_tests::stack::stack;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

/// The HTTP/2 connection preface, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn who_never_shows_a_token_does_not_keep_a_connection() {
    let tokens = format!("relay: {{grpc: 127.0.0.1:0, tokens: [{}]}}", entry("ops", "read", None, &["t"]));
    let stack = stack().with(&tokens).tenant("acme", |t| t).start().await;
    let known = Somebody::with(&stack.relay(), Some("t")).await;
    known.status().get_summary(GetSummaryRequest::default()).await.unwrap();
    let asking = Somebody::with(&stack.relay(), None).await;
    let health = async || asking.bytes("/grpc.health.v1.Health/Check", Bytes::new(), |_| false).await.code;
    assert_eq!(health().await, Code::Ok);
    let address = stack.relay();
    for said in [&b""[..], b"GET / HTTP/1.1\r\n", PREFACE] {
        let mut silent = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
        silent.write_all(said).await.unwrap();
        // Returns when it is closed; the test ends by itself either way.
        let _ = silent.read_to_end(&mut Vec::new()).await;
    }
    // By now all of them had longer than a stranger may take.
    known.status().get_summary(GetSummaryRequest::default()).await.unwrap();
    assert_ne!(health().await, Code::Unauthenticated, "a health check asks again on another connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_limit_of_concurrent_requests() {
    let stack = stack().tenant("acme", |t| t).start().await;
    let mut connection = TcpStream::connect(stack.relay().trim_start_matches("http://")).await.unwrap();
    connection.write_all(PREFACE).await.unwrap();
    // The first frame is the server's SETTINGS: a head of nine bytes, then six bytes for each, RFC 9113, section 6.5.
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    connection.read_exact(&mut settings).await.unwrap();
    let streams = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(streams.map(|setting| &setting[2..]), Some(&[0, 0, 0, 100][..]), "{settings:?}");
}
