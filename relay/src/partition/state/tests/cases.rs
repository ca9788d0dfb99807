//! Single cases.

use super::{
    super::{time::*, *},
    driver::{finished, moved, start, started},
    *,
};
use crate::decisions::{breaker::Cause, pace::Priority};
use talaria_proto::v1::{
    Closed, Event, EventCarried, EventRepeated, Opened, PauseChanged, QuarantinedCallback,
};

pub(super) fn at(seconds: u64) -> Timestamp {
    after(start(), Duration::from_secs(seconds))
}

/// A state with these records, of which each list is a commit, from sequence 10 on in tens.
pub(super) fn state(commits: &[&[Record]]) -> State {
    let mut state = State::default();
    commits.iter().zip(1..).for_each(|(records, index)| commit(&mut state, index * 10, records));
    state
}

pub(super) fn commit(state: &mut State, seq: u64, records: &[Record]) {
    for record in records {
        state.apply(record);
    }
    state.close();
    state.committed(seq);
}

pub(super) fn opened(state: &State, now: Timestamp) -> Record {
    state.opened(&Identity { relay: "relay".into(), run: 3 }, now)
}

pub(super) fn task(state: &State, event_seq: u64, route: &str) -> DeliveryTask {
    state.task(key(event_seq, route)).unwrap()
}

pub(super) fn due(task: &DeliveryTask, due: Timestamp) -> DeliveryTask {
    DeliveryTask { due_at: Some(to_proto(due)), ..task.clone() }
}

#[test]
fn an_event_is_planned_for_each_of_its_routes() {
    let state = state(&[&[record(at(5), 7, planned("acme", 1, &["a", "b"]))]]);
    let expected = DeliveryTask {
        delivery_id: talaria_core::id::DeliveryId::new(event_id("acme", 1), "b").to_string(),
        event_seq: 7,
        tenant: "acme".into(),
        route: "b".into(),
        due_at: Some(to_proto(at(5))),
        received_at: Some(to_proto(start())),
        generation: 1,
        ..DeliveryTask::default()
    };
    assert_eq!(task(&state, 7, "b"), expected);
    assert_eq!(state.planned_through(), 7);
    assert_eq!(state.lanes().count(), 2);
    let digest = u64::from_be_bytes([1; 8]);
    assert_eq!(state.known(event_id("acme", 1)), Some(Known { event_seq: 7, digest }));
    assert_eq!(state.known(event_id("acme", 2)), None);
    assert_eq!((state.payload(7), state.payload(8)), (Payload::Event(7), Payload::Event(8)));
}

#[test]
fn repetitions_and_quarantined_callbacks_count_as_planned() {
    let mut state = State::default();
    for (seq, what) in [
        (3, What::EventRepeated(EventRepeated::default())),
        (5, What::CallbackQuarantined(QuarantinedCallback::default())),
        (4, What::EventRepeated(EventRepeated::default())),
        (0, What::Opened(Opened { planned_through: 2, ..Opened::default() })),
    ] {
        state.apply(&record(at(0), seq, what));
    }
    assert_eq!(state.planned_through(), 5);
}

#[test]
fn a_delivery_is_under_way_from_its_start_to_the_next_record_about_it() {
    let mut state = state(&[&[record(at(0), 1, planned("acme", 1, &["a"]))]]);
    let (first, lane) = (task(&state, 1, "a"), state.lane_id("acme", "a").unwrap());
    let counts =
        |state: &State| (state.waiting(lane), state.under_way_in(lane), state.due_count(lane, at(99), 9));
    assert_eq!(counts(&state), (1, 0, 1));
    state.take_changed();
    state.apply(&record(at(1), 1, started(&first, false)));
    assert_eq!(state.take_changed(), [lane]);
    assert_eq!((counts(&state), state.under_way()), ((1, 1, 0), vec![key(1, "a")]));
    assert_eq!((state.first_due(lane), state.oldest(lane)), (None, Some(start())));
    let next = due(&first, at(50));
    state.apply(&record(at(2), 1, finished(&next, true)));
    assert_eq!((counts(&state), task(&state, 1, "a")), ((1, 0, 1), next.clone()));
    assert_eq!(state.first_due(lane), Some(at(50)));
    state.apply(&record(at(3), 1, moved(&next, false)));
    assert_eq!((counts(&state), state.task(key(1, "a"))), ((0, 0, 0), None));
    assert_eq!((state.take_changed(), state.take_changed()), (vec![lane], vec![]));
    assert!(state.known(event_id("acme", 1)).is_some(), "the event is kept");
    state.apply(&record(at(4), 1, moved(&next, true)));
    assert_eq!(counts(&state), (1, 0, 1));
}

