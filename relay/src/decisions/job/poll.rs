//! When OpenRouter is asked for a job's status, and what its answers mean.
//!
//! Most jobs end within minutes, and their callback says so. A poll is for the callback that does not come: the first one after
//! `poll.first`, then each `poll.every`, and more rarely the older the job is, up to `poll.slowest`.

use super::{because, changed, end};
use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{
    config::Poll,
    time::{after, since},
};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{Job, JobState, Polled, polled::Outcome},
};

/// For how long after the submit OpenRouter may not know the job yet. Its other records appear after up to 8 minutes.
const APPEARS_WITHIN: Duration = Duration::from_secs(600);

/// The pause grows to this share of the job's age.
const SHARE_OF_AGE: u32 = 10;

/// The pauses of many jobs differ by up to this share, so that jobs that were submitted together are not polled together.
const JITTER: f64 = 0.1;

/// Jobs that were put off until the same time are due within this share of the pause after it.
const SPREAD: f64 = 0.2;

/// The time of the first poll.
pub(crate) fn first(settings: &Poll, now: Timestamp, random: f64) -> Timestamp {
    after(now, jittered(settings.first, random))
}

/// The pause after a poll of a job of this age.
pub(crate) fn pause(settings: &Poll, age: Duration, random: f64) -> Duration {
    let slowest = settings.slowest.max(settings.every);
    jittered((age / SHARE_OF_AGE).clamp(settings.every, slowest), random)
}

/// `random` is from 0 to 1.
fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0))
}

/// The job after an answer, and whether OpenRouter refused the tenant's key. `None` if the job is not polled any more.
pub(crate) fn polled(
    job: &Job,
    answer: &Polled,
    settings: &Poll,
    now: Timestamp,
    random: f64,
) -> Option<(Job, bool)> {
    if job.state() != JobState::Running {
        return None;
    }
    let age = since(now, from_proto(job.submitted_at.as_ref()));
    let mut job = changed(job, now);
    job.polls = job.polls.saturating_add(1);
    job.polled_at = Some(to_proto(now));
    let mut wait = pause(settings, age, random);
    let mut is_denied = false;
    match &answer.outcome {
        Some(Outcome::Running(status)) => {
            job.openrouter_status = because(status);
            job.reason.clear();
        }
        // The event ends the job. If it does not come, the next poll publishes it again.
        Some(Outcome::Ended(ended)) => {
            job.openrouter_status = because(&ended.status);
            job.reason.clear();
        }
        Some(Outcome::NotFound(why)) if age >= APPEARS_WITHIN => {
            job.set_state(JobState::Abandoned);
            job.reason = because(&format!("{why}; it is not looked for any more"));
            end(&mut job, now);
            return Some((job, false));
        }
        Some(Outcome::NotFound(why)) => {
            job.reason = because(&format!("{why}; a new job may appear after some minutes"));
        }
        Some(Outcome::Denied(why)) => {
            is_denied = true;
            wait = jittered(settings.slowest, random);
            job.reason = because(why);
        }
        Some(Outcome::Failed(why)) => job.reason = because(&format!("the last poll failed: {why}")),
        None => job.reason = because("the last poll had no answer that is understood"),
    }
    // A bound, because the wait is OpenRouter's word.
    let asked = Duration::from_millis(answer.retry_after_ms).min(settings.slowest.max(settings.every));
    job.next_poll_at = Some(to_proto(after(now, wait.max(asked))));
    Some((job, is_denied))
}

/// The job when its poll could not be carried out, or is put off. Its id decides how long after `until` it is due: all jobs of a
/// tenant are put off until the same time.
pub(crate) fn put_off(job: &Job, why: &str, until: Timestamp, now: Timestamp) -> Job {
    let until = after(until, since(until, now).mul_f64(SPREAD * lot(&job.id)));
    let mut job = changed(job, now);
    job.reason = because(why);
    job.next_poll_at = Some(to_proto(until));
    // While the clock is not believed, a job is not given up.
    job.give_up_at = job.give_up_at.map(|at| to_proto(from_proto(Some(&at)).max(until)));
    job
}

/// A number from 0 to 1 that is always the same for an id: FNV-1a.
fn lot(id: &str) -> f64 {
    let hash =
        id.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    f64::from(hash) / f64::from(u32::MAX)
}
