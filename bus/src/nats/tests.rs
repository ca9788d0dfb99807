//! Several replicas on one journal, without a server: relays that lag, take, finish, are thought dead and come back, in
//! random order.

use super::{
    membership::{InForce, Routes, membership},
    replica::Replica,
};
use crate::{Lane, Lease, Windows, queue::due, time};
use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{
    Commit, Decided, DeliveryTask, Fact, GivenBack, LeaseRef, Member, Operation, Planned, PutOff, Settled,
    operation::What,
};
use tempfile::TempDir;

fn start() -> Timestamp {
    Timestamp::from_second(1_777_000_000).unwrap()
}

/// The journal, as a server keeps it.
#[derive(Default)]
struct Journal {
    commits: Vec<Commit>,
    last_membership: u64,
    last_planning: u64,
    last_decision: u64,
}

impl Journal {
    fn append(&mut self, what: What) -> u64 {
        self.commits.push(Commit { operations: vec![Operation { what: Some(what) }] });
        self.commits.len() as u64
    }

    /// The commits behind a place.
    fn behind(&self, position: u64) -> Vec<(u64, Commit)> {
        let skip = usize::try_from(position).unwrap();
        (position + 1..).zip(self.commits.iter().skip(skip).cloned()).collect()
    }
}

struct Relay {
    directory: TempDir,
    replica: Replica,
    hands: HashMap<Lease, DeliveryTask>,
}

impl Relay {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { replica: Self::open(&directory), directory, hands: HashMap::new() }
    }

    fn open(directory: &TempDir) -> Replica {
        Replica::open(&directory.path().join("replica.db"), "a journal", 1, u64::MAX >> 24).unwrap()
    }

    /// Another process in the same directory.
    async fn restart(&mut self) {
        self.replica = Self::open(&self.directory);
        self.replica.set_windows(windows()).await.unwrap();
        self.hands.clear();
    }

    fn position(&self) -> u64 {
        *self.replica.position().borrow()
    }

    fn in_force(&self) -> std::sync::Arc<InForce> {
        self.replica.membership().borrow().clone()
    }

    async fn follow(&mut self, journal: &Journal, commits: usize) {
        let next: Vec<_> = journal.behind(self.position()).into_iter().take(commits).collect();
        self.replica.apply(next).await.unwrap();
        let granted = self.replica.granted().await.unwrap();
        self.hands.extend(granted.into_iter().map(|leased| (leased.lease, leased.task)));
    }

    /// An operator wants something sent again that has ended, for all that is known here.
    async fn replay(&mut self, journal: &mut Journal, task: DeliveryTask) {
        let (known, _) = self.replica.decisions().await.unwrap();
        assert_eq!(known, journal.last_decision);
        let token = self.replica.next_decision();
        let decided = Decided { token, facts: vec![], deliveries: vec![task] };
        journal.last_decision = journal.append(What::Decided(decided));
        self.follow(journal, usize::MAX).await;
        assert!(self.replica.is_decided(token).await.unwrap());
    }

    /// An operator wants something in his hands that may wait.
    async fn claim(&mut self, journal: &mut Journal, seq: u64, now: Timestamp) {
        let id = DeliveryId::new(EventId::new("acme", &seq.to_string(), "t"), "route 0");
        let taken = self.replica.claim(now, (seq, id.route.to_i64())).await.unwrap();
        let claim = taken.leases[0];
        let place = journal.append(What::Taken(taken));
        while self.position() < place {
            self.follow(journal, 7).await;
        }
        if let Some(leased) = self.replica.claimed(claim).await.unwrap() {
            self.hands.insert(leased.lease, leased.task);
        }
    }

    async fn rows(&self) -> Vec<String> {
        let select =
            "SELECT event_seq, route, (SELECT route FROM lanes WHERE lane = d.lane), due, lease, hex(task)
                      FROM deliveries d ORDER BY 1, 2";
        self.replica
            .read(move |connection| {
                let mut statement = connection.prepare(select)?;
                let row = |row: &rusqlite::Row<'_>| {
                    let due: i64 = row.get(3)?;
                    Ok(format!(
                        "{} {} {} {due} {:?} {}",
                        row.get::<_, u64>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, Option<i64>>(4)?,
                        row.get::<_, String>(5)?,
                    ))
                };
                statement.query_map((), row)?.collect()
            })
            .await
            .unwrap()
    }
}

