//! Connections for reading, beside the writer's.

use super::{Embedded, schema};
use crate::Error;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Mutex, PoisonError, atomic::AtomicUsize, atomic::Ordering},
};

/// Enough for the fan-out, the journal's readers and the dispatcher to not wait for each other much.
const CONNECTIONS: usize = 3;

pub(super) struct Readers {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        let connections =
            (0..CONNECTIONS).map(|_| schema::open_reader(file).map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let free = self.connections.iter().find_map(|connection| connection.try_lock().ok());
        let connection = match free {
            Some(connection) => connection,
            None => {
                let index = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len().max(1);
                let connection = self.connections.get(index).ok_or_else(|| Error::new("no connection"))?;
                // A reader that panicked has left nothing behind.
                connection.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        query(&connection).map_err(Error::new)
    }
}

impl Embedded {
    /// Reads what is committed, on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let bus = self.clone();
        tokio::task::spawn_blocking(move || bus.inner.readers.read(query)).await.map_err(Error::new)?
    }
}
