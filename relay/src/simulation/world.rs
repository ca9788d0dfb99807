//! The simulated world: a partition, the relays that own it one after the other, and the Hermes that they send to.
//!
//! - [`relays`]: takeovers, and the loop of an owner. [`flights`]: requests under way. [`operators`]: pauses, reloads, retention.
//! - [`jobs`]: jobs at OpenRouter.
//! - [`account`]: the invariants at the end.

mod account;
mod flights;
mod jobs;
mod operators;
mod relays;

use super::{
    agenda::{CONFIGS, Happening, ROUTES, TENANTS, TOLD, WEEK, a_week},
    hermes::{Hermes, Trouble, some_trouble},
    journal::Journal,
};
use crate::{
    decisions::exchange::Exchange,
    partition::testing::{Action, Attempt, ClockGuard, Look, Machine, Outcome},
};
use jiff::{SignedDuration, Timestamp};
use jobs::{JobAnswer, OpenRouter};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Incoming, Stored};
use talaria_core::time::{after, since};
use talaria_core::{
    config::{Config, Settings},
    id::EventId,
};
use talaria_proto::time::to_proto;
use talaria_proto::v1::{Commit, Event};

const RELAYS: usize = 3;
const IN_HAND: usize = 1024;
/// The longest way between a relay and Hermes: less than the pace's margin.
const ON_ITS_WAY: Duration = Duration::from_millis(900);
/// The longest way between a relay and the journal.
const APPENDED: Duration = Duration::from_millis(50);
const LARGEST_COMMIT: usize = 256 * 1024;

/// Tenant and route.
type RouteName = (String, String);

/// A commit on its way to the journal and back.
struct CommitInFlight {
    commit: Arc<Commit>,
    actions: Vec<Action>,
    after: u64,
    answer: CommitAnswer,
}

#[derive(Clone, Copy)]
enum CommitAnswer {
    Unknown,
    Refused,
    At(u64),
}

/// A relay that owns the partition, or believes so.
struct RelayRun {
    machine: Machine,
    run: u64,
    last: u64,
    appending: Option<CommitInFlight>,
    /// It stands still until then.
    frozen: Option<Timestamp>,
    ended: VecDeque<(u64, Outcome)>,
    answers: VecDeque<JobAnswer>,
    clock_guard: ClockGuard,
    is_leaving: bool,
    /// When it is scheduled to look for work.
    looks: Timestamp,
}

/// A request under way.
struct Flight {
    attempt: Box<Attempt>,
    relay: usize,
    run: u64,
    started_at: Timestamp,
    exchange: Option<Exchange>,
}

