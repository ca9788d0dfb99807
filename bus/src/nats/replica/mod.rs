//! A relay's copy of the queue: every commit of the journal, applied in order to a SQLite file of its own.
//!
//! The file is derived: it remembers up to where it followed the journal in the same transaction as its rows, and is
//! made anew from the journal when it cannot be used. What this process may know beyond the rows (what it owns, what
//! it was granted) is worked out again from the last membership.
//!
//! - [`store`]: the rows, and what commits do to them.

mod store;

use super::{
    membership::{InForce, Routes},
    place::{end_of, facts_of},
};
use crate::{
    Lane, Lease, Leased, Survey, Windows, derived,
    partition::Partition,
    queue::{Key, Taken, survey},
    sqlite,
    tail::Tail,
    time,
};
use jiff::Timestamp;
use rusqlite::Connection;
use std::{
    mem,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use store::{State, Store, number_of, run_of, token};
use talaria_proto::v1::{Commit, DeliveryTask, Fact, LeaseRef, Member, Taken as TakenOperation};
use tokio::sync::{Notify, watch};

/// The replica. Clones share it.
#[derive(Clone)]
pub(in crate::nats) struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    store: Mutex<Store>,
    /// The last commit that was applied.
    position: watch::Sender<u64>,
    /// The place of the last planned event.
    planned: watch::Sender<u64>,
    /// The membership in force.
    membership: watch::Sender<Arc<InForce>>,
    deliveries: Notify,
    newest_facts: Tail<Fact>,
    /// This relay, in this run.
    me: Member,
    /// The number of the newest lease of this run.
    last_lease: AtomicU32,
    /// The number of the newest decision of this run.
    last_decision: AtomicU32,
    /// Leases of this run up to this number were interrupted.
    void: AtomicU32,
}

impl Replica {
    /// Opens the copy of a journal whose commits have these places, or begins a new one.
    pub(super) fn open(file: &Path, journal: &str, oldest: u64, newest: u64) -> rusqlite::Result<Self> {
        let run = rand::random_range(1..=u32::MAX >> 1);
        let (store, name) = Store::open(file, journal, oldest, newest, run)?;
        let State { position, planned, in_force, .. } = store.state.clone();
        Ok(Self {
            inner: Arc::new(Inner {
                store: Mutex::new(store),
                position: watch::Sender::new(position),
                planned: watch::Sender::new(planned),
                membership: watch::Sender::new(in_force),
                deliveries: Notify::new(),
                newest_facts: Tail::behind(end_of(position)),
                me: Member { name, run, leaving: false },
                last_lease: AtomicU32::new(0),
                last_decision: AtomicU32::new(0),
                void: AtomicU32::new(0),
            }),
        })
    }

    pub(super) fn me(&self) -> &Member {
        &self.inner.me
    }

    pub(super) fn position(&self) -> watch::Receiver<u64> {
        self.inner.position.subscribe()
    }

    pub(super) fn planned(&self) -> watch::Receiver<u64> {
        self.inner.planned.subscribe()
    }

    pub(super) fn membership(&self) -> watch::Receiver<Arc<InForce>> {
        self.inner.membership.subscribe()
    }

    pub(super) fn deliveries(&self) -> &Notify {
        &self.inner.deliveries
    }

    pub(super) fn newest_facts(&self) -> &Tail<Fact> {
        &self.inner.newest_facts
    }

    /// Returns once the commit was applied.
    pub(super) async fn caught_up(&self, commit: u64) {
        // The sender lives as long as this.
        let _ = self.position().wait_for(|position| *position >= commit).await;
    }

    /// Whether a lease of this run was interrupted.
    pub(super) fn is_void(&self, lease: Lease) -> bool {
        number_of(lease.token) <= self.inner.void.load(Ordering::Acquire)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, sqlite::Error> {
        let inner = Arc::clone(&self.inner);
        Ok(tokio::task::spawn_blocking(move || work(&inner, &mut lock(&inner.store))).await??)
    }

    /// Applies commits, each with its place.
    pub(super) async fn apply(&self, commits: Vec<(u64, Commit)>) -> Result<(), sqlite::Error> {
        self.with(move |inner, store| {
            let mut facts = Vec::new();
            let commits: Vec<(u64, Commit)> = commits
                .into_iter()
                .map(|(seq, mut commit)| {
                    facts.extend(facts_of(seq, &mut commit));
                    (seq, commit)
                })
                .collect();
            if let Err(error) = store.apply(&commits) {
                store.roll_back();
                return Err(error);
            }
            inner.announce(store, facts);
            Ok(())
        })
        .await
    }

    pub(super) async fn set_windows(&self, windows: Windows) -> Result<(), sqlite::Error> {
        self.with(move |inner, store| {
            store.queue.lanes.set_windows(windows);
            inner.deliveries.notify_waiters();
            Ok(())
        })
        .await
    }

    pub(super) async fn set_gate(&self, lane: Lane, until: i64, window: usize) -> Result<(), sqlite::Error> {
        self.with(move |inner, store| {
            store.queue.lanes.set_gate(&lane, until, window);
            inner.deliveries.notify_waiters();
            Ok(())
        })
        .await
    }

    pub(super) async fn survey<T: Send + 'static>(
        &self,
        lane: Lane,
        find: impl Fn(&DeliveryTask) -> Option<T> + Send + 'static,
    ) -> Result<Survey<T>, sqlite::Error> {
        self.with(move |inner, store| {
            store.refresh()?;
            let is_ours = |token| run_of(token) == inner.me.run;
            survey(&store.connection, &lane, is_ours, &find)
        })
        .await
    }

