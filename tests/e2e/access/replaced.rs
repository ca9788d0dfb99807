//! Tokens and certificates that are replaced while a relay runs.

use super::{ask::Somebody, entry};
use crate::certificates::Authority;
use std::{fs, path::Path, sync::Arc};
use talaria_bus::Bus;
use talaria_core::config::{self, Config, ConfigStatus};
use talaria_proto::v1::{GetSummaryRequest, WatchDeliveriesRequest, WatchKind};
use talaria_relay::{Clock, Relay};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// A relay in this process whose configuration can be replaced.
struct Running {
    directory: TempDir,
    config: watch::Sender<Arc<Config>>,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(prepare: impl FnOnce(&Path), relay: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let config = load(directory.path(), relay);
        let (config, current) = watch::channel(Arc::new(config));
        let data = directory.path().join("data");
        let bus = Bus::embedded(&data).await.unwrap();
        let (_, standing) = watch::channel(Arc::new(ConfigStatus::first(Clock::System.now())));
        let relay = Relay::bind(current, standing, bus, Clock::System).await.unwrap();
        let (address, stop) = (relay.address().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { relay.run(stopped).await.unwrap() });
        Self { directory, config, address, stop, task }
    }

    /// Replaces the section `relay`.
    fn reload(&self, relay: &str) {
        self.config.send_replace(Arc::new(load(self.directory.path(), relay)));
    }

    async fn plain(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Over TLS, with the files of an authority's directory.
    async fn tls(&self, authority: &Path, client: Option<&Path>) -> Result<Channel, tonic::transport::Error> {
        let read = |path: &Path, name: &str| fs::read(path.join(name)).unwrap();
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority, "ca.pem")));
        if let Some(path) = client {
            tls = tls.identity(Identity::from_pem(read(path, "client.pem"), read(path, "client-key.pem")));
        }
        let url = format!("https://localhost:{}", self.address.port());
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn load(directory: &Path, relay: &str) -> Config {
    let text = format!(
        "relay: {{grpc: 127.0.0.1:0, {relay}}}\ndata_dir: data\ntenants: {{acme: {{openrouter: {{secrets: [{{file: secret}}]}}}}}}\n"
    );
    fs::write(directory.join("secret"), "what OpenRouter signs with").unwrap();
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    config::load(&directory.join("talaria.yaml")).unwrap()
}

async fn asks(who: &Somebody) -> Code {
    match who.status().get_summary(GetSummaryRequest::default()).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_without_a_restart_and_the_old_one_ends_with_its_watches() {
    let with = |tokens: &[&str]| format!("tokens: [{}]", entry("ops", "read", None, tokens));
    let running = Running::start(|_| {}, &with(&["old"])).await;
    let channel = running.plain().await;
    let [old, new] = ["old", "new"].map(|token| Somebody::on(channel.clone(), Some(token)));
    assert_eq!((asks(&old).await, asks(&new).await), (Code::Ok, Code::Unauthenticated));
    let watch = async |who: &Somebody| {
        let mut changes =
            who.status().watch_deliveries(WatchDeliveriesRequest::default()).await.unwrap().into_inner();
        let first = changes.message().await.unwrap().unwrap();
        assert_eq!(first.kind(), WatchKind::SnapshotDone);
        changes
    };
    let mut watched = watch(&old).await;
    running.reload(&with(&["old", "new"]));
    assert_eq!((asks(&old).await, asks(&new).await), (Code::Ok, Code::Ok));
    let mut goes_on = watch(&new).await;
    running.reload(&with(&["new"]));
    assert_eq!((asks(&old).await, asks(&new).await), (Code::Unauthenticated, Code::Ok));
    assert_eq!(watched.message().await.unwrap_err().code(), Code::Unauthenticated);
    // A token with another scope is another token: its watches end.
    running.reload(&format!("tokens: [{}]", entry("ops", "read", Some("acme"), &["new"])));
    assert_eq!(goes_on.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(asks(&new).await, Code::Ok);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_without_a_restart() {
    let files = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| {
        let (path, authority) = (files.path().join(name), Authority::new());
        fs::create_dir(&path).unwrap();
        authority.write_server(&path);
        authority.write_client(&path, name);
        path
    });
    let tls = |server: &Path, client_ca: Option<&Path>| {
        let client_ca = client_ca.map(|path| format!(", client_ca: {}/ca.pem", path.display()));
        let server = server.display();
        format!(
            "tls: {{cert: {server}/server.pem, key: {server}/server-key.pem{}}}",
            client_ca.unwrap_or_default()
        )
    };
    let running = Running::start(|_| {}, &tls(&one, None)).await;
    let before = Somebody::on(running.tls(&one, None).await.unwrap(), None);
    assert_eq!(asks(&before).await, Code::Ok);
    assert!(running.tls(&two, None).await.is_err(), "another authority's");
    running.reload(&tls(&two, None));
    assert!(running.tls(&one, None).await.is_err(), "the old certificate is not shown any more");
    let after = Somebody::on(running.tls(&two, None).await.unwrap(), None);
    assert_eq!((asks(&before).await, asks(&after).await), (Code::Ok, Code::Ok));

    // From now on clients have to show one: who is connected already did not.
    running.reload(&tls(&two, Some(&one)));
    assert_eq!((asks(&before).await, asks(&after).await), (Code::Unauthenticated, Code::Unauthenticated));
    let shown = Somebody::on(running.tls(&two, Some(&one)).await.unwrap(), None);
    assert_eq!(asks(&shown).await, Code::Ok);
    let mut watched =
        shown.status().watch_deliveries(WatchDeliveriesRequest::default()).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    // Of another authority from now on.
    running.reload(&tls(&two, Some(&two)));
    assert_eq!(asks(&shown).await, Code::Unauthenticated);
    assert_eq!(watched.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(asks(&Somebody::on(running.tls(&two, Some(&two)).await.unwrap(), None)).await, Code::Ok);
    running.end().await;
}
