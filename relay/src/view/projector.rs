//! The projector: folds the journals of owned partitions into the view.
//!
//! Commits of the feed are folded in batches. Commits that are missing, because the relay has just taken a partition over or the
//! view was behind, are read from the journal meanwhile, from the partitions in turn. If the journal does not reach back to a
//! partition's cursor, its rows are removed, and it is folded from the journal's start.

use super::{
    View,
    feed::{Feed, Missing},
};
use crate::backoff::Backoff;
use std::{collections::BTreeSet, future::Future, time::Duration};
use talaria_bus::{Bounds, Bus, Committed, Error, Partition};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The approximate number of records in a batch.
const BATCH: usize = 4_000;

/// The most commits in one read.
const READ: usize = 500;

/// A batch of so many records means that more are coming.
const MANY: usize = 16;

/// The time to wait for more records after many. Neighbours change the same pages, and writing a page once is cheaper: with ten times
/// this time less, a relay forwards a tenth less on busy processors. The status is later by this time.
const GATHERING: Duration = Duration::from_millis(200);

/// The first and the longest pause after a failure.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// For a repeated failure.
const LOG_INTERVAL: Duration = Duration::from_secs(300);

/// After a start, the rows of partitions that are not owned are kept for this time: the relay may own them again.
const GRACE: Duration = Duration::from_secs(30);

/// For the last batches after `stop`.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The journal.
pub(super) trait Source: Clone + Send + Sync + 'static {
    fn bounds(&self) -> impl Future<Output = Result<Bounds, Error>> + Send;
    fn read(
        &self,
        partition: Partition,
        after: u64,
        max: usize,
    ) -> impl Future<Output = Result<Vec<Committed>, Error>> + Send;
}

impl Source for Bus {
    async fn bounds(&self) -> Result<Bounds, Error> {
        Self::bounds(self).await
    }

    async fn read(&self, partition: Partition, after: u64, max: usize) -> Result<Vec<Committed>, Error> {
        Self::read(self, partition, after, max).await
    }
}

/// Runs until `stop`, and then folds the commits that it has.
pub(crate) async fn run(bus: Bus, view: View, stop: CancellationToken) {
    let partitions = bus.partitions();
    follow(bus, partitions, view, stop).await;
}

pub(super) async fn follow(source: impl Source, partitions: u16, view: View, stop: CancellationToken) {
    let mut projector = Projector {
        feed: view.feed(),
        view,
        source,
        reading: JoinSet::new(),
        read_at: Instant::now(),
        read_failures: Failures::new("read the journal for the status view"),
        fold_failures: Failures::new("write the status view"),
        forgotten: BTreeSet::new(),
        disown_at: Some(Instant::now() + GRACE),
        stop: stop.clone(),
    };
    let work = async {
        projector.begin(partitions).await;
        projector.work().await;
    };
    let timed_out = async {
        stop.cancelled().await;
        sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = work => {}
        () = timed_out => {
            tracing::warn!("status view stopped behind the journal");
        }
    }
}

/// `None` if the journal does not reach back far enough.
type Read = Result<Option<Vec<Committed>>, Error>;

struct Projector<S> {
    source: S,
    view: View,
    feed: Feed,
    /// At most one read.
    reading: JoinSet<(Missing, Read)>,
    /// The earliest next read.
    read_at: Instant,
    read_failures: Failures,
    fold_failures: Failures,
    /// Partitions with events to remove.
    forgotten: BTreeSet<Partition>,
    /// When the rows of partitions that are not owned are removed.
    disown_at: Option<Instant>,
    stop: CancellationToken,
}

impl<S: Source> Projector<S> {
    async fn begin(&mut self, partitions: u16) {
        let stored = loop {
            match self.view.stored().await {
                Ok(stored) => break stored,
                Err(error) => sleep(self.fold_failures.delay(&error)).await,
            }
        };
        for (number, is_stale) in stored {
            if let Some(partition) = Partition::new(number, partitions) {
                self.feed.lock().found(partition, is_stale);
                self.forgotten.insert(partition);
            }
        }
    }

