//! The owner of a partition: the task that feeds a [`Machine`], appends its commits and does what it decides.
//!
//! One commit is on its way at a time; everything that happens meanwhile goes with the next one. A commit with something that
//! waits for it, an attempt or the answer to an operator, goes at once. What only has to be known later, above all how attempts
//! ended, is given a moment to go along: a busy partition then appends once and not twice for each event.
//!
//! [`take_over`] makes an owner. [`attempts`] are under way beside it, and so is what it reads ([`reading`]).

mod attempts;
mod reading;
mod take_over;

pub(crate) use take_over::{TakeOverError, take_over};

use super::{
    clock_guard::{ClockGuard, Look},
    handle::Request,
    machine::{Action, Keeping, Machine, Planned},
    recent::RecentEvents,
};
use crate::{
    clock::Clock,
    decisions::unmatched::why_unmatched,
    delivery::attempt::Sender,
    view::{Fed, Feed, View},
};
use attempts::Attempts;
use jiff::Timestamp;
use metrics::counter;
use opentelemetry::KeyValue;
use reading::read_carried;
use std::{
    collections::VecDeque,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_bus::{AppendError, Bus, Floors, Incoming, Journal, Partition, Stored};
use talaria_core::config::Config;
use talaria_proto::v1::{Commit, Event, EventCarried};
use talaria_telemetry::{
    LogLimiter,
    trace::{Kind, Span, Tracer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Permits that are asked for in one go.
const PERMITS: usize = 64;

/// Requests that wait; who asks after that waits outside.
const REQUESTS: usize = 64;

/// Events that are carried in one go.
const CARRIED: usize = 16;

/// How long records gather that nothing waits for. After a crash, attempts whose end was not recorded yet are repeated.
const GATHERING: Duration = Duration::from_millis(5);

/// How often the clocks are compared, and it is looked for what is to be kept or forgotten, and for pauses that are over.
const LOOK: Duration = Duration::from_secs(5);

/// What an owner works with. Clones share it.
#[derive(Clone)]
pub(crate) struct Tools {
    pub bus: Bus,
    pub clock: Clock,
    pub config: watch::Receiver<Arc<Config>>,
    pub sender: Sender,
    /// How many deliveries the relay has in hand at once.
    pub hands: Arc<Semaphore>,
    pub recent: RecentEvents,
    pub feed: Feed,
    pub view: View,
}

/// What a partition needs of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Nothing before these sequences.
    pub floors: Floors,
    /// Its events up to this sequence were planned: a stream of events that ends before lost its end.
    pub planned_through: u64,
}

fn needs(machine: &Machine) -> Needs {
    Needs { floors: machine.floors(), planned_through: machine.planned_through() }
}

/// Why a partition is not owned any more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was given up in order.
    Closed,
    /// It was given up, and some attempts had not ended in time.
    GivenUp,
    /// Another relay has it.
    Overtaken,
    /// The journal lost its end, or the bus stopped.
    Broken(AppendError),
}

/// A commit that was appended, with the journal that it was appended to.
struct Appended {
    journal: Journal,
    commit: Arc<Commit>,
    actions: Vec<Action>,
    outcome: Result<u64, AppendError>,
}

type Appending = Pin<Box<dyn Future<Output = Appended> + Send>>;

/// A partition that was taken over.
pub(crate) struct Running {
    tools: Tools,
    partition: Partition,
    machine: Machine,
    /// `None` while it appends.
    journal: Option<Journal>,
    appending: Option<Appending>,
    /// When the records that have gathered are appended, though nothing waits for them.
    append_at: Option<Instant>,
    last: u64,
    committed: watch::Sender<u64>,
    needs: watch::Sender<Needs>,
    requests: mpsc::Receiver<Request>,
    attempts: Attempts,
    clock_guard: ClockGuard,
    /// Hands that are free, and those of attempts whose commit is not durable yet, in their order.
    permits: Vec<OwnedSemaphorePermit>,
    promised: VecDeque<OwnedSemaphorePermit>,
    events: mpsc::Receiver<Vec<Stored>>,
    carried: mpsc::Receiver<(u64, EventCarried)>,
    carrying: mpsc::Sender<(u64, EventCarried)>,
    renewed: mpsc::Receiver<u64>,
    renewing: mpsc::Sender<u64>,
    /// Read ahead, and carried; they end with the owner.
    tasks: JoinSet<()>,
    tracer: Tracer,
    /// Of the plans in the commit that is being built.
    spans: Vec<Span>,
}

impl Running {
    /// Works until it is told to stop, and then gives the partition up: what is under way has `relay.drain` to end.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Ended {
        let mut config = self.tools.config.clone();
        let (mut looks, mut drained) = (tokio::time::interval(LOOK), None);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let starved = self.dispatch();
            self.append();
            if drained.is_some() && self.machine.is_idle() && self.appending.is_none() {
                return self.close().await;
            }
            let takes = self.machine.has_room(0);
            let plans = takes && drained.is_none();
            let next_due = if self.appending.is_some() { None } else { self.machine.next_due() };
            let hands = Arc::clone(&self.tools.hands);
            let clock = self.tools.clock.clone();
            let flow = tokio::select! {
                appended = append_ended(&mut self.appending) => self.appended(appended),
                Some(ended) = self.attempts.endings.recv(), if takes => {
                    self.attempts_ended(ended);
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
                Ok(permit) = hands.acquire_owned(), if starved => {
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
                    tracing::warn!(partition = %self.partition, "giving up on attempts that did not end in time");
                    ControlFlow::Break(self.give_up().await)
                }
            };
            if let ControlFlow::Break(ended) = flow {
                return ended;
            }
        }
    }

    /// Begins attempts of what is due, as far as the relay has hands for it; says whether more is due than that.
    fn dispatch(&mut self) -> bool {
        let now = self.now();
        loop {
            if !self.machine.has_room(0) || self.machine.next_due().is_none_or(|due| due > now) {
                self.permits.clear();
                return false;
            }
            while self.permits.len() < PERMITS
                && let Ok(permit) = Arc::clone(&self.tools.hands).try_acquire_owned()
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

    /// Appends what has gathered, once it is time to.
    fn append(&mut self) {
        if self.machine.has_records() {
            let now = Instant::now();
            let at = *self.append_at.get_or_insert(now + GATHERING);
            if at <= now || self.machine.is_awaited() || !self.machine.has_room(0) {
                self.append_at_once();
            }
        }
    }

    /// Appends what has gathered, unless a commit is on its way.
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

    /// A commit is durable, or the partition is lost.
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
                // The caller may have gone.
                Action::Reply(reply) => drop(reply.send(Ok(seq))),
            }
        }
        ControlFlow::Continue(())
    }

    fn plan(&mut self, stored: &[Stored]) {
        let now = self.now();
        for stored in stored {
            let planned = self.machine.event(stored, now);
            let Incoming::Event(event) = &stored.what else { continue };
            match planned {
                Planned::ForRoutes => {
                    self.tools.recent.insert(stored.seq, event);
                    counter!("talaria_events_planned_total", "routes" => "some").increment(1);
                }
                Planned::ForNone => {
                    counter!("talaria_events_planned_total", "routes" => "none").increment(1);
                    self.warn_unmatched(event);
                }
                Planned::Repeated => counter!("talaria_events_repeated_total", "body" => "same").increment(1),
                Planned::Conflict => {
                    counter!("talaria_events_repeated_total", "body" => "other").increment(1);
                    tracing::warn!(
                        event = event.id,
                        tenant = event.tenant,
                        kind = event.r#type,
                        job = event.job_id,
                        "event repeated with another body; the first one stands"
                    );
                }
                Planned::Nothing => continue,
            }
            self.spans.push(self.span(event));
        }
    }

    /// Says that nothing is sent for an event: OpenRouter was answered 204 all the same.
    fn warn_unmatched(&self, event: &Event) {
        static UNMATCHED: LogLimiter = LogLimiter::new();
        let Some(left_out) = UNMATCHED.admit() else { return };
        let config = Arc::clone(&self.tools.config.borrow());
        let because = why_unmatched(&event.r#type, config.tenants.get(&event.tenant).map(AsRef::as_ref));
        let help = format!(
            "talaria explain {id} says why, and talaria replay {id} --route ROUTE hands it over once a route takes it",
            id = event.id
        );
        tracing::warn!(
            event = event.id,
            tenant = event.tenant,
            kind = event.r#type,
            job = event.job_id,
            because,
            help,
            left_out,
            "no route takes an event"
        );
    }

    /// The span of an event's plan, which ends when that is durable.
    fn span(&self, event: &Event) -> Span {
        let mut span = self.tracer.span("plan", Kind::Consumer, &event.traceparent, SystemTime::now());
        span.set_attributes(|| {
            vec![
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", "events"),
                KeyValue::new("messaging.message.id", event.id.clone()),
                KeyValue::new("talaria.tenant", event.tenant.clone()),
                KeyValue::new("talaria.event.id", event.id.clone()),
            ]
        });
        span
    }

    fn request(&mut self, request: Request) {
        let now = self.now();
        // Who asked may have gone.
        match request {
            Request::Command(command, reply) => self.machine.command(command, reply, now),
            Request::Gauges(reply) => drop(reply.send(self.machine.gauges(now))),
            Request::Jobs(reply) => drop(reply.send(self.machine.jobs())),
        }
    }

    /// What time it is. Each reading is compared with the time since boot, so that no record has a wrong time unnoticed.
    fn now(&mut self) -> Timestamp {
        let now = self.tools.clock.now();
        match self.clock_guard.look(now, self.tools.clock.since_boot()) {
            Look::Steady => {}
            Look::Back(by) => {
                tracing::warn!(partition = %self.partition, ?by, "the wall clock was set back; what waits is due as much earlier");
                self.machine.set_back(now);
            }
            Look::Forward(by) => {
                tracing::warn!(
                    partition = %self.partition, ?by,
                    "the wall clock was set forward; nothing is parked by age or forgotten until it has settled"
                );
            }
        }
        self.machine.set_clock_settled(self.clock_guard.is_settled());
        now
    }

    /// Keeps what the retention asks for.
    fn look(&mut self) {
        let now = self.now();
        self.machine.end_pauses(now);
        let Keeping { renew, carry } = self.machine.keep(now, CARRIED);
        if renew {
            let (bus, partition, renewing) = (self.tools.bus.clone(), self.partition, self.renewing.clone());
            let planned = self.machine.planned_through();
            self.tasks.spawn(async move {
                match bus.empty_through(partition, planned).await {
                    // The owner may have gone.
                    Ok(quiet) => drop(renewing.send(quiet).await),
                    Err(error) => {
                        static FAILED: LogLimiter = LogLimiter::new();
                        if let Some(left_out) = FAILED.admit() {
                            tracing::warn!(%error, %partition, left_out, "cannot tell what was planned");
                        }
                    }
                }
            });
        }
        for seq in carry {
            let (bus, view) = (self.tools.bus.clone(), self.tools.view.clone());
            let (payload, carrying) = (self.machine.payload(seq), self.carrying.clone());
            let tasks = self.machine.tasks_of(seq);
            self.tasks.spawn(async move {
                if let Some(carried) = read_carried(&bus, &view, seq, payload, tasks).await {
                    // The owner may have gone.
                    let _ = carrying.send((seq, carried)).await;
                }
            });
        }
        while self.tasks.try_join_next().is_some() {}
        let now = needs(&self.machine);
        self.needs.send_if_modified(|known| std::mem::replace(known, now) != now);
    }

    /// Appends that the partition is given up in order.
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

    /// Leaves what is under way to the next owner, once what is known is recorded.
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
