//! The embedded bus: SQLite in write-ahead mode with `synchronous=FULL`, for one process, with one partition.
//!
//! ```text
//! publish, append, trim, check ──▶ writer: one thread, group commit ──▶ bus.db ──▶ read, event_at, commit_at
//!                                                 │                                        ▲ entries not in a tail
//!                                                 └──▶ streams: sequences and tails ───────┴──▶ Events, Commits
//! ```
//!
//! - [`schema`] has the tables.
//! - [`store`] is the writer's state, and applies writes to the file.
//! - [`writer`] is the thread.
//! - [`checkpoint`] moves committed pages from the log into the file.
//! - [`journal`] appends.
//! - [`follow`] reads both streams; [`tail`] has their newest entries.
//! - [`openrouter`] leads questions to the ingress. [`files`] keeps files of completed jobs.
//! - [`backup`] copies the file while the bus works; [`restore`] replaces the file of a stopped bus with a copy.
//! - [`contents`] reads a whole file, to move the bus into another one.

pub(crate) mod backup;
mod checkpoint;
pub(crate) mod contents;
mod files;
mod follow;
mod journal;
mod openrouter;
pub(crate) mod restore;
mod schema;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use files::{Files, NewFile};
pub(crate) use follow::{Commits, Events};
pub(crate) use journal::{Journal, LARGEST_COMMIT};
pub(crate) use openrouter::OpenRouterQuestions;

use crate::{AskError, Bounds, Error, Floors, Identity, Incoming, StreamSize, identity, sqlite::Readers};
use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use store::Reach;
use tail::Tail;
use talaria_proto::{
    time::from_proto,
    v1::{Commit, Event, QuarantinedCallback},
};
use tokio::sync::watch;
use writer::{Kind, Reply, Write};

/// The file in the data directory.
const FILE: &str = "bus.db";

/// The embedded bus. Clones share it; it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    writer: writer::Writer,
    readers: Readers,
    streams: Arc<Streams>,
    identity: Identity,
    source: String,
    /// The last announcement of refusals by the ingress of this process.
    refusals: watch::Sender<Bytes>,
    to_ingress: openrouter::ToIngress,
    files: Files,
    directory: PathBuf,
    /// Locks out a second process. Dropped after the writer.
    _lock: File,
}

/// The announcements of refusals by the ingress of this process.
pub struct Refusals(watch::Receiver<Bytes>);

impl Refusals {
    pub(crate) async fn next(&mut self) -> Result<(String, Bytes), Error> {
        self.0.changed().await.map_err(|_| Error::new("the bus has stopped"))?;
        Ok((String::new(), self.0.borrow_and_update().clone()))
    }
}

/// The readable state of both streams.
struct Streams {
    events: Stream<Incoming>,
    commits: Stream<Arc<Commit>>,
}

struct Stream<T> {
    /// The first sequence that is not trimmed.
    first: AtomicU64,
    last: watch::Sender<u64>,
    tail: Tail<T>,
}

impl<T: Clone> Stream<T> {
    fn new(reach: Reach) -> Self {
        Self {
            first: AtomicU64::new(reach.first),
            last: watch::Sender::new(reach.last),
            tail: Tail::behind(reach.last),
        }
    }

    /// Records that the writer committed entries or trimmed some.
    fn advance(&self, reach: Reach, new: impl Iterator<Item = (u64, T, usize)>) {
        if reach.last > self.last() {
            self.tail.extend(new);
            // After the tail, which the woken readers read first.
            self.last.send_replace(reach.last);
        }
        if self.first.swap(reach.first, Ordering::AcqRel) != reach.first {
            self.tail.trim(reach.first);
        }
    }

    fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// The first and the last sequence; 0 and 0 if the stream never had an entry.
    fn bounds(&self) -> (u64, u64) {
        // In this order: the last sequence only rises, so it is at least the first one less 1.
        let first = self.first();
        let last = self.last();
        (if last == 0 { 0 } else { first }, last)
    }
}

impl Embedded {
    pub(crate) fn files(&self) -> Files {
        self.inner.files.clone()
    }

    pub(crate) async fn open(directory: &Path) -> Result<Self, Error> {
        let directory = directory.to_path_buf();
        tokio::task::spawn_blocking(move || Self::open_blocking(&directory)).await.map_err(Error::new)?
    }

