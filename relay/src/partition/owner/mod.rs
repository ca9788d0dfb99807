//! The owner of a partition: the task that feeds a [`Machine`], appends its commits and performs its actions.
//!
//! One commit is appended at a time; all records that come meanwhile go with the next one. A commit with an action, an attempt
//! or the answer to an operator, is appended at once. A commit without one, above all with the ends of attempts, waits for a
//! moment to be joined by others: a busy partition then appends once and not twice for each event.
//!
//! - [`take_over`](mod@take_over): from a partition's journal to its owner.
//! - [`planning`]: the events that came in. [`upkeep`]: the clock and the retention.
//! - [`jobs`]: questions to OpenRouter about jobs. [`files`]: copies of their files.
//! - [`attempts`]: attempts under way, by the [`sender`]. [`reading`]: events that are read meanwhile.

mod attempts;
mod files;
mod jobs;
mod planning;
mod reading;
mod sender;
mod take_over;
mod upkeep;

pub(crate) use sender::Sender;
pub(crate) use take_over::{Replay, TakeOverError, take_over};

use super::{
    clock_guard::ClockGuard,
    handle::OwnerRequest,
    machine::{Action, Machine},
    recent::RecentEvents,
};
use crate::view::{Fed, Feed, View};
use crate::{clock::Clock, notices};
use attempts::RunningAttempts;
use jiff::Timestamp;
use jobs::Answered;
use metrics::counter;
use std::{collections::VecDeque, future::Future, ops::ControlFlow, pin::Pin, sync::Arc, time::Duration};
use talaria_bus::{AppendError, Bus, Floors, Journal, Partition, Stored};
use talaria_core::config::Config;
use talaria_proto::v1::{Commit, Event, EventCarried};
use talaria_telemetry::trace::{Span, Tracer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The most permits that are acquired at a time.
const PERMITS: usize = 64;

/// The length of the queue of requests.
const REQUESTS: usize = 64;

/// The most events that are carried at a time.
const CARRIED: usize = 16;

/// The most time that records without an action wait for others. After a crash, attempts whose end was not recorded yet are
/// repeated.
const GATHERING: Duration = Duration::from_millis(5);

/// The interval of the upkeep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The dependencies of an owner. Clones share them.
#[derive(Clone)]
pub(crate) struct Tools {
    pub bus: Bus,
    pub clock: Clock,
    pub config: watch::Receiver<Arc<Config>>,
    pub sender: Sender,
    /// The limit of deliveries in flight.
    pub in_flight: Arc<Semaphore>,
    pub recent: RecentEvents,
    pub feed: Feed,
    pub view: View,
}

/// The part of the streams that a partition needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Nothing before these sequences.
    pub floors: Floors,
    /// Its events up to this sequence were planned. If the stream of events ends before it, the stream lost its end.
    pub planned_through: u64,
}

fn needs(machine: &Machine) -> Needs {
    Needs { floors: machine.floors(), planned_through: machine.planned_through() }
}

/// Why a partition is not owned any more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Given up in order.
    Closed,
    /// Given up while some attempts had not ended in time.
    GivenUp,
    /// Another relay owns it.
    Overtaken,
    /// The journal lost its end, or the bus stopped.
    Broken(AppendError),
}

struct Appended {
    journal: Journal,
    commit: Arc<Commit>,
    actions: Vec<Action>,
    outcome: Result<u64, AppendError>,
}

type Appending = Pin<Box<dyn Future<Output = Appended> + Send>>;

/// The owner's state while it runs.
pub(crate) struct Running {
    tools: Tools,
    partition: Partition,
    machine: Machine,
    /// `None` during an append.
    journal: Option<Journal>,
    appending: Option<Appending>,
    /// When the waiting records are appended, even without an action.
    append_at: Option<Instant>,
    last: u64,
    committed: watch::Sender<u64>,
    needs: watch::Sender<Needs>,
    requests: mpsc::Receiver<OwnerRequest>,
    attempts: RunningAttempts,
    /// Questions to OpenRouter.
    asked: JoinSet<Answered>,
    /// Whether files of old jobs are being removed.
    is_removing: bool,
    clock_guard: ClockGuard,
    /// Free permits, and those of attempts whose commit is not durable yet, in the order of the attempts.
    permits: Vec<OwnedSemaphorePermit>,
    promised: VecDeque<OwnedSemaphorePermit>,
    events: mpsc::Receiver<Vec<Stored>>,
    carried: mpsc::Receiver<(u64, EventCarried)>,
    carrying: mpsc::Sender<(u64, EventCarried)>,
    renewed: mpsc::Receiver<u64>,
    renewing: mpsc::Sender<u64>,
    /// Reads of events, and notices to publish; they end with the owner.
    tasks: JoinSet<()>,
    tracer: Tracer,
    /// The spans of the plans in the commit that is being built.
    spans: Vec<Span>,
}