#[test]
fn each_start_counts_for_the_pace_once() {
    let mut state = state(&[&[record(at(0), 1, planned("acme", 1, &["a", "b"]))]]);
    state.apply(&record(at(0), 2, planned("acme", 2, &["a"])));
    let starts = [1, 2].map(|seq| record(at(9), seq, started(&task(&state, seq, "a"), true)));
    // Of another owner's event that is not known here.
    let stranger = DeliveryTask { event_seq: 77, ..task(&state, 1, "a") };
    let stranger = record(at(9), 77, started(&stranger, true));
    for start in starts.iter().chain([&stranger, &stranger]).chain(&starts) {
        state.apply(start);
    }
    state.apply(&record(at(9), 1, started(&task(&state, 1, "b"), false)));
    let sent = |state: &State, route| state.memory(state.lane_id("acme", route).unwrap()).sent;
    assert_eq!(sent(&state, "a"), [at(9); 3], "at the same time, and each counts");
    assert_eq!(sent(&state, "b"), [], "it has no pace");
}

#[test]
fn starts_are_kept_for_two_hours_also_after_steps_of_the_clock() {
    let mut state = state(&[&[record(at(0), 1, planned("acme", 1, &["a"]))]]);
    let lane = state.lane_id("acme", "a").unwrap();
    let mut attempts = 0;
    let mut start_at = |state: &mut State, time| {
        let attempt = DeliveryTask { attempts, ..task(state, 1, "a") };
        attempts += 1;
        state.apply(&record(time, 1, started(&attempt, true)));
        state.apply(&record(time, 1, finished(&attempt, true)));
        state.memory(lane).sent
    };
    start_at(&mut state, at(0));
    assert_eq!(start_at(&mut state, at(7_200)), [at(0), at(7_200)]);
    assert_eq!(start_at(&mut state, at(7_201)), [at(7_200), at(7_201)]);
    let ahead = at(10 * 86_400);
    assert_eq!(start_at(&mut state, ahead), [ahead]);
    assert_eq!(start_at(&mut state, at(7_300)), [at(7_300)], "the clock is right again");
    let What::Opened(opened) = opened(&state, at(90_000)).what.unwrap() else { panic!() };
    assert_eq!(opened.routes, [], "it is not needed any more");
}

#[test]
fn opened_repeats_no_more_starts_than_fit_into_a_commit() {
    let mut state = State::default();
    let start_at = |state: &mut State, seq: u64, route: &str| {
        let task = DeliveryTask { tenant: "acme".into(), route: route.into(), ..DeliveryTask::default() };
        state.apply(&record(at(seq / 10), seq, started(&task, true)));
    };
    for seq in 1..=40_000 {
        start_at(&mut state, seq, ["a", "b"][usize::from(seq.is_multiple_of(2))]);
    }
    start_at(&mut state, 40_001, "c");
    state.apply(&opened(&state, at(4_000)));
    let sent = |route| state.memory(state.lane_id("acme", route).unwrap()).sent;
    assert_eq!(["a", "b", "c"].map(|route| sent(route).len()), [9_999, 9_999, 1]);
    assert_eq!((sent("b")[0], sent("b")[9_998]), (at(2_000), at(4_000)), "the newest ones");
}

