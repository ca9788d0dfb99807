//! The checkpointer: moves committed pages from the write-ahead log into the file, concurrently with the writer.
//!
//! SQLite would do it inside the commit that made the log too long, and all writes of that group would wait for megabytes
//! to reach the disk. So another connection does it, which blocks no commit. Under constant load it never moves the last
//! pages of a growing log; above [`LONGEST_LOG`] the writer moves these few, and the log starts at its beginning again.

use crate::{Error, sqlite};
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
use talaria_telemetry::LogLimiter;

static FAILED: LogLimiter = LogLimiter::new();

/// How long commits gather before a checkpoint.
const PAUSE: Duration = Duration::from_millis(100);

/// The smallest checkpoint, in pages of 4 KiB: 1 MiB.
const WORTHWHILE: i64 = 256;

/// In pages of 4 KiB: 64 MiB.
const LONGEST_LOG: i64 = 16_384;

pub(super) struct Checkpointer {
    /// Wakes the thread after a commit; dropped to end it.
    committed: mpsc::SyncSender<()>,
    /// Set when the log is too long: the writer has to move the rest.
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
                            tracing::warn!(%error, left_out, "checkpoint of bus.db failed; retrying");
                        }
                    }
                }
            }
        };
        thread::Builder::new().name("bus-checkpoint".into()).spawn(work).map_err(Error::new)?;
        Ok(Self { committed, too_long })
    }

    /// Called by the writer between two groups.
    pub(super) fn after_commit(&self, connection: &Connection) {
        // Full if the thread was woken already.
        let _ = self.committed.try_send(());
        if self.too_long.swap(false, Ordering::Relaxed)
            && let Err(error) = connection.query_row("PRAGMA wal_checkpoint(RESTART)", (), |_| Ok(()))
            && let Some(left_out) = FAILED.admit()
        {
            tracing::warn!(%error, left_out, "restart of the log of bus.db failed; retrying");
        }
    }
}

/// Moves the pages that can be moved without blocking a reader or the writer. Returns the length of the log in pages.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    let pages = |pragma: &str| connection.query_row(pragma, (), |row| Ok((row.get(1)?, row.get(2)?)));
    let (log, moved): (i64, i64) = pages("PRAGMA wal_checkpoint(NOOP)")?;
    if log - moved < WORTHWHILE {
        return Ok(log);
    }
    pages("PRAGMA wal_checkpoint(PASSIVE)").map(|(log, _)| log)
}
