//! Ingress, relay and admin port in one process, over the embedded bus.

use crate::admin::{self, Admin, Health};
use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{net::SocketAddr, sync::Arc};
use talaria_bus::{Bus, Clock};
use talaria_core::config::{BusKind, Config};
use talaria_ingress::Ingress;
use talaria_relay::{Readiness, Relay};
use tokio_util::sync::CancellationToken;

/// Everything, listening but not yet working.
pub struct Stack {
    ingress: Ingress,
    relay: Relay,
    admin: Admin,
    /// Where things listen.
    pub addresses: Addresses,
    /// Whether the relay's status is complete.
    pub readiness: Readiness,
}

/// Where things listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Callbacks.
    pub ingress: SocketAddr,
    /// Status.
    pub grpc: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// Starts collecting metrics; once in a process.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    admin::metrics()
}

impl Stack {
    /// Opens the bus and listens on every configured address.
    pub async fn bind(config: Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let bus = match &config.bus {
            BusKind::Embedded => Bus::embedded(&config.data_dir, Clock::System).await?,
            BusKind::Nats(_) => anyhow::bail!("placeholder: the whole bus"),
        };
        let listen = |key: &'static str, address: SocketAddr| {
            move || {
                format!(
                    "cannot listen on {address} ({key}); is another process there? name another address, or end it"
                )
            }
        };
        let ingress = Ingress::bind(Arc::clone(&config), bus.clone(), Clock::System);
        let ingress = ingress.await.with_context(listen("ingress.listen", config.ingress.listen))?;
        let relay = Relay::bind(Arc::clone(&config), bus.clone(), Clock::System).await?;
        let readiness = relay.readiness();
        let health = Health { bus, readiness: readiness.clone() };
        let admin = Admin::bind(config.admin.listen, health, metrics).await;
        let admin = admin.with_context(listen("admin.listen", config.admin.listen))?;
        let addresses =
            Addresses { ingress: ingress.address()?, grpc: relay.address()?, admin: admin.address()? };
        Ok(Self { ingress, relay, admin, addresses, readiness })
    }

    /// Works until it is told to stop, and then finishes what has begun.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let ingress = self.ingress.serve(stop.clone());
        let admin = self.admin.serve(stop.clone());
        let ((), (), relayed) = tokio::join!(ingress, admin, self.relay.run(stop));
        Ok(relayed?)
    }
}
