//! Cases of keeping, carrying and forgetting.

use super::{
    super::*,
    cases::{at, commit, due, opened, state, task},
    driver::{finished, moved, started},
    *,
};
use talaria_proto::v1::{CarriedDelivery, EventCarried, EventRepeated, EventsForgotten, QuarantinedCallback};

fn state_of_nothing(seq: u64) -> State {
    let mut state = State::default();
    commit(&mut state, seq, &[]);
    state
}

fn forgotten(at: Timestamp, before: u64) -> Record {
    record(at, 0, What::EventsForgotten(EventsForgotten { before }))
}

fn carried(state: &State, event_seq: u64, tenant: &str, job: u32) -> What {
    let waiting = state.carried(event_seq).unwrap().into_iter();
    let waiting = waiting.map(|task| CarriedDelivery { task: Some(task), ..CarriedDelivery::default() });
    let event = Some(event(tenant, job, start()));
    What::EventCarried(EventCarried { event, waiting: waiting.collect(), done: Vec::new() })
}

#[test]
fn floors_rise_only_with_durable_records() {
    let mut state = State::default();
    let floors = |state: &State| (state.floors().events, state.floors().journal);
    state.apply(&opened(&state, at(0)));
    state.apply(&record(at(0), 7, planned("acme", 1, &["a"])));
    state.close();
    assert_eq!(floors(&state), (1, 0));
    state.committed(10);
    assert_eq!(floors(&state), (7, 10));
    let task = task(&state, 7, "a");
    state.apply(&record(at(1), 7, moved(&task, false)));
    state.apply(&record(at(1), 9, What::EventRepeated(EventRepeated::default())));
    state.apply(&opened(&state, at(1)));
    state.close();
    state.committed(20);
    assert_eq!(floors(&state), (7, 10), "the event is kept");
    assert_eq!((state.forgettable(at(1)), state.forgettable(at(2))), (None, Some(11)));
    state.apply(&forgotten(at(2), 11));
    assert_eq!(state.known(event_id("acme", 1)), None);
    assert_eq!(floors(&state), (7, 10), "another owner would still keep it");
    state.close();
    state.apply(&record(at(3), 12, What::CallbackQuarantined(QuarantinedCallback::default())));
    assert_eq!(floors(&state), (7, 10));
    state.committed(30);
    assert_eq!(floors(&state), (10, 20), "the last one is not durable");
    state.close();
    state.committed(40);
    assert_eq!(floors(&state), (13, 20));
}

#[test]
fn a_carried_event_needs_no_earlier_record() {
    let mut state = State::default();
    let open = opened(&state, at(0));
    commit(&mut state, 10, &[open, record(at(0), 3, planned("acme", 1, &["a", "b"]))]);
    commit(&mut state, 20, &[record(at(1), 4, planned("acme", 2, &["a"]))]);
    let first = task(&state, 3, "a");
    commit(&mut state, 30, &[record(at(2), 3, started(&first, false))]);
    assert_eq!(state.to_carry(at(9), 9), [4], "an attempt of the first one is under way");
    assert_eq!(state.carried(3), None);
    commit(&mut state, 40, &[record(at(3), 3, finished(&due(&first, at(90)), true))]);
    assert_eq!((state.to_carry(at(9), 9), state.to_carry(at(9), 1)), (vec![3, 4], vec![3]));
    assert_eq!((state.to_carry(at(1), 9), state.to_carry(at(0), 9)), (vec![3], vec![]));
    assert_eq!(state.carried(99), None);

    let done = task(&state, 3, "b");
    state.apply(&record(at(4), 3, moved(&done, false)));
    let carry = record(at(5), 3, carried(&state, 3, "acme", 1));
    state.apply(&carry);
    let open = opened(&state, at(5));
    state.apply(&open);
    assert_eq!(state.payload(3), Payload::Event(3), "until it is durable");
    assert_eq!(state.carried(3), None, "it is being carried");
    assert_eq!((state.floors().events, state.floors().journal), (3, 10));
    state.close();
    state.committed(50);
    assert_eq!(state.payload(3), Payload::Carried(50));
    assert_eq!((state.floors().events, state.floors().journal), (4, 20), "the second one's");
    let mut rest = State::default();
    commit(&mut rest, 50, &[carry.clone(), open]);
    assert_eq!(task(&rest, 3, "a"), task(&state, 3, "a"));
    assert_eq!(
        (rest.known(event_id("acme", 1)), rest.payload(3)),
        (state.known(event_id("acme", 1)), Payload::Carried(50))
    );

    // When the second one is forgotten, no payload in the events stream is needed.
    let second = task(&state, 4, "a");
    commit(&mut state, 52, &[record(at(5), 4, moved(&second, false))]);
    commit(&mut state, 54, &[forgotten(at(6), 50)]);
    assert_eq!((state.floors().events, state.floors().journal), (5, 50));

    // Carried once more, its tasks count again, except for an attempt that is under way.
    let task = task(&state, 3, "a");
    commit(&mut state, 60, &[record(at(6), 3, moved(&done, true)), record(at(6), 3, started(&task, false))]);
    commit(&mut state, 70, &[carry]);
    assert_eq!((state.task(key(3, "b")), state.under_way()), (None, vec![key(3, "a")]));
    assert_eq!(state.payload(3), Payload::Carried(70));
}

