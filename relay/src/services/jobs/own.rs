//! Answers and commands about jobs, in the partitions that this relay owns.

use super::time;
use crate::{
    decisions::audit::AuditInfo,
    partition::handle::{Command, NotDone, Owner},
    services::{
        access::Caller,
        cluster::Page,
        control::{self, Operator},
        error::Error,
        local::Local,
    },
    view::jobs,
};
use talaria_proto::v1::{
    GetJobRequest, GetJobResponse, Job, ListCostsRequest, ListCostsResponse, ListJobsRequest, StartJob,
    StopJobRequest, StopJobResponse, SubmitJobResponse,
};

/// The longest id that an error repeats.
const LONGEST_ID: usize = 100;

/// Without the parts that only the journal needs.
pub(super) fn for_clients(job: Job) -> Job {
    Job { request_sha256: bytes::Bytes::new(), callback_token: String::new(), ..job }
}

impl Local {
    pub(in crate::services) async fn openrouter_job(
        &self,
        caller: &Caller,
        request: GetJobRequest,
    ) -> Result<GetJobResponse, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        self.wait_briefly().await;
        let (own, id) = (self.own(), request.job_id.clone());
        let found = self.read(move |connection| {
            jobs::job(connection, &id, |job| {
                tenant.as_ref().is_none_or(|tenant| *tenant == job.tenant) && own.has_tenant(&job.tenant)
            })
        });
        let shown: String = request.job_id.chars().take(LONGEST_ID).collect();
        let not_known = || Error::NotKnown { what: format!("job {shown}"), behind: self.behind() };
        Ok(GetJobResponse { job: Some(found.await?.ok_or_else(not_known)?) })
    }

    pub(in crate::services) async fn openrouter_jobs(
        &self,
        caller: &Caller,
        request: ListJobsRequest,
        (created_at, id): (i64, String),
        size: usize,
    ) -> Result<Page<(i64, String), Job>, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let states: Vec<_> = request.states().collect();
        let own = self.own();
        let question = move |connection: &rusqlite::Connection| {
            jobs::jobs(connection, &own, tenant.as_deref(), &states, (created_at, &id), size)
        };
        let (found, more) = self.read(question).await?;
        let found = found.into_iter().map(|job| (jobs::position(&job), for_clients(job)));
        Ok(Page::new((found.collect(), more)))
    }

    pub(in crate::services) async fn costs(
        &self,
        caller: &Caller,
        request: ListCostsRequest,
    ) -> Result<ListCostsResponse, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let period = (time(request.since, "since")?, time(request.until, "until")?);
        let own = self.own();
        let question =
            move |connection: &rusqlite::Connection| jobs::costs(connection, &own, tenant.as_deref(), period);
        Ok(ListCostsResponse { costs: self.read(question).await?, incomplete: false })
    }
}

impl Operator {
    /// Records a job; its submit goes out afterwards.
    pub(in crate::services) async fn start_job(
        &self,
        caller: &Caller,
        start: StartJob,
    ) -> Result<SubmitJobResponse, Error> {
        let job = start.job.clone().unwrap_or_default();
        caller.narrow(&job.tenant)?;
        let owner = self.local.owner_of(&job.tenant)?;
        let (known, id) = match owner.command(Command::StartJob(Box::new(start))).await {
            Ok(seq) => {
                tracing::info!(
                    job = job.id,
                    tenant = job.tenant,
                    model = job.model,
                    by = job.requested_by,
                    token = job.token_name,
                    tracked = !job.openrouter_id.is_empty(),
                    "job begun"
                );
                self.wait_for_view(&owner, seq).await;
                (false, job.id)
            }
            Err(NotDone::JobKnown(id)) => (true, id),
            Err(why) => return Err(not_begun(why, &job)),
        };
        let job = self.recorded(&owner, &id).await?;
        Ok(SubmitJobResponse { job: Some(job), known })
    }

    pub(in crate::services) async fn stop_job(
        &self,
        caller: &Caller,
        request: StopJobRequest,
    ) -> Result<StopJobResponse, Error> {
        let StopJobRequest { job_id, tenant, requested_by, reason } = request;
        let audit = control::request::audit(caller, &requested_by, &reason)?;
        caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        match owner.command(Command::StopJob { id: job_id.clone(), audit: audit.clone() }).await {
            Ok(seq) => {
                let AuditInfo { by, token, reason, .. } = &audit;
                tracing::info!(job = job_id, tenant, by, token, reason, "job stopped");
                self.wait_for_view(&owner, seq).await;
                Ok(StopJobResponse { job: Some(for_clients(self.recorded(&owner, &job_id).await?)) })
            }
            Err(NotDone::NotWaiting) => Err(Error::JobEnded(job_id)),
            Err(NotDone::UnderWay) => Err(Error::BeingSubmitted(job_id)),
            Err(_) => Err(Error::Lost),
        }
    }

    /// A job as its owner knows it, which is ahead of the view.
    async fn recorded(&self, owner: &Owner, id: &str) -> Result<Job, Error> {
        owner.job(id).await.ok_or(Error::Lost)
    }
}

fn not_begun(why: NotDone, job: &Job) -> Error {
    match why {
        NotDone::OtherRequest => Error::OtherRequest(job.request_id.clone()),
        NotDone::OverBudget(why) => Error::OverBudget(why),
        NotDone::NoApiKey => Error::NoApiKey(format!("the tenant {} has no openrouter.api_key", job.tenant)),
        NotDone::TooLarge => Error::TooLarge,
        NotDone::Lost
        | NotDone::NotWaiting
        | NotDone::UnderWay
        | NotDone::NoProbe(_)
        | NotDone::JobKnown(_) => Error::Lost,
    }
}
