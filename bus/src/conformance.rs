//! One suite for every backend: each test is named after the invariant of the contract that it shows.
//!
//! For tests only: [`crate::conformance_suite`] runs it against a backend.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    async_fn_in_trait,
    missing_docs,
    reason = "tests"
)]

use crate::{Bus, Clock, LEASE, Lane, Leased, Plan, Published, Windows, time};
use jiff::Timestamp;
use std::{collections::HashSet, sync::Arc, time::Duration};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{
    DeliveryMoved, DeliveryRef, DeliveryTask, Event, EventConflict, EventPlanned, Fact, Standing, fact::What,
};
use tokio_util::sync::CancellationToken;

/// A backend under test.
pub trait Backend {
    /// Opens the same bus again and again; whoever held it before is gone without a word.
    async fn open(&self) -> Bus;
    /// Its clock, which stands still.
    fn clock(&self) -> &Clock;
}

/// A bus, and what the tests do with it.
struct Fixture {
    bus: Bus,
    clock: Clock,
}

const SECOND: Duration = Duration::from_secs(1);

fn event(job: &str, payload: &str) -> Event {
    Event {
        id: EventId::new("acme", job, "t").to_string(),
        tenant: "acme".into(),
        r#type: "t".into(),
        job_id: job.into(),
        payload: payload.as_bytes().to_vec().into(),
        payload_sha256: format!("digest of {payload}").into(),
        ..Event::default()
    }
}

fn conflict(name: &str) -> Fact {
    let what = What::EventConflict(EventConflict { event_id: name.into(), ..EventConflict::default() });
    Fact { what: Some(what), ..Fact::default() }
}

/// What a fact of these tests is called.
fn name_of(fact: &Fact) -> String {
    match &fact.what {
        Some(What::EventConflict(conflict)) => conflict.event_id.clone(),
        Some(What::EventPlanned(planned)) => {
            planned.event.as_ref().map(|event| event.job_id.clone()).unwrap_or_default()
        }
        Some(What::DeliveryMoved(moved)) => {
            moved.standing.as_ref().map(|standing| standing.reason.clone()).unwrap_or_default()
        }
        other => panic!("{other:?}"),
    }
}

impl Fixture {
    async fn open(backend: &impl Backend) -> Self {
        Self { bus: backend.open().await, clock: backend.clock().clone() }
    }

    fn in_(&self, duration: Duration) -> Timestamp {
        time::after(self.clock.now(), duration)
    }

    async fn publish(&self, job: &str) -> u64 {
        let received_at = Some(time::to_proto(self.clock.now()));
        match self.bus.publish(Event { received_at, ..event(job, "{}") }).await.unwrap() {
            Published::New { seq } => seq,
            Published::Duplicate { .. } => panic!("{job} was published before"),
        }
    }

    /// A task for the event at this place.
    fn task(seq: u64, route: &str, due: Timestamp) -> DeliveryTask {
        DeliveryTask {
            delivery_id: DeliveryId::new(EventId::new("acme", &seq.to_string(), "t"), route).to_string(),
            event_seq: seq,
            tenant: "acme".into(),
            route: route.into(),
            due_at: Some(time::to_proto(due)),
            generation: 1,
            ..DeliveryTask::default()
        }
    }

    /// A plan with one fact and a delivery for each route.
    fn plan_of(&self, seq: u64, job: &str, routes: &[&str], due: Timestamp) -> Plan {
        let what =
            What::EventPlanned(EventPlanned { event: Some(event(job, "")), ..EventPlanned::default() });
        let at = Some(time::to_proto(self.clock.now()));
        Plan {
            seq,
            facts: vec![Fact { at, event_seq: seq, what: Some(what) }],
            deliveries: routes.iter().map(|route| Self::task(seq, route, due)).collect(),
        }
    }

    /// Publishes an event and plans it for these routes.
    async fn plan(&self, job: &str, routes: &[&str], due: Timestamp) -> u64 {
        let seq = self.publish(job).await;
        self.bus.plan(vec![self.plan_of(seq, job, routes, due)]).await.unwrap();
        seq
    }

    async fn take(&self) -> Vec<Leased> {
        self.bus.take(100, &never()).await.unwrap()
    }

