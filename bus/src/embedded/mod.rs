//! The embedded bus: SQLite in write-ahead mode, `synchronous=FULL`, for one process.
//!
//! One thread writes. It takes all the work that waits, does it in one transaction and commits, so that one
//! fsync serves everybody who came in the meantime ([`writer`]). Readers have connections of their own
//! ([`crate::sqlite`]). What a commit made visible is announced through [`Signals`].
//!
//! - [`schema`]: the tables.
//! - [`store`]: the writer's state: the connection, the next places, the lanes.
//! - [`checkpoint`]: moves what was committed from the log into the file, beside the writer.
//! - [`ids`]: which events there are.
//! - [`backup`]: a copy, taken while it works.
//! - [`events`], [`deliveries`], [`journal`], [`retention`], [`control`]: the contract, a part each.

pub(crate) mod backup;
mod checkpoint;
mod control;
mod deliveries;
mod events;
mod ids;
mod journal;
mod retention;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use crate::{Clock, Error, sqlite::Readers, tail::Tail};
use std::{fs, fs::File, path::Path, sync::Arc};
use talaria_proto::v1::{Event, Fact};
use tokio::sync::{Notify, watch};
use writer::Urgency;

/// The file in the data directory.
const FILE: &str = "bus.db";

/// The embedded bus. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    writer: writer::Writer,
    readers: Readers,
    signals: Arc<Signals>,
    clock: Clock,
    /// Keeps a second process out.
    _lock: File,
}

/// What is there to be read.
struct Signals {
    /// The place of the newest event.
    events: watch::Sender<u64>,
    /// The place of the last planned event.
    planned: watch::Sender<u64>,
    /// The place of the newest fact.
    journal: watch::Sender<u64>,
    /// A delivery came, or a place in a window.
    deliveries: Notify,
    /// The newest events.
    newest_events: Tail<Event>,
    /// The newest facts.
    newest_facts: Tail<Fact>,
}

impl Embedded {
    pub(crate) async fn open(directory: &Path, clock: Clock) -> Result<Self, Error> {
        let directory = directory.to_path_buf();
        tokio::task::spawn_blocking(move || Self::open_blocking(&directory, clock))
            .await
            .map_err(Error::new)?
    }

    fn open_blocking(directory: &Path, clock: Clock) -> Result<Self, Error> {
        let at = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(format_args!("cannot {what} {}: {error}", directory.display()))
        };
        let open = |error: &Error| at("open the bus in", &error.reason);
        fs::create_dir_all(directory).map_err(|error| at("create", &error))?;
        let lock = File::create(directory.join("lock")).map_err(|error| at("write in", &error))?;
        if lock.try_lock().is_err() {
            return Err(at("use", &"another Talaria is running in this data directory"));
        }
        let file = directory.join(FILE);
        let mut store = store::Store::open(&file).map_err(|error| open(&error))?;
        store.recover_leases().map_err(|error| at("open the bus in", &error))?;
        let signals = Arc::new(Signals {
            events: watch::Sender::new(store.last_event),
            planned: watch::Sender::new(store.last_planned),
            journal: watch::Sender::new(store.last_fact),
            deliveries: Notify::new(),
            newest_events: Tail::behind(store.last_event),
            newest_facts: Tail::behind(store.last_fact),
        });
        let readers = Readers::open(&file).map_err(|error| at("open the bus in", &error))?;
        let checkpointer = checkpoint::Checkpointer::start(&file).map_err(|error| open(&error))?;
        let writer = writer::Writer::start(store, checkpointer, Arc::clone(&signals));
        let writer = writer.map_err(|error| at("open the bus in", &error))?;
        Ok(Self { inner: Arc::new(Inner { writer, readers, signals, clock, _lock: lock }) })
    }

    /// Writes something that we alone wait for.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut store::Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.run(Urgency::Ordinary, work).await
    }

    /// Writes something that nobody waits for.
    async fn write_patiently<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut store::Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.run(Urgency::Patient, work).await
    }

    /// Writes something that somebody outside waits for.
    async fn write_urgently<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut store::Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.run(Urgency::Urgent, work).await
    }

    /// Reads what is committed.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.inner.readers.read(query).await?)
    }

    pub(crate) fn unplanned_events(&self) -> u64 {
        let signals = &self.inner.signals;
        let planned = *signals.planned.borrow();
        signals.events.borrow().saturating_sub(planned)
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.write_urgently(store::Store::touch).await
    }
}
