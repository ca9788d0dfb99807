//! Jobs at OpenRouter: begun, submitted, polled, joined with their events, given up.
//!
//! A submit is an [`Action`], so it goes out after the commit with the intent is durable, and it goes out once. A poll changes
//! nothing at OpenRouter, so it needs no record before.

use super::{Action, Machine, files::KEPT};
use crate::{
    decisions::{
        audit::AuditInfo,
        job::{self, budget, files, poll},
    },
    partition::handle::NotDone,
};
use jiff::Timestamp;
use metrics::counter;
use std::{sync::Arc, time::Duration};
use talaria_core::{config, time::after};
use talaria_proto::v1::{
    ControlKind, Event, EventSource, Job, JobSource, JobState, Polled, StartJob, VideoRequest, record::What,
    submitted::Outcome,
};
use talaria_telemetry::LogLimiter;

/// The most polls under way of one tenant. Further ones wait, so that a tenant whose OpenRouter does not answer delays no other.
const POLLED: usize = 8;

/// The most due jobs that are looked at in one step.
pub(super) const LOOKED_AT: usize = 64;

/// For jobs whose tenant has no `openrouter.api_key` any more.
const WITHOUT_SETTINGS: config::Poll = config::Poll {
    first: Duration::from_secs(90),
    every: Duration::from_secs(30),
    slowest: Duration::from_secs(300),
    give_up: Duration::from_secs(3 * 60 * 60),
};

/// A job to submit.
#[derive(Debug)]
pub(crate) struct Submit {
    pub job: String,
    pub tenant: String,
    pub callback_token: String,
    pub video: VideoRequest,
}

/// A job to poll.
#[derive(Debug)]
pub(crate) struct PollJob {
    pub job: String,
    pub tenant: String,
    pub openrouter_id: String,
    pub model: String,
    pub callback_token: String,
}

impl Machine {
    fn settings(&self, tenant: &str) -> Option<Arc<config::Jobs>> {
        self.config.tenants.get(tenant)?.jobs.clone()
    }

    pub(super) fn poll_settings(&self, tenant: &str) -> config::Poll {
        self.settings(tenant).map_or(WITHOUT_SETTINGS, |jobs| jobs.poll)
    }

    pub(super) fn push_job(&mut self, now: Timestamp, job: Job) {
        if job.ended_at.is_some() && self.state.job(&job.id).is_none_or(|known| known.ended_at.is_none()) {
            counter!("talaria_jobs_ended_total", "state" => job::name(job.state())).increment(1);
            tracing::info!(
                job = job.id,
                tenant = job.tenant,
                model = job.model,
                openrouter_id = job.openrouter_id,
                state = job::name(job.state()),
                polled = job.source() == JobSource::Poll,
                cost_micros = job.cost_micros,
                "job ended"
            );
        }
        self.push_what(now, 0, What::Job(job));
    }

    pub(crate) fn job(&self, id: &str) -> Option<Job> {
        self.state.job(id).cloned()
    }

    /// Records a job, which is then submitted or followed.
    pub(super) fn start_job(&mut self, start: StartJob, now: Timestamp) -> Result<(), NotDone> {
        let StartJob { job, video, without_estimate } = start;
        let job = job.unwrap_or_default();
        let settings = self.settings(&job.tenant).ok_or(NotDone::NoApiKey)?;
        // A job that is to be followed may be known, also as one that was submitted here.
        if video.is_none()
            && let Some(known) = self.state.job_at_openrouter(&job.tenant, &job.openrouter_id)
        {
            return Err(NotDone::JobKnown(known.id.clone()));
        }
        match self.state.job(&job.id) {
            // OpenRouter made no job, so the same request may be tried again.
            Some(known) if known.state() == JobState::Refused => {}
            Some(known) if known.request_sha256 == job.request_sha256 => {
                return Err(NotDone::JobKnown(job.id));
            }
            Some(_) => return Err(NotDone::OtherRequest),
            None => {}
        }
        if video.is_some() {
            // Not those of others that are only known by their end.
            let jobs = self.state.jobs();
            let jobs =
                jobs.filter(|of| of.tenant == job.tenant && !(of.tracked && of.requested_by.is_empty()));
            let refusal = budget::refusal(&settings.budget, jobs, job.estimate_micros, without_estimate, now);
            if let Some(why) = refusal {
                return Err(NotDone::OverBudget(why));
            }
        }
        let job = job::begun(job, &settings.poll, now);
        let kind = if video.is_some() { ControlKind::JobSubmitted } else { ControlKind::JobTracked };
        let acted = AuditInfo::of_client(&job).job_action(now, kind, &job);
        if let Some(video) = video {
            self.submitting.insert(job.id.clone());
            self.actions.push(Action::Submit(Box::new(Submit {
                job: job.id.clone(),
                tenant: job.tenant.clone(),
                callback_token: job.callback_token.clone(),
                video,
            })));
        }
        self.push_job(now, job);
        self.push_what(now, 0, What::Acted(acted));
        Ok(())
    }