    /// How many routes each partition has, by the configuration.
    pub(super) async fn routes(&self) -> Result<Routes, sqlite::Error> {
        self.with(|_, store| {
            let mut routes = Routes::new();
            for lane in store.queue.lanes.windows().0.keys() {
                *routes.entry(Partition::of(lane)).or_default() += 1;
            }
            Ok(routes)
        })
        .await
    }

    /// What of ours is due: an operation that takes it, or when to look again.
    pub(super) async fn choose(
        &self,
        now: Timestamp,
        max: usize,
    ) -> Result<Result<TakenOperation, Timestamp>, sqlite::Error> {
        self.with(move |inner, store| {
            store.refresh()?;
            // What was granted to somebody who did not wait for it.
            store.granted.clear();
            let choice = store.queue.choose(&store.connection, now, max)?;
            if choice.keys.is_empty() {
                return Ok(Err(choice.next_due));
            }
            Ok(Ok(TakenOperation {
                membership: store.state.in_force.seq,
                now: Some(time::to_proto(now)),
                leases: choice.keys.into_iter().map(|key| inner.lease(key)).collect(),
                early: false,
            }))
        })
        .await
    }

    /// What this run was granted since it chose.
    pub(super) async fn granted(&self) -> Result<Vec<Leased>, sqlite::Error> {
        self.with(|_, store| {
            let mut granted: Vec<Taken> = mem::take(&mut store.granted).into_values().collect();
            granted.sort_unstable_by_key(|taken| taken.lease.token);
            Ok(granted.into_iter().filter_map(Taken::read).collect())
        })
        .await
    }

    /// An operation that takes a delivery before it is due.
    pub(super) async fn claim(&self, now: Timestamp, key: Key) -> Result<TakenOperation, sqlite::Error> {
        self.with(move |inner, store| {
            store.refresh()?;
            Ok(TakenOperation {
                membership: store.state.in_force.seq,
                now: Some(time::to_proto(now)),
                leases: vec![inner.lease(key)],
                early: true,
            })
        })
        .await
    }

    /// What this run was granted by such an operation.
    pub(super) async fn claimed(&self, claim: LeaseRef) -> Result<Option<Leased>, sqlite::Error> {
        self.with(move |_, store| Ok(store.claimed.remove(&claim.token).and_then(Taken::read))).await
    }

    /// The last commit that decided something, and the last one of all that was applied.
    pub(super) async fn decisions(&self) -> Result<(u64, u64), sqlite::Error> {
        self.with(|_, store| Ok((store.state.control, store.state.position))).await
    }

    /// What tells a decision of this run from all others.
    pub(super) fn next_decision(&self) -> i64 {
        token(self.inner.me.run, self.inner.last_decision.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Whether it is the last decision of this run that was applied.
    pub(super) async fn is_decided(&self, decision: i64) -> Result<bool, sqlite::Error> {
        self.with(move |_, store| Ok(store.decided == number_of(decision))).await
    }

    /// Asks.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, sqlite::Error> {
        self.with(move |_, store| query(&store.connection)).await
    }

    /// The last commit that planned.
    pub(super) async fn planning(&self) -> Result<u64, sqlite::Error> {
        self.with(|_, store| Ok(store.state.planning)).await
    }

    /// Forgets all and begins at the start of a journal that does not reach back to where this copy is.
    pub(super) async fn begin_anew(&self, before: u64) -> Result<(), sqlite::Error> {
        self.with(move |_, store| store.begin_anew(before)).await
    }

    /// Forgets events before a place: they are gone.
    pub(super) async fn forget(&self, before: u64) -> Result<(), sqlite::Error> {
        self.with(move |_, store| {
            store.connection.execute("DELETE FROM planned WHERE seq < ?", [before]).map(drop)
        })
        .await
    }

    /// Brings everything to the disk.
    pub(super) async fn close(&self) -> Result<(), sqlite::Error> {
        self.with(|_, store| derived::close(&store.connection)).await
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // Whoever panicked left a transaction open, which the next one rolls back.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// A lease that nobody had before.
    fn lease(&self, (event_seq, route): Key) -> LeaseRef {
        let number = self.last_lease.fetch_add(1, Ordering::AcqRel) + 1;
        LeaseRef { event_seq, route, token: token(self.me.run, number) }
    }

    fn announce(&self, store: &mut Store, facts: Vec<(u64, Arc<Fact>, usize)>) {
        let state = &store.state;
        // Before the signals: whoever they wake finds it there.
        self.newest_facts.extend(facts, end_of(state.position));
        if **self.membership.borrow() != *state.in_force {
            if mem::take(&mut store.was_left_out) {
                // Whatever this run holds, others may have by now.
                self.void.store(self.last_lease.load(Ordering::Acquire), Ordering::Release);
            }
            self.membership.send_replace(Arc::clone(&state.in_force));
            store.queue.changed = true;
        }
        self.planned.send_if_modified(|planned| mem::replace(planned, state.planned) != state.planned);
        self.position.send_replace(state.position);
        if mem::take(&mut store.queue.changed) {
            self.deliveries.notify_waiters();
        }
    }
}