#[test]
fn events_are_forgotten_in_the_order_of_the_journal_up_to_one_that_waits() {
    let mut state = State::default();
    let open = opened(&state, at(0));
    commit(&mut state, 10, &[open]);
    for (seq, routes) in [(1, vec![]), (2, vec![]), (3, vec!["a"]), (4, vec![])] {
        let job = u32::try_from(seq).unwrap();
        commit(&mut state, 10 + seq * 10, &[record(at(seq), seq, planned("acme", job, &routes))]);
    }
    let kept = |state: &State| [1, 2, 3, 4].map(|job| state.known(event_id("acme", job)).is_some());
    assert_eq!(state.forgettable(at(1)), None);
    assert_eq!(state.forgettable(at(2)), Some(30));
    assert_eq!(state.forgettable(at(99)), Some(40), "the third one waits");
    let mut other = state.clone();
    commit(&mut other, 60, &[forgotten(at(9), 99)]);
    assert_eq!(kept(&other), [false, false, true, false], "a waiting delivery's event is never forgotten");
    // A record about an event keeps it, whatever its time is.
    let task = task(&state, 3, "a");
    commit(&mut state, 60, &[record(at(0), 3, moved(&task, false))]);
    assert_eq!(state.forgettable(at(1)), None, "the first one ends it");
    assert_eq!(state.forgettable(at(3)), Some(50));
    commit(&mut state, 70, &[forgotten(at(9), 50)]);
    assert_eq!(kept(&state), [false, false, false, true]);
    assert_eq!(state.floors().journal, 10);
    // The same event comes again, and is another one.
    commit(&mut state, 80, &[record(at(9), 8, planned("acme", 1, &[]))]);
    assert_eq!(state.known(event_id("acme", 1)).unwrap().event_seq, 8);
    // Should it be planned although it is kept, the later one counts, also after the first one is forgotten.
    let mut twice = state.clone();
    commit(&mut twice, 85, &[record(at(9), 9, planned("acme", 1, &[]))]);
    commit(&mut twice, 86, &[forgotten(at(9), 81)]);
    assert_eq!(twice.known(event_id("acme", 1)).unwrap().event_seq, 9);
    commit(
        &mut state,
        90,
        &[record(at(9), 9, planned("acme", 5, &[])), record(at(99), 10, planned("acme", 6, &[]))],
    );
    assert_eq!(state.forgettable(at(50)), Some(90), "half of a commit is not before it");
}

#[test]
fn a_delivery_whose_plan_is_missing_goes_on_and_leaves_no_trace() {
    let planned = state(&[&[record(at(0), 7, planned("acme", 1, &["a"]))]]);
    let task = due(&task(&planned, 7, "a"), at(30));
    let mut state = State::default();
    commit(
        &mut state,
        10,
        &[record(at(1), 7, started(&task, false)), record(at(1), 7, finished(&task, false))],
    );
    assert_eq!(state, state_of_nothing(10), "nothing is known of it");
    commit(&mut state, 20, &[record(at(2), 7, finished(&task, true))]);
    assert_eq!(state.task(key(7, "a")), Some(task.clone()));
    assert_eq!(state.known(event_id("acme", 1)), None, "and nothing of its body");
    state.passed(8);
    assert_eq!(state.floors().events, 7, "its payload is needed");
    commit(&mut state, 30, &[record(at(3), 7, moved(&task, false))]);
    assert_eq!((state.kept.len(), state.waiting.len(), state.floors().events), (0, 0, 9));
}
