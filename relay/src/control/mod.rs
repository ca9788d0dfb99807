//! `ControlService`: what an operator does beyond looking.
//!
//! - [`explain`]: why an event arrived or did not.

mod explain;

use crate::view::View;
use std::sync::Arc;
use talaria_bus::{Bus, Clock};
use talaria_core::config::Config;
use talaria_proto::v1::{ExplainRequest, ExplainResponse, control_service_server::ControlService};
use tonic::{Request, Response, Status};

/// The service. Clones share it.
#[derive(Clone)]
pub(crate) struct ControlServer {
    config: Arc<Config>,
    view: View,
    bus: Bus,
    clock: Clock,
}

impl ControlServer {
    pub(crate) fn new(config: Arc<Config>, view: View, bus: Bus, clock: Clock) -> Self {
        Self { config, view, bus, clock }
    }
}

#[tonic::async_trait]
impl ControlService for ControlServer {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        explain::explain(self, request.into_inner()).await.map(Response::new)
    }
}
