//! Moves committed pages from the write-ahead log into the file, beside the writer.
//!
//! SQLite would do it inside of the commit that made the log too long, and all writes of that group would wait for megabytes
//! to reach the disk. So another connection does it, which blocks no commit. Under constant load it never moves the last
//! pages of a log that keeps growing; from [`LONGEST_LOG`] on the writer moves the rest, which is little, and the log starts
//! at its beginning again.

use crate::{Error, LogLimit, sqlite};
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

static FAILED: LogLimit = LogLimit::new();

/// How long commits gather before the log is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// The least that is moved, in pages of 4 KiB: 1 MiB.
const WORTHWHILE: i64 = 256;

/// In pages of 4 KiB: 64 MiB.
const LONGEST_LOG: i64 = 16_384;

pub(super) struct Checkpointer {
    /// Says that something was committed; dropped to end the thread.
    committed: mpsc::SyncSender<()>,
    /// The log is too long: the writer has to move the rest.
    too_long: Arc<AtomicBool>,
}

impl Checkpointer {
    pub(super) fn start(file: &Path) -> Result<Self, Error> {
        let connection = sqlite::open(file)?;
        let too_long = Arc::<AtomicBool>::default();
        let (committed, commits) = mpsc::sync_channel::<()>(1);
        let flag = Arc::clone(&too_long);
        let work = move || {
            while commits.recv().is_ok() {
                thread::sleep(PAUSE);
                match checkpoint(&connection) {
                    Ok(log) => drop(flag.fetch_or(log > LONGEST_LOG, Ordering::Relaxed)),
                    Err(error) => {
                        if let Some(left_out) = FAILED.admit() {
                            tracing::warn!(%error, left_out, "cannot move the log into bus.db; trying again");
                        }
                    }
                }
            }
        };
        thread::Builder::new().name("bus-checkpoint".into()).spawn(work).map_err(Error::new)?;
        Ok(Self { committed, too_long })
    }

    /// The writer's part, between two groups.
    pub(super) fn after_commit(&self, connection: &Connection) {
        // Full when the thread knows already.
        let _ = self.committed.try_send(());
        if self.too_long.swap(false, Ordering::Relaxed)
            && let Err(error) = connection.query_row("PRAGMA wal_checkpoint(RESTART)", (), |_| Ok(()))
            && let Some(left_out) = FAILED.admit()
        {
            tracing::warn!(%error, left_out, "cannot start the log of bus.db again; trying again");
        }
    }
}

/// Moves the pages that can be moved without blocking a reader or the writer. How long the log is, in pages.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    let pages = |pragma: &str| connection.query_row(pragma, (), |row| Ok((row.get(1)?, row.get(2)?)));
    let (log, moved): (i64, i64) = pages("PRAGMA wal_checkpoint(NOOP)")?;
    if log - moved < WORTHWHILE {
        return Ok(log);
    }
    pages("PRAGMA wal_checkpoint(PASSIVE)").map(|(log, _)| log)
}
