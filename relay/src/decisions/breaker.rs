//! The circuit breaker of a route, so that a backlog is not sent to a Hermes that cannot serve it.
//!
//! Two causes shut a route. A fault of the **configuration** (401, 403, 404, 405, 413, a redirect) shuts it at once: trying
//! every waiting delivery with a wrong secret does not help, so such a fault uses up no attempt. **Failures** shut it when
//! several deliveries fail in a row. A single delivery that keeps failing may be the cause itself, and never shuts the route.
//!
//! While a route is shut, its backlog waits. After a pause, a single delivery probes: if it fails, the route stays shut for a
//! longer pause; otherwise deliveries go out again, at the route's pace.

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{id::DeliveryId, time::after};
use talaria_proto::v1::BreakerCause;

/// The first delay of a delivery that met a fault of the configuration, behind the others of its route.
const OWN_FIRST: Duration = Duration::from_secs(1);

/// Why a route is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Hermes does not serve the route as it is configured.
    Configuration,
    /// Hermes fails or does not answer.
    Failures,
}

impl Cause {
    /// The first and the longest pause before a probe; each is twice as long as the one before. A configuration has to be
    /// mended by an operator; a Hermes that restarts comes back by itself.
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Configuration => (Duration::from_secs(30), Duration::from_secs(15 * 60)),
            Self::Failures => (Duration::from_secs(5), Duration::from_secs(5 * 60)),
        }
    }
}

impl From<Cause> for BreakerCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Configuration => Self::Configuration,
            Cause::Failures => Self::Failures,
        }
    }
}

/// A shut route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shut {
    pub until: Timestamp,
    pub cause: Cause,
    /// One more than the probes that failed.
    pub tries: u32,
    /// The last answer of Hermes.
    pub why: String,
}

impl Shut {
    /// The shut route at a takeover or with a new configuration. No pause is longer than the longest, in case a clock was
    /// ahead; and a fault that the new configuration may have mended is probed at once.
    #[must_use]
    pub(crate) fn restored(self, threshold: Option<u32>, now: Timestamp) -> Self {
        let (_, longest) = self.cause.pauses();
        let latest = match self.cause {
            Cause::Failures if threshold.is_some() => after(now, longest),
            Cause::Failures | Cause::Configuration => now,
        };
        Self { until: self.until.min(latest), ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    Admitting {
        /// Failures in a row, no two neighbours of the same delivery.
        failures: u32,
        /// The delivery that failed last.
        last: Option<DeliveryId>,
    },
    Shut(Shut),
    /// Shut, with the attempt of one delivery under way.
    Probing(Shut),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Admitting { failures: 0, last: None }
    }
}

/// The state of a route that an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Healthy,
    Misconfigured,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The route is shut, or shut for longer.
    Shut(Shut),
    /// The route is open again.
    Admitting,
}

impl Breaker {
    /// Whether a delivery may go out. On a shut route it is the probe.
    pub(crate) fn admit(&mut self, now: Timestamp) -> bool {
        match self {
            Self::Admitting { .. } => true,
            Self::Shut(shut) if shut.until <= now => {
                *self = Self::Probing(shut.clone());
                true
            }
            Self::Shut(_) | Self::Probing(_) => false,
        }
    }

    /// Ends the pause of a shut route, so that it may be probed now. If that probe fails, the next pause is as long as this
    /// one: an operator's probe does not make pauses longer. Only the first pause is followed by the second one.
    pub(crate) fn probe_now(&mut self, now: Timestamp) -> Option<Shut> {
        let Self::Shut(shut) = self else { return None };
        if shut.until > now {
            shut.until = now;
            shut.tries = shut.tries.saturating_sub(1).max(1);
        }
        Some(shut.clone())
    }

    /// The admitted delivery was not sent: another one may probe.
    pub(crate) fn withdraw(&mut self) {
        if let Self::Probing(shut) = self {
            *self = Self::Shut(shut.clone());
        }
    }

