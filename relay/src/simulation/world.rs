//! A partition, the relays that own it one after another, and those they send to, from one thing that happens to the next;
//! and what has to hold all the while.

use super::{
    agenda::{CONFIGS, DELIVER_ONLY, Happening, QUIET, ROUTES, TENANTS, WEEK, a_week},
    hermes::{Hermes, Trouble, some_trouble},
    journal::Journal,
};
use crate::{
    decisions::{classify::Exchange, step::Sent},
    delivery::outbound::timings::Timings,
    partition::{
        Attempt, Outcome, Payload,
        handle::{AuditInfo, Command},
        testing::{Action, ClockGuard, Keeping, Look, Machine},
    },
};
use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Identity, Incoming, Partition, Stored};
use talaria_core::{
    config::{self, Config, Pace, Role, Settings},
    id::{DeliveryId, EventId},
    time::{after, since},
};
use talaria_proto::{
    time::to_proto,
    v1::{
        CarriedDelivery, Commit, DeliveryState, Event, EventCarried, Pause, PauseChanged, Record,
        record::What,
    },
};
use tokio::sync::oneshot;

const RELAYS: usize = 3;
const IN_HAND: usize = 1024;
/// From the relay to Hermes, and back: less than the pace's margin.
const ON_ITS_WAY: Duration = Duration::from_millis(900);
/// From the relay to the journal, and back.
const APPENDED: Duration = Duration::from_millis(50);
const LARGEST_COMMIT: usize = 256 * 1024;

/// A tenant's route.
type Lane = (String, String);

/// A commit on its way to the journal and back.
struct Appending {
    commit: Arc<Commit>,
    actions: Vec<Action>,
    after: u64,
    answer: Answer,
}

/// What became of a commit at the journal.
#[derive(Clone, Copy)]
enum Answer {
    Unknown,
    Refused,
    At(u64),
}

/// A relay that owns the partition, or believes so.
struct Relay {
    machine: Machine,
    run: u64,
    last: u64,
    appending: Option<Appending>,
    /// It stands still until then.
    frozen: Option<Timestamp>,
    ended: VecDeque<(u64, Outcome)>,
    clock_guard: ClockGuard,
    is_leaving: bool,
    /// When it looks for work next, as far as that is on the agenda.
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
    /// Everything that came in and was not trimmed.
    events: VecDeque<Stored>,
    last_event: u64,
    relays: [Option<Relay>; RELAYS],
    runs: u64,
    flights: HashMap<u64, Flight>,
    paused: HashSet<Lane>,
    hermes: BTreeMap<(usize, usize), Hermes>,
    /// Routes whose Hermes was stricter than agreed at some time, or saw requests of a relay that had stood still.
    surprised: HashSet<Lane>,
    /// Requests of each route's last window.
    sent: HashMap<Lane, VecDeque<Timestamp>>,
    /// Until then something was wrong with the owner.
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
            relays: [const { None }; RELAYS],
            runs: 0,
            flights: HashMap::new(),
            paused: HashSet::new(),
            hermes: all.map(|name| (name, hermes(name))).collect(),
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

    /// What the relays' wall clocks say.
    fn wall(&self) -> Timestamp {
        self.now.saturating_add(self.ahead).unwrap()
    }