    pub(super) fn stop_job(&mut self, id: &str, audit: &AuditInfo, now: Timestamp) -> Result<(), NotDone> {
        let job = self.state.job(id).ok_or(NotDone::NotWaiting)?;
        if job.state() == JobState::Submitting {
            return Err(NotDone::UnderWay);
        }
        let stopped = job::stopped(job, &audit.by, &audit.reason, now).ok_or(NotDone::NotWaiting)?;
        let acted = audit.job_action(now, ControlKind::JobStopped, &stopped);
        self.push_job(now, stopped);
        self.push_what(now, 0, What::Acted(acted));
        Ok(())
    }

    /// The submit of a job ended.
    pub(crate) fn job_submitted(&mut self, id: &str, outcome: &Outcome, now: Timestamp, random: f64) {
        self.submitting.remove(id);
        let Some(job) = self.state.job(id) else { return };
        let settings = self.poll_settings(&job.tenant);
        let other = match outcome {
            Outcome::Made(made) => self.state.job_at_openrouter(&job.tenant, &made.openrouter_id),
            _ => None,
        };
        let other = other.map(|other| other.id.as_str());
        let Some(job) = job::submitted(job, outcome, other, &settings, now, random) else { return };
        if job.state() == JobState::Unknown {
            tracing::warn!(
                job = job.id,
                tenant = job.tenant,
                because = job.reason,
                "the answer to a submit was lost; the job is not submitted again"
            );
        }
        self.push_job(now, job);
    }

    /// Marks jobs whose submit was under way at the takeover, until the commit is full. Whether there are more.
    pub(crate) fn interrupt_jobs(&mut self, now: Timestamp) -> bool {
        let is_interrupted = |job: &&Job| job.state() == JobState::Submitting;
        let interrupted: Vec<Job> = self.state.jobs().filter(is_interrupted).cloned().collect();
        for job in interrupted {
            if !self.has_room(0) {
                return true;
            }
            self.push_job(now, job::interrupted(&job, now));
        }
        false
    }

    /// Gives up overdue jobs, and gives the polls that are due.
    pub(crate) fn due_polls(&mut self, now: Timestamp) -> Vec<PollJob> {
        let mut polls = Vec::new();
        if self.is_draining {
            return polls;
        }
        let due: Vec<Job> =
            self.state.due_jobs(now).filter(|job| self.may_ask(job)).take(LOOKED_AT).cloned().collect();
        for job in due {
            if !self.has_room(0) {
                break;
            }
            // A job is given up only by a clock that is believed.
            if (self.is_clock_settled || !job::is_open(&job))
                && let Some(job) = job::overdue(&job, now)
            {
                self.job_overdue(job, now);
                continue;
            }
            // Its files are due, which is no matter of polls.
            if !job::is_open(&job) {
                continue;
            }
            let settings = self.poll_settings(&job.tenant);
            let blocked = self.denied.get(&job.tenant).filter(|until| **until > now);
            if job.state() != JobState::Running || self.settings(&job.tenant).is_none() {
                let why = "the tenant has no openrouter.api_key any more";
                let why = if job.state() == JobState::Running { why } else { &job.reason };
                // Looked at again later: the clock is not believed, or there is no key.
                self.push_job(now, poll::put_off(&job, why, after(now, settings.slowest), now));
            } else if let Some(until) = blocked {
                let why = "OpenRouter refused the key (openrouter.api_key) at the last poll of another job";
                self.push_job(now, poll::put_off(&job, why, *until, now));
            } else if self.may_ask(&job) {
                self.polling.insert(job.id.clone(), job.tenant.clone());
                polls.push(PollJob {
                    job: job.id,
                    tenant: job.tenant,
                    openrouter_id: job.openrouter_id,
                    model: job.model,
                    callback_token: job.callback_token,
                });
            }
        }
        polls
    }

