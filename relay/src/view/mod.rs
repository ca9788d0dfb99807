//! What became of everything: the journal, folded into SQLite so that it can be asked.
//!
//! The view can be thrown away: it is derived from the journal, remembers how far it has followed it in the same
//! transaction, and is made anew when its file is lost, damaged, of another version, of another journal, or was in use
//! when the power failed ([`talaria_bus::derived`]).
//!
//! - [`apply`]: records to rows.
//! - [`query`] and [`summary`], [`waiting`], [`control`] and [`replayable`]: rows to answers.
//! - [`recall`]: what whoever takes a route over has to know of it.
//! - [`retention`]: what is old goes.

mod apply;
pub mod control;
pub mod query;
pub mod recall;
pub mod replayable;
mod retention;
mod schema;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod waiting;

use crate::decisions::pause::Pauses;
use rusqlite::Connection;
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use talaria_bus::{
    Bounds, Records, derived,
    sqlite::{Error, Readers},
};
use talaria_proto::v1::ReplayJob;
use tokio::sync::watch;

/// The file in the data directory.
const FILE: &str = "view.db";

/// The file that says that the other one is damaged.
const DAMAGED: &str = "view.db-damaged";

/// The view. Clones share it.
#[derive(Clone)]
pub struct View {
    writer: Arc<Mutex<Connection>>,
    readers: Readers,
    position: Arc<watch::Sender<u64>>,
    pauses: Arc<watch::Sender<Arc<Pauses>>>,
    jobs: Arc<watch::Sender<Arc<[ReplayJob]>>>,
    damage: Damage,
}

/// Whether the file turned out to be damaged, remembered beside it so that the next start makes it anew.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    found: Arc<AtomicBool>,
    mark: Arc<Path>,
}

impl Damage {
    pub(crate) fn was_found(&self) -> bool {
        self.found.load(Ordering::Relaxed)
    }

    fn look_at(&self, error: &Error) {
        if error.is_damage() && !self.found.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the status view is damaged; restart, and it is made anew from the journal");
            if let Err(error) = fs::write(&self.mark, "") {
                tracing::error!(%error, "cannot write {}", self.mark.display());
            }
        }
    }
}

impl View {
    /// Opens the view of a journal, or begins a new one.
    pub fn open(directory: &Path, journal: &Bounds) -> rusqlite::Result<Self> {
        let file = directory.join(FILE);
        let mark = directory.join(DAMAGED);
        if mark.exists() {
            let _ = fs::remove_file(&file);
        }
        let (connection, position) = schema::open(&file, journal)?;
        let _ = fs::remove_file(&mark);
        let (pauses, jobs) = (control::pauses(&connection)?, control::running_jobs(&connection)?);
        Ok(Self {
            pauses: Arc::new(watch::Sender::new(Arc::new(pauses))),
            jobs: Arc::new(watch::Sender::new(jobs.into())),
            writer: Arc::new(Mutex::new(connection)),
            readers: Readers::open(&file)?,
            position: Arc::new(watch::Sender::new(position)),
            damage: Damage { found: Arc::default(), mark: mark.into() },
        })
    }

    /// Brings everything to the disk. Without it the view does not outlive the machine's boot.
    pub async fn close(&self) -> Result<(), Error> {
        self.write(|connection| derived::close(connection)).await
    }

    /// Up to which place the journal is in the view.
    pub fn position(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    /// What is paused, as far as the journal is in the view.
    pub fn pauses(&self) -> watch::Receiver<Arc<Pauses>> {
        self.pauses.subscribe()
    }

    /// The replay jobs that have not ended, oldest first, as far as the journal is in the view.
    pub fn jobs(&self) -> watch::Receiver<Arc<[ReplayJob]>> {
        self.jobs.subscribe()
    }

    pub(crate) fn damage(&self) -> Damage {
        self.damage.clone()
    }

    /// Folds a piece of the journal in.
    pub async fn apply(&self, records: Records) -> Result<(), Error> {
        let through = records.through;
        let changed = self.write(move |connection| apply::apply(connection, &records)).await?;
        // Before the position: whoever waits for that finds them.
        if let Some(pauses) = changed.pauses {
            self.pauses.send_replace(Arc::new(pauses));
        }
        if let Some(jobs) = changed.jobs {
            self.jobs.send_replace(jobs.into());
        }
        self.position.send_replace(through);
        Ok(())
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let writer = Arc::clone(&self.writer);
        // A writer that panicked has rolled its transaction back.
        let blocking = move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner));
        let done = async { Ok(tokio::task::spawn_blocking(blocking).await??) };
        done.await.inspect_err(|error| self.damage.look_at(error))
    }

    /// Asks.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.read(query).await.inspect_err(|error| self.damage.look_at(error))
    }
}