    /// Whether there is nothing to take.
    async fn nothing_is_due(&self) -> bool {
        // The bus answers in order: when it has answered `check`, it has looked for the one that waits before it.
        let never = never();
        let mut take = std::pin::pin!(self.bus.take(100, &never));
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = &mut take => return false,
                checked = self.bus.check() => checked.unwrap(),
            }
        }
        true
    }

    fn moved(&self, seq: u64, reason: &str) -> Fact {
        let standing = Some(Standing { reason: reason.into(), ..Standing::default() });
        let what = What::DeliveryMoved(DeliveryMoved {
            delivery: Some(DeliveryRef::default()),
            standing,
            action: None,
        });
        Fact { at: Some(time::to_proto(self.clock.now())), event_seq: seq, what: Some(what) }
    }

    /// Facts behind a place, as many as there are and at most so many.
    async fn facts(&self, mut after: u64, max: usize) -> Vec<(u64, Arc<Fact>)> {
        let newest = self.bus.journal_bounds().await.unwrap().newest;
        let mut found = Vec::new();
        while after < newest && found.len() < max {
            let page = self.bus.journal(after, max - found.len()).await.unwrap();
            assert!(page.facts.iter().all(|(place, _)| (after + 1..=page.through).contains(place)));
            found.extend(page.facts);
            after = page.through;
        }
        found
    }

    async fn journal(&self) -> Vec<String> {
        self.facts(0, 1000).await.iter().map(|(_, fact)| name_of(fact)).collect()
    }
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

fn routes(taken: &[Leased]) -> Vec<&str> {
    taken.iter().map(|leased| leased.task.route.as_str()).collect()
}

mod lanes;

pub use lanes::*;

pub async fn i01_what_was_published_survives_the_process(backend: &impl Backend) {
    let seq = {
        let f = Fixture::open(backend).await;
        f.publish("a").await
    };
    let f = Fixture::open(backend).await;
    assert_eq!(f.bus.event(seq).await.unwrap().unwrap().job_id, "a");
    assert_eq!(f.bus.unplanned(10).await.unwrap()[0].seq, seq);
}

pub async fn i02_an_event_is_stored_once_and_a_repeat_tells_the_digest(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let seq = f.publish("a").await;
    let repeat = async |payload| f.bus.publish(event("a", payload)).await;
    let duplicate = Published::Duplicate { seq, payload_sha256: "digest of {}".into() };
    assert_eq!(repeat("{}").await.unwrap(), duplicate);
    assert_eq!(repeat("other").await.unwrap(), duplicate);
    // Many at once, across a restart, with new ones among them: exactly one of each is new.
    drop(f);
    let f = Fixture::open(backend).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..200 {
        let (bus, job) = (f.bus.clone(), format!("job {}", index % 20));
        tasks.spawn(async move { (job.clone(), bus.publish(event(&job, "{}")).await.unwrap()) });
    }
    let mut new = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        if let (job, Published::New { .. }) = outcome.unwrap() {
            new.push(job);
        }
    }
    assert_eq!(new.len(), 20);
    assert_eq!(new.iter().collect::<HashSet<_>>().len(), 20);
    assert_eq!(f.bus.publish(event("a", "{}")).await.unwrap(), duplicate);
}

pub async fn i03_places_rise_and_are_never_given_twice(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let first = f.plan("a", &[], f.clock.now()).await;
    let second = f.plan("b", &[], f.clock.now()).await;
    assert!(second > first);
    // Even when everything that had a place is gone.
    f.clock.advance(100 * SECOND);
    let expired = f.bus.expire(f.clock.now()).await.unwrap();
    assert_eq!(expired.events, 2);
    let newest_fact = f.bus.journal_bounds().await.unwrap().newest;
    drop(f);
    let f = Fixture::open(backend).await;
    assert!(f.publish("c").await > second);
    f.bus.record(vec![conflict("x")]).await.unwrap();
    assert!(f.bus.journal_bounds().await.unwrap().newest > newest_fact);
}

pub async fn i04_an_event_comes_back_byte_for_byte(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let event = Event { payload: payload.into(), idempotency_key: Some("k".into()), ..event("a", "") };
    let Published::New { seq } = f.bus.publish(event.clone()).await.unwrap() else { panic!() };
    assert_eq!(f.bus.event(seq).await.unwrap().as_deref(), Some(&event));
    assert_eq!(f.bus.event(seq + 1).await.unwrap(), None);
}

