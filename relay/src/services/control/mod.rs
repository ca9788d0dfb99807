//! `ControlService`: by which an operator intervenes.
//!
//! - [`request`]: what was asked for, checked.
//! - [`operator`]: pausing, resuming, calling off and sending again, decided one after another.
//! - [`jobs`]: replays of many.
//! - [`explain`]: why an event arrived or did not.

mod explain;
mod jobs;
mod operator;
mod request;

pub(crate) use jobs::run as run_jobs;
pub(crate) use operator::Operator;

use crate::{services::access::caller, services::status::request::{action_page, action_token, id, job_page, job_token, page_size}, view::{control, replayable}};
use request::Asker;
use std::time::Duration;
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{
    CancelDeliveryRequest, CancelDeliveryResponse, CancelReplayJobRequest, CancelReplayJobResponse,
    ExplainRequest, ExplainResponse, GetReplayJobRequest, GetReplayJobResponse, ListControlActionsRequest,
    ListControlActionsResponse, ListReplayJobsRequest, ListReplayJobsResponse, PauseRequest, PauseResponse,
    ReplayDeliveriesRequest, ReplayDeliveriesResponse, ReplayDeliveryRequest, ReplayDeliveryResponse,
    ReplayJob, ReplayJobState, ResumeRequest, ResumeResponse, control_service_server::ControlService,
};
use tonic::{Code, Request, Response, Status};

/// How long something may take before whoever asked hears that it is not known what became of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does it, whether or not whoever asked stays to hear of it: what was begun in the queue has to be brought to its end.
async fn done<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::time::timeout(PATIENCE, tokio::spawn(work)).await {
        Ok(Ok(outcome)) => outcome.map(Response::new),
        Ok(Err(_)) => Err(Status::internal("what was asked for broke off; the log says why")),
        Err(_) => Err(Status::unavailable(
            "the bus takes long, and it may still be done: see what is there before you ask again",
        )),
    }
}

#[tonic::async_trait]
impl ControlService for Operator {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let caller = caller(&request)?;
        explain::explain(self, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        let caller = caller(&request)?;
        let PauseRequest { tenant, route, requested_by, reason } = request.into_inner();
        let (asker, operator) = (Asker::read(caller, requested_by, reason)?, self.clone());
        asker.caller.narrow(&tenant)?;
        done(async move {
            let pause = operator.pause(&tenant, &route, &asker).await?;
            Ok(PauseResponse { pause: Some(pause) })
        })
        .await
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let caller = caller(&request)?;
        let ResumeRequest { tenant, route, requested_by, reason } = request.into_inner();
        let (asker, operator) = (Asker::read(caller, requested_by, reason)?, self.clone());
        asker.caller.narrow(&tenant)?;
        done(async move {
            let ended = operator.resume(&tenant, &route, &asker).await?;
            let remaining = if route.is_empty() { None } else { operator.pause_of(&tenant, "").await? };
            Ok(ResumeResponse { ended, remaining })
        })
        .await
    }

