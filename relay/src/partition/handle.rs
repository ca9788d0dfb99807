//! The handles of the owners in this relay: commands, gauges, and the turn to decide.

use crate::{
    decisions::{audit::AuditInfo, pace::PaceUse, probe::NoProbe},
    delivery_key::DeliveryKey,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};
use talaria_bus::Partition;
use talaria_proto::v1::{Job, Record, ReplayJob, StartJob};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};

/// A request that changes something.
pub(crate) enum Command {
    Append(Vec<Record>),
    /// Of a waiting delivery.
    Cancel(DeliveryKey, AuditInfo),
    /// Of a waiting delivery: sends it now, under a new generation.
    Replay(DeliveryKey, AuditInfo),
    /// Records a run, with the record that the view's delivery gives.
    ReportRun(DeliveryKey, Box<Record>),
    StartJob(Box<StartJob>),
    StopJob {
        id: String,
        audit: AuditInfo,
    },
    /// Of a shut route, now.
    Probe {
        tenant: String,
        route: String,
        audit: AuditInfo,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotDone {
    /// The partition is not owned here any more. The command may have been carried out or not.
    #[error("the partition has another owner now")]
    Lost,
    #[error("it does not wait")]
    NotWaiting,
    #[error("an attempt is under way")]
    UnderWay,
    #[error("it is too large for one commit")]
    TooLarge,
    #[error("the route {0}")]
    NoProbe(NoProbe),
    /// The same request came before, or a job with the same id at OpenRouter is known. Has the job's id.
    #[error("the job {0} is known")]
    JobKnown(String),
    #[error("another request came under the same id")]
    OtherRequest,
    #[error("{0}")]
    OverBudget(String),
    #[error("the tenant has no openrouter.api_key")]
    NoApiKey,
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
    /// Due deliveries that are not under way.
    pub due: u64,
    /// When the event of the oldest waiting delivery was received.
    pub oldest: Option<Timestamp>,
    pub is_shut: bool,
    pub is_paused: bool,
}

/// How much of a lane's pace is used, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LanePace {
    pub tenant: Arc<str>,
    pub route: Arc<str>,
    pub usage: PaceUse,
}

/// The state of a partition, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionGauges {
    pub lanes: Vec<LaneGauges>,
    /// All events up to this sequence are planned.
    pub planned_through: u64,
    /// Running replay jobs.
    pub replays: Vec<ReplayJob>,
    /// The number of open jobs at OpenRouter, by [`job::OPEN_STATES`](crate::decisions::job::OPEN_STATES).
    pub open_jobs: [usize; 3],
}

pub(crate) enum OwnerRequest {
    Command(Command, oneshot::Sender<Done>),
    Gauges(oneshot::Sender<PartitionGauges>),
    Paces(oneshot::Sender<Vec<LanePace>>),
    Replays(oneshot::Sender<Vec<ReplayJob>>),
    Job(String, oneshot::Sender<Option<Box<Job>>>),
}

/// The owner of a partition, in this relay. Clones share it.
#[derive(Clone)]
pub(crate) struct Owner {
    pub partition: Partition,
    requests: mpsc::Sender<OwnerRequest>,
    /// The last commit that is durable.
    committed: watch::Receiver<u64>,
    deciding: Arc<tokio::sync::Mutex<()>>,
}

/// The exclusive right to decide in a partition by its view, up to the commit `seq`.
pub(crate) struct Turn {
    pub seq: u64,
    _guard: OwnedMutexGuard<()>,
}

impl Owner {
    pub(super) fn new(
        partition: Partition,
        requests: mpsc::Sender<OwnerRequest>,
        committed: watch::Receiver<u64>,
    ) -> Self {
        Self { partition, requests, committed, deciding: Arc::default() }
    }

    /// Waits until no other turn is held. All earlier decisions are in the journal up to `Turn::seq`.
    pub(crate) async fn turn(&self) -> Turn {
        let guard = Arc::clone(&self.deciding).lock_owned().await;
        Turn { seq: *self.committed.borrow(), _guard: guard }
    }

    /// The last commit that is durable.
    pub(crate) fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Carries a command out. A command that depends on the view needs a [`Turn`] of this partition.
    pub(crate) async fn command(&self, command: Command) -> Done {
        self.ask(|reply| OwnerRequest::Command(command, reply)).await.unwrap_or(Err(NotDone::Lost))
    }

    /// The state of its lanes; `None` when the partition is not owned any more.
    pub(crate) async fn gauges(&self) -> Option<PartitionGauges> {
        self.ask(OwnerRequest::Gauges).await
    }

    /// The paces of its lanes that have one; `None` when the partition is not owned any more.
    pub(crate) async fn paces(&self) -> Option<Vec<LanePace>> {
        self.ask(OwnerRequest::Paces).await
    }

    /// The running replay jobs; `None` when the partition is not owned any more.
    pub(crate) async fn replays(&self) -> Option<Vec<ReplayJob>> {
        self.ask(OwnerRequest::Replays).await
    }

    /// A job at OpenRouter, with all records so far, also those that are not durable yet.
    pub(crate) async fn job(&self, id: &str) -> Option<Job> {
        let job = self.ask(|reply| OwnerRequest::Job(id.to_owned(), reply)).await?;
        job.map(|job| *job)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> OwnerRequest) -> Option<T> {
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

/// The owners of partitions in other relays, as far as this relay knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// The announced partitions by relay id.
    pub others: BTreeMap<String, Vec<Partition>>,
}
