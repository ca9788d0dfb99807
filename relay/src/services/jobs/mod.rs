//! `JobService`: jobs at OpenRouter.
//!
//! - [`request`]: checks of the requests.
//! - [`openrouter`]: what is asked of an ingress: models, and whether a request fits its model.
//! - [`media`]: the links to a job's files.
//! - [`own`]: answers and commands in the partitions that this relay owns. [`watch`]: a job until its end.

mod media;
mod openrouter;
mod own;
mod request;
mod watch;

use super::{
    access::{Caller, caller, pass},
    cluster::Cluster,
    control,
    error::Error,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use talaria_core::id::JobId;
use talaria_proto::time::from_proto;
use talaria_proto::v1::{
    ClusterMethod, Cost, GetJobRequest, GetJobResponse, GetMediaRequest, GetMediaResponse, Job, JobState,
    ListCostsRequest, ListCostsResponse, ListJobsRequest, ListJobsResponse, ListModelsRequest,
    ListModelsResponse, StartJob, StopJobRequest, StopJobResponse, SubmitJobRequest, SubmitJobResponse,
    TrackJobRequest, TrackJobResponse, WatchJobRequest, WatchJobResponse, job_service_server::JobService,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// For OpenRouter's answer to a submit, longer than the bus waits for it. After this, the caller gets the job as it is.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(100);

/// For the status to show a job that OpenRouter has answered.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a job is looked at while its submit is under way, or while it is watched.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The service. Clones share it.
#[derive(Clone)]
pub(crate) struct JobServer {
    cluster: Cluster,
    /// Ends the watches, for which the server would wait.
    stop: CancellationToken,
}

impl JobServer {
    pub(super) fn new(cluster: Cluster, stop: CancellationToken) -> Self {
        Self { cluster, stop }
    }
}

impl Cluster {
    async fn openrouter_job(&self, caller: &Caller, request: GetJobRequest) -> Result<Job, Error> {
        caller.narrow(&request.tenant)?;
        let own = self.local().openrouter_job(caller, request.clone());
        let found = self.find(caller, ClusterMethod::GetJob, &request, own).await?;
        Ok(found.job.unwrap_or_default())
    }

    /// Submits a job, and waits for OpenRouter's answer.
    async fn submit(self, caller: Caller, request: SubmitJobRequest) -> Result<SubmitJobResponse, Error> {
        // Empty where the token's own tenant is meant.
        let tenant = request::tenant(&caller, &request.tenant)?;
        let request = SubmitJobRequest { tenant: tenant.clone(), ..request };
        // First, because a known job stays known when its request would be refused now.
        if let Some(job) = self.known(&caller, &request).await? {
            return Ok(SubmitJobResponse { job: Some(self.answered(&caller, job).await), known: true });
        }
        let start = request::submit(&caller, request, &self.local().config())?;
        let estimate_micros = match &start.video {
            Some(video) => openrouter::check(&self.local().bus, &tenant, video).await?,
            None => None,
        };
        let job = start.job.map(|job| Job { estimate_micros, ..job });
        let started = self.begin(&caller, &tenant, StartJob { job, ..start }).await?;
        let job = self.answered(&caller, started.job.unwrap_or_default()).await;
        if job.try_again {
            return Err(Error::NoIngress(job.reason));
        }
        Ok(SubmitJobResponse { job: Some(job), known: started.known })
    }

    /// The job of a request that came before. An error if that was another request.
    async fn known(&self, caller: &Caller, request: &SubmitJobRequest) -> Result<Option<Job>, Error> {
        request::request_id(&request.request_id)?;
        let job_id = job_id(&request.tenant, &request.request_id);
        let asked = GetJobRequest { job_id, tenant: request.tenant.clone() };
        match self.openrouter_job(caller, asked).await {
            // OpenRouter made no job, so the same request may be tried again.
            Ok(job) if job.state() == JobState::Refused => Ok(None),
            Ok(job) if job.request_sha256 == request::digest(request) => Ok(Some(job)),
            Ok(_) => Err(Error::OtherRequest(request.request_id.clone())),
            // The owner knows better than the view.
            Err(_) => Ok(None),
        }
    }

    /// The job once OpenRouter has answered its submit and the status shows it, or as it is after a while.
    async fn answered(&self, caller: &Caller, job: Job) -> Job {
        let id = GetJobRequest { job_id: job.id.clone(), tenant: job.tenant.clone() };
        let changed = |job: &Job| from_proto(job.changed_at.as_ref());
        let shown = async {
            loop {
                match self.openrouter_job(caller, id.clone()).await {
                    Ok(now) if now.state() != JobState::Submitting && changed(&now) >= changed(&job) => {
                        return now;
                    }
                    // While its partition moves, it cannot be asked for.
                    _ => tokio::time::sleep(LOOK_INTERVAL).await,
                }
            }
        };
        let is_submitting = job.state() == JobState::Submitting;
        let timeout = if is_submitting { SUBMIT_TIMEOUT } else { SHOWN_TIMEOUT };
        let shown = tokio::time::timeout(timeout, shown).await;
        own::for_clients(shown.unwrap_or(job))
    }

    async fn begin(
        &self,
        caller: &Caller,
        tenant: &str,
        start: StartJob,
    ) -> Result<SubmitJobResponse, Error> {
        let own = self.operator.start_job(caller, start.clone());
        self.command(caller, tenant, ClusterMethod::StartJob, &start, own).await
    }

    async fn stop_waiting(self, caller: Caller, request: StopJobRequest) -> Result<StopJobResponse, Error> {
        let id = GetJobRequest { job_id: request.job_id.clone(), tenant: request.tenant.clone() };
        let job = self.openrouter_job(&caller, id).await?;
        let tenant = job.tenant;
        let request = StopJobRequest { job_id: job.id, tenant: tenant.clone(), ..request };
        let own = self.operator.stop_job(&caller, request.clone());
        self.command(&caller, &tenant, ClusterMethod::StopJob, &request, own).await
    }

    async fn costs(&self, caller: &Caller, request: ListCostsRequest) -> Result<ListCostsResponse, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let own = self.local().costs(caller, request.clone());
        let all = self.gather(caller, ClusterMethod::ListCosts, &request, tenant.as_deref(), own).await?;
        let parts = all.others.into_iter().chain([all.own?]);
        // While a partition moves, two relays may have its costs.
        let key = |cost: &Cost| {
            let Cost { day, tenant, model, routes, .. } = cost.clone();
            (std::cmp::Reverse(day), tenant, model, routes)
        };
        let costs: BTreeMap<_, Cost> =
            parts.flat_map(|part| part.costs).map(|cost| (key(&cost), cost)).collect();
        Ok(ListCostsResponse { costs: costs.into_values().collect(), incomplete: !all.missing.is_empty() })
    }
}

#[tonic::async_trait]
impl JobService for JobServer {
    type WatchJobStream = ReceiverStream<Result<WatchJobResponse, Status>>;

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let caller = caller(&request)?;
        let tenant = request.into_inner().tenant;
        let local = self.cluster.local();
        let tenant = request::configured(&caller, &tenant, &local.config())?.name.clone();
        let models = openrouter::models(&local.bus, &tenant).await?;
        Ok(Response::new(ListModelsResponse {
            models: models.models,
            fetched_at: models.fetched_at,
            stale_because: models.stale_because,
        }))
    }

    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let submit = cluster.submit(caller, request.into_inner());
        control::finish(submit, SUBMIT_TIMEOUT + control::DEADLINE).await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let caller = caller(&request)?;
        let job = self.cluster.openrouter_job(&caller, request.into_inner()).await?;
        Ok(Response::new(GetJobResponse { job: Some(own::for_clients(job)) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        list!(self.cluster, request, ListJobsResponse { jobs })
    }

    async fn watch_job(
        &self,
        request: Request<WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let pass = pass(&request)?;
        let watch = watch::watch(self.cluster.clone(), pass, request.into_inner(), self.stop.clone());
        Ok(Response::new(watch.await?))
    }

    async fn track_job(
        &self,
        request: Request<TrackJobRequest>,
    ) -> Result<Response<TrackJobResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        let start = request::track(&caller, request, &cluster.local().config())?;
        let tenant = start.job.as_ref().map(|job| job.tenant.clone()).unwrap_or_default();
        let track = async move {
            let started = cluster.begin(&caller, &tenant, start).await?;
            let job = started.job.map(own::for_clients);
            Ok(TrackJobResponse { job, known: started.known })
        };
        control::finish(track, control::DEADLINE).await
    }

    async fn stop_job(&self, request: Request<StopJobRequest>) -> Result<Response<StopJobResponse>, Status> {
        let (caller, cluster) = (caller(&request)?, self.cluster.clone());
        let request = request.into_inner();
        control::request::audit(&caller, &request.requested_by, &request.reason)?;
        control::finish(cluster.stop_waiting(caller, request), control::DEADLINE).await
    }

    async fn get_media(
        &self,
        request: Request<GetMediaRequest>,
    ) -> Result<Response<GetMediaResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.cluster.media(&caller, request.into_inner()).await?))
    }

    async fn list_costs(
        &self,
        request: Request<ListCostsRequest>,
    ) -> Result<Response<ListCostsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.cluster.costs(&caller, request.into_inner()).await?))
    }
}

/// A bound of a period, if it is a time.
fn time(at: Option<prost_types::Timestamp>, name: &str) -> Result<Option<Timestamp>, Error> {
    let Some(at) = at else { return Ok(None) };
    let read = Timestamp::new(at.seconds, at.nanos);
    read.map(Some).map_err(|_| Error::Invalid(format!("{name} is not a time")))
}

fn job_id(tenant: &str, request_id: &str) -> String {
    JobId::new(tenant, request_id).to_string()
}