    /// `threshold` consecutive failures shut the route; with `None` they never do.
    pub(crate) fn learn(
        &mut self,
        threshold: Option<u32>,
        signal: Signal,
        delivery: DeliveryId,
        why: &str,
        now: Timestamp,
    ) -> Option<Change> {
        let cause = match signal {
            Signal::Healthy => return self.close(),
            Signal::Misconfigured => Cause::Configuration,
            Signal::Failed => Cause::Failures,
        };
        let tries = match self {
            Self::Admitting { failures, last } => {
                if cause == Cause::Failures {
                    *failures += u32::from(last.replace(delivery) != Some(delivery));
                    if threshold.is_none_or(|threshold| *failures < threshold) {
                        return None;
                    }
                }
                1
            }
            // Attempts that were under way when the route was shut do not make the pause longer.
            Self::Shut(_) => return None,
            // It was shut before failures were configured to never shut it.
            Self::Probing(_) if cause == Cause::Failures && threshold.is_none() => return self.close(),
            Self::Probing(shut) if shut.cause == cause => shut.tries.saturating_add(1),
            Self::Probing(_) => 1,
        };
        let (first, longest) = cause.pauses();
        let until = after(now, first.saturating_mul(1 << (tries - 1).min(16)).min(longest));
        let shut = Shut { until, cause, tries, why: why.to_owned() };
        *self = Self::Shut(shut.clone());
        Some(Change::Shut(shut))
    }

    fn close(&mut self) -> Option<Change> {
        let was_admitting = matches!(self, Self::Admitting { .. });
        *self = Self::default();
        (!was_admitting).then_some(Change::Admitting)
    }
}