    async fn cancel_delivery(
        &self,
        request: Request<CancelDeliveryRequest>,
    ) -> Result<Response<CancelDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let CancelDeliveryRequest { delivery_id, requested_by, reason } = request.into_inner();
        let (asker, operator) = (Asker::read(caller, requested_by, reason)?, self.clone());
        let id: DeliveryId = id(&delivery_id)?;
        done(async move { Ok(CancelDeliveryResponse { delivery: Some(operator.cancel(id, &asker).await?) }) })
            .await
    }

    async fn replay_delivery(
        &self,
        request: Request<ReplayDeliveryRequest>,
    ) -> Result<Response<ReplayDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let ReplayDeliveryRequest { delivery_id, requested_by, reason } = request.into_inner();
        let (asker, operator) = (Asker::read(caller, requested_by, reason)?, self.clone());
        let id: DeliveryId = id(&delivery_id)?;
        done(async move { Ok(ReplayDeliveryResponse { delivery: Some(operator.replay(id, &asker).await?) }) })
            .await
    }

    async fn replay_deliveries(
        &self,
        request: Request<ReplayDeliveriesRequest>,
    ) -> Result<Response<ReplayDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        let (asker, operator) = (Asker::read(caller, asked.requested_by, asked.reason)?, self.clone());
        let rate_per_minute = request::rate(asked.rate_per_minute)?;
        let mut filter = request::with_states(asked.filter.unwrap_or_default());
        let mut meant = request::replay_filter(&filter)?;
        if request::is_everything(&filter) && !asked.all {
            return Err(Status::invalid_argument(
                "this would replay everything there is: restrict it, or ask for all",
            ));
        }
        meant.deliveries.tenant = asker.caller.narrow(&filter.tenant)?;
        filter.tenant = meant.deliveries.tenant.clone().unwrap_or_default();
        done(async move {
            operator.turn().await?;
            let last = operator.ask(replayable::newest_event).await?;
            let mut answer = operator.count(&meant, last).await?;
            if !asked.dry_run && answer.replayable > 0 {
                let job = ReplayJob {
                    id: format!("rpl_{:016x}", rand::random::<u64>()),
                    filter: Some(filter),
                    requested_by: asker.by.clone(),
                    token_name: asker.token_name().to_owned(),
                    reason: asker.reason.clone(),
                    rate_per_minute,
                    state: ReplayJobState::Running.into(),
                    matched: answer.matching,
                    last_event_seq: last,
                    ..ReplayJob::default()
                };
                answer.job = Some(operator.start_job(job, &asker).await?);
            }
            Ok(answer)
        })
        .await
    }

    async fn get_replay_job(
        &self,
        request: Request<GetReplayJobRequest>,
    ) -> Result<Response<GetReplayJobResponse>, Status> {
        let caller = caller(&request)?;
        let id = request.into_inner().job_id;
        let mut job = self.job_for(&caller, &id).await;
        if job.as_ref().is_err_and(|error| error.code() == Code::NotFound) {
            // Another relay may have begun it a moment ago.
            self.turn().await?;
            job = self.job_for(&caller, &id).await;
        }
        Ok(Response::new(GetReplayJobResponse { job: Some(job?) }))
    }

    async fn list_replay_jobs(
        &self,
        request: Request<ListReplayJobsRequest>,
    ) -> Result<Response<ListReplayJobsResponse>, Status> {
        let tenant = caller(&request)?.narrow("")?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let (started_at, id) = job_page(&request.page_token)?;
        let (jobs, more) = self
            .ask(move |connection| control::jobs(connection, tenant.as_deref(), (started_at, &id), size))
            .await?;
        let next_page_token = jobs.last().filter(|_| more).map(job_token).unwrap_or_default();
        Ok(Response::new(ListReplayJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_replay_job(
        &self,
        request: Request<CancelReplayJobRequest>,
    ) -> Result<Response<CancelReplayJobResponse>, Status> {
        let caller = caller(&request)?;
        let CancelReplayJobRequest { job_id, requested_by, reason } = request.into_inner();
        let (asker, operator) = (Asker::read(caller, requested_by, reason)?, self.clone());
        done(async move {
            Ok(CancelReplayJobResponse { job: Some(operator.cancel_job(&job_id, &asker).await?) })
        })
        .await
    }

    async fn list_control_actions(
        &self,
        request: Request<ListControlActionsRequest>,
    ) -> Result<Response<ListControlActionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let below = action_page(&request.page_token)?;
        let (tenant, since) = (caller.narrow(&request.tenant)?, request::since(request.since)?);
        let (found, more) = self
            .ask(move |connection| control::actions(connection, tenant.as_deref(), since, below, size))
            .await?;
        let next_page_token = found.last().filter(|_| more).map(|(place, _)| action_token(*place));
        Ok(Response::new(ListControlActionsResponse {
            actions: found.into_iter().map(|(_, action)| action).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }
}
