//! The owner of a partition: the task that feeds a [`Machine`], appends its commits and does what it decides.
//!
//! One commit is on its way at a time; everything that happens meanwhile goes with the next one.

use super::{
    clock_guard::{ClockGuard, Look},
    handle::{Owner, Request},
    machine::{Account, Action, Attempt, Keeping, Machine, Outcome, Planned},
    recent::RecentEvents,
    state::{Payload, State},
};
use crate::{
    delivery::attempt::{Made, Sender, read_event},
    view::{Fed, Feed, View, query},
};
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use opentelemetry::KeyValue;
use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_bus::{
    AppendError, Bus, Clock, Error, Floors, Incoming, Journal, Partition, Stored,
    time::{from_proto, since},
    trace::{Kind, Span, Tracer, trace_id},
};
use talaria_core::config::Config;
use talaria_proto::v1::{
    Attempt as Attempted, AttemptOutcome, CarriedDelivery, Commit, Delivery, DeliveryState, DeliveryTask,
    Event, EventCarried,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Commits that are read in one go at a takeover.
const REPLAYED: usize = 1024;

/// Events that are taken in one go.
const EVENTS: usize = 256;

/// Ended attempts that are taken in one go: when hundreds of timeouts fall together, what is planned and sent for others
/// does not wait for all of them.
const ENDED: usize = 32;

/// Permits that are asked for in one go.
const PERMITS: usize = 64;

/// Requests that wait; who asks after that waits outside.
const REQUESTS: usize = 64;

/// Events that are carried in one go.
const CARRIED: usize = 16;

/// How often the clocks are compared, and it is looked for what is to be kept or forgotten.
const LOOK: Duration = Duration::from_secs(5);

/// How often it is looked whether the owner of a partition has given it up.
const OWNER_LOOK: Duration = Duration::from_millis(200);

/// The pause before the events are asked for again when the bus does not give them, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

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

/// An attempt that has ended.
struct AttemptEnded {
    attempt: Box<Attempt>,
    made: Made,
    _permit: OwnedSemaphorePermit,
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

/// Attempts that are under way.
struct Attempts {
    give_up: CancellationToken,
    ended: mpsc::UnboundedSender<AttemptEnded>,
    endings: mpsc::UnboundedReceiver<AttemptEnded>,
}

impl Drop for Attempts {
    fn drop(&mut self) {
        // What the journal says about them is for the next owner to find out.
        self.give_up.cancel();
    }
}

/// Reads a partition's journal to its end, and takes the partition over. What was under way then was interrupted. Where the
/// journal says that another relay owns it, that relay has to give it up before, or to be silent: `silence` says whether this
/// relay has listened for long enough to tell.
pub(crate) async fn take_over(
    tools: Tools,
    partition: Partition,
    mut silence: watch::Receiver<bool>,
    stop: &CancellationToken,
) -> Result<(Running, Owner, watch::Receiver<Needs>), TakeOverError> {
    let identity = tools.bus.identity().clone();
    let (mut state, mut last) = (State::default(), 0);
    loop {
        let commits = tools.bus.read(partition, last, REPLAYED).await?;
        let Some(newest) = commits.last() else {
            let is_owned = state.owner().is_some_and(|(relay, _)| relay != identity.relay);
            if !is_owned || *silence.borrow() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return Err(TakeOverError::Stopped),
                _ = silence.changed() => {}
                () = tokio::time::sleep(OWNER_LOOK) => {}
            }
            continue;
        };
        last = newest.seq;
        for committed in &commits {
            committed.commit.records.iter().for_each(|record| state.apply(record));
            state.close();
            state.committed(committed.seq);
        }
        tokio::task::yield_now().await;
    }
    check_events(&tools.bus, partition, &state).await?;
    let previous = state.owner().map(|(relay, run)| (relay.to_owned(), run));
    let config = Arc::clone(&tools.config.borrow());
    let now = tools.clock.now();
    let largest = tools.bus.largest_commit();
    let mut machine = Machine::open(partition, identity.clone(), state, config, largest, now);
    let mut journal = tools.bus.journal(partition, last);
    // One commit says that it is ours, and as many as it takes what was interrupted.
    loop {
        let (interrupted, more) = machine.interrupt(now, rand::random());
        counter!("talaria_attempts_total", "outcome" => "interrupted").increment(interrupted);
        let (commit, _) = machine.take_commit();
        last = journal.append(commit).await.map_err(TakeOverError::Append)?;
        machine.committed(last);
        if !more {
            break;
        }
    }
    match previous {
        Some((relay, run)) if (&relay, run) != (&identity.relay, identity.run) => {
            tracing::info!(%partition, from = relay, run, "partition taken over");
        }
        _ => tracing::debug!(%partition, "partition opened"),
    }
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (committed, committed_now) = watch::channel(last);
    let (needed, needed_now) = watch::channel(needs(&machine));
    let (ended, endings) = mpsc::unbounded_channel();
    tools.feed.send(Fed::Owned { partition, last });
    let clock_guard = ClockGuard::new(now, tools.clock.since_boot());
    let (incoming, events) = mpsc::channel(1);
    let (carrying, carried) = mpsc::channel(CARRIED);
    let (renewing, renewed) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(read_ahead(tools.bus.clone(), partition, machine.planned_through(), incoming));
    let running = Running {
        partition,
        machine,
        journal: Some(journal),
        appending: None,
        last,
        committed,
        needs: needed,
        requests: receiver,
        attempts: Attempts { give_up: CancellationToken::new(), ended, endings },
        clock_guard,
        permits: Vec::new(),
        promised: VecDeque::new(),
        events,
        carried,
        carrying,
        renewed,
        renewing,
        tasks,
        tracer: Tracer::default(),
        spans: Vec::new(),
        tools,
    };
    Ok((running, Owner::new(partition, requests, committed_now), needed_now))
}

/// Why a partition could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    #[error(transparent)]
    Bus(#[from] Error),
    #[error(transparent)]
    Append(AppendError),
    #[error("told to stop")]
    Stopped,
    #[error(
        "the events end at {last}, and {planned} of them were planned: their stream lost its end or was restored; nothing \
         is planned or removed until that is mended, see docs/errors/events-lost.md"
    )]
    EventsLost { last: u64, planned: u64 },
}

