//! Readers of both streams: the newest entries come from memory, older ones from the file.
//!
//!  1. An entry is announced only when it is durable, and is then readable from the tail or the file.
//!  2. Futures of `next` can be dropped: a cursor advances only after the last `await`.

use super::{Embedded, Stream, Streams, writer::Kind};
use crate::{Committed, Error, Incoming, Partition, Stored, sqlite, sqlite::limit};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, types::Type};
use std::sync::Arc;
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};
use tokio::sync::watch;

/// A page from the file ends after the entry that reaches this size. Decoded it takes several times as much memory.
const PAGE_BYTES: usize = 1 << 20;

/// Reads events and quarantined callbacks. The embedded bus has one partition.
pub struct Events(Reader<Incoming>);

impl Events {
    pub(crate) fn new(bus: &Embedded, after: u64) -> Self {
        Self(Reader::new(bus, &EVENTS, after))
    }

    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        Ok(self.0.next(max).await?.into_iter().map(|(seq, what)| Stored { seq, what }).collect())
    }
}

/// Reads the journal's commits.
pub struct Commits(Reader<Arc<Commit>>);

impl Commits {
    pub(crate) fn new(bus: &Embedded, after: u64) -> Self {
        Self(Reader::new(bus, &COMMITS, after))
    }

    pub(crate) async fn next(&mut self, max: usize) -> Result<Vec<Committed>, Error> {
        Ok(self.0.next(max).await?.into_iter().map(to_committed).collect())
    }
}

fn to_committed((seq, commit): (u64, Arc<Commit>)) -> Committed {
    Committed { seq, partition: Partition::ONLY, commit }
}

/// A stream's tail and its queries.
struct Source<T: 'static> {
    stream: fn(&Streams) -> &Stream<T>,
    /// Selects the rows after a sequence: sequence, bytes, and further columns for `decode`.
    select_after: &'static str,
    /// Selects the row with a sequence.
    select_at: &'static str,
    decode: fn(&Row<'_>) -> rusqlite::Result<T>,
}

static EVENTS: Source<Incoming> = Source {
    stream: |streams| &streams.events,
    select_after: "SELECT seq, bytes, kind FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
    select_at: "SELECT seq, bytes, kind FROM events WHERE seq = ?",
    decode: |row| {
        if row.get::<_, i64>(2)? == Kind::Event as i64 {
            message::<Event>(row, "event").map(|event| Incoming::Event(Arc::new(event)))
        } else {
            message::<QuarantinedCallback>(row, "quarantined callback")
                .map(|callback| Incoming::Quarantined(Arc::new(callback)))
        }
    },
};

static COMMITS: Source<Arc<Commit>> = Source {
    stream: |streams| &streams.commits,
    select_after: "SELECT seq, bytes FROM commits WHERE seq > ? ORDER BY seq LIMIT ?",
    select_at: "SELECT seq, bytes FROM commits WHERE seq = ?",
    decode: |row| message::<Commit>(row, "commit").map(Arc::new),
};

/// Reads a stream from a cursor on.
struct Reader<T: 'static> {
    bus: Embedded,
    source: &'static Source<T>,
    last: watch::Receiver<u64>,
    cursor: u64,
}

impl<T: Clone + Send> Reader<T> {
    fn new(bus: &Embedded, source: &'static Source<T>, cursor: u64) -> Self {
        let last = (source.stream)(&bus.inner.streams).last.subscribe();
        Self { bus: bus.clone(), source, last, cursor }
    }

