//! SQLite files with a write-ahead log, one writer and concurrent readers.

use crate::private;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};
use thiserror::Error;

/// A few concurrent readers rarely wait for each other.
const READERS: usize = 3;

/// Why a file could not be read.
#[derive(Debug, Error)]
pub enum Error {
    /// SQLite's own error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The process is going down, or the work has panicked.
    #[error("the work was not finished")]
    Stopped,
}

impl Error {
    /// Whether the file itself is damaged, so that a retry cannot succeed.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }
}

/// Opens a file for reading and writing, which is created if it is missing. Only its owner can read it.
pub fn connect(file: &Path) -> rusqlite::Result<Connection> {
    private::sqlite_file(file);
    let connection = Connection::open(file)?;
    configure(&connection)?;
    Ok(connection)
}

/// The same with a write-ahead log. A commit returns after its fsync.
pub fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(file)?;
    // The checkpoint's size, in pages, bounds the log between two of them.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;
         PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// A count or a limit as a SQLite integer.
pub fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Connections that read committed rows.
#[derive(Clone)]
pub struct Readers {
    connections: Arc<[Mutex<Connection>]>,
    next: Arc<AtomicUsize>,
}

impl Readers {
    /// Opens a file that exists.
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        let open = || {
            let connection = Connection::open(file)?;
            configure(&connection)?;
            connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048;")?;
            Ok(Mutex::new(connection))
        };
        let connections = (0..READERS).map(|_| open()).collect::<rusqlite::Result<_>>()?;
        Ok(Self { connections, next: Arc::default() })
    }

    /// Runs a query on a thread that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.clone();
        let read = tokio::task::spawn_blocking(move || readers.read_blocking(query)).await;
        Ok(read.map_err(|_| Error::Stopped)??)
    }

    fn read_blocking<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if let Some(connection) = self.connections.iter().find_map(|connection| connection.try_lock().ok()) {
            return query(&connection);
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed) % READERS;
        let connection = self.connections.get(index).ok_or(rusqlite::Error::InvalidQuery)?;
        // A reader that panicked has changed nothing.
        query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