fn windows() -> Windows {
    let lane = |number: u32| Lane { tenant: "acme".into(), route: format!("route {number}").as_str().into() };
    Windows((0..5).map(|number| (lane(number), 3)).collect())
}

fn reference(lease: Lease) -> LeaseRef {
    LeaseRef { event_seq: lease.event_seq, route: lease.route, token: lease.token }
}

fn fact(seq: u64) -> Fact {
    Fact { event_seq: seq, ..Fact::default() }
}

fn planned(seq: u64, routes: u32, now: Timestamp) -> Planned {
    let event = EventId::new("acme", &seq.to_string(), "t");
    let task = |number| {
        let route = format!("route {number}");
        DeliveryTask {
            delivery_id: DeliveryId::new(event, &route).to_string(),
            event_seq: seq,
            tenant: "acme".into(),
            route,
            due_at: Some(time::to_proto(now)),
            generation: 1,
            ..DeliveryTask::default()
        }
    };
    Planned {
        event_seq: seq,
        event_id: event.to_string(),
        received_at: Some(time::to_proto(now)),
        facts: vec![fact(seq)],
        deliveries: (0..routes).map(task).collect(),
    }
}

/// What the world saw.
#[derive(Default)]
struct World {
    /// Deliveries that have ended, for all that their relay knew.
    ended: Vec<DeliveryTask>,
    planned: usize,
    /// By delivery: the generations that were sent, in order.
    sent: HashMap<String, Vec<u32>>,
}

async fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut journal, mut world, mut now) = (Journal::default(), World::default(), start());
    let mut relays: Vec<Relay> = (0..3).map(|_| Relay::new()).collect();
    for relay in &mut relays {
        relay.replica.set_windows(windows()).await.unwrap();
    }
    let mut seq = 0;
    for step in 0..600_u32 {
        now = time::after(now, Duration::from_millis(random.random_range(0..2_000)));
        let index = random.random_range(0..relays.len());
        let mut alive: Vec<Member> = relays.iter().map(|relay| relay.replica.me().clone()).collect();
        alive.retain(|_| random.random_bool(0.8));
        for member in &mut alive {
            member.leaving = random.random_bool(0.1);
        }
        let relay = &mut relays[index];
        let is_up_to_date = relay.position() == journal.commits.len() as u64;
        match random.random_range(0..100) {
            0..35 => relay.follow(&journal, random.random_range(1..20)).await,
            35..50 => {
                seq += 1;
                let planned = planned(seq, random.random_range(0..5), now);
                world.planned += planned.deliveries.len();
                journal.last_planning = journal.append(What::Planned(planned));
            }
            50..66 => {
                // A relay waits for its own commit before it takes again.
                if let Ok(taken) = relay.replica.choose(now, 10).await.unwrap() {
                    let place = journal.append(What::Taken(taken));
                    while relay.position() < place {
                        relay.follow(&journal, 7).await;
                    }
                }
            }
            // The server takes a membership only from whoever knows the last one.
            66..68 if !world.ended.is_empty() && is_up_to_date => {
                let mut task = world.ended[random.random_range(0..world.ended.len())].clone();
                // Higher than whatever there was before.
                task.generation = 1_000 * (step + 1);
                relay.replay(&mut journal, task).await;
            }
            68..70 if seq > 0 => relay.claim(&mut journal, random.random_range(1..=seq), now).await,
            70..76 if is_up_to_date && relay.in_force().seq == journal.last_membership => {
                journal.last_membership = journal.append(What::Membership(membership(alive, &Routes::new())));
            }
            76..78 => relay.restart().await,
            78..100 => {
                let Some(lease) = relay.hands.keys().next().copied() else { continue };
                let mut task = relay.hands.remove(&lease).unwrap();
                // What `holds` makes sure of.
                if is_up_to_date && !relay.replica.is_void(lease) {
                    world.sent.entry(task.delivery_id.clone()).or_default().push(task.generation);
                }
                let facts = vec![fact(lease.event_seq)];
                let what = match random.random_range(0..10) {
                    0..5 => {
                        world.ended.push(task);
                        What::Settled(Settled { lease: Some(reference(lease)), facts })
                    }
                    5..9 => {
                        task.generation += 1;
                        task.due_at = Some(time::to_proto(time::after(now, Duration::from_secs(3))));
                        What::PutOff(PutOff { lease: Some(reference(lease)), task: Some(task), facts })
                    }
                    _ => What::GivenBack(GivenBack {
                        lease: Some(reference(lease)),
                        due_at: Some(time::to_proto(now)),
                    }),
                };
                journal.append(what);
            }
            _ => {}
        }
        assert_held_once(&relays, &journal, step, seed).await;
    }
    finish(&mut relays, &mut journal, now, seed).await;
    for (delivery, generations) in &world.sent {
        assert!(generations.is_sorted(), "{delivery} was sent as {generations:?} (seed {seed})");
    }
    assert!(world.planned > 0 && !world.sent.is_empty(), "seed {seed}");
}