pub async fn i05_unplanned_events_come_in_order_and_again_until_they_are_planned(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let bus = f.bus.clone();
    // Waits for the first one.
    let waiting = tokio::spawn(async move { bus.unplanned(10).await.unwrap() });
    let seqs = [f.publish("a").await, f.publish("b").await, f.publish("c").await];
    assert_eq!(waiting.await.unwrap()[0].seq, seqs[0]);
    for _ in 0..2 {
        let mut events = f.bus.unplanned(2).await.unwrap();
        while events.len() < 2 {
            events = f.bus.unplanned(2).await.unwrap();
        }
        assert_eq!(events.iter().map(|stored| stored.seq).collect::<Vec<_>>(), seqs[..2]);
        assert_eq!(events[0].event.job_id, "a");
    }
    f.bus.plan(vec![f.plan_of(seqs[0], "a", &[], f.clock.now())]).await.unwrap();
    drop(f);
    let f = Fixture::open(backend).await;
    let mut events = f.bus.unplanned(10).await.unwrap();
    while events.len() < 2 {
        events = f.bus.unplanned(10).await.unwrap();
    }
    assert_eq!(events.iter().map(|stored| stored.seq).collect::<Vec<_>>(), seqs[1..]);
}

pub async fn i06_a_plan_is_durable_as_a_whole_and_once(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let seq = f.publish("a").await;
    let plan = f.plan_of(seq, "a", &["r1", "r2"], f.clock.now());
    f.bus.plan(vec![plan.clone()]).await.unwrap();
    f.bus.plan(vec![plan.clone()]).await.unwrap();
    drop(f);
    let f = Fixture::open(backend).await;
    assert_eq!(f.journal().await, ["a"]);
    let taken = f.take().await;
    assert_eq!(routes(&taken).into_iter().collect::<HashSet<_>>(), HashSet::from(["r1", "r2"]));
    for leased in taken {
        f.bus.settle(leased.lease, vec![]).await.unwrap();
    }
    // Not even after its deliveries are done.
    f.bus.plan(vec![plan]).await.unwrap();
    assert!(f.nothing_is_due().await);
    assert_eq!(f.journal().await, ["a"]);
}

pub async fn i07_a_delivery_goes_out_when_it_is_due_to_one_holder(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    f.plan("late", &["late"], f.in_(10 * SECOND)).await;
    f.plan("now", &["now"], f.clock.now()).await;
    assert_eq!(routes(&f.take().await), ["now"]);
    assert!(f.nothing_is_due().await, "one is held, the other is not due");
    f.clock.advance(9 * SECOND);
    assert!(f.nothing_is_due().await);
    let bus = f.bus.clone();
    let waiting = tokio::spawn(async move { bus.take(100, &never()).await.unwrap() });
    f.clock.advance(SECOND);
    assert_eq!(routes(&waiting.await.unwrap()), ["late"]);
    // Something that comes while somebody waits wakes him.
    let bus = f.bus.clone();
    let waiting = tokio::spawn(async move { bus.take(100, &never()).await.unwrap() });
    f.plan("new", &["new"], f.clock.now()).await;
    assert_eq!(routes(&waiting.await.unwrap()), ["new"]);
    // Who is told to stop goes without.
    let stop = never();
    stop.cancel();
    f.plan("left", &["left"], f.clock.now()).await;
    assert!(f.bus.take(100, &stop).await.unwrap().is_empty());
    assert_eq!(routes(&f.take().await), ["left"]);
}

pub async fn i08_a_lane_has_no_more_out_than_its_window_and_holds_up_no_other(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let lane = |route: &str| Lane { tenant: "acme".into(), route: route.into() };
    f.bus.set_windows(Windows([(lane("slow"), 3), (lane("wide"), 1000)].into())).await.unwrap();
    let seqs: Vec<u64> = {
        let mut seqs = Vec::new();
        for index in 0..60 {
            seqs.push(f.plan(&format!("slow {index}"), &["slow", "wide"], f.clock.now()).await);
        }
        seqs
    };
    f.clock.advance(SECOND);
    f.plan("other", &["other"], f.clock.now()).await;
    // Room for twenty: the lane that came last has its turn before the others have their second.
    let taken = f.bus.take(36, &never()).await.unwrap();
    assert_eq!(taken.iter().filter(|leased| leased.task.route == "slow").count(), 3);
    assert!(routes(&taken).contains(&"other"), "{:?}", routes(&taken));
    let rest = f.take().await;
    assert!(rest.iter().all(|leased| leased.task.route == "wide"));
    assert_eq!(taken.len() + rest.len(), 3 + 60 + 1);
    assert!(f.nothing_is_due().await, "the slow lane's window is full");
    // What comes back makes room for the next one, in order.
    let slow: Vec<_> = taken.iter().filter(|leased| leased.task.route == "slow").collect();
    assert_eq!(slow.iter().map(|leased| leased.task.event_seq).collect::<Vec<_>>(), seqs[..3]);
    f.bus.settle(slow[0].lease, vec![]).await.unwrap();
    assert_eq!(f.take().await[0].task.event_seq, seqs[3]);
    assert!(f.nothing_is_due().await);
    // A lane that nobody configured has the default window.
    for index in 0..Windows::DEFAULT + 5 {
        f.plan(&format!("plain {index}"), &["plain"], f.clock.now()).await;
    }
    assert_eq!(f.take().await.len(), Windows::DEFAULT);
    assert!(f.nothing_is_due().await);
}

