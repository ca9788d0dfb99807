//! Rate limits by the generic cell rate algorithm.
//!
//! The state of an address or a tenant is one time, at which its allowance is whole again. Each request moves it forward by the
//! time in which one unit grows back; there is room for another while it is not further away than the window.
//!
//! `governor` has the same algorithm and does not fit: it cannot check without using the allowance, which a limit for refused
//! requests needs, and the number of its keys is not bounded, which clients could exploit.

use std::time::Duration;
use talaria_core::config::Pace;
use tokio::time::Instant;

/// The time until there is room for one more, if there is none now.
pub(crate) fn wait(whole_at: Instant, now: Instant, rate: Pace) -> Option<Duration> {
    let missing = missing(whole_at, now, rate) + one(rate);
    missing.checked_sub(rate.window).filter(|wait| !wait.is_zero())
}

/// When the allowance is whole again after one more. The debt never exceeds the whole allowance.
pub(crate) fn take(whole_at: Instant, now: Instant, rate: Pace) -> Instant {
    now + (missing(whole_at, now, rate) + one(rate)).min(rate.window)
}

/// The missing part of the allowance, as the time in which it grows back. After a change of the rate, an old debt never exceeds
/// the new allowance.
fn missing(whole_at: Instant, now: Instant, rate: Pace) -> Duration {
    whole_at.saturating_duration_since(now).min(rate.window)
}

/// The time in which one unit grows back.
fn one(rate: Pace) -> Duration {
    rate.window / rate.count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_allowance_is_used_up_and_grows_back() {
        let rate = Pace { count: 3, window: 3 * SECOND };
        let mut whole_at = Instant::now();
        for _ in 0..3 {
            assert_eq!(wait(whole_at, Instant::now(), rate), None);
            whole_at = take(whole_at, Instant::now(), rate);
        }
        assert_eq!(wait(whole_at, Instant::now(), rate), Some(SECOND));
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(wait(whole_at, Instant::now(), rate), Some(SECOND / 2));
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(wait(whole_at, Instant::now(), rate), None);
        whole_at = take(whole_at, Instant::now(), rate);
        assert_eq!(wait(whole_at, Instant::now(), rate), Some(SECOND));
        // Further requests do not make the wait longer.
        for _ in 0..100 {
            whole_at = take(whole_at, Instant::now(), rate);
        }
        assert_eq!(wait(whole_at, Instant::now(), rate), Some(SECOND));
        // A stricter rate, and a looser one.
        assert_eq!(wait(whole_at, Instant::now(), Pace { count: 1, window: SECOND }), Some(SECOND));
        assert_eq!(wait(whole_at, Instant::now(), Pace { count: 100, window: 60 * SECOND }), None);
    }

    proptest! {
        /// A client that asks only when there is room gets the allowance at once, and then no more than grows back.
        #[test]
        fn no_more_than_the_rate(count in 1_u32..50, window in 1_u64..100, steps in proptest::collection::vec(0_u64..5_000, 1..400)) {
            let rate = Pace { count, window: Duration::from_secs(window) };
            let start = Instant::now();
            let (mut now, mut whole_at, mut taken) = (start, start, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                if wait(whole_at, now, rate).is_none() {
                    whole_at = take(whole_at, now, rate);
                    taken += 1;
                }
                let grown = (now - start).as_secs_f64() * f64::from(count) / rate.window.as_secs_f64();
                prop_assert!(f64::from(taken) <= f64::from(count) + grown + 0.001);
            }
        }

        #[test]
        fn a_client_that_waits_is_served(count in 1_u32..100_000, window in 1_u64..4_000, taken in 0_u32..200) {
            let rate = Pace { count, window: Duration::from_secs(window) };
            let now = Instant::now();
            let whole_at = (0..taken).fold(now, |whole_at, _| take(whole_at, now, rate));
            let waited = wait(whole_at, now, rate).unwrap_or_default();
            prop_assert_eq!(wait(whole_at, now + waited, rate), None);
        }
    }
}
