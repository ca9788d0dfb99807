use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HERMES: config::Pace = config::Pace { count: 30, window: MINUTE };

fn start() -> Timestamp {
    Timestamp::from_second(1_777_000_000).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    after(start(), Duration::from_secs(seconds))
}

fn hermes() -> Pace {
    Pace::new(Some(HERMES), Remembered::default())
}

/// What so many deliveries that come at once are told.
fn places(pace: &mut Pace, turn: Turn, count: usize) -> Vec<Timestamp> {
    (0..count).map(|_| pace.admit(start(), turn, None).err().unwrap_or(start())).collect()
}

#[test]
fn nobody_closes_a_route_for_longer_than_an_hour() {
    let mut pace = Pace::new(None, Remembered::default());
    let place = pace.refused(start(), Turn::First, Some(Duration::MAX));
    assert_eq!(since(place, start()), LONGEST_RETRY_AFTER);
}

#[test]
fn a_backlog_gets_places_a_window_apart() {
    let places = places(&mut hermes(), Turn::First, 90);
    assert!(places[..30].iter().all(|place| *place == start()));
    assert!(places[30..60].iter().all(|place| *place == at(61)));
    assert!(places[60..].iter().all(|place| *place == at(122)), "1.7 % more than 30 a minute allows");
}

#[test]
fn a_reserved_place_is_used_once_it_comes_and_lost_when_it_has_gone_by() {
    let mut pace = hermes();
    places(&mut pace, Turn::First, 30);
    let place = pace.admit(start(), Turn::First, None).unwrap_err();
    assert_eq!(pace.admit(place, Turn::First, Some(place)), Ok(()));
    // After a stop of hours every reserved slot is over: they must not all go out at once.
    let late = at(100_000);
    let sent = (0..100).filter(|_| pace.admit(late, Turn::First, Some(place)).is_ok()).count();
    assert_eq!(sent, 30);
}

#[test]
fn whoever_comes_late_to_a_place_uses_it_and_the_next_ones_keep_the_pace() {
    let mut pace = hermes();
    let places = places(&mut pace, Turn::First, 90);
    // A slow Hermes: the second window's go out five seconds late, one after another.
    for index in 0..30 {
        let late = after(at(66), Duration::from_millis(index * 100));
        assert_eq!(pace.admit(late, Turn::First, Some(places[30])), Ok(()));
    }
    let mut now = at(122);
    for _ in 60..90 {
        let mut place = places[60];
        while let Err(later) = pace.admit(now, Turn::First, Some(place)) {
            assert!(
                later > now && later <= after(at(122), Duration::from_secs(8)),
                "as late as those before"
            );
            (place, now) = (later, later);
        }
    }
}

#[test]
fn first_attempts_find_seats_that_old_deliveries_leave_them() {
    let mut pace = hermes();
    let old = places(&mut pace, Turn::Again, 2_300);
    assert_eq!(old.iter().filter(|place| **place == start()).count(), 23);
    assert!(old.iter().max() > Some(&at(5_000)), "the old ones wait more than an hour");
    assert_eq!(places(&mut pace, Turn::First, 7), [start(); 7]);
    assert_eq!(places(&mut pace, Turn::First, 7), [at(61); 7]);
    let mut slow = Pace::new(Some(config::Pace { count: 1, window: MINUTE }), Remembered::default());
    assert_eq!(places(&mut slow, Turn::Again, 2), [start(), at(61)]);
    assert_eq!(places(&mut slow, Turn::First, 1), [at(122)], "where there is one seat, who comes first");
}

#[test]
fn whoever_takes_a_route_over_honours_what_was_sent_and_reserved() {
    let mut pace = hermes();
    let old = places(&mut pace, Turn::Again, 46);
    let new = places(&mut pace, Turn::First, 14);
    let turns =
        old.iter().map(|place| (*place, Turn::Again)).chain(new.iter().map(|place| (*place, Turn::First)));
    let (sent, reserved): (Vec<_>, Vec<_>) = turns.partition(|(place, _)| *place == start());
    let sent = sent.into_iter().map(|(place, _)| place).collect();
    let mut next = Pace::new(Some(HERMES), Remembered { sent, reserved: reserved.clone() });
    assert_eq!(next.admit(at(1), Turn::First, None), Err(at(122)), "behind all of them");
    for (place, turn) in reserved {
        assert_eq!(next.admit(place, turn, Some(place)), Ok(()));
    }
    assert!(next.admit(at(61), Turn::Again, None).is_err());
}