    fn open_blocking(directory: &Path) -> Result<Self, Error> {
        let (identity, lock) = identity::open(directory)?;
        let open = |error: Error| {
            Error::new(format_args!("cannot open the bus in {}: {}", directory.display(), error.reason))
        };
        let file = directory.join(FILE);
        // SQLite would create a new file and overwrite the log of the missing one.
        if !file.exists() && directory.join("bus.db-wal").metadata().is_ok_and(|log| log.len() > 0) {
            let why = "bus.db-wal is there and bus.db is not: bring back the bus that the log belongs to, or move the log away";
            return Err(open(Error::new(why)));
        }
        let store = store::Store::open(&file).map_err(open)?;
        let source = store.source().map_err(open)?;
        let streams =
            Arc::new(Streams { events: Stream::new(store.events), commits: Stream::new(store.commits) });
        let readers = Readers::open(&file).map_err(|error| open(error.into()))?;
        let checkpointer = checkpoint::Checkpointer::start(&file).map_err(open)?;
        let writer = writer::Writer::start(store, checkpointer, Arc::clone(&streams));
        let writer = writer.map_err(|error| open(Error::new(error)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                streams,
                identity,
                source,
                refusals: watch::Sender::default(),
                to_ingress: openrouter::ToIngress::default(),
                files: Files::new(directory),
                directory: directory.to_path_buf(),
                _lock: lock,
            }),
        })
    }

    async fn write<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, Error> {
        self.inner.writer.write(write).await.unwrap_or_else(|| Err(Error::new("the bus has stopped")))
    }

    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<(), Error> {
        let received_at = from_proto(event.received_at.as_ref()).as_microsecond();
        let bytes = event.encode_to_vec();
        let stored = Incoming::Event(event);
        self.write(|reply| Write::Store { kind: Kind::Event, received_at, bytes, stored, seq: 0, reply })
            .await
    }

    pub(crate) async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> {
        let received_at = from_proto(callback.received_at.as_ref()).as_microsecond();
        let bytes = callback.encode_to_vec();
        let stored = Incoming::Quarantined(Arc::new(callback));
        self.write(|reply| Write::Store {
            kind: Kind::Quarantined,
            received_at,
            bytes,
            stored,
            seq: 0,
            reply,
        })
        .await
    }

    #[expect(clippy::unused_async, reason = "the other backend asks a server")]
    pub(crate) async fn announce_refusals(&self, announcement: Bytes) -> Result<(), Error> {
        self.inner.refusals.send_replace(announcement);
        Ok(())
    }

    pub(crate) fn refusals(&self) -> Refusals {
        let mut refusals = self.inner.refusals.subscribe();
        // A new subscriber also gets the last announcement.
        refusals.mark_changed();
        Refusals(refusals)
    }

    pub(crate) async fn ask_openrouter(&self, question: Bytes) -> Result<Bytes, AskError> {
        self.inner.to_ingress.ask(question).await
    }

    pub(crate) fn openrouter_questions(&self) -> OpenRouterQuestions {
        self.inner.to_ingress.questions()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// From memory: the writer is the only one that changes the file.
    #[expect(clippy::unused_async, reason = "the other backend asks a server")]
    pub(crate) async fn bounds(&self) -> Result<Bounds, Error> {
        let (first_event, last_event) = self.inner.streams.events.bounds();
        let (first_commit, last_commit) = self.inner.streams.commits.bounds();
        let source = self.inner.source.clone();
        Ok(Bounds { source, first_event, last_event, first_commit, last_commit })
    }

    pub(crate) async fn sizes(&self) -> Result<[StreamSize; 2], Error> {
        let Bounds { first_event, last_event, first_commit, last_commit, .. } = self.bounds().await?;
        let size = |stream, first: u64, last: u64| StreamSize {
            stream,
            entries: if last == 0 { 0 } else { (last + 1).saturating_sub(first) },
            bytes: 0,
            max_bytes: 0,
            replicas_behind: 0,
        };
        Ok([size("events", first_event, last_event), size("journal", first_commit, last_commit)])
    }

    pub(crate) async fn last_backup(&self) -> Result<Option<Timestamp>, Error> {
        let directory = self.inner.directory.clone();
        let read = tokio::task::spawn_blocking(move || backup::last_backup(&directory));
        read.await.map_err(Error::new)?.map_err(Error::new)
    }

    /// Trims in steps, between which the writer does other writes.
    pub(crate) async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> {
        let (mut events, mut commits) = (0, 0);
        loop {
            let step = |reply| Write::Trim { floors, outcome: writer::Trimmed::default(), reply };
            let step = self.write(step).await?;
            events += step.events;
            commits += step.commits;
            if !step.more {
                return Ok((events, commits));
            }
        }
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.write(|reply| Write::Check { reply }).await
    }
}