#[test]
fn a_lane_remembers_reserved_slots_and_its_breaker() {
    let mut state = state(&[&[record(at(0), 1, planned("acme", 1, &["a"]))]]);
    let lane = state.lane_id("acme", "a").unwrap();
    assert_eq!(state.memory(lane), Memory::default());
    let shut = Shut { until: at(60), cause: Cause::Failures, tries: 2, why: "500".into() };
    let reserved = DeliveryTask { slot_reserved: true, ..due(&task(&state, 1, "a"), at(30)) };
    state.apply(&record(at(1), 1, moved(&reserved, true)));
    state.apply(&record(at(1), 0, What::RouteChanged(route_changed("acme", "a", Some(&shut)))));
    let memory = Memory { sent: vec![], reserved: vec![(at(30), Priority::First)], shut: Some(shut) };
    assert_eq!(state.memory(lane), memory);
    assert!(state.is_shut(lane));
    let again = DeliveryTask { counted_attempts: 1, ..reserved };
    state.apply(&record(at(2), 1, moved(&again, true)));
    assert_eq!(state.memory(lane).reserved, [(at(30), Priority::Again)]);
    state.apply(&record(at(2), 0, What::RouteChanged(route_changed("acme", "a", None))));
    state.apply(&record(at(2), 1, started(&again, false)));
    assert!(!state.is_shut(lane));
    assert_eq!(state.memory(lane), Memory::default(), "its slot is used");
}

#[test]
fn pauses_and_resumptions_last() {
    let change = |tenant: &str, route: &str, since, paused| {
        let (tenant, route, since) = (tenant.into(), route.into(), Some(to_proto(since)));
        let pause = Pause { tenant, route, since, ..Pause::default() };
        record(at(0), 0, What::PauseChanged(PauseChanged { pause: Some(pause), paused }))
    };
    let mut state = state(&[&[change("acme", "", at(1), true), change("acme", "a", at(2), true)]]);
    state.apply(&change("acme", "a", at(3), false));
    state.apply(&record(at(0), 0, What::PauseChanged(PauseChanged::default())));
    let own = |state: &State, route| state.paused("acme", route).is_some();
    assert_eq!((own(&state, ""), own(&state, "a"), own(&state, "b")), (true, false, false));
    assert!(state.pauses().is_paused("acme", "a"), "by the tenant's");
    state.apply(&change("acme", "", at(2), false));
    let mut copy = State::default();
    copy.apply(&opened(&state, at(50)));
    for state in [state, copy] {
        assert!(!state.pauses().is_paused("acme", "a"));
        let task = DeliveryTask { tenant: "acme".into(), route: "a".into(), ..DeliveryTask::default() };
        assert_eq!(state.pauses().age_from(&task), at(3));
    }
}

#[test]
fn a_partition_has_an_owner_until_that_closes_it() {
    let mut state = State::default();
    assert_eq!((state.owner(), state.opened_at()), (None, None));
    state.apply(&opened(&state, at(0)));
    assert_eq!((state.owner(), state.opened_at()), (Some(("relay", 3)), None), "not durable yet");
    state.close();
    state.apply(&record(at(1), 0, What::Closed(Closed::default())));
    state.committed(10);
    assert_eq!((state.owner(), state.opened_at()), (None, Some(10)));
}

#[test]
fn opened_replaces_the_small_state() {
    let shut = Shut { until: at(60), cause: Cause::Configuration, tries: 1, why: "401".into() };
    let mut state = state(&[&[
        record(at(0), 1, planned("acme", 1, &["a"])),
        record(at(0), 0, What::RouteChanged(route_changed("acme", "a", Some(&shut)))),
        record(at(0), 0, What::ReplayJob(ReplayJob { id: "rpl_1".into(), state: 1, ..ReplayJob::default() })),
    ]]);
    let pause = Pause { tenant: "acme".into(), route: "a".into(), ..Pause::default() };
    let paused = PauseChanged { pause: Some(pause), paused: true };
    state.apply(&record(at(0), 0, What::PauseChanged(paused)));
    let before = state.clone();
    state.apply(&opened(&state, at(1)));
    let small = |state: &State| {
        (state.memory(state.lane_id("acme", "a").unwrap()), state.replays().cloned().collect::<Vec<_>>())
    };
    assert_eq!(small(&state), small(&before));
    assert!(state.paused("acme", "a").is_some() && state.pauses().is_paused("acme", "a"));
    state.apply(&opened(&State::default(), at(2)));
    assert_eq!(small(&state), (Memory::default(), vec![]));
    assert!(state.paused("acme", "a").is_none() && !state.pauses().is_paused("acme", "a"));
    assert!(state.task(key(1, "a")).is_some(), "waiting deliveries are in other records");
}

