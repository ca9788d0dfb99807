//! The circuit breaker of a route: a Hermes that cannot serve is not asked by its whole backlog.
//!
//! Two things shut a route. What is wrong with its **configuration** (401, 403, 404, 405, 413, a redirect) does so at
//! once: trying every waiting delivery against a wrong secret does not help, so it burns no attempt. **Failures** do so
//! when several deliveries fail in a row; one delivery that fails by itself may be the reason itself, and never shuts
//! the route for others.
//!
//! While a route is shut its backlog waits untouched. After a pause that grows a single delivery probes: if it fails
//! too the route stays shut, otherwise everything goes, at the route's pace.

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::{id::DeliveryId, time::after};
use talaria_proto::v1::BreakerCause;

/// How far behind the others a delivery goes that met a fault of the configuration itself, at first.
const OWN_FIRST: Duration = Duration::from_secs(1);

/// Why a route is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Hermes does not serve the route as it is configured here or there.
    Configuration,
    /// Hermes does not answer, or fails.
    Failures,
}

impl Cause {
    /// The first pause before a probe; each further one is twice as long, up to the longest. An operator has to mend a
    /// configuration; a Hermes that restarts is back by itself.
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

/// A route that lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shut {
    /// Until when.
    pub until: Timestamp,
    /// What for.
    pub cause: Cause,
    /// Probes that failed, and one.
    pub tries: u32,
    /// What Hermes said last.
    pub why: String,
}

impl Shut {
    /// As whoever takes the route over now goes on with it, with as many failures in a row as `enough`. No pause is longer
    /// than the longest, whatever the clock was then; and what a new configuration may have mended is probed at once.
    #[must_use]
    pub(crate) fn recalled(self, enough: Option<u32>, now: Timestamp) -> Self {
        let (_, longest) = self.cause.pauses();
        let latest = match self.cause {
            Cause::Failures if enough.is_some() => after(now, longest),
            Cause::Failures | Cause::Configuration => now,
        };
        Self { until: self.until.min(latest), ..self }
    }
}

/// Whether a route lets deliveries through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// All of them.
    Admitting {
        /// Failures in a row, no two neighbours of the same delivery.
        failures: u32,
        /// Whose the last one was.
        last: Option<DeliveryId>,
    },
    /// None.
    Shut(Shut),
    /// One, which is under way.
    Probing(Shut),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Admitting { failures: 0, last: None }
    }
}

/// What an answer tells about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Hermes works, whatever it said.
    Well,
    /// It does not serve the route as configured.
    Misconfigured,
    /// It failed, or did not answer.
    Failed,
}

/// What a sign changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The route is shut, for longer than before.
    Shut(Shut),
    /// It lets everything through again.
    Admitting,
}

impl Breaker {
    /// Whether a delivery may go out. If the route was shut, it is the probe.
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

    /// A route that is shut may be probed now, and not only when its pause is over; how it is shut then. If that probe fails
    /// the next pause is as long as this one was: that an operator tries does not make pauses longer. The first pause alone is
    /// followed by the second, as ever.
    pub(crate) fn hasten(&mut self, now: Timestamp) -> Option<Shut> {
        let Self::Shut(shut) = self else { return None };
        if shut.until > now {
            shut.until = now;
            shut.tries = shut.tries.saturating_sub(1).max(1);
        }
        Some(shut.clone())
    }

    /// A delivery that was admitted did not go out after all: another one may probe.
    pub(crate) fn withdraw(&mut self) {
        if let Self::Probing(shut) = self {
            *self = Self::Shut(shut.clone());
        }
    }