    /// Everything that happens in a week and after it, until nothing waits. What it came to.
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
                    self.surprised.insert(lane_of(tenant, route));
                }
                self.hermes.get_mut(&(tenant, route)).unwrap().trouble = trouble;
                let healed = after(self.now, lasts).min(after(self.begin, WEEK));
                self.schedule(healed, Happening::Healed { tenant, route });
            }
            Happening::Healed { tenant, route } => {
                self.hermes.get_mut(&(tenant, route)).unwrap().trouble = Trouble::Nothing;
            }
            Happening::Paused { tenant, route } => self.pause(what, &lane_of(tenant, route), true),
            Happening::Resumed { tenant, route } => self.pause(what, &lane_of(tenant, route), false),
            Happening::Probed { tenant, route } => self.probe(lane_of(tenant, route)),
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
            Happening::Pump { .. } | Happening::Append { .. } | Happening::Answer { .. } => {}
            Happening::Sent { flight } => self.send(flight, what),
            Happening::Arrives { flight } => self.arrives(flight),
            Happening::Ends { flight } => self.ends(flight),
        }
    }

    fn is_run(&self, relay: usize, run: u64) -> bool {
        self.relays[relay].as_ref().is_some_and(|relay| relay.run == run)
    }

    /// Another relay takes over what the owner does not do any more.
    fn replaced_soon(&mut self) {
        self.disturbed = after(self.now, Duration::from_secs(120));
        let at = after(self.now, self.rng.random_range(Duration::from_secs(5)..Duration::from_secs(10)));
        let relay = self.rng.random_range(0..RELAYS);
        self.schedule(at, Happening::TakeOver { relay });
    }

    fn take_over(&mut self, relay: usize) {
        // One that stands still does not take anything.
        let relay = (0..RELAYS)
            .map(|step| (relay + step) % RELAYS)
            .find(|relay| self.relays[*relay].as_ref().is_none_or(|relay| relay.frozen.is_none()));
        let Some(relay) = relay else {
            return self.soon(Duration::from_secs(5), Happening::TakeOver { relay: 0 });
        };
        if self.relays[relay].is_some() {
            return;
        }
        self.runs += 1;
        let times = if self.rng.random_ratio(1, 8) { 2 } else { 1 };
        let state = self.journal.replayed(times);
        if times == 2 {
            let once = self.journal.replayed(1);
            assert!(state == once, "records applied twice change something");
        }
        let identity = Identity { relay: format!("relay-{relay}"), run: self.runs };
        let (config, wall) = (Arc::clone(&self.config), self.wall());
        let mut machine = Machine::open(Partition::ONLY, identity, state, config, LARGEST_COMMIT, wall);
        let random = self.rng.random();
        machine.interrupt(wall, random);
        let clock_guard = ClockGuard::new(wall, since(self.now, self.begin));
        self.relays[relay] = Some(Relay {
            machine,
            run: self.runs,
            last: self.journal.last(),
            appending: None,
            frozen: None,
            ended: VecDeque::new(),
            clock_guard,
            is_leaving: false,
            looks: Timestamp::MAX,
        });
        self.pump(relay);
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

    fn store(&mut self, event: Event) {
        self.last_event += 1;
        self.events.push_back(Stored { seq: self.last_event, what: Incoming::Event(event.into()) });
        // Also a relay that does not know yet that it was overtaken.
        (0..RELAYS).for_each(|relay| self.pump(relay));
    }

    fn pause(&mut self, what: Happening, lane: &Lane, paused: bool) {
        let Some(owner) = self.owner() else { return self.soon(Duration::from_secs(9), what) };
        let now = self.wall();
        let (tenant, route) = lane.clone();
        if !paused {
            let holds = |relay: &Relay| relay.machine.state().pauses().hold(&tenant, &route);
            if !self.relays[owner].as_ref().is_some_and(holds) {
                return;
            }
            // The operator looks whether it was done: it is lost with an owner that was overtaken.
            self.soon(Duration::from_secs(120), what);
        }
        let pause = Pause { tenant, route, since: Some(to_proto(now)), ..Pause::default() };
        let what = What::PauseChanged(PauseChanged { pause: Some(pause), paused });
        let record = Record { at: Some(to_proto(now)), event_seq: 0, what: Some(what) };
        let Some(relay) = &mut self.relays[owner] else { return };
        // Whether it counts is known when it is answered; a pause that was lost with its owner is none.
        relay.machine.command(Command::Append(vec![record]), oneshot::channel().0, now);
        if !paused {
            self.paused.remove(lane);
        }
        self.pump(owner);
    }

    fn probe(&mut self, (tenant, route): Lane) {
        let (Some(owner), now) = (self.owner(), self.wall()) else { return };
        let Some(relay) = &mut self.relays[owner] else { return };
        let audit = AuditInfo { by: "ana".into(), ..AuditInfo::default() };
        // Mostly there is nothing to probe, or it is not shut.
        relay.machine.command(Command::Probe { tenant, route, audit }, oneshot::channel().0, now);
        self.pump(owner);
    }

    fn reload(&mut self, (config, settings): &(Arc<Config>, Settings)) {
        let differences = settings.since(&self.settings);
        let read = Config::clone(config);
        let reloaded = config::reload(Role::Both, &self.config, read, &differences).unwrap();
        (self.config, self.settings) = (Arc::new(reloaded.config), settings.clone());
        for relay in self.relays.iter_mut().flatten() {
            relay.machine.configure(Arc::clone(&self.config));
        }
        self.owner().into_iter().for_each(|relay| self.pump(relay));
    }

    /// A relay takes in what has come, begins what is due, and appends.
    fn pump(&mut self, number: usize) {
        let (now, wall) = (self.now, self.wall());
        self.look_at_clock(number);
        let Some(relay) = &mut self.relays[number] else { return };
        if relay.frozen.is_some_and(|wakes| wakes > now) {
            return;
        }
        relay.frozen = None;
        if relay.looks <= now {
            relay.looks = Timestamp::MAX;
        }
        let machine = &mut relay.machine;
        if !relay.is_leaving {
            let planned = machine.planned_through();
            let first = self.events.partition_point(|stored| stored.seq <= planned);
            for stored in self.events.range(first..) {
                if !machine.has_room(1024) {
                    break;
                }
                machine.event(stored, wall);
            }
        }
        while machine.has_room(0)
            && let Some((flight, outcome)) = relay.ended.pop_front()
        {
            let flight = self.flights.remove(&flight).unwrap();
            machine.ended(&flight.attempt, outcome, wall, self.rng.random());
        }
        machine.dispatch(IN_HAND, wall, || self.rng.random());
        if relay.is_leaving && machine.is_idle() && relay.appending.is_none() {
            machine.close(wall);
        }
        let run = relay.run;
        if machine.has_records() && relay.appending.is_none() {
            let (commit, actions) = machine.take_commit();
            let (commit, after) = (Arc::new(commit), relay.last);
            relay.appending = Some(Appending { commit, actions, after, answer: Answer::Unknown });
            self.soon(APPENDED, Happening::Append { relay: number, run });
        } else if let Some(due) = machine.next_due().filter(|due| *due > wall) {
            let due = after(now, since(due, wall));
            if due < relay.looks {
                relay.looks = due;
                self.schedule(due, Happening::Pump { relay: number, run });
            }
        }
    }

    /// A commit reaches the journal, or is lost on its way and comes again; or its answer is lost.
    fn append(&mut self, number: usize) {
        let Some(relay) = &mut self.relays[number] else { return };
        let run = relay.run;
        let Some(appending) = &mut relay.appending else { return };
        if self.rng.random_ratio(1, 200) {
            return self.soon(Duration::from_secs(5), Happening::Append { relay: number, run });
        }
        let author = (number, run);
        // One that comes again is found where it stands.
        if let Answer::Unknown | Answer::Refused = appending.answer {
            let appended = self.journal.append(author, appending.after, &appending.commit);
            appending.answer = appended.map_or(Answer::Refused, Answer::At);
        }
        if self.rng.random_ratio(1, 200) {
            return self.soon(Duration::from_secs(5), Happening::Append { relay: number, run });
        }
        self.soon(APPENDED, Happening::Answer { relay: number, run });
    }

    fn answer(&mut self, number: usize, what: Happening) {
        let now = self.now;
        let Some(relay) = &mut self.relays[number] else { return };
        if let Some(wakes) = relay.frozen.filter(|wakes| *wakes > now) {
            return self.schedule(wakes, what);
        }
        let Some(Appending { commit, actions, answer, .. }) = relay.appending.take() else { return };
        let Answer::At(seq) = answer else {
            // Another relay owns the partition, or the journal lost its end: whatever this one knew is worth nothing.
            self.relays[number] = None;
            if self.owner().is_none() {
                self.replaced_soon();
            }
            return;
        };
        relay.last = seq;
        relay.machine.committed(seq);
        let is_closed = commit.records.iter().any(|record| matches!(record.what, Some(What::Closed(_))));
        for record in &commit.records {
            if let Some(What::PauseChanged(PauseChanged { pause: Some(pause), paused: true })) = &record.what
            {
                self.paused.insert((pause.tenant.clone(), pause.route.clone()));
            }
        }
        let (run, wall) = (relay.run, now.saturating_add(self.ahead).unwrap());
        let attempts = actions.into_iter().filter_map(|action| match action {
            Action::Attempt(attempt) => Some(attempt),
            Action::Reply(_) => None,
        });
        let mut attempts: Vec<_> = attempts.collect();
        for attempt in &mut attempts {
            relay.machine.goes_out(attempt, wall);
        }
        for attempt in attempts {
            self.begin_flight(number, run, attempt);
        }
        if is_closed {
            self.relays[number] = None;
            let relay = self.rng.random_range(0..RELAYS);
            return self.soon(Duration::from_secs(2), Happening::TakeOver { relay });
        }
        self.check(number);
        self.pump(number);
    }

    /// What a relay knows is what the journal says.
    fn check(&mut self, number: usize) {
        if !self.rng.random_ratio(1, 4_000) {
            return;
        }
        let replayed = self.journal.replayed(1);
        let Some(relay) = &mut self.relays[number] else { return };
        if relay.machine.has_records()
            || self.journal.last() != relay.last
            || self.was_clock_set
            || self.journal.was_trimmed
        {
            return;
        }
        assert_eq!(*relay.machine.state(), replayed);
    }

    fn begin_flight(&mut self, relay: usize, run: u64, attempt: Box<Attempt>) {
        let flight = self.happened + 1;
        let key = (attempt.id, attempt.task.attempts + 1);
        assert!(self.journal.started.contains(&key), "an attempt that is not recorded: {key:?}");
        let at = attempt.not_before.map_or(self.now, |slot| after(self.now, since(slot, self.wall())));
        if since(self.wall(), attempt.admitted) >= Duration::from_millis(100) {
            // It goes out later than the journal says, and the next owner takes the journal's word.
            self.surprised.insert((attempt.task.tenant.clone(), attempt.task.route.clone()));
        }
        self.flights.insert(flight, Flight { attempt, relay, run, started_at: self.now, exchange: None });
        self.schedule(at, Happening::Sent { flight });
    }

    fn send(&mut self, number: u64, what: Happening) {
        let flight = &self.flights[&number];
        let lane: Lane = (flight.attempt.task.tenant.clone(), flight.attempt.task.route.clone());
        // A relay that stands still sends when it wakes.
        if let Some(relay) = self.relays[flight.relay].as_ref().filter(|relay| relay.run == flight.run) {
            if let Some(wakes) = relay.frozen.filter(|wakes| *wakes > self.now) {
                self.surprised.insert(lane);
                return self.schedule(wakes, what);
            }
        } else {
            // It died.
            self.flights.remove(&number);
            return;
        }
        self.requests += 1;
        let attempt = &flight.attempt;
        match attempt.payload {
            Payload::Event(seq) => {
                assert!(
                    self.events.binary_search_by_key(&seq, |stored| stored.seq).is_ok(),
                    "event {seq} is gone"
                );
            }
            Payload::Carried(seq) => {
                let found = self.journal.commits.iter().any(|(known, ..)| *known == seq);
                assert!(found || self.journal.has_lost, "the commit {seq} that carried an event is gone");
            }
        }
        // A pause can be among the commits that were lost.
        let is_paused = self.paused.contains(&lane) && !self.journal.has_lost;
        assert!(!is_paused || self.disturbed > self.now, "{lane:?} is paused");
        let tenant: usize = attempt.task.tenant[1..].parse().unwrap();
        if tenant < QUIET && attempt.task.attempts == 0 && self.disturbed < self.now && !self.was_clock_set {
            let received = talaria_proto::time::from_proto(attempt.task.received_at.as_ref());
            let waited = since(self.now, received);
            let longest = Duration::from_secs(12);
            assert!(waited < longest, "a first attempt with nothing before it waited {waited:?}");
        }
        if let Some(Pace { count, window }) = attempt.route.pace {
            let sent = self.sent.entry(lane.clone()).or_default();
            sent.push_back(self.now);
            while sent.front().is_some_and(|first| since(self.now, *first) > window) {
                sent.pop_front();
            }
            let is_exact = !self.surprised.contains(&lane) && !self.was_clock_set && !self.journal.has_lost;
            assert!(
                sent.len() <= count as usize || !is_exact,
                "{lane:?} sent {} within {window:?}",
                sent.len()
            );
        }
        self.flights.get_mut(&number).unwrap().started_at = self.now;
        self.soon(ON_ITS_WAY, Happening::Arrives { flight: number });
    }

    fn arrives(&mut self, number: u64) {
        let flight = self.flights.get_mut(&number).unwrap();
        let task = &flight.attempt.task;
        let name = (task.tenant[1..].parse().unwrap(), task.route[1..].parse().unwrap());
        let key = flight.attempt.id.idempotency_key(task.generation);
        let exchange = self.hermes.get_mut(&name).unwrap().answer(&key, self.now, &mut self.rng);
        let ends = match exchange {
            Exchange::Lost(_) => after(flight.started_at, Duration::from_secs(30)),
            _ => after(self.now, self.rng.random_range(Duration::ZERO..ON_ITS_WAY)),
        };
        flight.exchange = Some(exchange);
        self.schedule(ends, Happening::Ends { flight: number });
    }

    fn ends(&mut self, number: u64) {
        let ahead = self.ahead;
        let flight = self.flights.get_mut(&number).unwrap();
        let (owner, run) = (flight.relay, flight.run);
        let started_at = flight.started_at.saturating_add(ahead).unwrap();
        let took = since(self.now, flight.started_at);
        let exchange = flight.exchange.take().unwrap();
        let (timings, guarded) = (Timings::default(), Vec::new());
        let sent = Sent { started_at, took, exchange, timings, secret: 0, guarded };
        if !self.is_run(owner, run) {
            self.flights.remove(&number);
            return;
        }
        let Some(relay) = &mut self.relays[owner] else { return };
        relay.ended.push_back((number, Outcome::Sent(Box::new(sent))));
        self.pump(owner);
    }

    fn keep(&mut self) {
        let wall = self.wall();
        let Some(owner) = self.owner() else { return };
        let Some(relay) = &mut self.relays[owner] else { return };
        let Keeping { renew, carry } = relay.machine.keep(wall, 16);
        if renew {
            relay.machine.renew(relay.machine.planned_through(), wall);
        }
        for seq in carry {
            let event = match relay.machine.payload(seq) {
                Payload::Event(seq) => {
                    let index = self.events.binary_search_by_key(&seq, |stored| stored.seq).unwrap();
                    let Incoming::Event(event) = &self.events[index].what else { panic!() };
                    (**event).clone()
                }
                Payload::Carried(at) => {
                    let (.., commit) = self.journal.commits.iter().find(|(known, ..)| *known == at).unwrap();
                    let carried = commit.records.iter().find_map(|record| match &record.what {
                        Some(What::EventCarried(carried)) if record.event_seq == seq => carried.event.clone(),
                        _ => None,
                    });
                    carried.unwrap()
                }
            };
            let waiting = relay.machine.tasks_of(seq).into_iter();
            let waiting =
                waiting.map(|task| CarriedDelivery { task: Some(task), ..CarriedDelivery::default() });
            let carried = EventCarried { event: Some(event), waiting: waiting.collect(), done: Vec::new() };
            relay.machine.carry(seq, carried, wall);
        }
        // What is appended is trimmed the next time.
        if !relay.machine.has_records() && relay.appending.is_none() {
            let floors = relay.machine.floors();
            self.journal.trim(floors.journal);
            while self.events.front().is_some_and(|stored| stored.seq < floors.events) {
                self.events.pop_front();
            }
        }
        self.pump(owner);
    }

    /// At the end: every delivery has one end, and what Hermes saw belongs to it.
    fn account(&self) -> String {
        let counts = [DeliveryState::Delivered, DeliveryState::Parked, DeliveryState::Ambiguous]
            .map(|state| format!("{} {}", self.journal.count(state), state.name()));
        let said = format!(
            "{} events, {} requests, {} owners: {}",
            self.last_event,
            self.requests,
            self.runs,
            counts.join(", ")
        );
        if self.journal.has_lost {
            // What was lost with the journal's end cannot be accounted for.
            return said;
        }
        assert_eq!(self.journal.count(DeliveryState::Waiting), 0);
        let mut ran: HashMap<DeliveryId, u32> = HashMap::new();
        for ((tenant, route), hermes) in &self.hermes {
            let is_exact = !self.surprised.contains(&lane_of(*tenant, *route)) && !self.was_clock_set;
            if is_exact {
                assert_eq!(hermes.refusals, 0, "t{tenant}/r{route} was faster than agreed");
            }
            for (key, times) in &hermes.ran {
                let (id, _) = key.rsplit_once('.').unwrap();
                *ran.entry(id.parse().unwrap()).or_default() += times;
            }
        }
        for (id, folded) in &self.journal.deliveries {
            if self.journal.planned_again.contains(id) {
                // Its event came again after it was forgotten.
                ran.remove(id);
                continue;
            }
            let (times, delivery) = (ran.remove(id).unwrap_or(0), &folded.delivery);
            let known = [delivery.state() == DeliveryState::Delivered, times > 0];
            let lost = delivery.attempts > 0;
            // A deliver_only route whose failure's answer was lost calls the repeat a duplicate, too.
            let unheard = delivery.reason.contains("whose answer was lost") && delivery.route == DELIVER_ONLY;
            assert!(known != [true, false] || unheard, "{delivery:?} was never taken");
            assert!(known != [false, true] || lost, "{delivery:?} was never sent");
            let said = delivery.reason.contains("twice") || delivery.state() != DeliveryState::Delivered;
            assert!(
                times <= 1 || said || self.was_clock_set,
                "{delivery:?} ran {times} times, and nothing says so"
            );
        }
        assert!(ran.is_empty(), "Hermes ran what was not planned: {ran:?}");
        said
    }
}

fn lane_of(tenant: usize, route: usize) -> Lane {
    (format!("t{tenant}"), format!("r{route}"))
}