/// Fails when the events end before what was planned: what comes now would pass for planned. Says so when events are gone
/// that were never planned.
async fn check_events(bus: &Bus, partition: Partition, state: &State) -> Result<(), TakeOverError> {
    let planned = state.planned_through();
    if planned == 0 {
        return Ok(());
    }
    let bounds = bus.bounds().await?;
    if bounds.last_event < planned {
        return Err(TakeOverError::EventsLost { last: bounds.last_event, planned });
    }
    if bounds.first_event > planned + 1 {
        tracing::error!(%partition, planned, first = bounds.first_event, "events were removed before they were planned");
        counter!("talaria_events_lost_total").increment(1);
    }
    Ok(())
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

    /// Appends what has gathered, unless a commit is on its way.
    fn append(&mut self) {
        if self.machine.has_records()
            && let Some(mut journal) = self.journal.take()
        {
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

    fn attempt(&mut self, attempt: Box<Attempt>) {
        // Attempts and permits are in the same order.
        let Some(permit) = self.promised.pop_front() else { return };
        let (sender, ended) = (self.tools.sender.clone(), self.attempts.ended.clone());
        let (give_up, event) = (self.attempts.give_up.clone(), self.tools.recent.get(attempt.key.event_seq));
        gauge!("talaria_deliveries_in_hand").increment(1);
        tokio::spawn(async move {
            let made = tokio::select! {
                biased;
                // What is given up stays under way for the next owner, which marks it as interrupted.
                () = give_up.cancelled() => None,
                made = sender.send(&attempt, event) => Some(made),
            };
            if let Some(made) = made {
                // The owner may have gone.
                let _ = ended.send(AttemptEnded { attempt, made, _permit: permit });
            }
            gauge!("talaria_deliveries_in_hand").decrement(1);
        });
    }

    /// Takes attempts that ended: this one, and some that are there already.
    fn attempts_ended(&mut self, first: AttemptEnded) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(AttemptEnded { attempt, made, _permit }) = next {
            self.attempt_ended(&attempt, made);
            taken += 1;
            let more = taken < ENDED && self.machine.has_room(0);
            next = if more { self.attempts.endings.try_recv().ok() } else { None };
        }
    }

    fn attempt_ended(&mut self, attempt: &Attempt, made: Made) {
        let Made { outcome, mut span, http_status, took } = made;
        let now = self.now();
        let was_sent = matches!(outcome, Outcome::Sent(_));
        let Some(Account { task, verdict, ended }) =
            self.machine.ended(attempt, outcome, now, rand::random())
        else {
            return;
        };
        if let Some(verdict) = verdict {
            let outcome = outcome_name(verdict.outcome);
            span.say(|| {
                let status =
                    http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
                [KeyValue::new("talaria.outcome", outcome)].into_iter().chain(status).collect()
            });
            if is_failure(verdict.outcome) {
                span.fail(outcome);
            }
            let traceparent = span.traceparent();
            tracing::info!(
                delivery = task.delivery_id,
                tenant = task.tenant,
                route = task.route,
                attempt = task.attempts + 1,
                outcome,
                http_status,
                ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                detail = verdict.detail,
                trace = traceparent.as_deref().and_then(trace_id),
                "attempt"
            );
            counter!("talaria_attempts_total", "outcome" => outcome).increment(1);
        }
        if was_sent {
            histogram!("talaria_attempt_seconds").record(took);
        }
        if let Some(state) = ended {
            if !self.machine.waits(task.event_seq) {
                self.tools.recent.remove(task.event_seq);
            }
            let name = state.as_str_name().trim_start_matches("DELIVERY_STATE_").to_lowercase();
            counter!("talaria_deliveries_total", "state" => name).increment(1);
            histogram!("talaria_delivery_seconds").record(since(now, from_proto(task.received_at.as_ref())));
        }
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
                Planned::ForNone => counter!("talaria_events_planned_total", "routes" => "none").increment(1),
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

    /// The span of an event's plan, which ends when that is durable.
    fn span(&self, event: &Event) -> Span {
        let mut span = self.tracer.span("plan", Kind::Consumer, &event.traceparent, SystemTime::now());
        span.say(|| {
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
        let Keeping { renew, carry } = self.machine.keep(now, CARRIED);
        if renew {
            let (bus, partition, renewing) = (self.tools.bus.clone(), self.partition, self.renewing.clone());
            let planned = self.machine.planned_through();
            self.tasks.spawn(async move {
                match bus.quiet_through(partition, planned).await {
                    // The owner may have gone.
                    Ok(quiet) => drop(renewing.send(quiet).await),
                    Err(error) => tracing::warn!(%error, %partition, "cannot tell what was planned"),
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
        self.append();
        let appended = append_ended(&mut self.appending).await;
        match self.appended(appended) {
            ControlFlow::Break(ended) => ended,
            ControlFlow::Continue(()) => Ended::Closed,
        }
    }

    /// Leaves what is under way to the next owner, once what is known is recorded.
    async fn give_up(&mut self) -> Ended {
        while self.appending.is_some() || self.machine.has_records() {
            self.append();
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

/// Reads what comes into the partition behind a sequence, one step ahead, whatever happens to the bus meanwhile.
async fn read_ahead(bus: Bus, partition: Partition, mut after: u64, incoming: mpsc::Sender<Vec<Stored>>) {
    let mut delay = RETRY_DELAYS.0;
    loop {
        let read = async {
            let mut events = bus.events(partition, after).await?;
            loop {
                let stored = events.next(EVENTS).await?;
                (after, delay) = (stored.last().map_or(after, |stored| stored.seq), RETRY_DELAYS.0);
                if incoming.send(stored).await.is_err() {
                    return Ok::<_, Error>(());
                }
            }
        };
        match read.await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, %partition, "event subscription failed"),
        }
        tokio::time::sleep(delay).await;
        delay = (2 * delay).min(RETRY_DELAYS.1);
    }
}

/// An event with its payload, and its deliveries with what the view knows of them.
async fn read_carried(
    bus: &Bus,
    view: &View,
    seq: u64,
    payload: Payload,
    tasks: Vec<DeliveryTask>,
) -> Option<EventCarried> {
    let event = match read_event(bus, seq, payload).await {
        Ok(Some(event)) => (*event).clone(),
        Ok(None) => {
            tracing::error!(seq, "an event that still waits is not kept any more");
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, seq, "event read failed");
            return None;
        }
    };
    let known = view.read(move |connection| query::histories_of(connection, seq)).await;
    let mut known: HashMap<String, (Delivery, Vec<Attempted>)> = known
        .inspect_err(|error| tracing::warn!(%error, seq, "the status view cannot tell what is carried"))
        .unwrap_or_default()
        .into_iter()
        .map(|history| (history.delivery.id.clone(), (history.delivery, history.attempts)))
        .collect();
    let waiting = tasks.into_iter().map(|task| {
        let (delivery, attempts) = known.remove(&task.delivery_id).unzip();
        CarriedDelivery { task: Some(task), delivery, attempts: attempts.unwrap_or_default() }
    });
    let waiting = waiting.collect();
    let done = known.into_values().map(|(delivery, _)| delivery);
    let done = done.filter(|delivery| delivery.state() != DeliveryState::Waiting).collect();
    Some(EventCarried { event: Some(event), waiting, done })
}

/// The contract's name, in lower case and without what all of them begin with.
fn outcome_name(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Unspecified => "unspecified",
        AttemptOutcome::Accepted => "accepted",
        AttemptOutcome::Delivered => "delivered",
        AttemptOutcome::Duplicate => "duplicate",
        AttemptOutcome::Ignored => "ignored",
        AttemptOutcome::RateLimited => "rate_limited",
        AttemptOutcome::RouteFault => "route_fault",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::AnswerLost => "answer_lost",
        AttemptOutcome::Interrupted => "interrupted",
        AttemptOutcome::NotUnderstood => "not_understood",
    }
}

fn is_failure(outcome: AttemptOutcome) -> bool {
    use AttemptOutcome::{AnswerLost, Failed, NotUnderstood, RateLimited, RouteFault};
    matches!(outcome, AnswerLost | Failed | NotUnderstood | RateLimited | RouteFault)
}