    fn job_overdue(&mut self, job: Job, now: Timestamp) {
        if job.callback_missing {
            tracing::warn!(
                job = job.id,
                tenant = job.tenant,
                openrouter_id = job.openrouter_id,
                help = "is ingress.public_url reached from outside, and is the signing secret of OpenRouter's workspace among \
                        openrouter.secrets? talaria status --refused shows what was refused",
                "a job ended, and its callback did not come"
            );
        } else {
            tracing::error!(
                job = job.id,
                tenant = job.tenant,
                openrouter_id = job.openrouter_id,
                because = job.reason,
                "job given up"
            );
        }
        let notice = self.notice_of_overdue(&job, now);
        self.push_job(now, job);
        if let Some(notice) = notice {
            self.tell(notice, now);
        }
    }

    /// A poll was answered.
    pub(crate) fn job_polled(&mut self, id: &str, answer: &Polled, now: Timestamp, random: f64) {
        self.polling.remove(id);
        let Some(job) = self.state.job(id) else { return };
        let settings = self.poll_settings(&job.tenant);
        let Some((job, is_denied)) = poll::polled(job, answer, &settings, now, random) else { return };
        if is_denied {
            static DENIED: LogLimiter = LogLimiter::new();
            if let Some(left_out) = DENIED.admit() {
                tracing::error!(
                    tenant = job.tenant,
                    because = job.reason,
                    left_out,
                    "polling of a tenant is paused"
                );
            }
            self.denied.insert(job.tenant.clone(), after(now, settings.slowest));
        } else {
            self.denied.remove(&job.tenant);
        }
        self.push_job(now, job);
    }

    /// The number of open jobs in each of [`job::OPEN_STATES`].
    pub(super) fn open_jobs(&self) -> [usize; 3] {
        let mut open = [0; 3];
        for job in self.state.jobs() {
            let of = job::OPEN_STATES.iter().zip(&mut open).find(|(state, _)| **state == job.state());
            if let Some((_, count)) = of {
                *count += 1;
            }
        }
        open
    }

    /// Joins an event with its job. Gives the only route that gets it, if its job names one.
    pub(super) fn join(&mut self, event: &Event, now: Timestamp) -> Option<String> {
        let keep = self.keep_settings(&event.tenant);
        let keep = keep.filter(|_| job::end_state(event) == Some(JobState::Completed));
        let known = self.state.job_of(event);
        // A job of another program has files, too.
        let of_others = || keep.as_ref().and_then(|_| self.job_of_others(event, now));
        let followed = if known.is_none() { of_others() } else { None };
        let job = known.or(followed.as_ref())?;
        let route = Some(job.route.clone()).filter(|route| !route.is_empty());
        let had_ended = job::has_ended(job);
        let (id, joined) = (job.id.clone(), job::joined(job, event, now));
        // Its answer was lost, and OpenRouter's id of it was tracked.
        let other = self.state.job_at_openrouter(&event.tenant, &event.job_id);
        let other = other.filter(|other| other.id != id);
        if let Some(other) = other.and_then(|other| job::joined(other, event, now)) {
            let (tenant, openrouter_id) = (&event.tenant, &event.job_id);
            tracing::warn!(
                tenant,
                openrouter_id,
                job = id,
                tracked = other.id,
                "two jobs are one at OpenRouter"
            );
            self.push_job(now, other);
        }
        if let Some(mut joined) = joined {
            if let Some(keep) = keep.filter(|_| !had_ended && joined.event_id == event.id) {
                joined = files::begun(joined, event, keep.wait, now);
            }
            self.push_job(now, joined);
        }
        route
    }

    /// When the first job needs something.
    pub(crate) fn next_due_job(&self) -> Option<Timestamp> {
        if self.is_draining {
            return None;
        }
        self.state.next_due_job(|job| self.may_ask(job))
    }

    /// Whether no question about the job is under way, and its tenant has not too many.
    pub(super) fn may_ask(&self, job: &Job) -> bool {
        let (asked, most) = if job::is_open(job) { (&self.polling, POLLED) } else { (&self.keeping, KEPT) };
        !self.polling.contains_key(&job.id)
            && !self.keeping.contains_key(&job.id)
            && !self.submitting.contains(&job.id)
            && asked.values().filter(|tenant| **tenant == job.tenant).count() < most
    }

    /// Whether a poll's end is the same event as a callback's: their bytes differ.
    pub(super) fn is_polled(&self, event: &Event) -> bool {
        event.source() == EventSource::Poll
            || self
                .state
                .job_of(event)
                .is_some_and(|job| job.event_id == event.id && job.source() == JobSource::Poll)
    }
}
