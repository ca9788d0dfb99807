//! A relay and those it sends to, from one thing that happens to the next; and what has to hold all the while.

use super::{
    agenda::{CONFIGS, DELIVER_ONLY, Happening, QUIET, ROUTES, TENANTS, WEEK, a_week},
    hermes::{Hermes, Trouble, some_trouble},
    journal::Journal,
};
use crate::{decisions::admission::{Admission, OPEN, turn}, decisions::classify::Exchange, decisions::conclude, delivery::outbound::timings::Timings, decisions::pace::Remembered, decisions::pause::Pauses, decisions::plan::plan, decisions::step::{self, Before, InHand, Sent}};
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{
    Lane, Leased, Stored, Windows,
    simulation::SimulatedQueue,
    time::{after, from_proto, since, to_proto},
};
use talaria_core::{
    config::{self, Config, Pace, Role, Route, Settings},
    id::{DeliveryId, EventId},
};
use talaria_proto::v1::{DeliveryState, DeliveryTask, Event};

const IN_HAND: usize = 1024;
/// From the relay to Hermes, and back: less than the pace's margin.
const ON_ITS_WAY: Duration = Duration::from_millis(900);

/// A request under way.
struct Flight {
    leased: Leased,
    lane: Lane,
    /// As it was when the request was made.
    route: Arc<Route>,
    started_at: Timestamp,
    exchange: Option<Exchange>,
    /// The relay that sent it still lives.
    awaited: bool,
}

