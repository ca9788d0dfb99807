//! The relays: takeovers, the loop of an owner, and its appends.

use super::{
    APPENDED, CommitAnswer, CommitInFlight, IN_HAND, LARGEST_COMMIT, RELAYS, RelayRun, World, jobs::JobAnswer,
};
use crate::{
    partition::testing::{Action, ClockGuard, Machine},
    simulation::agenda::Happening,
};
use jiff::Timestamp;
use rand::Rng as _;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use talaria_bus::{Identity, Partition};
use talaria_core::time::{after, since};
use talaria_proto::v1::{PauseChanged, record::What};

impl World {
    /// Another relay takes the partition over soon.
    pub(super) fn replaced_soon(&mut self) {
        self.disturbed = after(self.now, Duration::from_secs(120));
        let at = after(self.now, self.rng.random_range(Duration::from_secs(5)..Duration::from_secs(10)));
        let relay = self.rng.random_range(0..RELAYS);
        self.schedule(at, Happening::TakeOver { relay });
    }

    pub(super) fn take_over(&mut self, relay: usize) {
        // A relay that stands still takes nothing over.
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
        machine.interrupt_jobs(wall);
        for notice in machine.unpublished_notices() {
            self.publish(relay, self.runs, notice);
        }
        let clock_guard = ClockGuard::new(wall, since(self.now, self.begin));
        self.relays[relay] = Some(RelayRun {
            machine,
            run: self.runs,
            last: self.journal.last(),
            appending: None,
            frozen: None,
            ended: VecDeque::new(),
            answers: VecDeque::new(),
            clock_guard,
            is_leaving: false,
            looks: Timestamp::MAX,
        });
        self.pump(relay);
    }

    /// A relay plans events, begins due deliveries, and appends.
    pub(super) fn pump(&mut self, number: usize) {
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
        while machine.has_room(0)
            && let Some(answer) = relay.answers.pop_front()
        {
            match answer {
                JobAnswer::Submitted(job, outcome) => {
                    machine.job_submitted(&job, &outcome, wall, self.rng.random());
                }
                JobAnswer::Polled(job, polled) => machine.job_polled(&job, &polled, wall, self.rng.random()),
                JobAnswer::Kept(job, kept) => machine.files_tried(&job, &kept, wall),
            }
        }
        machine.dispatch(IN_HAND, wall, || self.rng.random());
        let polls = if machine.has_room(0) { machine.due_polls(wall) } else { Vec::new() };
        let files = if machine.has_room(0) { machine.due_files(wall) } else { Vec::new() };
        if relay.is_leaving && machine.is_idle() && relay.appending.is_none() {
            machine.close(wall);
        }
        let run = relay.run;
        let next_due = machine.next_due().into_iter().chain(machine.next_due_job()).min();
        if machine.has_records() && relay.appending.is_none() {
            let (commit, actions) = machine.take_commit();
            let (commit, after) = (Arc::new(commit), relay.last);
            relay.appending = Some(CommitInFlight { commit, actions, after, answer: CommitAnswer::Unknown });
            self.soon(APPENDED, Happening::Append { relay: number, run });
        } else if let Some(due) = next_due.filter(|due| *due > wall) {
            let due = after(now, since(due, wall));
            if due < relay.looks {
                relay.looks = due;
                self.schedule(due, Happening::Pump { relay: number, run });
            }
        }
        for poll in polls {
            self.begin_poll(number, run, &poll);
        }
        for keep in files {
            self.begin_keep(number, run, &keep);
        }
    }

    /// A commit reaches the journal, or is lost on its way and comes again; or its answer is lost.
    pub(super) fn append(&mut self, number: usize) {
        let Some(relay) = &mut self.relays[number] else { return };
        let run = relay.run;
        let Some(appending) = &mut relay.appending else { return };
        if self.rng.random_ratio(1, 200) {
            return self.soon(Duration::from_secs(5), Happening::Append { relay: number, run });
        }
        let author = (number, run);
        // A repeated commit is found in the journal.
        if let CommitAnswer::Unknown | CommitAnswer::Refused = appending.answer {
            let appended = self.journal.append(author, appending.after, &appending.commit);
            appending.answer = appended.map_or(CommitAnswer::Refused, CommitAnswer::At);
        }
        if self.rng.random_ratio(1, 200) {
            return self.soon(Duration::from_secs(5), Happening::Append { relay: number, run });
        }
        self.soon(APPENDED, Happening::Answer { relay: number, run });
    }

    pub(super) fn answer(&mut self, number: usize, what: Happening) {
        let now = self.now;
        let Some(relay) = &mut self.relays[number] else { return };
        if let Some(wakes) = relay.frozen.filter(|wakes| *wakes > now) {
            return self.schedule(wakes, what);
        }
        let Some(CommitInFlight { commit, actions, answer, .. }) = relay.appending.take() else { return };
        let CommitAnswer::At(seq) = answer else {
            // Another relay owns the partition, or the journal lost its end: this one's state is void.
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
        let (mut attempts, mut submits, mut notices) = (Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Attempt(mut attempt) => {
                    relay.machine.goes_out(&mut attempt, wall);
                    attempts.push(attempt);
                }
                Action::Submit(submit) => submits.push(submit),
                Action::Publish(notice) => notices.push(*notice),
                Action::Reply(_) => {}
            }
        }
        for notice in notices {
            self.publish(number, run, notice);
        }
        for submit in submits {
            self.begin_submit(number, run, &submit);
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

    /// Checks that the owner's state is the one by the journal.
    pub(super) fn check(&mut self, number: usize) {
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
}
