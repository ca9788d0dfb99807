//! The time of the next attempt after a failed one, or its end as parked.

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{
    config::Retry,
    time::{after, since},
};

/// The longest Retry-After that is followed; the schedule may have longer pauses.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    At(Timestamp),
    /// With the reason.
    Park(String),
}

/// The next attempt after the `counted`th failed one (from 1) of a delivery whose age counts from `age_from`.
///
/// The pause is the schedule's, longer or shorter by up to the jitter's share, chosen by `random` (0 to 1). It is not shorter
/// than Retry-After, which is limited to an hour and to the rest of the delivery's age.
pub(crate) fn next_attempt(
    retry: &Retry,
    counted: u32,
    age_from: Timestamp,
    now: Timestamp,
    retry_after: Option<Duration>,
    random: f64,
) -> NextAttempt {
    let index = usize::try_from(counted.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(pause) = retry.schedule.get(index) else {
        return NextAttempt::Park(format!("all {counted} attempts failed"));
    };
    let pause = pause.mul_f64(1.0 + retry.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0));
    let left = since(after(age_from, retry.max_age), now);
    let pause = pause.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER).min(left));
    let at = after(now, pause);
    if is_too_old(retry, age_from, at) {
        return NextAttempt::Park(format!(
            "the next attempt would come later than {} after the event",
            in_words(retry.max_age)
        ));
    }
    NextAttempt::At(at)
}

/// Whether a delivery is past the age at which it is parked.
pub(crate) fn is_too_old(retry: &Retry, age_from: Timestamp, now: Timestamp) -> bool {
    now > after(age_from, retry.max_age)
}

/// The time, or the end of the delivery's age if that comes first, when the delivery is parked.
pub(crate) fn within_age(retry: &Retry, age_from: Timestamp, time: Timestamp) -> Timestamp {
    time.min(after(age_from, retry.max_age + Duration::from_millis(1)))
}

/// The reason of a delivery that is parked by its age.
pub(crate) fn too_old(retry: &Retry) -> String {
    format!("not delivered within {} of the event", in_words(retry.max_age))
}

/// In the configuration's notation: "3d".
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        s if s > 0 && s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        s if s > 0 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use talaria_core::time::since;

    const DAY: Duration = Duration::from_secs(86_400);

    fn retry(seconds: &[u64], jitter: f64, max_age: Duration) -> Retry {
        Retry { schedule: seconds.iter().map(|s| Duration::from_secs(*s)).collect(), jitter, max_age }
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn pause(retry: &Retry, counted: u32, retry_after: Option<u64>, random: f64) -> Option<f64> {
        match next_attempt(retry, counted, start(), start(), retry_after.map(Duration::from_secs), random) {
            NextAttempt::At(at) => Some(since(at, start()).as_secs_f64()),
            NextAttempt::Park(_) => None,
        }
    }

    #[test]
    fn follows_the_schedule_and_then_parks() {
        let retry = retry(&[1, 5, 30], 0.0, DAY);
        assert_eq!(
            [1, 2, 3, 4].map(|counted| pause(&retry, counted, None, 0.3)),
            [Some(1.0), Some(5.0), Some(30.0), None]
        );
        let parked = next_attempt(&retry, 4, start(), start(), None, 0.5);
        assert_eq!(parked, NextAttempt::Park("all 4 attempts failed".into()));
    }

    #[test]
    fn jitter_moves_a_pause_by_its_share_at_most() {
        let retry = retry(&[100], 0.2, DAY);
        assert_eq!(
            [0.0, 0.5, 1.0].map(|random| pause(&retry, 1, None, random)),
            [Some(80.0), Some(100.0), Some(120.0)]
        );
    }

    #[test]
    fn retry_after_is_honoured_within_bounds() {
        let retry = retry(&[10], 0.0, DAY);
        assert_eq!(pause(&retry, 1, Some(60), 0.5), Some(60.0));
        assert_eq!(pause(&retry, 1, Some(2), 0.5), Some(10.0), "not sooner than the schedule");
        assert_eq!(pause(&retry, 1, Some(1_000_000), 0.5), Some(3_600.0), "not for days");
        let retry = Retry { max_age: Duration::from_secs(60), ..retry };
        assert_eq!(pause(&retry, 1, Some(3_600), 0.5), Some(60.0), "not so long that it would be too old");
    }

    #[test]
    fn a_rescheduled_delivery_is_due_when_it_is_too_old() {
        let retry = retry(&[10], 0.0, Duration::from_secs(30));
        let at = |seconds| after(start(), Duration::from_secs(seconds));
        assert_eq!(within_age(&retry, start(), at(20)), at(20));
        assert!(is_too_old(&retry, start(), within_age(&retry, start(), at(1_000))));
        assert!(within_age(&retry, start(), at(1_000)) < at(31));
    }

    #[test]
    fn age_parks_before_an_attempt_that_would_come_too_late() {
        let retry = retry(&[60], 0.0, Duration::from_secs(30));
        let parked = next_attempt(&retry, 1, start(), start(), None, 0.5);
        assert_eq!(
            parked,
            NextAttempt::Park("the next attempt would come later than 30s after the event".into())
        );
        assert!(!is_too_old(&retry, start(), after(start(), Duration::from_secs(30))));
        assert!(is_too_old(&retry, start(), after(start(), Duration::from_secs(31))));
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_precision_loss, reason = "small numbers of seconds")]
        fn a_pause_is_always_within_the_configured_bounds(
            schedule in prop::collection::vec(0_u64..100_000, 0..12),
            jitter in 0.0..=0.5_f64,
            counted in 0_u32..20,
            retry_after in prop::option::of(0_u64..10_000),
            random in 0.0..=1.0_f64,
        ) {
            let retry = retry(&schedule, jitter, 365 * DAY);
            match pause(&retry, counted, retry_after, random) {
                None => prop_assert!(counted as usize > schedule.len() || schedule.is_empty()),
                Some(seconds) => {
                    let planned = schedule[counted.saturating_sub(1) as usize] as f64;
                    let asked = retry_after.unwrap_or(0).min(3_600) as f64;
                    prop_assert!(seconds >= planned * (1.0 - jitter) - 1e-3 && seconds >= asked - 1e-3);
                    prop_assert!(seconds <= (planned * (1.0 + jitter)).max(asked) + 1e-3);
                }
            }
        }
    }
}
