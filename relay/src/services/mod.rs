//! The gRPC services: what became of everything, and by what operators intervene.
//!
//! ```text
//! client ─▶ access ─▶ status, control ─▶ cluster ─┬─▶ local, operator ─▶ view, owners     of this relay
//!                                                 └─▶ bus.ask ─▶ cluster::serve ─▶ …      of the others
//! ```
//!
//! - [`access`]: who may ask what. Nothing gets past it.
//! - [`status`]: `StatusService`; [`control`]: `ControlService`.
//! - [`cluster`]: any relay answers for all partitions, by asking the others.
//! - [`refusals`]: what ingresses refused, as they announce it.
//! - [`local`]: what this relay can answer by itself.
//! - [`error`]: why a request is not answered.

pub(crate) mod access;
pub(crate) mod cluster;
pub(crate) mod control;
mod error;
pub(crate) mod local;
pub(crate) mod refusals;
pub(crate) mod status;

use crate::{
    clock::Clock,
    partition::handle::{Owners, Ownership},
    view::View,
};
use control::{ControlServer, Operator};
use local::Local;
use refusals::Refusals;
use status::StatusServer;
use std::sync::Arc;
use talaria_bus::Bus;
use talaria_core::config::{Config, ConfigStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the services work with.
pub(crate) struct Parts {
    /// The configuration as it is now.
    pub config: watch::Receiver<Arc<Config>>,
    /// How the configuration stands.
    pub standing: watch::Receiver<Arc<ConfigStatus>>,
    pub bus: Bus,
    pub view: View,
    pub clock: Clock,
    /// What this relay owns.
    pub owners: Owners,
    /// What the others own.
    pub ownership: watch::Receiver<Arc<Ownership>>,
    /// Ends the watches: a server waits for its streams.
    pub stop: CancellationToken,
}

/// The services, and what works behind them.
pub(crate) struct Services {
    pub status: StatusServer,
    pub control: ControlServer,
    /// For [`control::run_jobs`] and [`cluster::answer_questions`].
    pub operator: Operator,
    /// For [`crate::gauges::Gauges`].
    pub cluster: cluster::Cluster,
    /// For [`Refusals::listen`].
    pub refusals: Refusals,
}

impl Services {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, standing, bus, view, clock, owners, ownership, stop } = parts;
        let operator = Operator::new(Local::new(config, bus, view, clock, owners));
        let cluster = cluster::Cluster::new(operator.clone(), ownership);
        let refusals = Refusals::default();
        Self {
            status: StatusServer::new(cluster.clone(), standing, refusals.clone(), stop),
            control: ControlServer::new(cluster.clone()),
            operator,
            cluster,
            refusals,
        }
    }
}
