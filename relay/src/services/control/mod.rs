//! `ControlService`: the commands of operators.
//!
//! - [`request`]: checks of the requests.
//! - [`operator`]: pausing, resuming, probing, cancelling and replaying, in the partitions that this relay owns.
//! - [`jobs`]: replay jobs in these partitions, run by [`runner`]; [`replays`]: over all partitions.
//! - [`runs`]: reports about the agent's runs, which no operator sends.
//! - [`explain`]: why an event arrived or did not.

pub(super) mod explain;
mod jobs;
mod operator;
mod replays;
pub(super) mod request;
mod runner;
mod runs;

pub(crate) use operator::Operator;
pub(crate) use runner::run as run_jobs;
pub use runs::NotRecorded;

use super::{
    access::{Caller, caller},
    cluster::Cluster,
    error::Error,
    status,
};
use std::time::Duration;
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{
    CancelDeliveryRequest, CancelDeliveryResponse, CancelReplayJobRequest, CancelReplayJobResponse,
    ClusterMethod, ExplainRequest, ExplainResponse, FoundEvent, GetDeliveryRequest, GetEventRequest,
    GetReplayJobRequest, GetReplayJobResponse, ListControlActionsRequest, ListControlActionsResponse,
    ListReplayJobsRequest, ListReplayJobsResponse, PauseRequest, PauseResponse, ProbeRouteRequest,
    ProbeRouteResponse, ReplayDeliveriesRequest, ReplayDeliveriesResponse, ReplayDeliveryRequest,
    ReplayDeliveryResponse, ResumeRequest, ResumeResponse, control_service_server::ControlService,
};
use tonic::{Request, Response, Status};

/// For a command. After it, the caller gets an error, and the command may still be done.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The service. Clones share it.
#[derive(Clone)]
pub(crate) struct ControlServer {
    cluster: Cluster,
}

fn done<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> impl Future<Output = Result<Response<T>, Status>> + Send {
    finish(work, DEADLINE)
}

/// Runs a command to its end, even if the caller leaves: it may have begun in several partitions.
pub(super) fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
    deadline: Duration,
) -> impl Future<Output = Result<Response<T>, Status>> + Send {
    let work = tokio::spawn(work);
    async move {
        match tokio::time::timeout(deadline, work).await {
            Ok(Ok(outcome)) => Ok(Response::new(outcome?)),
            Ok(Err(_)) => Err(Status::internal("what was asked for broke off; the log says why")),
            Err(_) => Err(Status::unavailable(
                "the bus takes long, and it may still be done: see what is there before you ask again",
            )),
        }
    }
}

/// Sends a command about a route or a tenant to the owner of the tenant's partition.
macro_rules! route_command {
    ($cluster:expr, $request:expr, $operation:ident, $method:ident) => {{
        let (caller, cluster) = (caller(&$request)?, $cluster.clone());
        let request = $request.into_inner();
        request::audit(&caller, &request.requested_by, &request.reason)?;
        caller.narrow(&request.tenant)?;
        done(async move {
            let own = cluster.operator.$operation(&caller, request.clone());
            cluster.command(&caller, &request.tenant, ClusterMethod::$method, &request, own).await
        })
        .await
    }};
}

impl ControlServer {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

impl Cluster {
    /// The tenant of a delivery. Its id alone does not say which partition to ask.
    async fn tenant_of(&self, caller: &Caller, delivery_id: &str) -> Result<String, Error> {
        let _: DeliveryId = status::request::id(delivery_id)?;
        let request = GetDeliveryRequest { delivery_id: delivery_id.to_owned() };
        let own = self.local().delivery(caller, request.clone());
        let found = self.find(caller, ClusterMethod::GetDelivery, &request, own).await?;
        Ok(found.delivery.unwrap_or_default().tenant)
    }

    /// The tenant of an event.
    async fn tenant_of_event(&self, caller: &Caller, event_id: &str) -> Result<String, Error> {
        let request = GetEventRequest { event_id: event_id.to_owned(), include_payload: false };
        let own = self.local().event(caller, request.clone());
        let found: FoundEvent = self.find(caller, ClusterMethod::GetEvent, &request, own).await?;
        Ok(found.found.and_then(|found| found.event).unwrap_or_default().tenant)
    }
}

#[tonic::async_trait]
impl ControlService for ControlServer {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.cluster.explain(&caller, request.into_inner()).await?))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        route_command!(self.cluster, request, pause, Pause)
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        route_command!(self.cluster, request, resume, Resume)
    }

    async fn probe_route(
        &self,
        request: Request<ProbeRouteRequest>,
    ) -> Result<Response<ProbeRouteResponse>, Status> {
        route_command!(self.cluster, request, probe, ProbeRoute)
    }

    async fn cancel_delivery(
        &self,
        request: Request<CancelDeliveryRequest>,
    ) -> Result<Response<CancelDeliveryResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        request::audit(&caller, &request.requested_by, &request.reason)?;
        done(async move {
            let tenant = cluster.tenant_of(&caller, &request.delivery_id).await?;
            let own = cluster.operator.cancel(&caller, request.clone());
            cluster.command(&caller, &tenant, ClusterMethod::CancelDelivery, &request, own).await
        })
        .await
    }

    async fn replay_delivery(
        &self,
        request: Request<ReplayDeliveryRequest>,
    ) -> Result<Response<ReplayDeliveryResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        request::audit(&caller, &request.requested_by, &request.reason)?;
        let (_, to_plan) = request::replayed(&request)?;
        let may_plan = to_plan.is_some();
        done(async move {
            let tenant = if may_plan {
                cluster.tenant_of_event(&caller, &request.event_id).await?
            } else {
                cluster.tenant_of(&caller, &request.delivery_id).await?
            };
            let own = Box::pin(cluster.operator.replay(&caller, request.clone()));
            cluster.command(&caller, &tenant, ClusterMethod::ReplayDelivery, &request, own).await
        })
        .await
    }

    async fn replay_deliveries(
        &self,
        request: Request<ReplayDeliveriesRequest>,
    ) -> Result<Response<ReplayDeliveriesResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        request::audit(&caller, &request.requested_by, &request.reason)?;
        done(async move { cluster.replay_many(&caller, request).await }).await
    }

    async fn get_replay_job(
        &self,
        request: Request<GetReplayJobRequest>,
    ) -> Result<Response<GetReplayJobResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.cluster.replay_job(&caller, request.into_inner()).await?))
    }

    async fn list_replay_jobs(
        &self,
        request: Request<ListReplayJobsRequest>,
    ) -> Result<Response<ListReplayJobsResponse>, Status> {
        list!(self.cluster, request, ListReplayJobsResponse { jobs })
    }

    async fn cancel_replay_job(
        &self,
        request: Request<CancelReplayJobRequest>,
    ) -> Result<Response<CancelReplayJobResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        done(async move { cluster.cancel_replay_job(&caller, request).await }).await
    }

    async fn list_control_actions(
        &self,
        request: Request<ListControlActionsRequest>,
    ) -> Result<Response<ListControlActionsResponse>, Status> {
        list!(self.cluster, request, ListControlActionsResponse { actions })
    }
}