pub(super) struct World {
    rng: StdRng,
    begin: Timestamp,
    now: Timestamp,
    /// How far the relays' wall clocks are ahead.
    ahead: SignedDuration,
    was_clock_set: bool,
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    happened: u64,
    config: Arc<Config>,
    settings: Settings,
    journal: Journal,
    /// The events that are not trimmed.
    events: VecDeque<Stored>,
    last_event: u64,
    /// All that were published, with repetitions.
    notices: Vec<Event>,
    relays: [Option<RelayRun>; RELAYS],
    runs: u64,
    flights: HashMap<u64, Flight>,
    openrouter: OpenRouter,
    paused: HashSet<RouteName>,
    hermes: BTreeMap<(usize, usize), Hermes>,
    /// Routes whose Hermes was stricter than agreed at some time, or got requests of a relay that had stood still.
    surprised: HashSet<RouteName>,
    /// Requests of each route's last window.
    sent: HashMap<RouteName, VecDeque<Timestamp>>,
    /// The end of the last fault of the owner.
    disturbed: Timestamp,
    requests: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let begin = Timestamp::from_second(1_777_000_000).unwrap();
        let (config, settings) = CONFIGS[0].clone();
        let hermes = |(tenant, route): (usize, usize)| {
            let route = config.route(&format!("t{tenant}"), &format!("r{route}")).unwrap();
            Hermes::new(route.pace, route.deliver_only)
        };
        let all = (0..TENANTS).flat_map(|tenant| (0..ROUTES).map(move |route| (tenant, route)));
        let told = (0..TENANTS).step_by(TOLD).map(|tenant| (tenant, ROUTES));
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            begin,
            now: begin,
            ahead: SignedDuration::ZERO,
            was_clock_set: false,
            agenda: BinaryHeap::new(),
            happened: 0,
            journal: Journal::default(),
            events: VecDeque::new(),
            last_event: 0,
            notices: Vec::new(),
            relays: [const { None }; RELAYS],
            runs: 0,
            flights: HashMap::new(),
            openrouter: OpenRouter::default(),
            paused: HashSet::new(),
            hermes: all.chain(told).map(|name| (name, hermes(name))).collect(),
            surprised: HashSet::new(),
            sent: HashMap::new(),
            disturbed: begin,
            requests: 0,
            config,
            settings,
        };
        world.schedule(begin, Happening::TakeOver { relay: 0 });
        for (at, what) in a_week(&mut world.rng) {
            world.schedule(after(begin, at), what);
        }
        world
    }

    fn schedule(&mut self, at: Timestamp, what: Happening) {
        self.happened += 1;
        self.agenda.push(Reverse((at, self.happened, what)));
    }

    fn soon(&mut self, longest: Duration, what: Happening) {
        let at = after(self.now, self.rng.random_range(Duration::ZERO..longest));
        self.schedule(at, what);
    }

    /// The relays' wall clocks.
    fn wall(&self) -> Timestamp {
        self.now.saturating_add(self.ahead).unwrap()
    }

    /// Simulates a week, and the time after it until no delivery waits. Gives a summary.
    pub(super) fn live_through_a_week(mut self) -> String {
        while let Some(Reverse((at, _, what))) = self.agenda.pop() {
            assert!(since(at, self.begin) < 4 * WEEK, "something waits for ever");
            self.now = self.now.max(at);
            self.happens(what);
        }
        self.account()
    }

    fn owner(&self) -> Option<usize> {
        let is_owner = |relay: &&usize| {
            self.relays[**relay].as_ref().is_some_and(|relay| relay.frozen.is_none() && !relay.is_leaving)
        };
        (0..RELAYS).collect::<Vec<_>>().iter().find(is_owner).copied()
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Event { tenant } => self.event(tenant),
            Happening::Repeat => self.repeat(),
            Happening::Trouble { tenant, route } => {
                let (trouble, lasts) = some_trouble(&mut self.rng);
                if trouble == Trouble::Stricter {
                    self.surprised.insert(route_name(tenant, route));
                }
                self.hermes.get_mut(&(tenant, route)).unwrap().trouble = trouble;
                let healed = after(self.now, lasts).min(after(self.begin, WEEK));
                self.schedule(healed, Happening::Healed { tenant, route });
            }
            Happening::Healed { tenant, route } => {
                self.hermes.get_mut(&(tenant, route)).unwrap().trouble = Trouble::Nothing;
            }
            Happening::Paused { tenant, route } => self.pause(what, &route_name(tenant, route), true),
            Happening::Resumed { tenant, route } => self.pause(what, &route_name(tenant, route), false),
            Happening::Probed { tenant, route } => self.probe(route_name(tenant, route)),
            Happening::Killed => {
                if let Some(relay) = self.owner() {
                    self.relays[relay] = None;
                    self.replaced_soon();
                }
            }
            Happening::Frozen { seconds } => {
                let wakes = after(self.now, Duration::from_secs(seconds));
                if let Some(owner) = self.owner()
                    && let Some(relay) = &mut self.relays[owner]
                {
                    relay.frozen = Some(wakes);
                    let run = relay.run;
                    self.schedule(wakes, Happening::Pump { relay: owner, run });
                    self.replaced_soon();
                }
            }
            Happening::Moved => {
                if let Some(owner) = self.owner()
                    && let Some(relay) = &mut self.relays[owner]
                {
                    relay.is_leaving = true;
                    relay.machine.drain();
                    self.disturbed = after(self.now, Duration::from_secs(120));
                    self.pump(owner);
                }
            }
            Happening::Reload { config } => self.reload(&CONFIGS[config]),
            Happening::ClockSet { ahead } => {
                self.was_clock_set = true;
                self.ahead = SignedDuration::from_secs(ahead);
                (0..RELAYS).for_each(|relay| self.look_at_clock(relay));
                self.owner().into_iter().for_each(|relay| self.pump(relay));
            }
            Happening::LostEnd { commits } => self.journal.lose_end(commits),
            Happening::Kept => self.keep(),
            Happening::TakeOver { relay } => self.take_over(relay),
            Happening::Pump { relay, run } if self.is_run(relay, run) => self.pump(relay),
            Happening::Append { relay, run } if self.is_run(relay, run) => self.append(relay),
            Happening::Answer { relay, run } if self.is_run(relay, run) => self.answer(relay, what),
            Happening::Published { relay, run, notice } if self.is_run(relay, run) => {
                self.store(self.notices[notice].clone());
            }
            Happening::Pump { .. }
            | Happening::Append { .. }
            | Happening::Answer { .. }
            | Happening::Published { .. } => {}
            Happening::Sent { flight } => self.send(flight, what),
            Happening::Arrives { flight } => self.arrives(flight),
            Happening::Ends { flight } => self.ends(flight),
            Happening::Submit { tenant } => self.submit_job(tenant),
            Happening::SubmitArrives { relay, run, job } => self.submit_arrives(relay, run, job),
            Happening::SubmitAnswered { relay, run, job, is_lost } => {
                self.submit_answered(relay, run, job, is_lost);
            }
            Happening::JobEnds { job } => self.job_ends(job),
            Happening::PollAnswered { relay, run, job } => self.poll_answered(relay, run, job),
            Happening::FilesAnswered { relay, run, job, is_lost } => {
                self.files_answered(relay, run, job, is_lost);
            }
        }
    }

    fn is_run(&self, relay: usize, run: u64) -> bool {
        self.relays[relay].as_ref().is_some_and(|relay| relay.run == run)
    }

    fn look_at_clock(&mut self, relay: usize) {
        let (wall, boot) = (self.wall(), since(self.now, self.begin));
        let Some(relay) = &mut self.relays[relay] else { return };
        if matches!(relay.clock_guard.look(wall, boot), Look::Back(_)) {
            relay.machine.set_back(wall);
        }
        relay.machine.set_clock_settled(relay.clock_guard.is_settled());
    }

    fn event(&mut self, tenant: usize) {
        let tenant = format!("t{tenant}");
        let event = Event {
            id: EventId::new(&tenant, &self.last_event.to_string(), "t").to_string(),
            tenant,
            r#type: "t".into(),
            payload: "{}".into(),
            payload_sha256: vec![7; 32].into(),
            received_at: Some(to_proto(self.wall())),
            ..Event::default()
        };
        self.store(event);
    }

    fn repeat(&mut self) {
        let known: Vec<&Stored> = self.events.iter().collect();
        let Some(Incoming::Event(event)) = known.choose(&mut self.rng).map(|stored| stored.what.clone())
        else {
            return;
        };
        self.store((*event).clone());
    }

    /// If the relay is gone by then, its successor publishes the notice.
    fn publish(&mut self, relay: usize, run: u64, notice: Event) {
        self.notices.push(notice);
        let notice = self.notices.len() - 1;
        self.soon(Duration::from_secs(10), Happening::Published { relay, run, notice });
    }

    fn store(&mut self, event: Event) {
        self.last_event += 1;
        self.events.push_back(Stored { seq: self.last_event, what: Incoming::Event(event.into()) });
        // With a relay that does not know yet that it was overtaken.
        (0..RELAYS).for_each(|relay| self.pump(relay));
    }
}

fn route_name(tenant: usize, route: usize) -> RouteName {
    (format!("t{tenant}"), format!("r{route}"))
}
