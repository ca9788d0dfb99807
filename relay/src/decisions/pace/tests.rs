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
    Pace::new(Some(HERMES), PaceMemory::default())
}

/// The slots of `count` deliveries that come at once.
fn slots(pace: &mut Pace, priority: Priority, count: usize) -> Vec<Timestamp> {
    (0..count).map(|_| pace.admit(start(), priority, None).err().unwrap_or(start())).collect()
}

#[test]
fn no_answer_blocks_a_route_for_longer_than_an_hour() {
    let mut pace = Pace::new(None, PaceMemory::default());
    let slot = pace.refused(start(), Priority::First, Some(Duration::MAX));
    assert_eq!(since(slot, start()), LONGEST_RETRY_AFTER);
}

#[test]
fn a_backlog_gets_slots_a_window_apart() {
    let slots = slots(&mut hermes(), Priority::First, 90);
    assert!(slots[..30].iter().all(|slot| *slot == start()));
    assert!(slots[30..60].iter().all(|slot| *slot == at(61)));
    assert!(slots[60..].iter().all(|slot| *slot == at(122)), "1.7 % more than 30 a minute allows");
}

#[test]
fn usage_tells_when_a_delivery_that_comes_now_would_go_out() {
    let mut pace = hermes();
    assert_eq!(Pace::new(None, PaceMemory::default()).usage(start()), None);
    let fresh = pace.usage(start()).unwrap();
    assert_eq!((fresh.limit, fresh.configured, fresh.sent), (30, 30, 0));
    assert_eq!((fresh.next_first, fresh.next_again), (start(), start()));
    for (count, priority, sent) in
        [(23, Priority::Again, 23), (7, Priority::First, 30), (9, Priority::Again, 30)]
    {
        slots(&mut pace, priority, count);
        let usage = pace.usage(start()).unwrap();
        assert_eq!(usage.sent, sent);
        // What it tells is what the next one gets.
        for (priority, told) in [(Priority::First, usage.next_first), (Priority::Again, usage.next_again)] {
            let mut tried = pace.clone();
            assert_eq!(
                tried.admit(start(), priority, None).err().unwrap_or(start()),
                told,
                "{count} {priority:?}"
            );
        }
    }
    assert_eq!(pace.usage(at(61)).unwrap().sent, 0);
    let refused = pace.refused(at(1), Priority::First, Some(Duration::from_secs(100)));
    assert!(pace.usage(at(1)).unwrap().next_first >= at(101).min(refused));
}

#[test]
fn a_reserved_slot_is_used_once_it_comes_and_lost_when_it_has_gone_by() {
    let mut pace = hermes();
    slots(&mut pace, Priority::First, 30);
    let slot = pace.admit(start(), Priority::First, None).unwrap_err();
    assert_eq!(pace.admit(slot, Priority::First, Some(slot)), Ok(()));
    // After a stop of hours every reserved slot is over: they must not all go out at once.
    let late = at(100_000);
    let sent = (0..100).filter(|_| pace.admit(late, Priority::First, Some(slot)).is_ok()).count();
    assert_eq!(sent, 30);
}

#[test]
fn a_delivery_that_is_late_for_its_slot_uses_it_and_the_next_ones_keep_the_pace() {
    let mut pace = hermes();
    let slots = slots(&mut pace, Priority::First, 90);
    // A slow Hermes: the second window's go out five seconds late, one after another.
    for index in 0..30 {
        let late = after(at(66), Duration::from_millis(index * 100));
        assert_eq!(pace.admit(late, Priority::First, Some(slots[30])), Ok(()));
    }
    let mut now = at(122);
    for _ in 60..90 {
        let mut slot = slots[60];
        while let Err(later) = pace.admit(now, Priority::First, Some(slot)) {
            assert!(
                later > now && later <= after(at(122), Duration::from_secs(8)),
                "as late as those before"
            );
            (slot, now) = (later, later);
        }
    }
}

#[test]
fn first_attempts_find_seats_that_old_deliveries_leave_them() {
    let mut pace = hermes();
    let old = slots(&mut pace, Priority::Again, 2_300);
    assert_eq!(old.iter().filter(|slot| **slot == start()).count(), 23);
    assert!(old.iter().max() > Some(&at(5_000)), "the old ones wait more than an hour");
    assert_eq!(slots(&mut pace, Priority::First, 7), [start(); 7]);
    assert_eq!(slots(&mut pace, Priority::First, 7), [at(61); 7]);
    let mut slow = Pace::new(Some(config::Pace { count: 1, window: MINUTE }), PaceMemory::default());
    assert_eq!(slots(&mut slow, Priority::Again, 2), [start(), at(61)]);
    assert_eq!(slots(&mut slow, Priority::First, 1), [at(122)], "a single seat is used in order");
}