    /// The next entries, at least one. Waits for the first.
    async fn next(&mut self, max: usize) -> Result<Vec<(u64, T)>, Error> {
        loop {
            let cursor = self.cursor;
            let announced = *self.last.wait_for(|last| *last > cursor).await.map_err(Error::new)?;
            let found = self.bus.entries_after(self.source, cursor, max).await?;
            // All entries up to `announced` were durable before this read: if there are none, they were trimmed.
            self.cursor = found.last().map_or(announced, |(seq, _)| *seq);
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
}

impl Embedded {
    pub(crate) async fn read(&self, after: u64, max: usize) -> Result<Vec<Committed>, Error> {
        if after >= self.inner.streams.commits.last() {
            return Ok(Vec::new());
        }
        Ok(self.entries_after(&COMMITS, after, max).await?.into_iter().map(to_committed).collect())
    }

    pub(crate) async fn event_at(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        match self.entry_at(&EVENTS, seq).await? {
            Some(Incoming::Event(event)) => Ok(Some(event)),
            // `Unreadable` comes from NATS only.
            Some(Incoming::Quarantined(_) | Incoming::Unreadable) | None => Ok(None),
        }
    }

    pub(crate) async fn commit_at(&self, seq: u64) -> Result<Option<Commit>, Error> {
        Ok(self.entry_at(&COMMITS, seq).await?.map(Arc::unwrap_or_clone))
    }

    /// The entries after a sequence, from the tail or from the file.
    async fn entries_after<T>(
        &self,
        source: &'static Source<T>,
        cursor: u64,
        max: usize,
    ) -> Result<Vec<(u64, T)>, Error>
    where
        T: Clone + Send,
    {
        let max = max.max(1);
        match (source.stream)(&self.inner.streams).tail.entries_after(cursor, max) {
            Some(found) => Ok(found),
            None => self.query(move |connection| page(connection, source, cursor, max)).await,
        }
    }

    /// The entry at a sequence, from the tail or from the file.
    async fn entry_at<T>(&self, source: &'static Source<T>, seq: u64) -> Result<Option<T>, Error>
    where
        T: Clone + Send,
    {
        if let Some(found) = (source.stream)(&self.inner.streams).tail.get(seq) {
            return Ok(Some(found));
        }
        // A sequence above `i64::MAX` cannot exist.
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        self.query(move |connection| {
            connection.prepare_cached(source.select_at)?.query_row([seq], source.decode).optional()
        })
        .await
    }

    /// Reads durable rows.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.readers.read(query).await.map_err(|error| match error {
            // A row cannot be decoded, so the file is damaged or was changed from outside.
            sqlite::Error::Sqlite(rusqlite::Error::FromSqlConversionFailure(_, _, error)) => {
                Error::damaged(&error)
            }
            error => error.into(),
        })
    }
}

/// Rows after a sequence, at most `max`.
fn page<T>(
    connection: &Connection,
    source: &Source<T>,
    cursor: u64,
    max: usize,
) -> rusqlite::Result<Vec<(u64, T)>> {
    let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(source.select_after)?;
    let mut rows = statement.query((cursor, limit(max)))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        bytes += row.get_ref(1)?.as_blob()?.len();
        found.push((row.get(0)?, (source.decode)(row)?));
    }
    Ok(found)
}

/// Decodes the second column. The message's payload is a slice of this copy of the row.
fn message<M: prost::Message + Default>(row: &Row<'_>, kind: &str) -> rusqlite::Result<M> {
    let bytes = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
    M::decode(bytes).map_err(|error| {
        let seq: i64 = row.get(0).unwrap_or_default();
        let error = format!("the {kind} {seq} cannot be read: {error}");
        rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Floors;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_cursor_of_a_waiting_reader_passes_trimmed_entries() {
        let directory = tempfile::tempdir().unwrap();
        let bus = Embedded::open(directory.path()).await.unwrap();
        for _ in 0..3 {
            bus.publish(Arc::default()).await.unwrap();
        }
        bus.trim(Floors { events: 4, journal: 0 }).await.unwrap();
        let mut reader = Reader::new(&bus, &EVENTS, 0);
        for _ in 0..500 {
            let next = tokio::time::timeout(Duration::from_millis(20), reader.next(1)).await;
            assert!(next.is_err(), "there are no entries");
            if reader.cursor == 3 {
                break;
            }
        }
        assert_eq!(reader.cursor, 3);
        bus.publish(Arc::default()).await.unwrap();
        assert_eq!(reader.next(1).await.unwrap().first().map(|(seq, _)| *seq), Some(4));
    }
}
