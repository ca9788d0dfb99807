//! The state, compared with the model and with itself after a replay.

#![allow(clippy::print_stdout, reason = "a seed that fails has to be known, and measurements are shown")]

mod cases;
mod divided;
pub(in crate::partition) mod driver;
mod keeping;
mod model;
mod size;

use super::*;
use driver::{Driver, ROUTES, TENANTS, event, event_id, start};
use model::key;
use std::{collections::BTreeSet, time::Duration};
use talaria_bus::{Floors, Identity};
use talaria_core::time::{after, before};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{EventPlanned, Record, RouteMemory, record::What},
};

const SEEDS: std::ops::Range<u64> = 0..30;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(at: Timestamp, event_seq: u64, what: What) -> Record {
    Record { at: Some(to_proto(at)), event_seq, what: Some(what) }
}

fn planned(tenant: &str, job: u32, routes: &[&str]) -> What {
    let routes = routes.iter().map(ToString::to_string).collect();
    What::EventPlanned(EventPlanned { event: Some(event(tenant, job, start())), routes })
}

/// The state by a journal, from a sequence on.
fn replay(journal: &[(u64, Vec<Record>)], from: u64, times: usize) -> State {
    let mut state = State::default();
    for (seq, records) in journal.iter().filter(|(seq, _)| *seq >= from) {
        for record in records {
            (0..times).for_each(|_| state.apply(record));
        }
        state.close();
        state.committed(*seq);
    }
    state
}

/// Drives a state with `steps` random actions, and calls `look` after each.
fn drive(seed: u64, steps: usize, mut look: impl FnMut(&mut Driver)) -> Driver {
    println!("seed {seed}");
    let mut driver = Driver::new(seed);
    for _ in 0..steps {
        driver.step();
        look(&mut driver);
    }
    driver
}

#[test]
fn every_answer_is_that_of_the_model() {
    for seed in SEEDS {
        let mut steps = 0;
        drive(seed, 400, |driver| {
            steps += 1;
            if steps % 7 == 0 {
                agree(driver);
            }
        });
    }
}

fn agree(driver: &mut Driver) {
    let (now, keys) = (driver.now, driver.keys());
    let older_than = before(now, seconds(driver.rand(7_200)));
    let Driver { state, model, .. } = driver;
    assert_eq!(state.planned_through(), model.planned_through);
    for (tenant, job) in TENANTS.iter().flat_map(|tenant| (0..40).map(move |job| (tenant, job))) {
        let id = event_id(tenant, job);
        let known = model.events.iter().rev().find(|event| event.id == id && !event.is_orphan);
        let known = known.map(|event| Known { event_seq: event.seq, digest: event.digest });
        assert_eq!(state.known(id), known);
    }
    for event in &model.events {
        assert_eq!(state.payload(event.seq), event.payload[0], "{}", event.seq);
    }
    for key in keys {
        let waiting = model.waiting.get(&key);
        assert_eq!(state.task(key), waiting.map(|of| of.task.clone()));
        assert_eq!(state.is_under_way(key), waiting.is_some_and(|of| of.is_under_way));
        let lane = state.lane_of(key).map(|lane| state.lane(lane));
        let names = lane.as_ref().map(|lane| (&*lane.tenant, &*lane.route));
        assert_eq!(names, waiting.map(|of| (of.task.tenant.as_str(), of.task.route.as_str())));
    }
    let under_way = model.waiting.iter().filter(|(_, of)| of.is_under_way);
    assert_eq!(state.under_way(), under_way.map(|(key, _)| *key).collect::<Vec<_>>());
    let lanes: BTreeSet<Lane> = state.lanes().map(|lane| state.lane(lane)).collect();
    assert_eq!(lanes.len(), state.lanes().count());
    for (tenant, route) in TENANTS.iter().flat_map(|tenant| ROUTES.map(|route| (*tenant, route))) {
        agree_on_lane(driver, tenant, route);
    }
    let Driver { state, model, .. } = driver;
    for ((tenant, route), changed) in &model.pauses {
        let pause = changed.pause.as_ref().filter(|_| changed.paused);
        assert_eq!(state.paused(tenant, route), pause);
    }
    assert!(state.replays().eq(model.replays.values()));
    assert!(state.jobs().eq(model.jobs.values()));
    assert_eq!(state.owner().map(|(relay, run)| (relay.to_owned(), run)), model.owner);
    assert_eq!(state.forgettable(older_than), model.forgettable(older_than));
    assert_eq!(state.to_carry(older_than, 3), model.to_carry(older_than, 3));
    let What::Opened(opened) = state.opened(&Identity { relay: "r".into(), run: 1 }, now).what.unwrap()
    else {
        panic!()
    };
    let memory = |of: &RouteMemory| of.sent.iter().map(|sent| from_proto(Some(sent))).collect::<Vec<_>>();
    for ((tenant, route), sent) in model.recent(now) {
        let repeated = opened.routes.iter().find(|of| of.tenant == *tenant && of.route == *route);
        assert_eq!(repeated.map(memory).unwrap_or_default(), sent);
    }
}

