//! The interfaces of a relay: the gRPC services, and the gauges for metrics. No other module may use this one.
//!
//! ```text
//! client ─▶ access ─▶ status, control, jobs ─▶ cluster ─┬─▶ local, operator ─▶ view, owners     of this relay
//!                                                       └─▶ bus.ask ─▶ cluster::serve ─▶ …      of the others
//! ```
//!
//! - [`server`]: the gRPC server. [`api`]: the services for other interfaces in this process. [`access`]: access control, before
//!   all services.
//! - [`status`]: `StatusService`; [`control`]: `ControlService`; [`jobs`]: `JobService`. [`error`]: their errors; [`page_token`]: their page tokens.
//! - [`cluster`]: answers for all partitions, with the other relays. [`local`]: this relay's own part.
//! - [`refusals`]: the refusals that ingresses announce.
//! - [`gauges`]: the state of the partitions, for metrics.

/// Answers a request for a page of a list over all relays.
macro_rules! list {
    ($cluster:expr, $request:ident, $response:ident { $items:ident }) => {{
        let caller = caller(&$request)?;
        let listed = $cluster.list(&caller, $request.into_inner(), 0).await?;
        Ok(Response::new($response {
            $items: listed.items,
            next_page_token: listed.next_page_token,
            incomplete: listed.incomplete,
        }))
    }};
}

pub(crate) mod access;
pub(crate) mod api;
pub(crate) mod cluster;
pub(crate) mod control;
mod error;
pub(crate) mod gauges;
pub(crate) mod jobs;
mod local;
mod page_token;
pub(crate) mod refusals;
pub(crate) mod server;
pub(crate) mod status;

use crate::{
    clock::Clock,
    evidence::Evidence,
    partition::handle::{Owners, Ownership},
    view::View,
};
use api::Api;
use control::{ControlServer, Operator};
use jobs::JobServer;
use local::Local;
use refusals::Refusals;
use status::StatusServer;
use std::sync::Arc;
use talaria_bus::Bus;
use talaria_core::config::{Config, ConfigStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The dependencies of the services.
pub(crate) struct Parts {
    pub config: watch::Receiver<Arc<Config>>,
    pub config_status: watch::Receiver<Arc<ConfigStatus>>,
    pub bus: Bus,
    pub view: View,
    pub clock: Clock,
    pub owners: Owners,
    pub evidence: Evidence,
    /// The partitions of the other relays.
    pub ownership: watch::Receiver<Arc<Ownership>>,
    /// Ends the watches, for which the server would wait.
    pub stop: CancellationToken,
}

pub(crate) struct Services {
    pub api: Api,
    /// For [`control::run_jobs`] and [`cluster::answer_questions`].
    pub operator: Operator,
    /// For [`gauges::Gauges`].
    pub cluster: cluster::Cluster,
    /// For [`Refusals::listen`].
    pub refusals: Refusals,
}

impl Services {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, config_status, bus, view, clock, owners, evidence, ownership, stop } = parts;
        let operator = Operator::new(Local::new(config.clone(), bus.clone(), view, clock, owners, evidence));
        let cluster = cluster::Cluster::new(operator.clone(), ownership);
        let refusals = Refusals::default();
        let status = StatusServer::new(cluster.clone(), config_status, refusals.clone(), stop.clone());
        let (control, jobs) = (ControlServer::new(cluster.clone()), JobServer::new(cluster.clone(), stop));
        let api = Api::new(config, bus, cluster.clone(), status, control, jobs);
        Self { api, operator, cluster, refusals }
    }
}
