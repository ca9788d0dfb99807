//! The audit of operators' requests: who asked for something, and why.

use jiff::Timestamp;
use talaria_proto::time::to_proto;
use talaria_proto::v1::{ControlAction, ControlKind, Job, Record, ReplayJob, record::What};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditInfo {
    /// The name that the operator gave.
    pub by: String,
    /// The name of the operator's token, or empty.
    pub token: String,
    /// May be empty.
    pub reason: String,
    /// The replay job that acts for the operator, or empty.
    pub job: String,
}

impl AuditInfo {
    pub(crate) fn of_job(job: &ReplayJob) -> Self {
        Self {
            by: job.requested_by.clone(),
            token: job.token_name.clone(),
            reason: job.reason.clone(),
            job: job.id.clone(),
        }
    }

    /// Of the client who had a job submitted or tracked.
    pub(crate) fn of_client(job: &Job) -> Self {
        Self { by: job.requested_by.clone(), token: job.token_name.clone(), ..Self::default() }
    }

    pub(crate) fn action(
        &self,
        now: Timestamp,
        kind: ControlKind,
        tenant: &str,
        route: &str,
    ) -> ControlAction {
        ControlAction {
            kind: kind.into(),
            at: Some(to_proto(now)),
            requested_by: self.by.clone(),
            token_name: self.token.clone(),
            reason: self.reason.clone(),
            tenant: tenant.to_owned(),
            route: route.to_owned(),
            delivery_id: String::new(),
            replay_job_id: self.job.clone(),
            job_id: String::new(),
        }
    }

    /// The action of a client who asked for something about a job at OpenRouter.
    pub(crate) fn job_action(&self, now: Timestamp, kind: ControlKind, job: &Job) -> ControlAction {
        ControlAction { job_id: job.id.clone(), ..self.action(now, kind, &job.tenant, &job.route) }
    }

    /// "cancelled by ana with token ops: no longer wanted".
    pub(crate) fn describe(&self, action: &str) -> String {
        let by = who(&self.by, &self.token);
        match (self.job.as_str(), self.reason.as_str()) {
            ("", "") => format!("{action} by {by}"),
            ("", reason) => format!("{action} by {by}: {reason}"),
            (job, _) => format!("{action} by {by} ({job})"),
        }
    }
}

/// "ana", or "ana with token ops": the name that was given, and the token that was verified.
pub fn who(requested_by: &str, token_name: &str) -> String {
    match token_name {
        "" => requested_by.to_owned(),
        token => format!("{requested_by} with token {token}"),
    }
}

/// A record that belongs to no event.
pub(crate) fn record(now: Timestamp, what: What) -> Record {
    Record { at: Some(to_proto(now)), event_seq: 0, what: Some(what) }
}
