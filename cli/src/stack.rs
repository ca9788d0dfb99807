//! Ingress, relay or both in one process, with the admin port.

use crate::{
    admin::{Admin, Health},
    metrics, notices,
    reload::{self, Live},
};
use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};
use talaria_bus::{Bus, Publisher};
use talaria_console::Console;
use talaria_core::config::{BusKind, Config, Role};
use talaria_ingress::Ingress;
use talaria_relay::{Clock, Readiness, Relay};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The parts that the role asks for, bound to their addresses.
pub(crate) struct Stack {
    config: watch::Receiver<Arc<Config>>,
    notices: Pin<Box<dyn Future<Output = ()> + Send>>,
    ingress: Option<Ingress>,
    relay: Option<Relay>,
    admin: Admin,
    pub addresses: Addresses,
    /// The relay's.
    pub readiness: Option<Readiness>,
}

/// Listening addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub ingress: Option<SocketAddr>,
    pub grpc: Option<SocketAddr>,
    pub console: Option<SocketAddr>,
    pub admin: SocketAddr,
}

impl Stack {
    /// Opens the bus and listens on every address of the role.
    pub(crate) async fn bind(live: Live, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let (role, current) = (live.role, live.config.clone());
        let config = Arc::clone(&current.borrow());
        metrics::create(role, matches!(config.bus, BusKind::Nats(_)));
        reload::measure(&live.status.borrow());
        reload::count_down(&config, role);
        metrics::keep_tenants(&config, role);
        let (publisher, bus) = open_bus(&config, role).await?;
        let ingress = if role.has_ingress() { Some(bind_ingress(&current, &publisher).await?) } else { None };
        let mut relay = match bus.clone().filter(|_| role.has_relay()) {
            Some(bus) => Some(Relay::bind(current.clone(), live.status.clone(), bus, Clock::System).await?),
            None => None,
        };
        let console = match &mut relay {
            Some(relay) => bind_console(relay, &current).await?,
            None => None,
        };
        let readiness = relay.as_ref().map(Relay::readiness);
        let notices = Box::pin(notices::follow(live.clone(), publisher.clone()));
        let health = Health { publisher, bus, readiness: readiness.clone() };
        let gauges = relay.as_ref().map(Relay::gauges);
        let admin = Admin::bind(config.admin.listen, health, live, metrics, gauges).await;
        let admin = admin.with_context(|| cannot_listen(config.admin.listen, "admin.listen"))?;
        let addresses = Addresses {
            ingress: ingress.as_ref().map(Ingress::address).transpose()?,
            grpc: relay.as_ref().map(Relay::address).transpose()?,
            console,
            admin: admin.address()?,
        };
        Ok(Self { config: current, notices, ingress, relay, admin, addresses, readiness })
    }

    /// Works until `leave`, and then drains. An ingress first accepts callbacks for `ingress.linger`, while `/readyz` tells load
    /// balancers to send no more.
    pub(crate) async fn run(self, leave: CancellationToken) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let lingers = self.ingress.is_some();
        let linger = async {
            leave.cancelled().await;
            let linger = self.config.borrow().ingress.linger;
            if lingers && !linger.is_zero() {
                tracing::info!(?linger, "callbacks are still taken for a while");
                tokio::time::sleep(linger).await;
            }
            stop.cancel();
        };
        let ingress = async {
            if let Some(ingress) = self.ingress {
                ingress.serve(leave.clone(), stop.clone()).await;
            }
        };
        let relay = async {
            let ran = match self.relay {
                Some(relay) => relay.run(stop.clone()).await,
                None => Ok(()),
            };
            if ran.is_err() {
                // A process without its relay must not look ready.
                leave.cancel();
                stop.cancel();
            }
            ran
        };
        let admin = self.admin.serve(leave.clone(), stop.clone());
        let notices = async {
            tokio::select! { () = stop.cancelled() => {}, () = self.notices => {} }
        };
        let ((), (), (), (), relayed) = tokio::join!(linger, ingress, admin, notices, relay);
        Ok(relayed?)
    }
}

/// The bus for this role. An ingress over NATS only publishes, and keeps nothing on disk.
async fn open_bus(config: &Config, role: Role) -> anyhow::Result<(Publisher, Option<Bus>)> {
    let bus = match &config.bus {
        BusKind::Embedded => Bus::embedded(&config.data_dir).await?,
        BusKind::Nats(nats) if !role.has_relay() => return Ok((Publisher::nats(nats).await?, None)),
        BusKind::Nats(nats) => Bus::nats(nats, &config.data_dir).await?,
    };
    Ok((bus.publisher(), Some(bus)))
}

async fn bind_ingress(
    config: &watch::Receiver<Arc<Config>>,
    publisher: &Publisher,
) -> anyhow::Result<Ingress> {
    let bound: io::Result<Ingress> = Ingress::bind(config.clone(), publisher.clone()).await;
    bound.with_context(|| cannot_listen(config.borrow().ingress.listen, "ingress.listen"))
}

/// Listens on the console's address, if it is on. It runs as long as the relay.
async fn bind_console(
    relay: &mut Relay,
    config: &watch::Receiver<Arc<Config>>,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.borrow().console.listen else { return Ok(None) };
    let console = Console::bind(address, config.clone(), relay.api()).await;
    let console = console.with_context(|| cannot_listen(address, "console.listen"))?;
    let address = console.address()?;
    relay.also_serve("the console", |end| console.serve(end));
    Ok(Some(address))
}

fn cannot_listen(address: SocketAddr, key: &str) -> String {
    format!("cannot listen on {address} ({key}); is another process there? name another address, or end it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::{Reloader, Source};
    use axum::http::StatusCode;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::fs;

    const CONFIGURATION: &str = "\
ingress: {listen: 127.0.0.1:0}
relay: {grpc: 127.0.0.1:0}
console: {listen: 127.0.0.1:0}
admin: {listen: 127.0.0.1:0}
tenants: {acme: {openrouter: {secrets: [{file: secret}]}}}
";

    /// On the embedded bus, which needs no server.
    #[tokio::test]
    async fn each_role_binds_its_addresses_and_stops() {
        for (role, callbacks, status) in
            [(Role::Both, true, true), (Role::Ingress, true, false), (Role::Relay, false, true)]
        {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("secret"), "the secret of OpenRouter").unwrap();
            let path = directory.path().join("talaria.yaml");
            fs::write(&path, CONFIGURATION).unwrap();
            let metrics = PrometheusBuilder::new().build_recorder().handle();
            let (_reloader, mut live) = Reloader::start(Source::new(&path, Role::Both)).unwrap();
            live.role = role;
            let stack = Stack::bind(live, metrics).await.unwrap();
            assert_eq!(stack.addresses.ingress.is_some(), callbacks, "{role:?}");
            let relays = [
                stack.addresses.grpc.is_some(),
                stack.addresses.console.is_some(),
                stack.readiness.is_some(),
            ];
            assert_eq!(relays, [status; 3], "{role:?}");
            // A relay is ready only while it runs.
            let ready = if status { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            assert_eq!(stack.admin.health.ready().await.0, ready, "{role:?}");
            let view = directory.path().join("talaria-data/view.db");
            assert_eq!(view.exists(), status, "{role:?}: only a relay keeps a view");
            let stop = CancellationToken::new();
            stop.cancel();
            stack.run(stop).await.unwrap();
        }
    }
}