fn agree_on_lane(driver: &Driver, tenant: &str, route: &str) {
    let Driver { state, model, now, .. } = driver;
    let Some(lane) = state.lane_id(tenant, route) else {
        assert_eq!(model.of(tenant, route).count(), 0);
        return;
    };
    assert_eq!((&*state.lane(lane).tenant, &*state.lane(lane).route), (tenant, route));
    let all: Vec<_> = model.of(tenant, route).collect();
    let due_at = |of: &model::Delivery| from_proto(of.task.due_at.as_ref());
    let mut rest: Vec<_> = all.iter().filter(|of| !of.is_under_way).collect();
    rest.sort_by_key(|of| (due_at(of), of.task.event_seq));
    let due: Vec<_> =
        rest.iter().filter(|of| due_at(of) <= *now).map(|of| key(of.task.event_seq, route)).collect();
    assert_eq!(state.waiting(lane), all.len());
    assert_eq!(state.under_way_in(lane), all.len() - rest.len());
    assert_eq!(state.due(lane, *now).collect::<Vec<_>>(), due);
    assert_eq!(state.due_count(lane, *now, usize::MAX), due.len());
    assert_eq!(state.due_count(lane, *now, 2), due.len().min(2));
    assert_eq!(state.first_due(lane), rest.first().map(|of| due_at(of)));
    let oldest = all.iter().min_by_key(|of| of.task.event_seq);
    assert_eq!(state.oldest(lane), oldest.map(|of| from_proto(of.task.received_at.as_ref())));
    let mut memory = state.memory(lane);
    memory.reserved.sort_by_key(|(slot, _)| *slot);
    assert_eq!(memory, model.memory(tenant, route));
}

#[test]
fn a_replayed_state_is_the_one_that_wrote_the_journal() {
    for seed in SEEDS {
        let mut driver = drive(seed, 600, |_| {});
        driver.commit_all();
        assert_eq!(replay(&driver.journal, 0, 1), driver.state);
    }
}

#[test]
fn a_record_that_is_applied_twice_changes_nothing() {
    for seed in SEEDS {
        let mut driver = drive(seed, 600, |_| {});
        driver.commit_all();
        assert_eq!(replay(&driver.journal, 0, 2), driver.state);
    }
}

/// Whenever the owner dies, the next one has the whole durable state, although the streams were trimmed.
#[test]
fn a_trimmed_journal_gives_the_same_state_whenever_the_owner_dies() {
    let mut trimmed = 0;
    for seed in 0..24 {
        let mut most = Floors { events: 0, journal: 0 };
        let driver = drive(seed, 800, |driver| {
            let floors = driver.state.floors();
            most.events = most.events.max(floors.events);
            most.journal = most.journal.max(floors.journal);
            if driver.rand(20) > 0 {
                return;
            }
            let whole = replay(&driver.journal, 0, 1);
            let rest = replay(&driver.journal, most.journal, 1);
            assert_eq!(rest, whole);
            assert!(rest.planned_through() + 1 >= most.events, "unplanned events are needed");
            let durable = |seq| match rest.payload(seq) {
                Payload::Event(seq) => seq >= most.events,
                Payload::Carried(seq) => driver.journal.iter().any(|(commit, _)| *commit == seq),
            };
            assert!(rest.kept.iter().all(|kept| durable(kept.event_seq)));
            // The payloads that the owner reads before its commits are durable must be kept, too.
            for kept in driver.state.kept.iter() {
                match driver.state.payload(kept.event_seq) {
                    Payload::Event(seq) => assert!(seq >= most.events),
                    Payload::Carried(seq) => assert!(seq >= most.journal),
                }
            }
            if driver.closed.is_none() && driver.open.is_empty() {
                assert_eq!(floors, whole.floors());
            }
        });
        println!("{} of {} commits are not needed", most.journal, driver.seq);
        trimmed += most.journal;
    }
    assert!(trimmed > 500, "{trimmed}");
}
