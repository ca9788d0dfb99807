use super::*;
use crate::{
    decisions::exchange::{Answer, Exchange, Sent, Timings},
    decisions::prepare::Remarks,
    partition::{machine::Attempt, state::State},
};
use std::{sync::Arc, time::Duration};
use talaria_bus::{Identity, Incoming, Partition, Stored};
use talaria_core::{
    config::{Config, testing},
    id::EventId,
    time::after,
};
use talaria_proto::{
    time::to_proto,
    v1::{EventSource, JobState},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn config() -> Arc<Config> {
    let text = "
tenants:
  acme:
    networks: [loopback]
    openrouter: {secrets: [{file: secret}]}
    routes:
      video: {url: 'http://127.0.0.1:8644/webhooks/v', secret: {file: secret}, pace: off, retry: {schedule: []}, in_flight: 1024}
      ops: {kind: webhook, url: 'http://127.0.0.1:9000/', secret: {file: secret}, events: [talaria.*], retry: {schedule: []}}
";
    Arc::new(testing::config(text, SECRET))
}

/// A partition, its journal, and the events that it published.
struct Partitioned {
    machine: Machine,
    records: Vec<Record>,
    published: Vec<Event>,
    attempts: Vec<Attempt>,
    now: Timestamp,
    seq: u64,
    commit: u64,
}

impl Partitioned {
    fn new() -> Self {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let mut new = Self {
            machine: open(State::default(), now),
            records: Vec::new(),
            published: Vec::new(),
            attempts: Vec::new(),
            now,
            seq: 0,
            commit: 0,
        };
        new.commit();
        new
    }

    /// Takes a commit, performs its actions, and begins what is due.
    fn commit(&mut self) {
        let now = self.now;
        self.machine.dispatch(usize::MAX, now, || 0.5);
        while self.machine.has_records() {
            let (commit, actions) = self.machine.take_commit();
            self.records.extend(commit.records);
            self.commit += 1;
            self.machine.committed(self.commit);
            for action in actions {
                match action {
                    Action::Publish(event) => self.published.push(*event),
                    Action::Attempt(attempt) => self.attempts.push(*attempt),
                    Action::Submit(_) | Action::Reply(_) => {}
                }
            }
        }
    }

    fn store(&mut self, what: Incoming) {
        self.seq += 1;
        self.machine.event(&Stored { seq: self.seq, what }, self.now);
        self.commit();
    }

    fn callback(&mut self, job: usize) {
        let (job, kind) = (format!("job {job}"), "video.generation.completed");
        let event = Event {
            id: EventId::new("acme", &job, kind).to_string(),
            tenant: "acme".into(),
            r#type: kind.into(),
            job_id: job,
            received_at: Some(to_proto(self.now)),
            ..Event::default()
        };
        self.store(Incoming::Event(Arc::new(event)));
    }

    /// Ends all attempts under way.
    fn answer(&mut self, status: u16) {
        for attempt in std::mem::take(&mut self.attempts) {
            let body = if status == 202 { r#"{"status":"accepted"}"# } else { "" };
            let exchange = Exchange::Answered(Answer { status, body: body.into(), ..Answer::default() });
            let sent = Sent {
                started_at: self.now,
                took: Duration::ZERO,
                exchange,
                timings: Timings::default(),
                secret: 0,
                remarks: Remarks::default(),
            };
            self.machine.ended(&attempt, Ok(Box::new(sent)), self.now, 0.5);
        }
        self.commit();
    }

    fn wait(&mut self, time: Duration) {
        self.now = after(self.now, time);
        self.commit();
    }

    /// Another relay takes the partition over.
    fn take_over(&mut self) {
        let mut state = State::default();
        self.records.iter().for_each(|record| state.apply(record));
        self.machine = open(state, self.now);
        self.commit();
    }

    /// What was published, by its type, with the member of `data` that is asked for.
    fn told(&self, member: &str) -> Vec<(&str, serde_json::Value)> {
        let told = |event: &Event| {
            let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            payload["data"][member].clone()
        };
        self.published.iter().map(|event| (event.r#type.as_str(), told(event))).collect()
    }
}

fn open(state: State, now: Timestamp) -> Machine {
    let identity = Identity { relay: "relay-1".into(), run: 1 };
    Machine::open(Partition::ONLY, identity, state, config(), 1 << 20, now)
}

#[test]
fn a_route_that_shuts_and_opens_is_told_of_once_each() {
    let mut part = Partitioned::new();
    part.callback(1);
    part.answer(401);
    assert_eq!(part.told("route"), [("talaria.route.shut", "video".into())]);
    part.wait(Duration::from_secs(40));
    part.answer(401);
    assert_eq!(part.published.len(), 1, "it is shut for longer");
    part.wait(Duration::from_secs(120));
    part.answer(202);
    let both = [("talaria.route.shut", "video".into()), ("talaria.route.open", "video".into())];
    assert_eq!(part.told("route"), both);
    part.callback(2);
    part.answer(202);
    assert_eq!(part.published.len(), 2, "it stays open");
}

#[test]
fn a_notice_is_published_again_after_a_takeover_and_planned_once() {
    let mut part = Partitioned::new();
    part.callback(1);
    part.answer(401);
    let notice = part.published.pop().unwrap();
    part.take_over();
    assert!(part.machine.unpublished_notices().contains(&notice), "with the same bytes");
    // Both owners published it.
    for _ in 0..2 {
        part.store(Incoming::Event(Arc::new(notice.clone())));
    }
    assert!(part.machine.unpublished_notices().is_empty());
    let routes: Vec<&str> = part.attempts.iter().map(|attempt| attempt.task.route.as_str()).collect();
    assert_eq!(routes, ["ops"], "nothing else gets it, and it goes out once");
    part.take_over();
    assert!(part.machine.unpublished_notices().is_empty(), "the journal has that it came back");
}

#[test]
fn a_route_that_takes_notices_leads_to_none() {
    let mut part = Partitioned::new();
    part.callback(1);
    part.answer(401);
    let notice = part.published.pop().unwrap();
    part.store(Incoming::Event(Arc::new(notice)));
    for status in [500, 401, 410] {
        part.answer(status);
        part.wait(Duration::from_secs(3_600));
    }
    assert!(part.told("route").iter().all(|(_, route)| route == "video"), "{:?}", part.told("route"));
}

#[test]
fn many_parked_deliveries_are_few_notices_and_one_that_counts_the_others() {
    let mut part = Partitioned::new();
    for job in 0..300 {
        part.callback(job);
    }
    // Without a schedule each is parked at once; five shut the route, whose attempts are under way already.
    part.answer(500);
    let parked = |part: &Partitioned| {
        part.published.iter().filter(|event| event.r#type == "talaria.delivery.parked").count()
    };
    assert_eq!(parked(&part), notice::MOST as usize);
    part.wait(notice::WINDOW);
    part.machine.keep(part.now, 1);
    part.commit();
    assert_eq!(parked(&part), notice::MOST as usize + 1);
    let (_, left_out) = part.told("left_out").pop().unwrap();
    assert_eq!(left_out, 300 - notice::MOST);
    part.wait(notice::WINDOW);
    part.machine.keep(part.now, 1);
    part.commit();
    assert_eq!(parked(&part), notice::MOST as usize + 1, "one says it");
}

#[test]
fn the_count_of_an_hour_outlives_a_takeover() {
    let mut part = Partitioned::new();
    for job in 0..30 {
        part.callback(job);
    }
    part.answer(500);
    part.take_over();
    part.wait(notice::WINDOW);
    part.machine.keep(part.now, 1);
    part.commit();
    assert_eq!(part.told("left_out").pop().unwrap().1, 30 - notice::MOST);
}

#[test]
fn a_quarantined_callback_and_an_overdue_job_are_told_of() {
    let mut part = Partitioned::new();
    let callback = QuarantinedCallback { id: "qrt_1".into(), tenant: "acme".into(), ..Default::default() };
    part.store(Incoming::Quarantined(Arc::new(callback)));
    let mut job = Job { id: "job_1".into(), tenant: "acme".into(), ..Job::default() };
    job.set_state(JobState::Unknown);
    job.give_up_at = Some(to_proto(part.now));
    part.machine.push_job(part.now, job);
    part.wait(Duration::from_secs(1));
    part.machine.due_polls(part.now);
    part.commit();
    let told: Vec<&str> = part.published.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(told, ["talaria.callback.quarantined", "talaria.job.overdue"]);
}

#[test]
fn notices_of_other_processes_are_planned_within_the_bound_and_are_no_conflict() {
    let mut part = Partitioned::new();
    let kind = NoticeKind::ConfigurationRefused.event_type();
    for number in 0..20 {
        for bytes in ["one", "other"] {
            let event = Event {
                id: EventId::new("acme", &number.to_string(), kind).to_string(),
                tenant: "acme".into(),
                r#type: kind.into(),
                source: EventSource::Notice.into(),
                received_at: Some(to_proto(part.now)),
                payload_sha256: bytes.as_bytes().to_vec().into(),
                ..Event::default()
            };
            part.store(Incoming::Event(Arc::new(event)));
        }
    }
    assert_eq!(part.attempts.len(), notice::MOST as usize);
    let is_conflict =
        |record: &Record| matches!(&record.what, Some(What::EventRepeated(of)) if of.conflict.is_some());
    assert!(!part.records.iter().any(is_conflict));
}
