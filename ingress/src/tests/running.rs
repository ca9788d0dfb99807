//! A running ingress with its clients.

use crate::Ingress;
use jiff::Timestamp;
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use talaria_bus::{Bus, Incoming, Partition};
use talaria_core::{
    config::{Config, Role, testing::Files},
    openrouter::signature::sign,
};
use talaria_proto::v1::{Event, IngressRefusals, QuarantinedCallback, Refusal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A running ingress with the tenants acme and other, whose secret is "s3cret".
pub(super) struct Running {
    pub(super) address: std::net::SocketAddr,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) bus: Bus,
    pub(super) files: Files,
    pub(super) leaving: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) server: JoinHandle<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::start_with("max_body_bytes: 1000, body_timeout: 300ms").await
    }

    /// With these keys under `ingress`.
    pub(super) async fn start_with(keys: &str) -> Self {
        let files = Files::new(&text(keys), &[("secret", "s3cret")]);
        let config = watch::Sender::new(Arc::new(files.load(Role::Both)));
        let bus = Bus::embedded(&files.path("")).await.unwrap();
        let ingress = Ingress::bind(config.subscribe(), bus.publisher()).await.unwrap();
        let address = ingress.address().unwrap();
        let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
        let server = tokio::spawn(ingress.serve(leaving.clone(), stop.clone()));
        Self { address, config, bus, files, leaving, stop, server }
    }

    /// Changes the keys under `ingress`.
    pub(super) fn reload(&self, keys: &str) {
        self.files.write("talaria.yaml", &text(keys));
        self.config.send_replace(Arc::new(self.files.load(Role::Both)));
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        Answer::read(&mut stream).await
    }

    pub(super) async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        self.exchange(post(path, headers, body).as_bytes()).await
    }

    pub(super) async fn callback(&self, body: &str) -> Answer {
        self.exchange(callback(body).as_bytes()).await
    }

    /// The stored entries, oldest first.
    pub(super) async fn stored(&self) -> Vec<Incoming> {
        let count = self.bus.bounds().await.unwrap().last_event;
        let mut events = self.bus.events(Partition::ONLY, 0).await.unwrap();
        let mut stored = Vec::new();
        while (stored.len() as u64) < count {
            stored.extend(events.next(1000).await.unwrap().into_iter().map(|stored| stored.what));
        }
        stored
    }

    pub(super) async fn events(&self) -> Vec<Arc<Event>> {
        let event = |stored| match stored {
            Incoming::Event(event) => Some(event),
            _ => None,
        };
        self.stored().await.into_iter().filter_map(event).collect()
    }

    pub(super) async fn quarantined(&self) -> Vec<Arc<QuarantinedCallback>> {
        let callback = |stored| match stored {
            Incoming::Quarantined(callback) => Some(callback),
            _ => None,
        };
        self.stored().await.into_iter().filter_map(callback).collect()
    }

    /// The announced refusals: tenant, reason, count, and path of the latest.
    pub(super) async fn refused(&self) -> Vec<(String, String, u64, String)> {
        let mut refusals = self.bus.refusals().await.unwrap();
        let (_, announcement) = refusals.next().await.unwrap();
        let announced = IngressRefusals::decode(announcement).unwrap();
        let row = |it: Refusal| (it.tenant, it.reason, it.count, it.path);
        announced.refusals.into_iter().map(row).collect()
    }

    /// Waits until exactly these are announced, in any order.
    pub(super) async fn refused_when(&self, expected: &[(&str, &str, u64, &str)]) {
        let mut refusals = self.bus.refusals().await.unwrap();
        let mut expected: Vec<_> =
            expected.iter().map(|(tenant, reason, count, path)| (*tenant, *reason, *count, *path)).collect();
        expected.sort_unstable();
        let mut latest = String::new();
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
                latest = format!("{found:#?}");
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(20), all).await;
        assert!(all.is_ok(), "{expected:#?} was not announced, but {latest}");
    }
}

fn text(keys: &str) -> String {
    let tenant = "{openrouter: {secrets: [{file: secret}]}}";
    format!("ingress: {{listen: 127.0.0.1:0, {keys}}}\ntenants: {{acme: {tenant}, other: {tenant}}}")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// A request with a valid callback.
pub(super) fn callback(body: &str) -> String {
    post("/callbacks/acme", &signed("s3cret", body, 0), body)
}

pub(super) fn signed(secret: &str, body: &str, age: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() - age).unwrap();
    format!("X-OpenRouter-Signature: {}\r\n", sign(&secret.into(), at, body.as_bytes()))
}

#[derive(Debug, PartialEq, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn read(stream: &mut TcpStream) -> Self {
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
    pub(super) fn detail(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        assert!(!document["title"].as_str().unwrap().is_empty());
        document["detail"].as_str().unwrap().to_owned()
    }
}
