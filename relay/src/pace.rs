//! How fast requests to a route may follow each other.
//!
//! Hermes counts the requests of a sliding window (30 in 60 s by default) and refuses what is beyond. So do we,
//! beforehand: each delivery reserves a place in time, and waits for it in the queue. A token bucket would not
//! do: after a pause it lets a burst and a refill through within one of Hermes' windows.

use crate::retry::LONGEST_RETRY_AFTER;
use jiff::Timestamp;
use std::{collections::VecDeque, time::Duration};
use talaria_bus::time::after;
use talaria_core::config;

/// Places are this much further apart than the window asks, because Hermes' clock reads when a request has
/// arrived and not when it was due. It is also how late a reserved place may be used.
const MARGIN: Duration = Duration::from_secs(1);

/// The reservations of one route.
#[derive(Debug, Default)]
pub struct Pace {
    /// The newest places, oldest first; as many as a window holds.
    places: VecDeque<Timestamp>,
    /// Hermes refused: nothing goes out before this.
    not_before: Timestamp,
    /// Refusals in a row.
    refusals: u32,
}

impl Pace {
    /// Whether a delivery may go out now, and otherwise the place that is reserved for it. `reserved` is the place
    /// that it holds already.
    pub fn admit(
        &mut self,
        pace: Option<config::Pace>,
        now: Timestamp,
        reserved: Option<Timestamp>,
    ) -> Result<(), Timestamp> {
        if let Some(place) = reserved
            && self.not_before <= now
            && (place..=after(place, MARGIN)).contains(&now)
        {
            return Ok(());
        }
        let place = self.reserve(pace, now);
        if place <= now { Ok(()) } else { Err(place) }
    }

    /// Hermes answered 429 all the same: the place from which on it is tried again. Retry-After counts up to an
    /// hour, or one answer could close a route for good.
    pub fn refused(
        &mut self,
        pace: Option<config::Pace>,
        now: Timestamp,
        retry_after: Option<Duration>,
    ) -> Timestamp {
        // One place's worth at first, then twice as much each time; after a whole window Hermes has forgotten us.
        let (step, longest) = pace.map_or((Duration::from_secs(1), Duration::from_secs(60)), |pace| {
            (pace.window / pace.count.max(1), pace.window)
        });
        let pause = step.saturating_mul(1 << self.refusals.min(16)).min(longest);
        self.refusals += 1;
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.not_before = self.not_before.max(after(now, pause.max(asked)));
        self.reserve(pace, now)
    }

    /// Hermes took a request.
    pub fn accepted(&mut self) {
        self.refusals = 0;
    }

    fn reserve(&mut self, pace: Option<config::Pace>, now: Timestamp) -> Timestamp {
        let earliest = now.max(self.not_before);
        let Some(pace) = pace else { return earliest };
        let window = usize::try_from(pace.count).unwrap_or(usize::MAX);
        while self.places.len() > window {
            self.places.pop_front();
        }
        let mut place = self.places.back().map_or(earliest, |last| earliest.max(*last));
        if self.places.len() == window
            && let Some(first) = self.places.pop_front()
        {
            place = place.max(after(first, pace.window + MARGIN));
        }
        self.places.push_back(place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use talaria_bus::time::since;

    #[test]
    fn nobody_closes_a_route_for_longer_than_an_hour() {
        let mut pace = Pace::default();
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let place = pace.refused(None, now, Some(Duration::MAX));
        assert_eq!(since(place, now), LONGEST_RETRY_AFTER);
    }

    const HERMES: Option<config::Pace> = Some(config::Pace { count: 30, window: Duration::from_secs(60) });

    fn start() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        after(start(), Duration::from_secs(seconds))
    }

    #[test]
    fn a_backlog_gets_places_a_window_apart() {
        let mut pace = Pace::default();
        let places: Vec<_> =
            (0..90).map(|_| pace.admit(HERMES, start(), None).err().unwrap_or(start())).collect();
        assert!(places[..30].iter().all(|place| *place == start()));
        assert!(places[30..60].iter().all(|place| *place == at(61)));
        assert!(places[60..].iter().all(|place| *place == at(122)), "1.7 % more than 30 a minute allows");
    }

    #[test]
    fn a_reserved_place_is_used_once_it_comes_and_lost_when_it_has_gone_by() {
        let mut pace = Pace::default();
        for _ in 0..30 {
            pace.admit(HERMES, start(), None).unwrap();
        }
        let place = pace.admit(HERMES, start(), None).unwrap_err();
        assert_eq!(pace.admit(HERMES, place, Some(place)), Ok(()));
        assert_eq!(pace.admit(HERMES, after(place, MARGIN), Some(place)), Ok(()));
        // After a stop of hours every reserved place is over: they must not all go out at once.
        let late = at(100_000);
        let sent = (0..100).filter(|_| pace.admit(HERMES, late, Some(place)).is_ok()).count();
        assert_eq!(sent, 30);
    }

    #[test]
    fn a_refusal_holds_everybody_back_and_longer_each_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.refused(HERMES, start(), None), at(2));
        assert_eq!(pace.admit(HERMES, at(1), Some(at(1))), Err(at(2)));
        assert_eq!(pace.refused(HERMES, at(2), None), at(6));
        assert_eq!(pace.refused(HERMES, at(6), Some(Duration::from_secs(100))), at(106));
        pace.accepted();
        assert_eq!(pace.refused(HERMES, at(200), None), at(202));
        assert_eq!(Pace::default().refused(None, start(), None), at(1), "also where we set no pace");
    }

    #[test]
    fn no_pace_never_waits() {
        let mut pace = Pace::default();
        assert!((0..10_000).all(|_| pace.admit(None, start(), None).is_ok()));
    }

    proptest! {
        /// In no window of Hermes' are there more than it allows, whenever deliveries come.
        #[test]
        fn no_window_holds_more_than_the_pace(
            gaps in prop::collection::vec(0_u64..20_000, 1..300),
            count in 1_u32..40,
        ) {
            let limit = Some(config::Pace { count, window: Duration::from_secs(60) });
            let mut pace = Pace::default();
            let mut now = start();
            let mut sent = Vec::new();
            for gap in gaps {
                now = after(now, Duration::from_millis(gap));
                sent.push(pace.admit(limit, now, None).err().unwrap_or(now));
            }
            prop_assert!(sent.is_sorted(), "who came first goes first");
            for window in sent.windows(count as usize + 1) {
                prop_assert!(since(window[count as usize], window[0]) > Duration::from_secs(60));
            }
        }
    }
}