pub async fn i09_settling_and_putting_off_keep_facts_and_due_times(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let seq = f.plan("a", &["r1", "r2"], f.clock.now()).await;
    let taken = f.take().await;
    let (first, second) = (&taken[0], &taken[1]);
    f.bus.settle(first.lease, vec![f.moved(seq, "done")]).await.unwrap();
    let mut task = second.task.clone();
    task.attempts = 7;
    task.due_at = Some(time::to_proto(f.in_(60 * SECOND)));
    f.bus.later(second.lease, task.clone(), vec![f.moved(seq, "later")]).await.unwrap();
    drop(f);
    let f = Fixture::open(backend).await;
    assert_eq!(f.journal().await, ["a", "done", "later"]);
    assert!(f.nothing_is_due().await);
    f.clock.advance(60 * SECOND);
    let again = f.take().await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].task, task);
    assert!(!again[0].interrupted);
}

pub async fn i10_who_vanishes_leaves_a_mark_and_who_gives_back_does_not(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    f.plan("a", &["r"], f.clock.now()).await;
    let taken = f.take().await;
    assert!(!taken[0].interrupted);
    f.bus.release(taken[0].lease).await.unwrap();
    let taken = f.take().await;
    assert!(!taken[0].interrupted, "given back");
    drop(f);
    let f = Fixture::open(backend).await;
    let taken = f.take().await;
    assert!(taken[0].interrupted, "the process went away");
    f.clock.advance(LEASE.saturating_sub(SECOND));
    assert!(f.nothing_is_due().await);
    f.clock.advance(SECOND);
    let taken = f.take().await;
    assert!(taken[0].interrupted, "the lease is over");
    f.bus.later(taken[0].lease, taken[0].task.clone(), vec![]).await.unwrap();
    assert!(!f.take().await[0].interrupted, "accounted for");
}

pub async fn i11_a_lease_that_is_over_moves_nothing_but_its_facts_are_kept(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let seq = f.plan("a", &["r"], f.clock.now()).await;
    let old = f.take().await[0].lease;
    f.clock.advance(LEASE);
    let new = f.take().await[0].lease;
    assert_ne!(old, new);
    f.bus.settle(old, vec![f.moved(seq, "too late")]).await.unwrap();
    let task = Fixture::task(seq, "r", f.clock.now());
    f.bus.later(old, task, vec![]).await.unwrap();
    f.bus.release(old).await.unwrap();
    assert!(f.nothing_is_due().await, "it is still held by the new lease");
    f.bus.settle(new, vec![f.moved(seq, "in time")]).await.unwrap();
    assert_eq!(f.journal().await, ["a", "too late", "in time"]);
    f.clock.advance(2 * LEASE);
    assert!(f.nothing_is_due().await);
}

pub async fn i12_i13_the_journal_keeps_facts_in_one_order(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    assert!(f.facts(0, 10).await.is_empty());
    let (bus, newest) = (f.bus.clone(), f.bus.journal_bounds().await.unwrap().newest);
    let waiting = tokio::spawn(async move {
        let mut page = bus.journal(newest, 10).await.unwrap();
        while page.facts.is_empty() {
            page = bus.journal(page.through, 10).await.unwrap();
        }
        page.facts
    });
    f.bus.record(vec![conflict("a"), conflict("b")]).await.unwrap();
    f.bus.record(vec![conflict("c")]).await.unwrap();
    assert_eq!(name_of(&waiting.await.unwrap()[0].1), "a");
    drop(f);
    let f = Fixture::open(backend).await;
    let facts = f.facts(0, 2).await;
    assert_eq!(facts.iter().map(|(_, fact)| name_of(fact)).collect::<Vec<_>>(), ["a", "b"]);
    let rest = f.facts(facts[1].0, 10).await;
    assert_eq!(rest.iter().map(|(_, fact)| name_of(fact)).collect::<Vec<_>>(), ["c"]);
    let bounds = f.bus.journal_bounds().await.unwrap();
    assert!(bounds.oldest <= facts[0].0 && rest[0].0 <= bounds.newest);
}

