//! The life of a job at OpenRouter: from the intent to submit it to its end. Each function gives the job after something
//! happened; the owner records it.
//!
//! ```text
//! SUBMITTING ─▶ RUNNING ─▶ COMPLETED, FAILED, CANCELLED, EXPIRED     by a callback or a poll
//!     │  │         └────▶ ABANDONED, STOPPED                        a late callback still ends these
//!     │  └▶ UNKNOWN ────▶ ABANDONED, STOPPED                        a callback on its path claims it
//!     └▶ REFUSED                                                    OpenRouter made no job
//! ```
//!
//! A submit whose answer was lost is never repeated: OpenRouter has no idempotency keys, and would make and bill a second job.
//!
//! - [`poll`]: when OpenRouter is asked for the status, and what its answers mean. [`budget`]: what a tenant may spend.
//!   [`files`]: fetching the files of a completed job.

pub(crate) mod budget;
pub(crate) mod files;
pub(crate) mod poll;

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{
    config::Poll,
    id::JobId,
    time::{after, for_people},
};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{Event, EventSource, Job, JobSource, JobState, Made, submitted::Outcome},
};

/// How long a callback may come after the end that a poll found. OpenRouter's sender repeats a callback for some 17 minutes; the
/// first one should be there well before.
pub(crate) const CALLBACK_TIMEOUT: Duration = Duration::from_secs(600);

/// The longest reason, in characters.
const LONGEST_REASON: usize = 300;

/// The states of jobs whose end is not known, and is looked for.
pub(crate) const OPEN_STATES: [JobState; 3] = [JobState::Submitting, JobState::Running, JobState::Unknown];

pub(crate) fn is_open(job: &Job) -> bool {
    OPEN_STATES.contains(&job.state())
}

/// The state's name in metrics and logs.
pub(crate) fn name(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unspecified",
        JobState::Submitting => "submitting",
        JobState::Running => "running",
        JobState::Unknown => "unknown",
        JobState::Completed => "completed",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
        JobState::Refused => "refused",
        JobState::Abandoned => "abandoned",
        JobState::Stopped => "stopped",
    }
}

/// Whether OpenRouter said how the job ended.
pub(crate) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Completed | JobState::Failed | JobState::Cancelled | JobState::Expired)
}

/// What the request ids of jobs begin with that another program submitted.
pub(crate) const TRACKED: &str = "track:";

/// A job that another program submitted, by its tenant and its id at OpenRouter.
pub(crate) fn of_others(tenant: &str, openrouter_id: &str) -> Job {
    let request_id = format!("{TRACKED}{openrouter_id}");
    Job {
        id: JobId::new(tenant, &request_id).to_string(),
        tenant: tenant.to_owned(),
        request_id,
        openrouter_id: openrouter_id.to_owned(),
        ..Job::default()
    }
}

fn changed(job: &Job, now: Timestamp) -> Job {
    Job { changed_at: Some(to_proto(now)), ..job.clone() }
}

fn because(reason: &str) -> String {
    if reason.chars().nth(LONGEST_REASON).is_none() {
        return reason.to_owned();
    }
    reason.chars().take(LONGEST_REASON - 1).chain(['…']).collect()
}

/// A job that is about to be submitted, or, with an id at OpenRouter, one that is only followed.
pub(crate) fn begun(job: Job, settings: &Poll, now: Timestamp) -> Job {
    let tracked = !job.openrouter_id.is_empty();
    let state = if tracked { JobState::Running } else { JobState::Submitting };
    let at = Some(to_proto(now));
    Job {
        state: state.into(),
        tracked,
        created_at: at,
        changed_at: at,
        submitted_at: tracked.then(|| to_proto(now)),
        next_poll_at: tracked.then(|| to_proto(now)),
        give_up_at: Some(to_proto(after(now, settings.give_up))),
        ..job
    }
}

/// What came of the submit. `other` is the job that has the id of OpenRouter's answer already, if there is one. `None` if the job is
/// not being submitted any more: a callback was faster.
pub(crate) fn submitted(
    job: &Job,
    outcome: &Outcome,
    other: Option<&str>,
    settings: &Poll,
    now: Timestamp,
    random: f64,
) -> Option<Job> {
    if job.state() != JobState::Submitting {
        return None;
    }
    let mut job = changed(job, now);
    match (outcome, other) {
        // The answer was perhaps that of the other job's submit. A callback of its own claims this one.
        (Outcome::Made(Made { openrouter_id, .. }), Some(other)) => {
            job.set_state(JobState::Unknown);
            job.reason = because(&format!(
                "OpenRouter answered with the id {openrouter_id}, which {other} has already: whether it made a job for this \
                 request is not known"
            ));
        }
        (Outcome::Made(Made { openrouter_id, status }), None) => {
            job.set_state(JobState::Running);
            job.openrouter_id.clone_from(openrouter_id);
            job.openrouter_status = because(status);
            job.submitted_at = Some(to_proto(now));
            job.next_poll_at = Some(to_proto(poll::first(settings, now, random)));
        }
        (Outcome::Refused(why) | Outcome::NotSent(why), _) => {
            job.set_state(JobState::Refused);
            job.reason = because(why);
            job.try_again = matches!(outcome, Outcome::NotSent(_));
            end(&mut job, now);
        }
        (Outcome::Unknown(why), _) => {
            job.set_state(JobState::Unknown);
            job.reason = because(why);
        }
    }
    Some(job)
}

