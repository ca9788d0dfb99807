//! The takeover of a partition.

use super::{CARRIED, Needs, REQUESTS, Running, RunningAttempts, Tools, needs, reading::read_ahead};
use crate::{
    partition::{
        assignment::{Hearing, OwnerStatus},
        clock_guard::ClockGuard,
        handle::Owner,
        machine::Machine,
        state::State,
    },
    view::Fed,
};
use metrics::counter;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use talaria_bus::{AppendError, Bus, Error, Partition};
use talaria_telemetry::trace::Tracer;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The most commits in one read.
const REPLAYED: usize = 1024;

/// How often to check whether another owner has given the partition up.
const OWNER_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Reads a partition's journal to its end, and takes the partition over. Attempts that are under way in the journal were
/// interrupted. If the journal names another relay as the owner, waits until that one has given the partition up or is gone,
/// by the announcements in `heard`; `None` if there are no other relays. `prepared` is what was read of the journal before.
pub(crate) async fn take_over(
    tools: Tools,
    partition: Partition,
    heard: Option<watch::Receiver<Hearing>>,
    prepared: Option<Replay>,
    stop: &CancellationToken,
) -> Result<(Running, Owner, watch::Receiver<Needs>), TakeOverError> {
    let identity = tools.bus.identity().clone();
    let Replay { state, mut last } = replay(&tools.bus, partition, heard, prepared, stop).await?;
    check_events(&tools.bus, partition, &state).await?;
    let previous = state.owner().map(|(relay, run)| (relay.to_owned(), run));
    let config = Arc::clone(&tools.config.borrow());
    let now = tools.clock.now();
    let largest = tools.bus.largest_commit();
    let mut machine = Machine::open(partition, identity.clone(), state, config, largest, now);
    let mut journal = tools.bus.journal(partition, last);
    // The first commit has `Opened`; interrupted attempts may need several.
    loop {
        let (interrupted, more) = machine.interrupt(now, rand::random());
        let more = more || machine.interrupt_jobs(now);
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
    let mut running = Running {
        partition,
        machine,
        journal: Some(journal),
        appending: None,
        append_at: None,
        last,
        committed,
        needs: needed,
        requests: receiver,
        attempts: RunningAttempts { give_up: CancellationToken::new(), ended, endings },
        asked: JoinSet::new(),
        is_removing: false,
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
    for notice in running.machine.unpublished_notices() {
        running.publish(notice);
    }
    Ok((running, Owner::new(partition, requests, committed_now), needed_now))
}

/// A partition's journal as far as it was read.
#[derive(Default)]
pub(crate) struct Replay {
    state: State,
    /// The last commit.
    last: u64,
}

impl Replay {
    /// Reads a partition's journal to its end.
    pub(crate) async fn read(bus: &Bus, partition: Partition) -> Result<Self, TakeOverError> {
        let mut replay = Self::default();
        replay.read_on(bus, partition).await?;
        Ok(replay)
    }

    /// Reads from the last commit to the end.
    async fn read_on(&mut self, bus: &Bus, partition: Partition) -> Result<(), TakeOverError> {
        let read = |after| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.read(partition, after, REPLAYED).await })
        };
        let mut reading = read(self.last);
        loop {
            let commits = reading.await.map_err(|_| TakeOverError::Stopped)??;
            let Some(newest) = commits.last() else { return Ok(()) };
            self.last = newest.seq;
            // Decoding takes as long as applying: the next commits are decoded on another thread meanwhile. The runtime begins
            // a spawned task only when this one yields.
            reading = read(self.last);
            tokio::task::yield_now().await;
            for committed in &commits {
                committed.commit.records.iter().for_each(|record| self.state.apply(record));
                self.state.close();
                self.state.committed(committed.seq);
            }
        }
    }
}

/// The whole journal of a partition, once no other relay owns the partition.
async fn replay(
    bus: &Bus,
    partition: Partition,
    heard: Option<watch::Receiver<Hearing>>,
    prepared: Option<Replay>,
    stop: &CancellationToken,
) -> Result<Replay, TakeOverError> {
    let read_before = prepared.as_ref().map(|prepared| prepared.last);
    let mut replay = prepared.unwrap_or_default();
    // The run of a silent owner, and our number of beats when it was first seen silent.
    let mut silent: Option<(u64, u32)> = None;
    loop {
        replay.read_on(bus, partition).await?;
        let owner = replay.state.owner().filter(|(relay, _)| *relay != bus.identity().relay);
        let (Some((relay, run)), Some(heard)) = (owner, &heard) else { break };
        {
            let heard = heard.borrow();
            match heard.owner(partition, relay, run) {
                OwnerStatus::Gone => break,
                OwnerStatus::Claims => return Err(TakeOverError::Claimed),
                OwnerStatus::Silent => {
                    let known = silent.filter(|(silent, _)| *silent == run);
                    let (_, since) = *silent.insert(known.unwrap_or((run, heard.beats())));
                    if heard.is_gone_since(since) {
                        break;
                    }
                }
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(OWNER_CHECK_INTERVAL)).await.is_none() {
            return Err(TakeOverError::Stopped);
        }
    }
    match read_before {
        // Commits were trimmed that had not been read before.
        Some(last) if bus.bounds().await?.first_commit > last + 1 => Replay::read(bus, partition).await,
        _ => Ok(replay),
    }
}

/// Why a partition could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    #[error(transparent)]
    Bus(#[from] Error),
    #[error(transparent)]
    Append(AppendError),
    #[error("stopped")]
    Stopped,
    #[error("another relay claims it")]
    Claimed,
    #[error(
        "the events end at {last}, and {planned} of them were planned: their stream lost its end or was restored; nothing \
         is planned or removed until that is mended, see docs/errors/events-lost.md"
    )]
    EventsLost { last: u64, planned: u64 },
}

/// Fails when the events end before the last planned one: new events would pass for planned ones. Logs an error when events
/// were removed before they were planned.
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