pub async fn i14_old_things_go_and_waiting_ones_stay(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let done = f.plan("done", &[], f.clock.now()).await;
    // More than one step of the walk.
    for index in 0..600 {
        f.plan(&format!("done {index}"), &[], f.clock.now()).await;
    }
    let waits = f.plan("waits", &["r"], f.in_(Duration::from_secs(3_600))).await;
    f.bus.record(vec![f.moved(waits, "waits on")]).await.unwrap();
    f.clock.advance(10 * SECOND);
    let unplanned = f.publish("unplanned").await;
    let edge = f.clock.now();
    f.clock.advance(10 * SECOND);
    let young = f.publish("young").await;

    let expired = f.bus.expire(edge).await.unwrap();
    assert_eq!(expired.events, 601);
    assert!(expired.facts >= 601);
    assert_eq!(f.bus.event(done).await.unwrap(), None);
    for seq in [waits, unplanned, young] {
        assert!(f.bus.event(seq).await.unwrap().is_some());
    }
    assert_eq!(f.journal().await, ["waits", "waits on"]);
    // An event that is gone can come again.
    assert!(matches!(f.bus.publish(event("done", "{}")).await.unwrap(), Published::New { .. }));
    // What waited goes once it is done.
    f.clock.advance(Duration::from_secs(7_200));
    let taken = f.take().await;
    f.bus.settle(taken[0].lease, vec![f.moved(waits, "finished")]).await.unwrap();
    let now = time::after(f.clock.now(), SECOND);
    f.bus.expire(now).await.unwrap();
    assert_eq!(f.bus.event(waits).await.unwrap(), None);
    assert!(f.bus.event(unplanned).await.unwrap().is_some(), "never before it is planned");
}

pub async fn i16_what_is_decided_is_durable_as_a_whole_and_nothing_was_decided_before_it(
    backend: &impl Backend,
) {
    let f = Fixture::open(backend).await;
    let seq = f.plan("a", &["r1", "r2"], f.clock.now()).await;
    let taken = f.take().await;
    let done = taken.iter().find(|leased| leased.task.route == "r1").unwrap();
    f.bus.settle(done.lease, vec![f.moved(seq, "parked")]).await.unwrap();
    // Of two who decide in the same turn one does.
    let (one, other) = (f.bus.turn().await.unwrap(), f.bus.turn().await.unwrap());
    assert!(one.place >= f.facts(0, 10).await.last().unwrap().0);
    let again = DeliveryTask { generation: 2, ..done.task.clone() };
    let both = vec![again.clone(), Fixture::task(seq, "r2", f.clock.now())];
    assert!(f.bus.decide(one, vec![f.moved(seq, "decided")], both.clone()).await.unwrap());
    assert!(!f.bus.decide(other, vec![f.moved(seq, "too late")], both.clone()).await.unwrap());
    assert!(!f.bus.decide(one, vec![f.moved(seq, "twice")], both).await.unwrap());
    // What is in somebody's hands stays there.
    let out = f.take().await;
    assert_eq!(out.iter().map(|leased| &leased.task).collect::<Vec<_>>(), [&again]);
    f.bus.settle(out[0].lease, vec![]).await.unwrap();
    assert!(f.nothing_is_due().await);
    // Many at once, each of which tries until it is its turn.
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let (bus, fact) = (f.bus.clone(), f.moved(seq, &format!("decision {index}")));
        tasks.spawn(async move {
            let mut tries = 1;
            while !bus.decide(bus.turn().await.unwrap(), vec![fact.clone()], vec![]).await.unwrap() {
                tries += 1;
            }
            tries
        });
    }
    let tries: u32 = tasks.join_all().await.into_iter().sum();
    assert!(tries >= 8);
    f.bus.decide(f.bus.turn().await.unwrap(), vec![f.moved(seq, "last")], vec![again.clone()]).await.unwrap();
    drop(f);
    let f = Fixture::open(backend).await;
    let journal = f.journal().await;
    assert_eq!(journal[..3], ["a", "parked", "decided"]);
    assert_eq!(journal[3..11].iter().collect::<HashSet<_>>().len(), 8);
    assert_eq!(journal[11..], ["last"]);
    let again = f.take().await;
    let mut routes = routes(&again);
    routes.sort_unstable();
    assert_eq!(routes, ["r1", "r2"]);
    for leased in again {
        f.bus.settle(leased.lease, vec![]).await.unwrap();
    }
    // The next one has something to follow, when all that was before has gone.
    f.clock.advance(100 * SECOND);
    f.plan("b", &[], f.clock.now()).await;
    f.bus.expire(f.clock.now()).await.unwrap();
    assert_eq!(f.bus.kept([seq].into()).await.unwrap(), HashSet::new());
    let young = f.publish("c").await;
    assert_eq!(f.bus.kept([seq, young].into()).await.unwrap(), HashSet::from([young]));
    assert!(f.bus.decide(f.bus.turn().await.unwrap(), vec![f.moved(seq, "new")], vec![]).await.unwrap());
    assert!(f.bus.leads());
}