#[test]
fn an_owner_whose_clock_is_behind_keeps_every_distance_to_the_present() {
    let mut state = state(&[&[record(at(0), 1, planned("acme", 1, &["a", "b"]))]]);
    state.apply(&record(at(0), 2, planned("acme", 2, &["a"])));
    let shut = Shut { until: at(100), cause: Cause::Failures, tries: 1, why: "503".into() };
    state.apply(&record(at(50), 0, What::RouteChanged(route_changed("acme", "a", Some(&shut)))));
    for (seq, route, time) in [(1, "a", 50_000), (1, "b", 55), (2, "a", 90)] {
        let task = due(&task(&state, seq, route), at(time));
        state.apply(&record(at(20), seq, started(&task, true)));
        state.apply(&record(at(50), seq, moved(&task, true)));
    }
    state.take_changed();
    let due_at = |state: &State| {
        [(1, "a"), (1, "b"), (2, "a")].map(|(seq, route)| from_proto(task(state, seq, route).due_at.as_ref()))
    };

    // The last record is of 50 s, so a delivery that was due in 5 s still is.
    let behind = opened(&state, at(10));
    state.apply(&behind);
    assert_eq!(due_at(&state), [at(49_960), at(15), at(50)]);
    let a = state.lane_id("acme", "a").unwrap();
    assert_eq!(state.due(a, at(50)).collect::<Vec<_>>(), [key(2, "a")]);
    let (memory, earlier) = (state.memory(a), before(start(), seconds(20)));
    assert_eq!((memory.sent, memory.shut.unwrap().until), (vec![earlier, earlier], at(60)));
    assert!(state.take_changed().contains(&a));

    state.apply(&behind);
    assert_eq!(due_at(&state), [at(49_960), at(15), at(50)], "once is enough");
    for now in [at(100), before(at(100), Duration::from_millis(900))] {
        let record = opened(&state, now);
        state.apply(&record);
    }
    assert_eq!(
        due_at(&state),
        [at(49_960), at(15), at(50)],
        "a clock that is ahead, or hardly behind, changes nothing"
    );
}

#[test]
fn records_without_the_necessary_fields_change_nothing() {
    let mut state = State::default();
    let plan = |id: &str| {
        let event = Event { id: id.into(), ..event("acme", 1, start()) };
        What::EventPlanned(EventPlanned { event: Some(event), routes: vec!["a".into()] })
    };
    for what in [
        plan("no id"),
        What::EventPlanned(EventPlanned::default()),
        What::EventCarried(EventCarried::default()),
        What::AttemptStarted(talaria_proto::v1::AttemptStarted::default()),
        finished(&DeliveryTask { delivery_id: "no id".into(), ..DeliveryTask::default() }, true),
        moved(&DeliveryTask::default(), false),
        What::DeliveryMoved(talaria_proto::v1::DeliveryMoved::default()),
    ] {
        state.apply(&record(at(0), 1, what));
    }
    state.apply(&Record::default());
    state.committed(10);
    assert_eq!((state.kept.len(), state.waiting.len(), state.planned_through()), (0, 0, 1));
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let time = Timestamp::new(1_777_000_000, 123_456_789).unwrap();
    assert_eq!(timestamp(nanos(time)), time);
    assert!(nanos(Timestamp::MIN) < nanos(time) && nanos(Timestamp::MAX) > nanos(time));
    assert_ne!(nanos(Timestamp::MIN), MISSING);
}
