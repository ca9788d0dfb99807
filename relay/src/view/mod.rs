//! The status view: the journals of the partitions that this relay owns, folded into SQLite for queries.
//!
//! The view follows the journal and decides nothing. It is derived: each partition's cursor is written in the same transaction
//! as the rows, and the view is rebuilt from the journal when its file is lost, damaged, of another version, of another journal,
//! or was in use when the power failed ([`file`](mod@file)).
//!
//! - [`feed`]: commits from the owners of partitions; [`projector`]: the task that folds them; [`writer`]: the thread that writes.
//! - [`schema`]: the tables. [`apply`]: from commits to rows. [`remove`]: deletes rows that are not needed any more.
//! - [`query`], [`filter`], [`lanes`], [`ids`], [`summary`], [`control`], [`jobs`], [`series`], [`replayable`] and [`blocks`]: from rows to
//!   answers.

mod apply;
pub(crate) mod blocks;
pub(crate) mod control;
mod feed;
mod file;
pub(crate) mod filter;
pub(crate) mod ids;
pub(crate) mod jobs;
mod lanes;
pub(crate) mod projector;
pub(crate) mod query;
mod remove;
pub(crate) mod replayable;
mod schema;
pub(crate) mod series;
pub(crate) mod summary;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use feed::{Fed, Feed};

use jiff::Timestamp;
use rusqlite::Connection;
use series::MINUTES_KEPT;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use talaria_bus::{
    Bounds, Committed, Partition, private,
    sqlite::{Error, Readers},
};
use talaria_core::time::before;
use tokio::sync::watch;
use writer::Writer;

/// The file in the data directory.
const FILE: &str = "view.db";

/// The file that marks the view as damaged.
const DAMAGED: &str = "view.db-damaged";

/// Clones share it.
#[derive(Clone)]
pub(crate) struct View {
    writer: Writer,
    readers: Readers,
    /// The last commit that was folded, by the partition's number.
    cursors: Arc<watch::Sender<BTreeMap<u16, u64>>>,
    feed: Feed,
    damage: Damage,
}

/// Whether the file was found to be damaged. A mark beside it makes the next start rebuild it.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    found: Arc<AtomicBool>,
    mark: Arc<Path>,
}

impl Damage {
    pub(crate) fn was_found(&self) -> bool {
        self.found.load(Ordering::Relaxed)
    }

    fn check(&self, error: &Error) {
        if error.is_damage() && !self.found.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the status view is damaged; restart, and it is rebuilt from the journal");
            if let Err(error) = private::file(&self.mark) {
                tracing::error!(%error, "cannot write {}", self.mark.display());
            }
        }
    }
}

/// Removes the view in a data directory, which no relay may use meanwhile. The next start rebuilds it.
pub fn remove_view(directory: &Path) {
    file::remove(&directory.join(FILE));
}

impl View {
    /// Opens the view of a journal, or creates a new one.
    pub(crate) fn open(directory: &Path, journal: &Bounds) -> Result<Self, Error> {
        let file = directory.join(FILE);
        let mark = directory.join(DAMAGED);
        if mark.exists() {
            let _ = fs::remove_file(&file);
        }
        let connection = file::open(&file, journal)?;
        let _ = fs::remove_file(&mark);
        let cursors = cursors(&connection)?;
        let cursors = cursors.into_iter().filter_map(|(number, seq)| Some((number, seq?))).collect();
        Ok(Self {
            writer: Writer::start(connection)?,
            readers: Readers::open(&file)?,
            cursors: Arc::new(watch::Sender::new(cursors)),
            feed: Feed::default(),
            damage: Damage { found: Arc::default(), mark: mark.into() },
        })
    }

    /// Syncs the file. Without this, the next boot of the machine rebuilds the view.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.write(|connection| file::close(connection)).await
    }

    pub(crate) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// The last commit of a partition in the view; `None` without any.
    pub(crate) fn cursor(&self, partition: Partition) -> Option<u64> {
        self.cursors.borrow().get(&partition.number()).copied()
    }

    /// Returns once a commit of a partition is in the view.
    pub(crate) async fn caught_up(&self, partition: Partition, seq: u64) {
        let mut cursors = self.cursors.subscribe();
        let is_there = |cursors: &BTreeMap<u16, u64>| {
            cursors.get(&partition.number()).is_some_and(|cursor| *cursor >= seq)
        };
        // The sender lives as long as the view.
        let _ = cursors.wait_for(is_there).await;
    }

    /// The most commits that the view is behind one partition. Over all partitions, which share one sequence, the view is not
    /// further behind.
    pub(crate) fn behind(&self) -> u64 {
        let feed = self.feed.lock();
        let cursors = self.cursors.borrow();
        let missing = |(partition, last): (Partition, u64)| {
            last.saturating_sub(cursors.get(&partition.number()).copied().unwrap_or(0))
        };
        feed.last().map(missing).max().unwrap_or(0)
    }

    /// Returns once no commit is missing.
    pub(crate) async fn folded(&self) {
        let mut cursors = self.cursors.subscribe();
        // The sender lives as long as the view.
        while self.behind() > 0 && cursors.changed().await.is_ok() {}
    }

    pub(crate) fn damage(&self) -> Damage {
        self.damage.clone()
    }

    /// Removes rows that belong to no event and are older than the retention. Events are forgotten by records of the journal.
    pub(crate) async fn expire(&self, now: Timestamp, retention: Duration) -> Result<(), Error> {
        let oldest = before(now, retention);
        let minutes = before(now, retention.min(MINUTES_KEPT)).as_second();
        self.write(move |connection| remove::expired(connection, oldest.as_microsecond())).await?;
        let times = (minutes, oldest.as_second());
        while !self.write(move |connection| remove::expired_series(connection, times)).await? {}
        Ok(())
    }

    /// Runs a query.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.read(query).await.inspect_err(|error| self.damage.check(error))
    }

    /// Folds commits, each partition's in order. Gives the partitions with events to remove.
    async fn apply(&self, commits: &Arc<[Committed]>) -> Result<Vec<Partition>, Error> {
        let commits = Arc::clone(commits);
        let applied = self.write(move |connection| apply::apply(connection, &commits)).await?;
        self.cursors.send_modify(|cursors| {
            cursors.extend(applied.cursors.into_iter().map(|(partition, seq)| (partition.number(), seq)));
        });
        Ok(applied.forgotten)
    }

    /// Removes some of a partition's rows. Whether those were all.
    async fn remove(&self, partition: Partition) -> Result<bool, Error> {
        self.cursors.send_if_modified(|cursors| cursors.remove(&partition.number()).is_some());
        self.write(move |connection| remove::partition(connection, partition.number())).await
    }

    /// Removes some of a partition's forgotten events. Whether those were all.
    async fn remove_forgotten(&self, partition: Partition) -> Result<bool, Error> {
        self.write(move |connection| remove::forgotten(connection, partition.number())).await
    }

    /// The numbers of the partitions with rows in the file, and whether those are to be removed.
    async fn stored(&self) -> Result<Vec<(u16, bool)>, Error> {
        let cursors = self.write(|connection| cursors(connection)).await?;
        Ok(cursors.into_iter().map(|(number, seq)| (number, seq.is_none())).collect())
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.write(work).await.inspect_err(|error| self.damage.check(error))
    }
}

fn cursors(connection: &Connection) -> rusqlite::Result<Vec<(u16, Option<u64>)>> {
    let mut statement = connection.prepare_cached("SELECT partition, seq FROM cursors")?;
    statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
