#![allow(clippy::print_stdout, reason = "a seed that fails has to be known")]

use super::*;
use crate::partition::state::tests::driver::{event, finished, moved, start, started};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};
use talaria_core::time::after;
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{DeliveryTask, EventPlanned, Record, record::What},
};

fn at(seconds: u64) -> Timestamp {
    after(start(), Duration::from_secs(seconds))
}

/// A state with its agenda.
#[derive(Default)]
struct Fixture {
    state: State,
    agenda: Agenda,
    events: u64,
}

impl Fixture {
    fn put(&mut self, at: Timestamp, event_seq: u64, what: What) {
        self.state.apply(&Record { at: Some(to_proto(at)), event_seq, what: Some(what) });
    }

    /// Plans an event that is due then.
    fn plan(&mut self, tenant: &str, routes: &[&str], due: Timestamp) -> u64 {
        self.events += 1;
        let event = event(tenant, u32::try_from(self.events).unwrap(), due);
        let routes = routes.iter().map(ToString::to_string).collect();
        self.put(due, self.events, What::EventPlanned(EventPlanned { event: Some(event), routes }));
        self.events
    }

    fn lane(&self, tenant: &str, route: &str) -> LaneId {
        self.state.lane_id(tenant, route).unwrap()
    }

    /// The next deliveries, by event and names.
    fn choose(&mut self, now: Timestamp, max: usize) -> Vec<(u64, String)> {
        self.agenda.refresh(&mut self.state);
        let keys = self.agenda.choose(&self.state, now, max);
        let name = |key: DeliveryKey| {
            let lane = self.state.lane(self.state.lane_of(key).unwrap());
            (key.event_seq, format!("{}/{}", lane.tenant, lane.route))
        };
        let is_due = self.agenda.next_due().is_some_and(|due| due <= now);
        assert_eq!(!keys.is_empty(), is_due && max > 0, "deliveries are chosen if and only if some are due");
        keys.into_iter().map(name).collect()
    }

    /// The same, under way at once.
    fn start(&mut self, now: Timestamp, max: usize) -> Vec<DeliveryTask> {
        self.agenda.refresh(&mut self.state);
        let keys = self.agenda.choose(&self.state, now, max);
        let tasks: Vec<_> = keys.into_iter().map(|key| self.state.task(key).unwrap()).collect();
        for task in &tasks {
            self.put(now, task.event_seq, started(task, false));
        }
        tasks
    }

    fn end(&mut self, task: &DeliveryTask) {
        self.put(at(0), task.event_seq, finished(task, false));
    }
}

fn routes(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("r{index}")).collect()
}

/// How many of a lane were chosen, one lane after another.
fn turns(chosen: Vec<(u64, String)>) -> Vec<(String, usize)> {
    let mut turns = Vec::<(String, usize)>::new();
    for (_, name) in chosen {
        match turns.last_mut().filter(|(last, _)| *last == name) {
            Some((_, count)) => *count += 1,
            None => turns.push((name, 1)),
        }
    }
    turns
}

