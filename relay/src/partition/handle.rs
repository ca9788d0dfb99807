//! By which the rest of the relay talks to the owners of partitions.

use crate::decisions::{probe::NoProbe, replay::Wish};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use talaria_bus::Partition;
use talaria_proto::v1::{Record, ReplayJob};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};

/// What identifies a delivery in a partition: its event's sequence and its route's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub event_seq: u64,
    pub route: i64,
}

/// Who asked for something and why; [`Wish`] with its own texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditInfo {
    pub by: String,
    pub token: String,
    pub reason: String,
    pub job: String,
}

impl AuditInfo {
    pub(crate) fn at(&self, now: Timestamp) -> Wish<'_> {
        Wish { now, by: &self.by, token: &self.token, reason: &self.reason, job: &self.job }
    }
}

/// What an owner can be asked to do.
pub(crate) enum Command {
    /// Append these records.
    Append(Vec<Record>),
    /// Cancel a delivery that waits.
    Cancel(Key, AuditInfo),
    /// Send a delivery that waits under a new generation, at once.
    Replay(Key, AuditInfo),
    /// Have a shut route probed now.
    Probe { tenant: String, route: String, audit: AuditInfo },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotDone {
    /// The partition is not owned here any more. It may have been carried out or not.
    #[error("the partition has another owner now")]
    Lost,
    /// The delivery does not wait.
    #[error("it does not wait")]
    NotWaiting,
    /// An attempt of the delivery is under way.
    #[error("an attempt is under way")]
    UnderWay,
    /// The records do not fit into one commit.
    #[error("it is too large for one commit")]
    TooLarge,
    /// The route is not probed.
    #[error("the route {0}")]
    NoProbe(NoProbe),
}

/// A command's answer: the sequence of the commit that carried it out.
pub(crate) type Done = Result<u64, NotDone>;

/// The state of a lane, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneGauges {
    pub tenant: Arc<str>,
    pub route: Arc<str>,
    /// Deliveries that wait, those with an attempt under way among them.
    pub waiting: u64,
    /// Those of them that are due and not under way.
    pub due: u64,
    /// When the event of the oldest of them was received.
    pub oldest: Option<Timestamp>,
    pub is_shut: bool,
    pub is_paused: bool,
}

/// The state of a partition, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionGauges {
    pub lanes: Vec<LaneGauges>,
    /// All events up to this sequence are planned.
    pub planned_through: u64,
    /// Replay jobs that run.
    pub jobs: Vec<ReplayJob>,
}

/// What an owner is sent.
pub(crate) enum Request {
    Command(Command, oneshot::Sender<Done>),
    Gauges(oneshot::Sender<PartitionGauges>),
    Jobs(oneshot::Sender<Vec<ReplayJob>>),
}

/// The owner of a partition, in this relay. Clones share it.
#[derive(Clone)]
pub(crate) struct Owner {
    pub partition: Partition,
    requests: mpsc::Sender<Request>,
    /// The last commit that is durable.
    committed: watch::Receiver<u64>,
    deciding: Arc<tokio::sync::Mutex<()>>,
}

/// The right to decide in a partition by what its view shows, up to the commit `seq`: nothing else decides meanwhile.
pub(crate) struct Turn {
    pub seq: u64,
    _guard: OwnedMutexGuard<()>,
}

impl Owner {
    pub(super) fn new(
        partition: Partition,
        requests: mpsc::Sender<Request>,
        committed: watch::Receiver<u64>,
    ) -> Self {
        Self { partition, requests, committed, deciding: Arc::default() }
    }

    /// Waits until nothing else decides. What was decided before stands in the journal up to `Turn::seq`.
    pub(crate) async fn turn(&self) -> Turn {
        let guard = Arc::clone(&self.deciding).lock_owned().await;
        Turn { seq: *self.committed.borrow(), _guard: guard }
    }

    /// The last commit that is durable.
    pub(crate) fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Carries a command out. The caller holds a [`Turn`] of this partition if what it asks for depends on the view.
    pub(crate) async fn command(&self, command: Command) -> Done {
        self.ask(|reply| Request::Command(command, reply)).await.unwrap_or(Err(NotDone::Lost))
    }

    /// The state of its lanes; `None` when the partition is not owned any more.
    pub(crate) async fn gauges(&self) -> Option<PartitionGauges> {
        self.ask(Request::Gauges).await
    }

    /// The replay jobs that run; `None` when the partition is not owned any more.
    pub(crate) async fn jobs(&self) -> Option<Vec<ReplayJob>> {
        self.ask(Request::Jobs).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The owners in this relay. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<watch::Sender<BTreeMap<Partition, Owner>>>);

impl Owners {
    fn lock(&self) -> watch::Ref<'_, BTreeMap<Partition, Owner>> {
        self.0.borrow()
    }

    /// Changes whenever a partition is taken over or given up.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<Partition, Owner>> {
        self.0.subscribe()
    }

    /// The owner of a partition, if it is owned here.
    pub(crate) fn of(&self, partition: Partition) -> Option<Owner> {
        self.lock().get(&partition).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Owner> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn insert(&self, owner: Owner) {
        self.0.send_modify(|owners| drop(owners.insert(owner.partition, owner)));
    }

    pub(super) fn remove(&self, partition: Partition) {
        self.0.send_modify(|owners| drop(owners.remove(&partition)));
    }
}

/// Who owns which partitions, as far as this relay knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// By relay id, without this one: the partitions that it announced as its own.
    pub others: BTreeMap<String, Vec<Partition>>,
}

/// How long an owner of another relay may take to answer.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
