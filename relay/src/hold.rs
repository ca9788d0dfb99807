//! Holds a route whose configuration Hermes refuses (401, 403, 404, 405, 413, a redirect).
//!
//! Trying every waiting delivery against a wrong secret helps nobody. So the route is held, and after a pause
//! that grows a single delivery tries: if Hermes refuses it too the route is held on, otherwise everything goes.

use jiff::Timestamp;
use std::time::Duration;
use talaria_bus::time::{after, since};

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// How far behind the others a delivery goes that met a fault itself, at first.
const OWN_FIRST: Duration = Duration::from_secs(1);
/// How soon the others look again while one delivery tries, at first.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Whether a route is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// It is not.
    #[default]
    Open,
    /// It is, until then.
    Held {
        /// Until when.
        until: Timestamp,
        /// Faults in a row.
        faults: u32,
        /// What Hermes said last.
        why: String,
    },
    /// One delivery is trying.
    Probing {
        /// Since when.
        began: Timestamp,
        /// When another may try, should this one never tell.
        patience: Timestamp,
        /// Faults in a row.
        faults: u32,
        /// What Hermes said last.
        why: String,
    },
}

impl Hold {
    /// Until when, and why, nothing may go out now. While one delivery tries, the others look again after a second
    /// and then after twice as long each time: a route that is mended should not wait for a timeout, nor a long
    /// backlog ask all the time.
    pub fn blocks(&self, now: Timestamp) -> Option<(Timestamp, String)> {
        match self {
            Self::Held { until, why, .. } if now < *until => Some((*until, why.clone())),
            Self::Probing { began, patience, why, .. } if now < *patience => {
                let again = after(now, since(now, *began).max(LOOK_AGAIN));
                Some((again.min(*patience), why.clone()))
            }
            _ => None,
        }
    }

    /// A delivery goes out, which takes `timeout` at most. If the route was held, it is the one that tries.
    pub fn begin(&mut self, now: Timestamp, timeout: Duration) {
        if let Self::Held { faults, why, .. } | Self::Probing { faults, why, .. } = self {
            let patience = after(now, timeout + Duration::from_secs(1));
            *self = Self::Probing { began: now, patience, faults: *faults, why: std::mem::take(why) };
        }
    }

    /// Hermes refused the route: until when it is held now.
    pub fn fault(&mut self, now: Timestamp, why: &str) -> Timestamp {
        let faults = match self {
            Self::Open => 1,
            // Others that were already under way when the route was held do not make it longer.
            Self::Held { until, .. } if now < *until => return *until,
            Self::Held { faults, .. } | Self::Probing { faults, .. } => faults.saturating_add(1),
        };
        let until = after(now, FIRST.saturating_mul(1 << (faults - 1).min(16)).min(LONGEST));
        *self = Self::Held { until, faults, why: why.to_owned() };
        until
    }

    /// Whoever tries has more to try, at once: it, or another, is the one that does.
    pub fn try_again(&mut self, now: Timestamp) {
        if let Self::Probing { faults, why, .. } = self {
            *self = Self::Held { until: now, faults: *faults, why: std::mem::take(why) };
        }
    }

    /// Hermes answered something else. True if the route was held until now.
    pub fn clear(&mut self) -> bool {
        std::mem::take(self) != Self::Open
    }
}

/// When a delivery that met a fault for the `faults`th time (from 0) has its own next turn: behind the others, so
/// that another one tries first. It may be this delivery alone that Hermes refuses, as with 413.
pub fn own_turn(until: Timestamp, faults: u32) -> Timestamp {
    after(until, OWN_FIRST.saturating_mul(1 << faults.min(16)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        after(Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(seconds))
    }

    fn admit(hold: &mut Hold, now: Timestamp) -> Result<(), (Timestamp, String)> {
        hold.blocks(now).map_or(Ok(()), Err)?;
        hold.begin(now, Duration::from_secs(9));
        Ok(())
    }

    #[test]
    fn a_held_route_lets_one_delivery_try_and_waits_longer_each_time() {
        let mut hold = Hold::default();
        assert_eq!(admit(&mut hold, at(0)), Ok(()));
        assert_eq!(hold.fault(at(0), "401"), at(30));
        assert_eq!(hold.fault(at(1), "401"), at(30), "one that was under way changes nothing");
        assert_eq!(admit(&mut hold, at(29)), Err((at(30), "401".into())));
        assert_eq!(admit(&mut hold, at(30)), Ok(()), "the probe");
        assert_eq!(admit(&mut hold, at(30)), Err((at(31), "401".into())), "nobody beside it");
        assert_eq!(admit(&mut hold, at(32)), Err((at(34), "401".into())), "and later less often");
        assert_eq!(admit(&mut hold, at(38)), Err((at(40), "401".into())), "but once its patience is over");
        assert_eq!(hold.fault(at(31), "404"), at(91));
        assert_eq!(admit(&mut hold, at(90)), Err((at(91), "404".into())));
        let mut now = at(91);
        for _ in 0..10 {
            admit(&mut hold, now).unwrap();
            now = hold.fault(now, "401");
        }
        admit(&mut hold, now).unwrap();
        assert_eq!(hold.fault(now, "401"), after(now, LONGEST));
    }

    #[test]
    fn a_probe_that_has_more_to_try_is_let_through_again_and_its_fault_counts_once() {
        let mut hold = Hold::default();
        hold.fault(at(0), "401");
        admit(&mut hold, at(30)).unwrap();
        hold.try_again(at(31));
        assert_eq!(admit(&mut hold, at(31)), Ok(()));
        assert_eq!(hold.fault(at(32), "401"), at(92), "the second fault in a row");
        let mut open = Hold::default();
        open.try_again(at(0));
        assert_eq!(open, Hold::Open);
    }

    #[test]
    fn any_other_answer_lets_everything_go() {
        let mut hold = Hold::default();
        assert!(!hold.clear());
        hold.fault(at(0), "401");
        admit(&mut hold, at(30)).unwrap();
        assert!(hold.clear());
        assert_eq!(admit(&mut hold, at(31)), Ok(()));
        assert_eq!(hold.fault(at(32), "401"), at(62), "and the pauses start anew");
    }

    #[test]
    fn a_probe_that_never_tells_is_followed_by_another() {
        let mut hold = Hold::default();
        hold.fault(at(0), "401");
        admit(&mut hold, at(30)).unwrap();
        assert_eq!(admit(&mut hold, at(40)), Ok(()));
    }

    #[test]
    fn whoever_met_a_fault_goes_behind_the_others_and_further_each_time() {
        let turns = [0, 1, 2, 30].map(|faults| own_turn(at(30), faults));
        assert_eq!(turns, [at(31), at(32), at(34), at(30 + 15 * 60)]);
    }
}
