//! Requests under way, from a durable attempt to its end.

use super::{Flight, ON_ITS_WAY, RouteName, World};
use crate::{
    decisions::{
        exchange::{Exchange, Sent, Timings},
        prepare::Remarks,
    },
    partition::testing::{Attempt, Payload},
    simulation::agenda::{Happening, QUIET},
};
use rand::Rng as _;
use std::time::Duration;
use talaria_core::config::Pace;
use talaria_core::time::{after, since};
use talaria_proto::time::from_proto;

impl World {
    pub(super) fn begin_flight(&mut self, relay: usize, run: u64, attempt: Box<Attempt>) {
        let flight = self.happened + 1;
        let key = (attempt.id, attempt.task.attempts + 1);
        assert!(self.journal.started.contains(&key), "an attempt that is not recorded: {key:?}");
        let at = attempt.not_before.map_or(self.now, |slot| after(self.now, since(slot, self.wall())));
        if since(self.wall(), attempt.admitted) >= Duration::from_millis(100) {
            // It goes out later than its record, by which the next owner counts.
            self.surprised.insert((attempt.task.tenant.clone(), attempt.task.route.clone()));
        }
        self.flights.insert(flight, Flight { attempt, relay, run, started_at: self.now, exchange: None });
        self.schedule(at, Happening::Sent { flight });
    }

    pub(super) fn send(&mut self, number: u64, what: Happening) {
        let flight = &self.flights[&number];
        let lane: RouteName = (flight.attempt.task.tenant.clone(), flight.attempt.task.route.clone());
        // A relay that stands still sends when it wakes.
        if let Some(relay) = self.relays[flight.relay].as_ref().filter(|relay| relay.run == flight.run) {
            if let Some(wakes) = relay.frozen.filter(|wakes| *wakes > self.now) {
                self.surprised.insert(lane);
                return self.schedule(wakes, what);
            }
        } else {
            // The relay died.
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
        // The pause may be lost with the journal's end.
        let is_paused = self.paused.contains(&lane) && !self.journal.has_lost;
        assert!(!is_paused || self.disturbed > self.now, "{lane:?} is paused");
        let tenant: usize = attempt.task.tenant[1..].parse().unwrap();
        if tenant < QUIET && attempt.task.attempts == 0 && self.disturbed < self.now && !self.was_clock_set {
            let received = from_proto(attempt.task.received_at.as_ref());
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

    pub(super) fn arrives(&mut self, number: u64) {
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

    pub(super) fn ends(&mut self, number: u64) {
        let ahead = self.ahead;
        let flight = self.flights.get_mut(&number).unwrap();
        let (owner, run) = (flight.relay, flight.run);
        let started_at = flight.started_at.saturating_add(ahead).unwrap();
        let took = since(self.now, flight.started_at);
        let exchange = flight.exchange.take().unwrap();
        let (timings, remarks) = (Timings::default(), Remarks::default());
        let sent = Sent { started_at, took, exchange, timings, secret: 0, remarks };
        if !self.is_run(owner, run) {
            self.flights.remove(&number);
            return;
        }
        let Some(relay) = &mut self.relays[owner] else { return };
        relay.ended.push_back((number, Ok(Box::new(sent))));
        self.pump(owner);
    }
}