/// Everybody comes back, and all work is finished.
async fn finish(relays: &mut Vec<Relay>, journal: &mut Journal, mut now: Timestamp, seed: u64) {
    let members: Vec<Member> = relays.iter().map(|relay| relay.replica.me().clone()).collect();
    journal.append(What::Membership(membership(members, &Routes::new())));
    loop {
        for relay in relays.iter_mut() {
            relay.follow(journal, usize::MAX).await;
            for lease in relay.hands.drain().map(|(lease, _)| lease) {
                journal.append(What::Settled(Settled { lease: Some(reference(lease)), facts: Vec::new() }));
            }
        }
        now = time::after(now, crate::LEASE);
        let mut idle = true;
        for relay in relays.iter_mut() {
            relay.follow(journal, usize::MAX).await;
            if let Ok(taken) = relay.replica.choose(now, 100).await.unwrap() {
                journal.append(What::Taken(taken));
                idle = false;
            }
            relay.follow(journal, usize::MAX).await;
        }
        if idle && relays.iter().all(|relay| relay.hands.is_empty()) {
            break;
        }
    }
    let mut late = Relay::new();
    late.follow(journal, usize::MAX).await;
    relays.push(late);
    for relay in relays.iter_mut() {
        relay.follow(journal, usize::MAX).await;
        assert!(relay.rows().await.is_empty(), "everything that was planned has ended (seed {seed})");
    }
}

/// Those who know the whole journal agree on all rows, and nobody else believes to hold what one of them holds.
async fn assert_held_once(relays: &[Relay], journal: &Journal, step: u32, seed: u64) {
    let mut held = HashSet::new();
    let mut rows: Option<Vec<String>> = None;
    for relay in relays.iter().filter(|relay| relay.position() == journal.commits.len() as u64) {
        let these = relay.rows().await;
        assert_eq!(*rows.get_or_insert_with(|| these.clone()), these, "step {step}, seed {seed}");
        for lease in relay.hands.keys().filter(|lease| !relay.replica.is_void(**lease)) {
            assert!(held.insert((lease.event_seq, lease.route)), "{lease:?}: step {step}, seed {seed}");
        }
    }
}

#[tokio::test]
async fn whatever_happens_replicas_agree_and_nobody_works_on_what_another_one_has() {
    for _ in 0..5 {
        run(rand::random()).await;
    }
}