/// The relay that submitted the job ended before OpenRouter's answer was recorded.
pub(crate) fn interrupted(job: &Job, now: Timestamp) -> Job {
    let mut job = changed(job, now);
    job.set_state(JobState::Unknown);
    job.reason =
        because("the relay ended before OpenRouter's answer was recorded: OpenRouter may have made the job");
    job
}

/// An operator does not wait for the job any more. `None` if it is not waited for.
pub(crate) fn stopped(job: &Job, by: &str, reason: &str, now: Timestamp) -> Option<Job> {
    // While it is being submitted, its id at OpenRouter is about to come.
    if !is_open(job) || job.state() == JobState::Submitting {
        return None;
    }
    let mut job = changed(job, now);
    job.set_state(JobState::Stopped);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    job.reason =
        because(&format!("{by} stopped waiting{why}; at OpenRouter it may go on, and its cost stays"));
    end(&mut job, now);
    Some(job)
}

/// When the job needs something without a message from outside.
pub(crate) fn due(job: &Job) -> Option<Timestamp> {
    if is_open(job) {
        let next_poll = job.next_poll_at.as_ref().filter(|_| job.state() == JobState::Running);
        return next_poll.into_iter().chain(&job.give_up_at).map(|at| from_proto(Some(at))).min();
    }
    callback_due(job).into_iter().chain(files::due(job)).min()
}

/// When a callback should have come that is awaited after the job's end.
fn callback_due(job: &Job) -> Option<Timestamp> {
    // A job without a token has no path for a callback: it is tracked, or its tenant only polls.
    let owes_callback = !job.callback_token.is_empty() && job.callback_at.is_none();
    (job.source() == JobSource::Poll && owes_callback && !job.callback_missing)
        .then(|| after(from_proto(job.ended_at.as_ref()), CALLBACK_TIMEOUT))
}

/// The job when it is overdue: given up, or without its callback. `None` if it is not.
pub(crate) fn overdue(job: &Job, now: Timestamp) -> Option<Job> {
    if is_open(job) {
        if from_proto(job.give_up_at.as_ref()) > now {
            return None;
        }
        let mut job = changed(job, now);
        let why = if job.openrouter_id.is_empty() {
            let created = for_people(from_proto(job.created_at.as_ref()));
            let look = format!(
                "look at OpenRouter's activity for a job of {} that was made at about {created}",
                job.model
            );
            if job.callback_token.is_empty() {
                format!("its tenant only polls, and its id is not known: {look}")
            } else {
                format!("no callback claimed it: {look}")
            }
        } else {
            format!("OpenRouter did not say how it ended; the last status was {:?}", job.openrouter_status)
        };
        job.reason = because(&why);
        job.set_state(JobState::Abandoned);
        end(&mut job, now);
        return Some(job);
    }
    callback_due(job).filter(|due| *due <= now).map(|_| Job { callback_missing: true, ..changed(job, now) })
}

/// The job after an event of it. `None` if the event says nothing new.
pub(crate) fn joined(job: &Job, event: &Event, now: Timestamp) -> Option<Job> {
    let state = end_state(event)?;
    let is_callback = event.source() == EventSource::Unspecified;
    let mut next = changed(job, now);
    if is_callback && next.callback_at.is_none() {
        next.callback_at = Some(to_proto(now));
    }
    if !has_ended(job) {
        next.set_state(state);
        next.reason = because(event.error.as_deref().unwrap_or_default());
        next.openrouter_id.clone_from(&event.job_id);
        next.openrouter_status = because(&event.status);
        next.set_source(if is_callback { JobSource::Callback } else { JobSource::Poll });
        next.event_id.clone_from(&event.id);
        next.cost_micros = event.cost_micros;
        if let (true, Some(model)) = (next.model.is_empty(), &event.model) {
            next.model = because(model);
        }
        end(&mut next, now);
    } else if event.id == job.event_id && next.cost_micros.is_none() {
        next.cost_micros = event.cost_micros;
    }
    let is_same = Job { changed_at: job.changed_at, ..next.clone() } == *job;
    (!is_same).then_some(next)
}

/// The state in which an event ends its job; `None` for an event that is no end.
pub(crate) fn end_state(event: &Event) -> Option<JobState> {
    let last_word = event.r#type.rsplit('.').next().unwrap_or_default();
    [last_word, event.status.as_str()].into_iter().find_map(|word| match word {
        "completed" => Some(JobState::Completed),
        "failed" | "dead" => Some(JobState::Failed),
        "cancelled" => Some(JobState::Cancelled),
        "expired" => Some(JobState::Expired),
        _ => None,
    })
}

fn end(job: &mut Job, now: Timestamp) {
    job.ended_at = Some(to_proto(now));
    job.next_poll_at = None;
    job.give_up_at = None;
}

#[cfg(test)]
mod tests;
