//! What a tenant may spend: by estimates before jobs have ended, and by OpenRouter's figures after it.

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use talaria_core::{config::Budget, money::dollars};
use talaria_proto::{
    time::from_proto,
    v1::{Job, JobState},
};

/// Why a job must not be submitted, with the sums; `None` if it may be.
pub(crate) fn refusal<'a>(
    budget: &Budget,
    jobs: impl Iterator<Item = &'a Job>,
    estimate: Option<i64>,
    without_estimate: bool,
    now: Timestamp,
) -> Option<String> {
    if budget.per_job.is_none() && budget.per_day.is_none() {
        return None;
    }
    if estimate.is_none() && !without_estimate {
        return Some(
            "the price of this request is not understood, so the budget (openrouter.budget) cannot be checked: submit it with \
             `without_estimate` if it may cost anything"
                .to_owned(),
        );
    }
    let estimate = estimate.unwrap_or(0);
    if let Some(most) = budget.per_job.filter(|most| estimate > *most) {
        return Some(format!(
            "it would cost about {}, and openrouter.budget.per_job is {}",
            dollars(estimate),
            dollars(most)
        ));
    }
    let most = budget.per_day?;
    let spent = spent_on(day(now), jobs);
    (spent.saturating_add(estimate) > most).then(|| {
        format!(
            "{} of openrouter.budget.per_day ({}) are spent or expected to be, and it would cost about {}; a new day begins at {}",
            dollars(spent),
            dollars(most),
            dollars(estimate),
            next_day(now)
        )
    })
}

/// What the jobs of a day cost or are expected to cost, in millionths of a US dollar.
fn spent_on<'a>(on: Date, jobs: impl Iterator<Item = &'a Job>) -> i64 {
    let of_the_day = jobs.filter(|job| day(from_proto(job.created_at.as_ref())) == on);
    let costs = of_the_day.filter(|job| job.state() != JobState::Refused);
    let costs = costs.map(|job| job.cost_micros.or(job.estimate_micros).unwrap_or(0));
    costs.fold(0, i64::saturating_add)
}

/// In UTC.
fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn next_day(now: Timestamp) -> String {
    day(now).checked_add(1.day()).map_or_else(|_| "midnight".to_owned(), |day| format!("{day}T00:00:00Z"))
}