#[tokio::test]
async fn whoever_was_left_out_and_taken_in_again_at_once_holds_nothing() {
    let mut journal = Journal::default();
    let (mut one, mut other) = (Relay::new(), Relay::new());
    let (me, you) = (one.replica.me().clone(), other.replica.me().clone());
    journal.append(What::Membership(membership(vec![me.clone()], &Routes::new())));
    journal.append(What::Planned(planned(1, 1, start())));
    one.follow(&journal, 9).await;
    journal.append(What::Taken(one.replica.choose(start(), 9).await.unwrap().unwrap()));
    one.follow(&journal, 9).await;
    journal.append(What::Membership(membership(vec![you], &Routes::new())));
    other.follow(&journal, 9).await;
    journal.append(What::Taken(other.replica.choose(start(), 9).await.unwrap().unwrap()));
    journal.append(What::Membership(membership(vec![me], &Routes::new())));
    // All of it in one go.
    one.follow(&journal, 9).await;
    let (lease, _) = one.hands.drain().next().unwrap();
    assert!(one.replica.is_void(lease));
}

#[tokio::test]
async fn what_is_taken_under_an_outdated_membership_is_not_taken() {
    let mut journal = Journal::default();
    let (mut old, mut new) = (Relay::new(), Relay::new());
    journal.append(What::Membership(membership(vec![old.replica.me().clone()], &Routes::new())));
    journal.append(What::Planned(planned(1, 1, start())));
    old.follow(&journal, 9).await;
    let taken = old.replica.choose(start(), 9).await.unwrap().unwrap();
    // Meanwhile it is thought dead.
    journal.append(What::Membership(membership(vec![new.replica.me().clone()], &Routes::new())));
    journal.append(What::Taken(taken));
    old.follow(&journal, 9).await;
    assert!(old.hands.is_empty());
    new.follow(&journal, 9).await;
    let taken = new.replica.choose(start(), 9).await.unwrap().unwrap();
    journal.append(What::Taken(taken));
    new.follow(&journal, 9).await;
    assert_eq!(new.hands.len(), 1);
}

#[tokio::test]
async fn a_relay_on_its_way_out_finishes_what_it_holds_and_one_that_is_gone_does_not() {
    for is_gone in [false, true] {
        let mut journal = Journal::default();
        let (mut one, mut other) = (Relay::new(), Relay::new());
        journal.append(What::Membership(membership(vec![one.replica.me().clone()], &Routes::new())));
        journal.append(What::Planned(planned(1, 1, start())));
        one.follow(&journal, 9).await;
        journal.append(What::Taken(one.replica.choose(start(), 9).await.unwrap().unwrap()));
        one.follow(&journal, 9).await;
        let leaving = Member { leaving: true, ..one.replica.me().clone() };
        let stays = if is_gone { vec![] } else { vec![leaving] };
        journal.append(What::Membership(membership(
            [stays, vec![other.replica.me().clone()]].concat(),
            &Routes::new(),
        )));
        one.follow(&journal, 9).await;
        other.follow(&journal, 9).await;
        let (lease, task) = one.hands.drain().next().unwrap();
        assert_eq!(one.replica.is_void(lease), is_gone);
        let taken = other.replica.choose(start(), 9).await.unwrap();
        assert_eq!(taken.is_ok(), is_gone, "the other one has it at once, or not at all");
        assert_eq!(due(&task), start().as_microsecond());
    }
}

#[tokio::test]
async fn what_held_a_lane_back_is_forgotten_when_others_have_had_it() {
    let mut journal = Journal::default();
    let (mut one, other) = (Relay::new(), Relay::new());
    let lane = Lane { tenant: "acme".into(), route: "route 0".into() };
    let owner =
        |relay: &Relay| What::Membership(membership(vec![relay.replica.me().clone()], &Routes::new()));
    journal.append(owner(&one));
    journal.append(What::Planned(planned(1, 1, start())));
    one.follow(&journal, 9).await;
    one.replica.set_gate(lane, i64::MAX, 1).await.unwrap();
    journal.append(owner(&one));
    one.follow(&journal, 9).await;
    assert!(one.replica.choose(start(), 9).await.unwrap().is_err(), "it was its own all the time");
    // The other one may have opened the route, and nobody looks before something of it is in hand.
    journal.append(owner(&other));
    journal.append(owner(&one));
    one.follow(&journal, 9).await;
    assert!(one.replica.choose(start(), 9).await.unwrap().is_ok());
}