fn named(turns: &[(&str, usize)]) -> Vec<(String, usize)> {
    turns.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn of_a_lane_the_longest_due_go_first() {
    let mut f = Fixture::default();
    for due in [5, 3, 9, 3] {
        f.plan("acme", &["r"], at(due));
    }
    let events = |chosen: Vec<(u64, String)>| chosen.into_iter().map(|(event, _)| event).collect::<Vec<_>>();
    assert_eq!(events(f.choose(at(5), 9)), [2, 4, 1]);
    assert_eq!(events(f.choose(at(5), 2)), [2, 4]);
    assert_eq!(events(f.choose(at(2), 9)), [] as [u64; 0]);
    assert_eq!(f.agenda.next_due(), Some(at(3)));
    assert_eq!(f.choose(at(9), 0), []);
}

#[test]
fn tenants_take_turns_however_many_lanes_they_have() {
    let mut f = Fixture::default();
    let names = routes(40);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..2 {
        f.plan("backlog", &names, at(0));
    }
    // It came last and is due last, but its tenant has had no turn yet.
    f.plan("quiet", &["r"], at(1_000));
    let chosen = f.choose(at(1_000), 4);
    assert!(chosen.iter().any(|(_, name)| name == "quiet/r"), "{chosen:?}");
}

#[test]
fn lanes_take_turns_of_sixteen() {
    let mut f = Fixture::default();
    for index in 0..40 {
        f.plan("acme", &["late"], at(100 + index));
        f.plan("acme", &["early"], at(index));
        f.plan("other", &["r"], at(200));
    }
    for (tenant, route) in [("acme", "late"), ("acme", "early"), ("other", "r")] {
        let lane = f.lane(tenant, route);
        f.agenda.set_window(lane, 100);
    }
    let expected = [
        ("acme/early", 16),
        ("other/r", 16),
        ("acme/late", 16),
        ("other/r", 16),
        ("acme/early", 16),
        ("other/r", 8),
        ("acme/late", 12),
    ];
    assert_eq!(turns(f.choose(at(999), 100)), named(&expected));
}

#[test]
fn a_lane_that_has_nothing_left_takes_no_turn_of_its_tenant() {
    let mut f = Fixture::default();
    for index in 0..40 {
        if index < 16 {
            f.plan("acme", &["early"], at(0));
        }
        if index < 32 {
            f.plan("acme", &["late"], at(100));
        }
        f.plan("other", &["r"], at(200));
    }
    for (tenant, route) in [("acme", "late"), ("acme", "early"), ("other", "r")] {
        let lane = f.lane(tenant, route);
        f.agenda.set_window(lane, 100);
    }
    let expected = [
        ("acme/early", 16),
        ("other/r", 16),
        ("acme/late", 16),
        ("other/r", 16),
        ("acme/late", 16),
        ("other/r", 8),
    ];
    assert_eq!(turns(f.choose(at(999), 100)), named(&expected));
}

#[test]
fn no_more_are_under_way_than_the_window_allows() {
    let mut f = Fixture::default();
    for _ in 0..40 {
        f.plan("acme", &["r"], at(0));
    }
    assert_eq!(f.choose(at(0), 99).len(), 16, "where none was set");
    let lane = f.lane("acme", "r");
    f.agenda.set_window(lane, 0);
    assert_eq!((f.choose(at(0), 99), f.agenda.next_due()), (vec![], None), "it is paused");
    f.agenda.set_window(lane, 3);
    let started = f.start(at(0), 99);
    assert_eq!(started.len(), 3);
    f.agenda.set_window(lane, 2);
    f.end(&started[0]);
    assert_eq!(f.choose(at(0), 99), [], "two are under way still");
    f.end(&started[1]);
    assert_eq!(f.start(at(0), 99).len(), 1);
    assert_eq!(f.choose(at(0), 99), []);
    f.agenda.set_window(lane, 30);
    assert_eq!(f.choose(at(0), 99).len(), 28);
}

#[test]
fn a_gate_holds_a_lane_back_and_no_other() {
    let mut f = Fixture::default();
    for _ in 0..3 {
        f.plan("acme", &["gated", "free"], at(0));
    }
    let lane = f.lane("acme", "gated");
    f.agenda.set_gate(lane, at(10), 1);
    let names = |tasks: Vec<DeliveryTask>| tasks.into_iter().map(|task| task.route).collect::<Vec<_>>();
    assert_eq!(names(f.start(at(0), 99)), ["free"; 3]);
    assert_eq!(f.choose(at(9), 99), []);
    assert_eq!(f.agenda.next_due(), Some(at(10)));
    assert_eq!(names(f.start(at(10), 99)), ["gated"], "the gate's window");
    assert_eq!((f.choose(at(11), 99), f.agenda.next_due()), (vec![], None));
    f.agenda.set_window(lane, 9);
    assert_eq!(f.choose(at(11), 99), [], "another window leaves the gate");
    f.agenda.set_gate(lane, Timestamp::MIN, usize::MAX);
    assert_eq!(names(f.start(at(11), 99)), ["gated"; 2]);
}

#[test]
fn a_window_and_a_gate_may_be_set_before_anything_is_known_of_the_lane() {
    let mut f = Fixture::default();
    f.plan("acme", &["a", "b"], at(0));
    let (first, second) = (f.lane("acme", "a"), f.lane("acme", "b"));
    f.agenda.set_window(second, 0);
    f.agenda.set_gate(first, at(5), 1);
    assert_eq!(f.agenda.next_due(), None);
    assert_eq!(f.choose(at(4), 9), []);
    assert_eq!(f.choose(at(5), 9).len(), 1);
}

#[test]
fn lanes_of_which_nothing_may_go_are_not_looked_at() {
    let mut f = Fixture::default();
    let names = routes(600);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    f.plan("acme", &names, at(0));
    f.agenda.refresh(&mut f.state);
    let looked_at = |f: &Fixture| f.agenda.by_due.range(..=(nanos(at(9)), LaneId::LAST)).count();
    assert_eq!(looked_at(&f), 600);
    for (index, name) in names.iter().enumerate() {
        let lane = f.lane("acme", name);
        match index {
            0 => {}
            1..300 => f.agenda.set_gate(lane, at(10), 1),
            300..400 => f.agenda.set_window(lane, 0),
            _ => {
                f.agenda.set_window(lane, 1);
                f.put(at(0), 1, started(&f.state.task(key(1, name)).unwrap(), false));
            }
        }
    }
    f.agenda.refresh(&mut f.state);
    assert_eq!(looked_at(&f), 1);
    assert_eq!(f.choose(at(9), 99), [(1, "acme/r0".to_owned())]);
}

fn key(event_seq: u64, route: &str) -> DeliveryKey {
    DeliveryKey { event_seq, route: talaria_core::id::RouteKey::new(route).to_i64() }
}

#[derive(Clone, Copy)]
struct LaneLimits {
    window: usize,
    gate: (Timestamp, usize),
}

/// A simple model of `Agenda::choose`.
fn choose(
    f: &Fixture,
    bounds: &BTreeMap<LaneId, LaneLimits>,
    now: Timestamp,
    max: usize,
) -> Vec<DeliveryKey> {
    struct Side {
        lane: LaneId,
        tenant: Arc<str>,
        room: usize,
        since: Timestamp,
        due: Vec<(Timestamp, DeliveryKey)>,
        turns: usize,
    }
    let tasks: Vec<DeliveryTask> = (1..=f.events)
        .flat_map(|event| routes(4).into_iter().map(move |route| key(event, &route)))
        .filter(|key| !f.state.is_under_way(*key))
        .filter_map(|key| f.state.task(key))
        .collect();
    let mut sides: Vec<Side> = Vec::new();
    for lane in f.state.lanes() {
        let names = f.state.lane(lane);
        let LaneLimits { window, gate } = bounds[&lane];
        let of_lane = tasks.iter().filter(|task| task.tenant == *names.tenant && task.route == *names.route);
        let due = of_lane.map(|task| (from_proto(task.due_at.as_ref()), key(task.event_seq, &task.route)));
        let mut due: Vec<_> = due.filter(|(due, _)| *due <= now).collect();
        due.sort_unstable();
        let room = window.min(gate.1).saturating_sub(f.state.under_way_in(lane));
        if let Some((first, _)) = due.first().copied().filter(|_| gate.0 <= now) {
            let since = first.max(gate.0);
            sides.push(Side { lane, tenant: names.tenant, room, since, due, turns: 0 });
        }
    }
    let mut turns: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    while chosen.len() < max {
        let can_go = sides.iter_mut().filter(|side| side.room > 0 && !side.due.is_empty());
        let of_tenant = |side: &Side| turns.get(&side.tenant).copied().unwrap_or_default();
        let next = can_go.min_by_key(|side| (of_tenant(side), side.turns, side.since, side.lane));
        let Some(side) = next else { break };
        let most = TURN.min(side.room).min(side.due.len()).min(max - chosen.len());
        chosen.extend(side.due.drain(..most).map(|(_, key)| key));
        side.room -= most;
        side.turns += 1;
        *turns.entry(Arc::clone(&side.tenant)).or_default() += 1;
    }
    chosen
}

#[test]
fn every_choice_is_the_one_that_a_simple_search_makes() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut f = Fixture::default();
        let mut bounds = BTreeMap::new();
        let (mut under_way, mut chosen_in_all) = (Vec::<DeliveryTask>::new(), 0);
        for _ in 0..30 {
            for _ in 0..rng.random_range(0..40) {
                let tenant = ["acme", "bravo", "charlie"][rng.random_range(0..3)];
                // Most of them to the first routes.
                let route = routes(4)[rng.random_range(0..4_usize).min(rng.random_range(0..4))].clone();
                f.plan(tenant, &[&route], at(rng.random_range(0..120)));
            }
            for lane in f.state.lanes().collect::<Vec<_>>() {
                let of_lane = bounds
                    .entry(lane)
                    .or_insert(LaneLimits { window: 16, gate: (Timestamp::MIN, usize::MAX) });
                match rng.random_range(0..6) {
                    0 => {
                        of_lane.window = [0, 1, 7, 16, 40, 99][rng.random_range(0..6)];
                        f.agenda.set_window(lane, of_lane.window);
                    }
                    1 => {
                        of_lane.gate = match rng.random_range(0..3) {
                            0 => (at(rng.random_range(0..120)), rng.random_range(0..3)),
                            _ => (Timestamp::MIN, usize::MAX),
                        };
                        f.agenda.set_gate(lane, of_lane.gate.0, of_lane.gate.1);
                    }
                    _ => {}
                }
            }
            let (now, max) = (at(rng.random_range(0..120)), rng.random_range(0..120));
            let expected = choose(&f, &bounds, now, max);
            f.agenda.refresh(&mut f.state);
            assert_eq!(f.agenda.choose(&f.state, now, max), expected);
            chosen_in_all += f.choose(now, max).len();
            // Some of them start, and some of those under way end or wait on.
            let some = rng.random_range(0..=max);
            under_way.extend(f.start(now, some));
            for _ in 0..rng.random_range(0..=under_way.len()) {
                let task = under_way.swap_remove(rng.random_range(0..under_way.len()));
                let waits = rng.random_range(0..2) == 0;
                let due_at = Some(to_proto(at(rng.random_range(0..120))));
                f.put(now, task.event_seq, finished(&DeliveryTask { due_at, ..task }, waits));
            }
            if let Some(task) = (1..=f.events).rev().find_map(|seq| f.state.task(key(seq, "r0"))) {
                f.put(now, task.event_seq, moved(&task, rng.random_range(0..2) == 0));
                under_way.retain(|of| of.delivery_id != task.delivery_id);
            }
        }
        assert!(chosen_in_all > 100, "{chosen_in_all}");
    }
}