pub(super) struct World {
    rng: StdRng,
    begin: Timestamp,
    now: Timestamp,
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    happened: u64,
    config: Arc<Config>,
    settings: Settings,
    queue: SimulatedQueue,
    journal: Journal,
    pauses: Pauses,
    admissions: HashMap<Lane, (u64, Arc<Route>, Admission)>,
    flights: HashMap<u64, Flight>,
    hermes: BTreeMap<(usize, usize), Hermes>,
    /// Routes whose Hermes was stricter than agreed at some time.
    surprised: HashSet<Lane>,
    /// Requests of each route's last window.
    sent: HashMap<Lane, VecDeque<Timestamp>>,
    events: u64,
    planned: usize,
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
            agenda: BinaryHeap::new(),
            happened: 0,
            queue: SimulatedQueue::default(),
            journal: Journal::default(),
            pauses: Pauses::default(),
            admissions: HashMap::new(),
            flights: HashMap::new(),
            hermes: all.map(|name| (name, hermes(name))).collect(),
            surprised: HashSet::new(),
            sent: HashMap::new(),
            events: 0,
            planned: 0,
            requests: 0,
            config,
            settings,
        };
        world.set_windows();
        for (at, what) in a_week(&mut world.rng) {
            world.schedule(after(begin, at), what);
        }
        world
    }

    fn schedule(&mut self, at: Timestamp, what: Happening) {
        self.happened += 1;
        self.agenda.push(Reverse((at, self.happened, what)));
    }

    fn set_windows(&mut self) {
        let window = |(tenant, route): (&Arc<config::Tenant>, &Arc<Route>)| {
            let is_paused = self.pauses.hold(&tenant.name, &route.name);
            let window = if is_paused { 0 } else { usize::from(route.in_flight) };
            (crate::routes::lane(&tenant.name, &route.name), window)
        };
        self.queue.set_windows(Windows(self.config.routes().map(window).collect()));
    }

    /// Everything that happens in a week and after it, until nothing waits. What it came to.
    pub(super) fn live_through_a_week(mut self) -> String {
        loop {
            let next_due = self.dispatch();
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let Some(now) = next.into_iter().chain(next_due).min() else { break };
            assert!(
                since(now, self.begin) < 3 * WEEK,
                "something waits for ever: {} deliveries",
                self.queue.len()
            );
            self.now = self.now.max(now);
            while let Some(Reverse((at, ..))) = self.agenda.peek()
                && *at <= self.now
                && let Some(Reverse((.., what))) = self.agenda.pop()
            {
                self.happens(what);
            }
        }
        self.account()
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Event { tenant } => self.event(tenant),
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
            Happening::Paused { tenant, route } => {
                let lane = lane_of(tenant, route);
                self.pauses.pause(&lane.tenant, &lane.route);
                self.set_windows();
            }
            Happening::Resumed { tenant, route } => {
                let lane = lane_of(tenant, route);
                self.pauses.resume(&lane.tenant, &lane.route, self.now);
                self.set_windows();
            }
            Happening::Restart { config } => {
                (self.config, self.settings) = CONFIGS[config].clone();
                self.queue.restart();
                self.set_windows();
                self.admissions.clear();
                self.flights.values_mut().for_each(|flight| flight.awaited = false);
            }
            Happening::Reload { config } => self.reload(&CONFIGS[config]),
            Happening::Arrives { flight } => self.arrives(flight),
            Happening::Ends { flight } => self.ends(flight),
        }
    }

    fn reload(&mut self, (config, settings): &(Arc<Config>, Settings)) {
        let differences = settings.since(&self.settings);
        let read = Config::clone(config);
        let reloaded = config::reload(Role::Both, &self.config, read, &differences).unwrap();
        (self.config, self.settings) = (Arc::new(reloaded.config), settings.clone());
        self.set_windows();
        let anew = |lane: &Lane, route: &Arc<Route>| {
            let now = self.config.route(&lane.tenant, &lane.route);
            now.is_none_or(|now| !Arc::ptr_eq(now, route))
        };
        for (lane, _) in self.admissions.extract_if(|lane, (_, route, _)| anew(lane, route)) {
            self.queue.set_gate(&lane, OPEN.0, OPEN.1);
        }
    }

    fn event(&mut self, tenant: usize) {
        self.events += 1;
        let tenant = format!("t{tenant}");
        let event = Event {
            id: EventId::new(&tenant, &self.events.to_string(), "t").to_string(),
            tenant: tenant.clone(),
            r#type: "t".into(),
            payload: "{}".into(),
            received_at: Some(to_proto(self.now)),
            ..Event::default()
        };
        let stored = Stored { seq: self.events, event: event.into() };
        let plan = plan(&stored, self.config.tenants.get(&tenant).map(AsRef::as_ref), self.now);
        plan.facts.iter().for_each(|fact| self.journal.record(fact));
        self.planned += plan.deliveries.len();
        plan.deliveries.into_iter().for_each(|task| self.queue.enqueue(task));
    }

    /// Works off what is due. When to look again.
    fn dispatch(&mut self) -> Option<Timestamp> {
        loop {
            match self.queue.take(self.now, IN_HAND) {
                Ok(taken) => taken.into_iter().for_each(|leased| self.deliver(leased)),
                Err(next_due) => return (next_due < Timestamp::MAX).then_some(next_due),
            }
        }
    }

    fn deliver(&mut self, leased: Leased) {
        let task = &leased.task;
        let Some(route) = self.config.route(&task.tenant, &task.route).map(Arc::clone) else {
            let id = task.delivery_id.parse().unwrap();
            let gone = step::without_route(task, id, leased.interrupted, self.now);
            return self.conclude(&leased, &gone);
        };
        let lane = crate::routes::lane(&task.tenant, &task.route);
        let age_from = self.pauses.age_from(task);
        let in_hand = InHand { task, id: task.delivery_id.parse().unwrap(), route: &route, age_from };
        let (now, random) = (self.now, self.rng.random());
        let admission = self.admission(&lane, &route, leased.term);
        let before = step::before(in_hand, leased.interrupted, admission, now, random);
        match before {
            Before::Attempt => self.send(leased, lane, &route),
            Before::Conclude(conclusion) => self.conclude(&leased, &conclusion),
            Before::GiveBack => {
                let (until, window) = self.admission(&lane, &route, leased.term).gate();
                self.queue.set_gate(&lane, until, window);
                self.queue.release(leased.lease, now);
            }
        }
    }

    fn admission(&mut self, lane: &Lane, route: &Arc<Route>, term: u64) -> &mut Admission {
        if self.admissions.get(lane).is_none_or(|(known, ..)| *known != term) {
            let survey = self.queue.survey(lane, |task: &DeliveryTask| {
                task.slot_reserved.then(|| (from_proto(task.due_at.as_ref()), turn(task)))
            });
            let sent = self.journal.starts.get(lane).cloned().unwrap_or_default();
            let flights = self.flights.values().filter(|flight| flight.awaited && flight.lane == *lane);
            let sent = sent.into_iter().chain(flights.map(|flight| flight.started_at));
            let sent =
                sent.into_iter().filter(|at| since(self.now, *at) < Duration::from_secs(7_200)).collect();
            let remembered = Remembered { sent, reserved: survey.found };
            let shut = self.journal.shut.get(lane).cloned();
            let admission = Admission::new(route, remembered, shut, self.now);
            self.admissions.insert(lane.clone(), (term, Arc::clone(route), admission));
        }
        &mut self.admissions.get_mut(lane).unwrap().2
    }

    fn send(&mut self, leased: Leased, lane: Lane, route: &Arc<Route>) {
        self.requests += 1;
        assert!(!self.pauses.hold(&lane.tenant, &lane.route), "{lane:?} is paused");
        let tenant: usize = leased.task.tenant[1..].parse().unwrap();
        if tenant < QUIET && leased.task.attempts == 0 {
            let waited = since(self.now, from_proto(leased.task.received_at.as_ref()));
            assert!(
                waited < Duration::from_secs(1),
                "a first attempt with nothing before it waited {waited:?}"
            );
        }
        if let Some(Pace { count, window }) = route.pace {
            let sent = self.sent.entry(lane.clone()).or_default();
            sent.push_back(self.now);
            while sent.front().is_some_and(|first| since(self.now, *first) > window) {
                sent.pop_front();
            }
            assert!(sent.len() <= count as usize, "{lane:?} sent {} within {window:?}", sent.len());
        }
        let flight = self.happened + 1;
        let arrives = after(self.now, self.rng.random_range(Duration::ZERO..ON_ITS_WAY));
        self.flights.insert(
            flight,
            Flight {
                leased,
                lane,
                route: Arc::clone(route),
                started_at: self.now,
                exchange: None,
                awaited: true,
            },
        );
        self.schedule(arrives, Happening::Arrives { flight });
    }

    fn arrives(&mut self, number: u64) {
        let flight = self.flights.get_mut(&number).unwrap();
        let task = &flight.leased.task;
        let name = (task.tenant[1..].parse().unwrap(), task.route[1..].parse().unwrap());
        let id: DeliveryId = task.delivery_id.parse().unwrap();
        let key = id.idempotency_key(task.generation);
        let exchange = self.hermes.get_mut(&name).unwrap().answer(&key, self.now, &mut self.rng);
        let ends = match exchange {
            Exchange::Lost(_) => after(flight.started_at, Duration::from_secs(30)),
            _ => after(self.now, self.rng.random_range(Duration::ZERO..ON_ITS_WAY)),
        };
        flight.exchange = Some(exchange);
        self.schedule(ends, Happening::Ends { flight: number });
    }

    fn ends(&mut self, number: u64) {
        let flight = self.flights.remove(&number).unwrap();
        if !flight.awaited {
            return;
        }
        let (leased, lane) = (flight.leased, flight.lane);
        let task = &leased.task;
        let route = flight.route;
        let age_from = self.pauses.age_from(task);
        let in_hand = InHand { task, id: task.delivery_id.parse().unwrap(), route: &route, age_from };
        let took = since(self.now, flight.started_at);
        let exchange = flight.exchange.unwrap();
        let (timings, guarded) = (Timings::default(), Vec::new());
        let sent = Sent { started_at: flight.started_at, took, exchange, timings, secret: 0, guarded };
        let (now, random) = (self.now, self.rng.random());
        let now_configured = self.config.route(&task.tenant, &task.route);
        if now_configured.is_none_or(|now| !Arc::ptr_eq(now, &route)) {
            let after = step::after(in_hand, sent, None, now, random);
            return self.conclude(&leased, &after.conclusion);
        }
        let admission = self.admission(&lane, &route, leased.term);
        let after = step::after(in_hand, sent, Some(admission), now, random);
        if let Some(change) = after.change {
            let (until, window) = admission.gate();
            self.queue.set_gate(&lane, until, window);
            self.journal.changed(&lane, change);
        }
        self.conclude(&leased, &after.conclusion);
    }

    fn conclude(&mut self, leased: &Leased, conclusion: &conclude::Conclusion) {
        self.journal.record(&conclusion.fact);
        match &conclusion.task {
            Some(task) => self.queue.later(leased.lease, task),
            None => self.queue.settle(leased.lease),
        }
    }

    /// At the end: every delivery has one end, and what Hermes saw belongs to it.
    fn account(&self) -> String {
        assert!(self.queue.is_empty());
        assert_eq!(self.journal.deliveries.len(), self.planned);
        assert_eq!(self.journal.count(DeliveryState::Waiting), 0);
        let mut ran: HashMap<DeliveryId, u32> = HashMap::new();
        for ((tenant, route), hermes) in &self.hermes {
            if !self.surprised.contains(&lane_of(*tenant, *route)) {
                assert_eq!(hermes.refusals, 0, "t{tenant}/r{route} was faster than agreed");
            }
            for (key, times) in &hermes.ran {
                let (id, _) = key.rsplit_once('.').unwrap();
                *ran.entry(id.parse().unwrap()).or_default() += times;
            }
        }
        for (id, folded) in &self.journal.deliveries {
            let (times, delivery) = (ran.remove(id).unwrap_or(0), &folded.delivery);
            let known = [delivery.state() == DeliveryState::Delivered, times > 0];
            // Only what nobody answered for may have run without our knowing.
            let lost = delivery.attempts > 0;
            // A deliver_only route that failed where nobody heard it calls the repeat a duplicate, too.
            let unheard = delivery.reason.contains("whose answer was lost") && delivery.route == DELIVER_ONLY;
            assert!(known != [true, false] || unheard, "{delivery:?} was never taken");
            assert!(known != [false, true] || lost, "{delivery:?} was never sent");
            let said = delivery.reason.contains("twice") || delivery.state() != DeliveryState::Delivered;
            assert!(times <= 1 || said, "{delivery:?} ran {times} times, and nobody says so");
        }
        assert!(ran.is_empty(), "Hermes ran what nobody planned: {ran:?}");
        let counts = [DeliveryState::Delivered, DeliveryState::Parked, DeliveryState::Ambiguous]
            .map(|state| format!("{} {}", self.journal.count(state), state.as_str_name()));
        format!("{} events, {} requests: {}", self.events, self.requests, counts.join(", "))
    }
}

fn lane_of(tenant: usize, route: usize) -> Lane {
    Lane { tenant: format!("t{tenant}").into(), route: format!("r{route}").into() }
}