#[test]
fn a_refusal_holds_everybody_back_and_longer_each_time() {
    let mut pace = Pace::new(None, Remembered::default());
    assert_eq!(pace.refused(start(), Turn::First, None), at(1));
    assert_eq!(pace.admit(start(), Turn::First, Some(start())), Err(at(1)));
    assert_eq!(pace.refused(at(1), Turn::First, None), at(3));
    assert_eq!(pace.refused(at(3), Turn::First, Some(Duration::from_secs(100))), at(103));
    pace.accepted();
    assert_eq!(pace.refused(at(200), Turn::First, None), at(201));
}

#[test]
fn a_refusal_corrects_the_pace_to_what_hermes_takes_and_it_grows_back() {
    let mut pace = hermes();
    places(&mut pace, Turn::First, 30);
    // Ten were taken, and twenty refused.
    for _ in 0..20 {
        pace.refused(at(1), Turn::First, None);
    }
    pace.accepted();
    let sent_in_a_burst = |pace: &mut Pace, now| {
        let burst = (0..100).take_while(|_| pace.admit(now, Turn::First, None).is_ok());
        burst.count()
    };
    assert_eq!(sent_in_a_burst(&mut pace, at(1_000)), 11, "and one more is tried");
    pace.refused(at(1_000), Turn::First, None);
    assert_eq!(sent_in_a_burst(&mut pace, at(1_030)), 0);
    let mut allowed = 0;
    for minute in 0..40 {
        // A delivery that was refused a slot at the end of a burst has one in the next but one.
        allowed = sent_in_a_burst(&mut pace, at(2_000 + 122 * minute));
    }
    assert_eq!(allowed, 30);
}

#[test]
fn a_refusal_costs_a_slow_pace_no_more_than_it_does_hermes() {
    let hour = Duration::from_secs(3_600);
    let mut pace = Pace::new(Some(config::Pace { count: 100, window: hour }), Remembered::default());
    // Others had used Hermes' minute up.
    assert_eq!(pace.admit(start(), Turn::First, None), Ok(()));
    assert!(pace.refused(start(), Turn::First, None) <= at(2), "and not in an hour");
    let mut waiting = vec![(start(), None); 100];
    let sent = (0..120).map(|minute| {
        let (now, before) = (at(minute * 60), waiting.len());
        waiting.retain_mut(|(due, place)| {
            let told = if *due <= now { pace.admit(now, Turn::First, *place) } else { Err(*due) };
            told.inspect_err(|later| (*due, *place) = (*later, Some(*later))).is_err()
        });
        before - waiting.len()
    });
    assert_eq!(sent.sum::<usize>(), 100, "an hour's worth in two");
}

#[test]
fn a_refusal_moves_reserved_places_and_burns_none() {
    let mut pace = hermes();
    let places = places(&mut pace, Turn::First, 90);
    let later = pace.refused(at(60), Turn::First, None);
    let moved = pace.admit(at(61), Turn::First, Some(places[30])).unwrap_err();
    assert!(moved > at(61) && moved < at(65), "its own place, once it is time again: {moved}");
    assert_eq!(later, at(183), "behind the others, for whoever was refused");
}

#[test]
fn no_pace_never_waits() {
    let mut pace = Pace::new(None, Remembered::default());
    assert!((0..10_000).all(|_| pace.admit(start(), Turn::First, None).is_ok()));
}

proptest! {
    /// In no window of Hermes' are there more than it allows: whenever deliveries come, however late they use their
    /// slots, and any takeover in between.
    #[test]
    fn no_window_holds_more_than_the_pace(
        steps in prop::collection::vec((0_u64..20_000, any::<bool>(), 0_u64..3_000, 0_u8..40), 1..200),
        count in 1_u32..40,
    ) {
        let config = Some(config::Pace { count, window: MINUTE });
        let mut pace = Pace::new(config, Remembered::default());
        let (mut now, mut sent) = (start(), Vec::new());
        // Due, place, turn.
        let mut waiting: Vec<(Timestamp, Option<Timestamp>, Turn)> = Vec::new();
        for (gap, again, lateness, takeover) in steps {
            now = after(now, Duration::from_millis(gap));
            waiting.push((now, None, if again { Turn::Again } else { Turn::First }));
            if takeover == 0 {
                let reserved = waiting.iter().filter_map(|(_, place, turn)| Some(((*place)?, *turn))).collect();
                pace = Pace::new(config, Remembered { sent: sent.clone(), reserved });
            }
            for (due, place, turn) in std::mem::take(&mut waiting) {
                if due > before(now, Duration::from_millis(lateness)) && place.is_some() {
                    waiting.push((due, place, turn));
                } else if let Err(later) = pace.admit(now, turn, place) {
                    prop_assert!(later > now);
                    waiting.push((later, Some(later), turn));
                } else {
                    sent.push(now);
                }
            }
        }
        for window in sent.windows(count as usize + 1) {
            prop_assert!(since(window[count as usize], window[0]) > MINUTE);
        }
    }
}