pub async fn i17_what_waits_is_claimed_though_it_is_not_due_and_by_one_alone(backend: &impl Backend) {
    let f = Fixture::open(backend).await;
    let lane = |route: &str| Lane { tenant: "acme".into(), route: route.into() };
    f.bus.set_windows(Windows([(lane("r"), 0)].into())).await.unwrap();
    let seq = f.plan("a", &["r", "other"], f.in_(60 * SECOND)).await;
    let id = |route: &str| DeliveryId::new(EventId::new("acme", &seq.to_string(), "t"), route);
    let claimed = f.bus.claim(seq, id("r")).await.unwrap().unwrap();
    assert_eq!((claimed.task.route.as_str(), claimed.interrupted), ("r", false));
    assert!(f.bus.claim(seq, id("r")).await.unwrap().is_none(), "it is held");
    assert!(f.bus.claim(seq, id("nobody's")).await.unwrap().is_none(), "it is not there");
    // As with every lease.
    f.bus.later(claimed.lease, claimed.task.clone(), vec![f.moved(seq, "later")]).await.unwrap();
    let claimed = f.bus.claim(seq, id("r")).await.unwrap().unwrap();
    drop(f);
    let f = Fixture::open(backend).await;
    let claimed_again = f.bus.claim(seq, id("r")).await.unwrap().unwrap();
    assert!(claimed_again.interrupted && claimed_again.lease != claimed.lease);
    f.bus.settle(claimed_again.lease, vec![f.moved(seq, "cancelled")]).await.unwrap();
    assert!(f.bus.claim(seq, id("r")).await.unwrap().is_none(), "it has ended");
    assert_eq!(f.journal().await, ["a", "later", "cancelled"]);
    // What was taken as always cannot be claimed.
    f.clock.advance(60 * SECOND);
    let taken = f.take().await;
    assert_eq!(routes(&taken), ["other"]);
    assert!(f.bus.claim(seq, id("other")).await.unwrap().is_none());
    f.bus.release(taken[0].lease).await.unwrap();
    assert!(f.bus.claim(seq, id("other")).await.unwrap().is_some());
}

/// A test for each invariant, run against one backend.
#[macro_export]
macro_rules! conformance_suite {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::conformance::$name(&$backend).await;
            }
        )*
    };
    ($backend:expr) => {
        $crate::conformance_suite! { $backend;
            i01_what_was_published_survives_the_process
            i02_an_event_is_stored_once_and_a_repeat_tells_the_digest
            i03_places_rise_and_are_never_given_twice
            i04_an_event_comes_back_byte_for_byte
            i05_unplanned_events_come_in_order_and_again_until_they_are_planned
            i06_a_plan_is_durable_as_a_whole_and_once
            i07_a_delivery_goes_out_when_it_is_due_to_one_holder
            i06_an_event_for_many_routes_is_planned_for_all_of_them_at_once
            i08_tenants_take_turns_however_many_lanes_they_have
            i08_a_gate_holds_a_lane_back_and_no_other
            i08_a_window_that_changes_counts_what_is_out
            i08_a_survey_finds_what_waits_and_not_what_is_held_here
            i08_a_lane_has_no_more_out_than_its_window_and_holds_up_no_other
            i09_settling_and_putting_off_keep_facts_and_due_times
            i10_who_vanishes_leaves_a_mark_and_who_gives_back_does_not
            i11_a_lease_that_is_over_moves_nothing_but_its_facts_are_kept
            i12_i13_the_journal_keeps_facts_in_one_order
            i14_old_things_go_and_waiting_ones_stay
            i16_what_is_decided_is_durable_as_a_whole_and_nothing_was_decided_before_it
            i17_what_waits_is_claimed_though_it_is_not_due_and_by_one_alone
        }
    };
}