    async fn work(&mut self) {
        while !self.stop.is_cancelled() {
            self.take_read();
            self.begin_read();
            let batch = self.feed.lock().batch(BATCH);
            let records: usize = batch.iter().map(|commit| commit.commit.records.len()).sum();
            let (has_folded, has_removed) = (!batch.is_empty(), self.remove_some().await);
            if has_folded {
                self.fold(batch).await;
            }
            if (MANY..BATCH).contains(&records) {
                self.stop.run_until_cancelled(sleep(GATHERING)).await;
            } else if !has_folded && !has_removed {
                self.wait().await;
            }
        }
        loop {
            let batch = self.feed.lock().batch(BATCH);
            if batch.is_empty() {
                return;
            }
            self.fold(batch).await;
        }
    }

    /// Returns once there may be something to do.
    async fn wait(&mut self) {
        let read_at = (self.reading.is_empty() && self.read_at > Instant::now()).then_some(self.read_at);
        let timer = async {
            match self.disown_at.into_iter().chain(read_at).min() {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let has_read = async {
            match self.reading.join_next().await {
                Some(read) => read,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = has_read => Some(read),
            () = self.feed.changed() => None,
            () = timer => None,
            () = self.stop.cancelled() => None,
        };
        if let Some(Ok((missing, commits))) = read {
            self.was_read(missing, commits);
        }
        if self.disown_at.is_some_and(|at| at <= Instant::now()) {
            self.disown_at = None;
            self.feed.lock().disown();
        }
    }

    fn begin_read(&mut self) {
        if !self.reading.is_empty() || self.read_at > Instant::now() {
            return;
        }
        let Some(missing) = self.feed.lock().missing() else { return };
        let after = missing.after.or_else(|| self.view.cursor(missing.partition));
        let source = self.source.clone();
        self.reading.spawn(async move { (missing, read(&source, missing, after).await) });
    }

    fn take_read(&mut self) {
        if let Some(Ok((missing, commits))) = self.reading.try_join_next() {
            self.was_read(missing, commits);
        }
    }

    fn was_read(&mut self, missing: Missing, commits: Read) {
        match commits {
            Ok(commits) => {
                self.read_failures.end();
                if commits.is_none() {
                    tracing::info!(partition = %missing.partition, "status view of a partition is rebuilt");
                }
                self.feed.lock().read(missing, commits);
            }
            Err(error) => self.read_at = Instant::now() + self.read_failures.delay(&error),
        }
    }

    /// Retries until it succeeds.
    async fn fold(&mut self, batch: Vec<Committed>) {
        let batch = batch.into();
        loop {
            match self.view.apply(&batch).await {
                Ok(forgotten) => {
                    self.fold_failures.end();
                    self.forgotten.extend(forgotten);
                    return;
                }
                Err(error) => sleep(self.fold_failures.delay(&error)).await,
            }
        }
    }

    /// One step of removing rows. Whether there were any.
    async fn remove_some(&mut self) -> bool {
        let stale = self.feed.lock().stale();
        let removed = if let Some(partition) = stale {
            let removed = self.view.remove(partition).await;
            if let Ok(true) = removed {
                self.feed.lock().removed(partition);
            }
            removed
        } else if let Some(partition) = self.forgotten.first().copied() {
            let removed = self.view.remove_forgotten(partition).await;
            if let Ok(true) = removed {
                self.forgotten.remove(&partition);
            }
            removed
        } else {
            return false;
        };
        if let Err(error) = removed {
            sleep(self.fold_failures.delay(&error)).await;
        }
        true
    }
}

async fn read(source: &impl Source, missing: Missing, after: Option<u64>) -> Read {
    if let Some(after) = after {
        let bounds = source.bounds().await?;
        // Trimmed beyond the cursor, or the journal lost its end.
        if bounds.first_commit > after + 1 || missing.last < after {
            return Ok(None);
        }
    }
    source.read(missing.partition, after.unwrap_or(0), READ).await.map(Some)
}

/// Repeated failures: retried with growing pauses, and logged rarely.
struct Failures {
    operation: &'static str,
    backoff: Backoff,
    logged: Option<Instant>,
}

impl Failures {
    fn new(operation: &'static str) -> Self {
        Self { operation, backoff: Backoff::new(RETRY_DELAYS.0, RETRY_DELAYS.1), logged: None }
    }

    /// Logs a failure. Gives the pause before the next try.
    fn delay(&mut self, error: &dyn std::fmt::Display) -> Duration {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            tracing::error!(%error, "cannot {}; trying again", self.operation);
            self.logged = Some(Instant::now());
        }
        self.backoff.next_delay()
    }

    fn end(&mut self) {
        if self.logged.take().is_some() {
            tracing::info!("can {} again", self.operation);
            self.backoff.reset();
        }
    }
}