#[test]
fn a_new_owner_keeps_to_the_requests_and_reservations_of_the_last_one() {
    let mut pace = hermes();
    let old = slots(&mut pace, Priority::Again, 46);
    let new = slots(&mut pace, Priority::First, 14);
    let priorities = old
        .iter()
        .map(|slot| (*slot, Priority::Again))
        .chain(new.iter().map(|slot| (*slot, Priority::First)));
    let (sent, reserved): (Vec<_>, Vec<_>) = priorities.partition(|(slot, _)| *slot == start());
    let sent = sent.into_iter().map(|(slot, _)| slot).collect();
    let mut next = Pace::new(Some(HERMES), PaceMemory { sent, reserved: reserved.clone() });
    assert_eq!(next.admit(at(1), Priority::First, None), Err(at(122)), "behind all of them");
    for (slot, priority) in reserved {
        assert_eq!(next.admit(slot, priority, Some(slot)), Ok(()));
    }
    assert!(next.admit(at(61), Priority::Again, None).is_err());
}

#[test]
fn a_refusal_delays_every_delivery_and_longer_each_time() {
    let mut pace = Pace::new(None, PaceMemory::default());
    assert_eq!(pace.refused(start(), Priority::First, None), at(1));
    assert_eq!(pace.admit(start(), Priority::First, Some(start())), Err(at(1)));
    assert_eq!(pace.refused(at(1), Priority::First, None), at(3));
    assert_eq!(pace.refused(at(3), Priority::First, Some(Duration::from_secs(100))), at(103));
    pace.accepted();
    assert_eq!(pace.refused(at(200), Priority::First, None), at(201));
}

#[test]
fn a_refusal_lowers_the_limit_to_that_of_hermes_and_it_grows_back() {
    let mut pace = hermes();
    slots(&mut pace, Priority::First, 30);
    // Ten were accepted, and twenty refused.
    for _ in 0..20 {
        pace.refused(at(1), Priority::First, None);
    }
    pace.accepted();
    let sent_in_a_burst = |pace: &mut Pace, now| {
        let burst = (0..100).take_while(|_| pace.admit(now, Priority::First, None).is_ok());
        burst.count()
    };
    assert_eq!(sent_in_a_burst(&mut pace, at(1_000)), 11, "and one more is tried");
    pace.refused(at(1_000), Priority::First, None);
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
    let mut pace = Pace::new(Some(config::Pace { count: 100, window: hour }), PaceMemory::default());
    // Others had used Hermes' minute up.
    assert_eq!(pace.admit(start(), Priority::First, None), Ok(()));
    assert!(pace.refused(start(), Priority::First, None) <= at(2), "and not in an hour");
    let mut waiting = vec![(start(), None); 100];
    let sent = (0..120).map(|minute| {
        let (now, before) = (at(minute * 60), waiting.len());
        waiting.retain_mut(|(due, slot)| {
            let admitted = if *due <= now { pace.admit(now, Priority::First, *slot) } else { Err(*due) };
            admitted.inspect_err(|later| (*due, *slot) = (*later, Some(*later))).is_err()
        });
        before - waiting.len()
    });
    assert_eq!(sent.sum::<usize>(), 100, "an hour's worth in two");
}

#[test]
fn a_refusal_moves_reserved_slots_and_burns_none() {
    let mut pace = hermes();
    let slots = slots(&mut pace, Priority::First, 90);
    let later = pace.refused(at(60), Priority::First, None);
    let moved = pace.admit(at(61), Priority::First, Some(slots[30])).unwrap_err();
    assert!(moved > at(61) && moved < at(65), "its own slot, once the pause is over: {moved}");
    assert_eq!(later, at(183), "behind the others, for the refused one");
}

#[test]
fn no_pace_never_waits() {
    let mut pace = Pace::new(None, PaceMemory::default());
    assert!((0..10_000).all(|_| pace.admit(start(), Priority::First, None).is_ok()));
}

proptest! {
    /// No window of Hermes' has more requests than it allows, whenever deliveries come, however late they use their slots,
    /// and with takeovers in between.
    #[test]
    fn no_window_holds_more_than_the_pace(
        steps in prop::collection::vec((0_u64..20_000, any::<bool>(), 0_u64..3_000, 0_u8..40), 1..200),
        count in 1_u32..40,
    ) {
        let config = Some(config::Pace { count, window: MINUTE });
        let mut pace = Pace::new(config, PaceMemory::default());
        let (mut now, mut sent) = (start(), Vec::new());
        // Due, slot, priority.
        let mut waiting: Vec<(Timestamp, Option<Timestamp>, Priority)> = Vec::new();
        for (gap, again, lateness, takeover) in steps {
            now = after(now, Duration::from_millis(gap));
            waiting.push((now, None, if again { Priority::Again } else { Priority::First }));
            if takeover == 0 {
                let reserved = waiting.iter().filter_map(|(_, slot, priority)| Some(((*slot)?, *priority))).collect();
                pace = Pace::new(config, PaceMemory { sent: sent.clone(), reserved });
            }
            for (due, slot, priority) in std::mem::take(&mut waiting) {
                if due > before(now, Duration::from_millis(lateness)) && slot.is_some() {
                    waiting.push((due, slot, priority));
                } else if let Err(later) = pace.admit(now, priority, slot) {
                    prop_assert!(later > now);
                    waiting.push((later, Some(later), priority));
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