impl Running {
    /// Runs until `stop`, and then gives the partition up: attempts under way have `relay.drain` to end.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Ended {
        let mut config = self.tools.config.clone();
        let (mut looks, mut drained) = (tokio::time::interval(UPKEEP_INTERVAL), None);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let starved = self.dispatch();
            self.poll_jobs();
            self.keep_files();
            self.append();
            if drained.is_some() && self.machine.is_idle() && self.appending.is_none() {
                return self.close().await;
            }
            let takes = self.machine.has_room(0);
            let plans = takes && drained.is_none();
            let next_due = if self.appending.is_some() { None } else { self.machine.next_due() };
            let next_job = if takes { self.machine.next_due_job() } else { None };
            let in_flight = Arc::clone(&self.tools.in_flight);
            let clock = self.tools.clock.clone();
            let flow = tokio::select! {
                appended = append_ended(&mut self.appending) => self.appended(appended),
                Some(ended) = self.attempts.endings.recv(), if takes => {
                    self.attempts_ended(ended);
                    ControlFlow::Continue(())
                }
                Some(answered) = self.asked.join_next(), if takes => {
                    self.answered(answered);
                    ControlFlow::Continue(())
                }
                Some(stored) = self.events.recv(), if plans => {
                    self.plan(&stored);
                    ControlFlow::Continue(())
                }
                Some(request) = self.requests.recv(), if takes => {
                    self.request(request);
                    ControlFlow::Continue(())
                }
                Ok(()) = config.changed() => {
                    let config = Arc::clone(&config.borrow_and_update());
                    self.machine.configure(config);
                    ControlFlow::Continue(())
                }
                Some((seq, carried)) = self.carried.recv(), if takes => {
                    let now = self.now();
                    self.machine.carry(seq, carried, now);
                    ControlFlow::Continue(())
                }
                Some(quiet) = self.renewed.recv(), if takes => {
                    let now = self.now();
                    self.machine.renew(quiet, now);
                    ControlFlow::Continue(())
                }
                _ = looks.tick() => {
                    self.look();
                    ControlFlow::Continue(())
                }
                () = gathered(self.append_at), if self.journal.is_some() => ControlFlow::Continue(()),
                () = sleep_until(&clock, next_due), if next_due.is_some() && !starved => ControlFlow::Continue(()),
                () = sleep_until(&clock, next_job), if next_job.is_some() => ControlFlow::Continue(()),
                Ok(permit) = in_flight.acquire_owned(), if starved => {
                    self.permits.push(permit);
                    ControlFlow::Continue(())
                }
                () = stop.cancelled(), if drained.is_none() => {
                    self.machine.drain();
                    self.permits.clear();
                    let drain = self.tools.config.borrow().relay.drain;
                    drained = Some(Box::pin(tokio::time::sleep(drain)));
                    ControlFlow::Continue(())
                }
                () = over(&mut drained), if drained.is_some() => {
                    tracing::warn!(partition = %self.partition, "attempts given up after the drain timeout");
                    ControlFlow::Break(self.give_up().await)
                }
            };
            if let ControlFlow::Break(ended) = flow {
                return ended;
            }
        }
    }

    /// Begins attempts of due deliveries, as far as there are permits. Whether more deliveries are due.
    fn dispatch(&mut self) -> bool {
        let now = self.now();
        loop {
            if !self.machine.has_room(0) || self.machine.next_due().is_none_or(|due| due > now) {
                self.permits.clear();
                return false;
            }
            while self.permits.len() < PERMITS
                && let Ok(permit) = Arc::clone(&self.tools.in_flight).try_acquire_owned()
            {
                self.permits.push(permit);
            }
            if self.permits.is_empty() {
                return true;
            }
            let begun = self.machine.dispatch(self.permits.len(), now, rand::random);
            let kept = self.permits.len().saturating_sub(begun);
            self.promised.extend(self.permits.drain(kept..));
            if begun == 0 {
                self.permits.clear();
                return false;
            }
        }
    }

    /// Appends the waiting records, if it is time to.
    fn append(&mut self) {
        if self.machine.has_records() {
            let now = Instant::now();
            let at = *self.append_at.get_or_insert(now + GATHERING);
            if at <= now || self.machine.is_awaited() || !self.machine.has_room(0) {
                self.append_at_once();
            }
        }
    }

    /// Appends the waiting records, unless a commit is being appended.
    fn append_at_once(&mut self) {
        if self.machine.has_records()
            && let Some(mut journal) = self.journal.take()
        {
            self.append_at = None;
            let (commit, actions) = self.machine.take_commit();
            let spans = std::mem::take(&mut self.spans);
            self.appending = Some(Box::pin(async move {
                let commit = Arc::new(commit);
                let outcome = journal.append(Arc::clone(&commit)).await;
                drop(spans);
                Appended { journal, commit, actions, outcome }
            }));
        }
    }

    /// Ends an append: the commit is durable, or the partition is lost.
    fn appended(&mut self, Appended { journal, commit, actions, outcome }: Appended) -> ControlFlow<Ended> {
        self.appending = None;
        let seq = match outcome {
            Ok(seq) => seq,
            Err(AppendError::Overtaken) => return ControlFlow::Break(Ended::Overtaken),
            Err(error) => {
                tracing::error!(%error, partition = %self.partition, "journal append failed");
                counter!("talaria_journal_lost_total").increment(1);
                return ControlFlow::Break(Ended::Broken(error));
            }
        };
        self.journal = Some(journal);
        self.machine.committed(seq);
        let previous = std::mem::replace(&mut self.last, seq);
        self.tools.feed.send(Fed::Committed { partition: self.partition, previous, seq, commit });
        self.committed.send_replace(seq);
        for action in actions {
            match action {
                Action::Attempt(mut attempt) => {
                    let now = self.now();
                    self.machine.goes_out(&mut attempt, now);
                    self.attempt(attempt);
                }
                Action::Submit(submit) => self.submit(*submit),
                Action::Publish(notice) => self.publish(*notice),
                // The caller may have gone.
                Action::Reply(reply) => drop(reply.send(Ok(seq))),
            }
        }
        ControlFlow::Continue(())
    }

    /// Publishes a recorded notice. If this owner ends before, the next one publishes it.
    fn publish(&mut self, notice: Event) {
        self.tasks.spawn(notices::publish(self.tools.bus.publisher(), notice));
    }

    fn request(&mut self, request: OwnerRequest) {
        let now = self.now();
        // The caller may have gone.
        match request {
            OwnerRequest::Command(command, reply) => self.machine.command(command, reply, now),
            OwnerRequest::Gauges(reply) => drop(reply.send(self.machine.gauges(now))),
            OwnerRequest::Job(id, reply) => drop(reply.send(self.machine.job(&id).map(Box::new))),
            OwnerRequest::Paces(reply) => drop(reply.send(self.machine.paces(now))),
            OwnerRequest::Replays(reply) => drop(reply.send(self.machine.replays())),
        }
    }

    /// Appends `Closed`.
    async fn close(&mut self) -> Ended {
        let now = self.now();
        self.machine.close(now);
        self.append_at_once();
        let appended = append_ended(&mut self.appending).await;
        match self.appended(appended) {
            ControlFlow::Break(ended) => ended,
            ControlFlow::Continue(()) => Ended::Closed,
        }
    }

    /// Appends the waiting records, and leaves attempts under way to the next owner.
    async fn give_up(&mut self) -> Ended {
        while self.appending.is_some() || self.machine.has_records() {
            self.append_at_once();
            let appended = append_ended(&mut self.appending).await;
            if let ControlFlow::Break(ended) = self.appended(appended) {
                return ended;
            }
        }
        Ended::GivenUp
    }
}

async fn append_ended(appending: &mut Option<Appending>) -> Appended {
    match appending {
        Some(appending) => appending.await,
        None => std::future::pending().await,
    }
}

async fn gathered(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &Clock, time: Option<Timestamp>) {
    match time {
        Some(time) => clock.sleep_towards(time).await,
        None => std::future::pending().await,
    }
}

async fn over(drained: &mut Option<Pin<Box<tokio::time::Sleep>>>) {
    match drained {
        Some(drained) => drained.await,
        None => std::future::pending().await,
    }
}