/// The next attempt of a delivery that met a fault of the configuration for the `faults`th time (from 0). It comes after the
/// others of its route, so that another one probes first: Hermes may refuse only this delivery, as with 413.
pub(crate) fn own_turn(until: Timestamp, faults: u32) -> Timestamp {
    after(until, OWN_FIRST.saturating_mul(1 << faults.min(16)).min(Cause::Configuration.pauses().1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::id::EventId;

    fn at(seconds: u64) -> Timestamp {
        after(Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(seconds))
    }

    fn id(name: &str) -> DeliveryId {
        DeliveryId::new(EventId::new("acme", name, "t"), "r")
    }

    fn until(change: Option<Change>) -> Option<Timestamp> {
        match change? {
            Change::Shut(shut) => Some(shut.until),
            Change::Admitting => panic!("it lets everything through"),
        }
    }

    #[test]
    fn a_fault_of_the_configuration_shuts_at_once_and_a_single_delivery_probes() {
        let mut breaker = Breaker::default();
        assert!(breaker.admit(at(0)));
        assert_eq!(until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", at(0))), Some(at(30)));
        assert_eq!(
            breaker.learn(Some(5), Signal::Misconfigured, id("b"), "401", at(1)),
            None,
            "it was under way"
        );
        assert!(!breaker.admit(at(29)));
        assert!(breaker.admit(at(30)), "the probe");
        assert!(!breaker.admit(at(30)) && !breaker.admit(at(9_999)), "no other delivery");
        assert_eq!(
            until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "404", at(31))),
            Some(at(91))
        );
        let mut now = at(91);
        for _ in 0..10 {
            assert!(breaker.admit(now));
            now = until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", now)).unwrap();
        }
        assert!(breaker.admit(now));
        let longest = after(now, Duration::from_secs(900));
        assert_eq!(until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", now)), Some(longest));
    }

    #[test]
    fn failures_of_several_deliveries_in_a_row_shut_and_those_of_one_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(breaker.learn(Some(5), Signal::Failed, id("poison"), "500", at(0)), None);
        }
        for name in ["a", "b", "c"] {
            assert_eq!(breaker.learn(Some(5), Signal::Failed, id(name), "500", at(0)), None);
        }
        assert_eq!(until(breaker.learn(Some(5), Signal::Failed, id("d"), "500", at(0))), Some(at(5)));
        let mut breaker = Breaker::default();
        for name in ["a", "b", "c", "d"].repeat(9) {
            assert_eq!(breaker.learn(None, Signal::Failed, id(name), "500", at(0)), None, "they never do");
        }
        assert!(
            breaker.learn(None, Signal::Misconfigured, id("a"), "401", at(0)).is_some(),
            "that always does"
        );
        let mut breaker = Breaker::default();
        for name in ["a", "b", "c", "d"].repeat(9) {
            assert_eq!(breaker.learn(Some(5), Signal::Failed, id(name), "500", at(0)), None);
            if name == "d" {
                assert_eq!(
                    breaker.learn(Some(5), Signal::Healthy, id("e"), "", at(0)),
                    None,
                    "the row is broken"
                );
            }
        }
    }

    #[test]
    fn any_other_answer_lets_everything_go() {
        let mut breaker = Breaker::default();
        breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", at(0));
        assert!(breaker.admit(at(30)));
        assert_eq!(breaker.learn(Some(5), Signal::Healthy, id("a"), "", at(30)), Some(Change::Admitting));
        assert!(breaker.admit(at(31)) && breaker.admit(at(31)));
        let again = breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", at(32));
        assert_eq!(until(again), Some(at(62)), "the pauses start from the first");
    }

    #[test]
    fn a_probe_that_finds_another_cause_starts_with_its_first_pause() {
        let mut breaker =
            Breaker::Shut(Shut { until: at(0), cause: Cause::Failures, tries: 9, why: String::new() });
        assert!(breaker.admit(at(0)));
        assert_eq!(until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", at(1))), Some(at(31)));
    }

    #[test]
    fn a_fault_that_a_new_configuration_may_have_mended_is_probed_at_once() {
        let shut = |cause| Shut { until: at(300), cause, tries: 3, why: "so".into() };
        let restored = |cause, threshold| shut(cause).restored(threshold, at(10)).until;
        assert_eq!(restored(Cause::Configuration, Some(5)), at(10));
        assert_eq!(restored(Cause::Failures, Some(5)), at(300));
        assert_eq!(restored(Cause::Failures, None), at(10));
        let mut breaker = Breaker::Shut(shut(Cause::Failures).restored(None, at(10)));
        assert!(breaker.admit(at(10)));
        let opened = breaker.learn(None, Signal::Failed, id("a"), "500", at(11));
        assert_eq!(opened, Some(Change::Admitting), "failures never shut it any more");
    }

    #[test]
    fn an_operator_has_a_shut_route_probed_and_its_pauses_get_no_longer() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.probe_now(at(0)), None, "it is open");
        let mut now = at(0);
        for _ in 0..4 {
            now = until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", now)).unwrap();
            assert!(breaker.admit(now));
        }
        breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", now);
        for _ in 0..9 {
            assert!(!breaker.admit(now), "not yet");
            assert_eq!(breaker.probe_now(now).map(|shut| shut.until), Some(now));
            assert!(breaker.admit(now), "the probe");
            assert_eq!(breaker.probe_now(now), None, "it is under way");
            let again = until(breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", now));
            assert_eq!(again, Some(after(now, Duration::from_secs(480))), "as long as before");
        }
        let due = at(99_999);
        assert_eq!(breaker.probe_now(due), breaker.probe_now(due), "a second request changes nothing");
    }

    #[test]
    fn a_probe_that_was_not_sent_leaves_the_turn_to_another() {
        let mut breaker = Breaker::default();
        breaker.learn(Some(5), Signal::Misconfigured, id("a"), "401", at(0));
        assert!(breaker.admit(at(30)));
        breaker.withdraw();
        assert!(breaker.admit(at(30)));
    }

    #[test]
    fn a_delivery_that_met_a_fault_goes_behind_the_others_and_further_each_time() {
        let turns = [0, 1, 2, 30].map(|faults| own_turn(at(30), faults));
        assert_eq!(turns, [at(31), at(32), at(34), at(30 + 15 * 60)]);
    }
}