    /// A delivery's attempt ended so. As many failures in a row as `enough` shut the route, and none where it is `None`.
    pub(crate) fn learn(
        &mut self,
        enough: Option<u32>,
        sign: Sign,
        delivery: DeliveryId,
        why: &str,
        now: Timestamp,
    ) -> Option<Change> {
        let cause = match sign {
            Sign::Well => return self.close(),
            Sign::Misconfigured => Cause::Configuration,
            Sign::Failed => Cause::Failures,
        };
        let tries = match self {
            Self::Admitting { failures, last } => {
                if cause == Cause::Failures {
                    *failures += u32::from(last.replace(delivery) != Some(delivery));
                    if enough.is_none_or(|enough| *failures < enough) {
                        return None;
                    }
                }
                1
            }
            // Others that were already under way when the route was shut do not make it longer.
            Self::Shut(_) => return None,
            // Shut before it was configured that failures never do.
            Self::Probing(_) if cause == Cause::Failures && enough.is_none() => return self.close(),
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

/// When a delivery that met a fault of the configuration for the `faults`th time (from 0) has its own next turn: behind
/// the others, so that another one probes first. It may be this delivery alone that Hermes refuses, as with 413.
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
        assert_eq!(until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", at(0))), Some(at(30)));
        assert_eq!(
            breaker.learn(Some(5), Sign::Misconfigured, id("b"), "401", at(1)),
            None,
            "it was under way"
        );
        assert!(!breaker.admit(at(29)));
        assert!(breaker.admit(at(30)), "the probe");
        assert!(!breaker.admit(at(30)) && !breaker.admit(at(9_999)), "nobody beside it");
        assert_eq!(until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "404", at(31))), Some(at(91)));
        let mut now = at(91);
        for _ in 0..10 {
            assert!(breaker.admit(now));
            now = until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", now)).unwrap();
        }
        assert!(breaker.admit(now));
        let longest = after(now, Duration::from_secs(900));
        assert_eq!(until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", now)), Some(longest));
    }

    #[test]
    fn failures_of_several_deliveries_in_a_row_shut_and_those_of_one_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(breaker.learn(Some(5), Sign::Failed, id("poison"), "500", at(0)), None);
        }
        for name in ["a", "b", "c"] {
            assert_eq!(breaker.learn(Some(5), Sign::Failed, id(name), "500", at(0)), None);
        }
        assert_eq!(until(breaker.learn(Some(5), Sign::Failed, id("d"), "500", at(0))), Some(at(5)));
        let mut breaker = Breaker::default();
        for name in ["a", "b", "c", "d"].repeat(9) {
            assert_eq!(breaker.learn(None, Sign::Failed, id(name), "500", at(0)), None, "they never do");
        }
        assert!(
            breaker.learn(None, Sign::Misconfigured, id("a"), "401", at(0)).is_some(),
            "that always does"
        );
        let mut breaker = Breaker::default();
        for name in ["a", "b", "c", "d"].repeat(9) {
            assert_eq!(breaker.learn(Some(5), Sign::Failed, id(name), "500", at(0)), None);
            if name == "d" {
                assert_eq!(breaker.learn(Some(5), Sign::Well, id("e"), "", at(0)), None, "the row is broken");
            }
        }
    }

    #[test]
    fn any_other_answer_lets_everything_go() {
        let mut breaker = Breaker::default();
        breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", at(0));
        assert!(breaker.admit(at(30)));
        assert_eq!(breaker.learn(Some(5), Sign::Well, id("a"), "", at(30)), Some(Change::Admitting));
        assert!(breaker.admit(at(31)) && breaker.admit(at(31)));
        let again = breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", at(32));
        assert_eq!(until(again), Some(at(62)), "and the pauses start anew");
    }

    #[test]
    fn a_probe_that_finds_another_cause_starts_its_pauses_anew() {
        let mut breaker =
            Breaker::Shut(Shut { until: at(0), cause: Cause::Failures, tries: 9, why: String::new() });
        assert!(breaker.admit(at(0)));
        assert_eq!(until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", at(1))), Some(at(31)));
    }

    #[test]
    fn what_a_new_configuration_may_have_mended_is_probed_at_once() {
        let shut = |cause| Shut { until: at(300), cause, tries: 3, why: "so".into() };
        let recalled = |cause, enough| shut(cause).recalled(enough, at(10)).until;
        assert_eq!(recalled(Cause::Configuration, Some(5)), at(10));
        assert_eq!(recalled(Cause::Failures, Some(5)), at(300));
        assert_eq!(recalled(Cause::Failures, None), at(10));
        let mut breaker = Breaker::Shut(shut(Cause::Failures).recalled(None, at(10)));
        assert!(breaker.admit(at(10)));
        let opened = breaker.learn(None, Sign::Failed, id("a"), "500", at(11));
        assert_eq!(opened, Some(Change::Admitting), "failures never shut it any more");
    }

    #[test]
    fn an_operator_has_a_shut_route_probed_and_its_pauses_get_no_longer() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.hasten(at(0)), None, "it is open");
        let mut now = at(0);
        for _ in 0..4 {
            now = until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", now)).unwrap();
            assert!(breaker.admit(now));
        }
        breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", now);
        for _ in 0..9 {
            assert!(!breaker.admit(now), "not yet");
            assert_eq!(breaker.hasten(now).map(|shut| shut.until), Some(now));
            assert!(breaker.admit(now), "the probe");
            assert_eq!(breaker.hasten(now), None, "it is under way");
            let again = until(breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", now));
            assert_eq!(again, Some(after(now, Duration::from_secs(480))), "as long as before");
        }
        let due = at(99_999);
        assert_eq!(breaker.hasten(due), breaker.hasten(due), "asked twice it is the same");
    }

    #[test]
    fn a_probe_that_was_not_sent_leaves_the_turn_to_another() {
        let mut breaker = Breaker::default();
        breaker.learn(Some(5), Sign::Misconfigured, id("a"), "401", at(0));
        assert!(breaker.admit(at(30)));
        breaker.withdraw();
        assert!(breaker.admit(at(30)));
    }

    #[test]
    fn whoever_met_a_fault_goes_behind_the_others_and_further_each_time() {
        let turns = [0, 1, 2, 30].map(|faults| own_turn(at(30), faults));
        assert_eq!(turns, [at(31), at(32), at(34), at(30 + 15 * 60)]);
    }
}
