//! A relay's side of the bus.

use crate::{
    Announcements, AskError, Bounds, Commits, Committed, Error, Events, Files, Floors, Identity, Journal,
    Partition, Publisher, Questions, Refusals, StreamSize, dispatch, embedded, nats,
    partition::NATS_PARTITIONS,
};
use bytes::Bytes;
use jiff::Timestamp;
use std::{path::Path, sync::Arc, time::Duration};
use talaria_core::config;
use talaria_proto::v1::{Commit, Event};

/// A relay's handle. The set of backends is closed, so it is an enum and not a trait object. Clones share it.
#[derive(Clone)]
pub enum Bus {
    /// SQLite in a directory, for one process.
    Embedded(embedded::Embedded),
    /// NATS JetStream, for many.
    Nats(Box<nats::Nats>),
}

impl Bus {
    /// Opens the embedded bus in a directory, which is created if it is missing.
    pub async fn embedded(directory: &Path) -> Result<Self, Error> {
        embedded::Embedded::open(directory).await.map(Self::Embedded)
    }

    /// Connects to NATS for a relay, with its files in a directory, which is created if it is missing.
    pub async fn nats(config: &config::Nats, directory: &Path) -> Result<Self, Error> {
        nats::Nats::open(config, directory).await.map(|bus| Self::Nats(Box::new(bus)))
    }

    /// A publisher for an ingress in the same process.
    pub fn publisher(&self) -> Publisher {
        match self {
            Self::Embedded(bus) => Publisher::Embedded(bus.clone()),
            Self::Nats(bus) => Publisher::Nats(bus.publisher()),
        }
    }

    /// This relay's identity.
    pub fn identity(&self) -> &Identity {
        dispatch!(self, bus => bus.identity())
    }

    /// The number of partitions.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(_) => 1,
            Self::Nats(_) => NATS_PARTITIONS,
        }
    }

    /// A partition's commits after a sequence, at most about `max`; empty if there were no more. See invariant 8.
    pub async fn read(&self, partition: Partition, after: u64, max: usize) -> Result<Vec<Committed>, Error> {
        match self {
            Self::Embedded(bus) => bus.read(after, max).await,
            Self::Nats(bus) => bus.read(partition, after, max).await,
        }
    }

    /// A writer for a partition whose last commit, as far as the caller read it, has this sequence (0 for none). Costs
    /// nothing and promises nothing: the first append finds out. See invariant 6.
    pub fn journal(&self, partition: Partition, last: u64) -> Journal {
        match self {
            Self::Embedded(bus) => Journal::Embedded(embedded::Journal::new(bus, last)),
            Self::Nats(bus) => Journal::Nats(Box::new(nats::Journal::new(bus, partition, last))),
        }
    }

    /// The most bytes that a commit may have.
    pub fn largest_commit(&self) -> usize {
        match self {
            Self::Embedded(_) => embedded::LARGEST_COMMIT,
            Self::Nats(bus) => bus.largest_commit(),
        }
    }

    /// The entries of a partition after a sequence, as they come. See invariant 3.
    pub async fn events(&self, partition: Partition, after: u64) -> Result<Events, Error> {
        match self {
            Self::Embedded(bus) => Ok(Events::Embedded(embedded::Events::new(bus, after))),
            Self::Nats(bus) => {
                nats::Events::open(bus, partition, after).await.map(|events| Events::Nats(Box::new(events)))
            }
        }
    }

    /// The event at a sequence; `None` when it was trimmed. See invariant 4.
    pub async fn event_at(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        dispatch!(self, bus => bus.event_at(seq).await)
    }

    /// A sequence up to which the stream has no event of a partition after `after`: `after` itself, or the end of the stream
    /// at the time of the call. With it a partition without traffic does not hold up trimming.
    pub async fn empty_through(&self, partition: Partition, after: u64) -> Result<u64, Error> {
        match self {
            // Every event is of the one partition.
            Self::Embedded(_) => Ok(after),
            Self::Nats(bus) => bus.empty_through(partition, after).await,
        }
    }

    /// The commit at a sequence; `None` when it was trimmed.
    pub async fn commit_at(&self, seq: u64) -> Result<Option<Commit>, Error> {
        dispatch!(self, bus => bus.commit_at(seq).await)
    }

    /// The commits of all partitions after a sequence, as they come. See invariant 9.
    pub async fn commits(&self, after: u64) -> Result<Commits, Error> {
        match self {
            Self::Embedded(bus) => Ok(Commits::Embedded(embedded::Commits::new(bus, after))),
            Self::Nats(bus) => {
                nats::Commits::open(bus, after).await.map(|commits| Commits::Nats(Box::new(commits)))
            }
        }
    }

    /// The identity of the streams, and their first and last sequences. Fails with [`Error::is_gone`] if one is missing.
    pub async fn bounds(&self) -> Result<Bounds, Error> {
        dispatch!(self, bus => bus.bounds().await)
    }

    /// How much both streams hold.
    pub async fn sizes(&self) -> Result<[StreamSize; 2], Error> {
        dispatch!(self, bus => bus.sizes().await)
    }

    /// When the last backup was begun; `None` if there was none. Over NATS it costs one question to the server.
    pub async fn last_backup(&self) -> Result<Option<Timestamp>, Error> {
        dispatch!(self, bus => bus.last_backup().await)
    }

    /// Removes the entries before these sequences. Returns how many events and how many commits it removed. See invariant 10.
    pub async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> {
        dispatch!(self, bus => bus.trim(floors).await)
    }

    /// Announces this relay to the others. See invariant 13.
    pub async fn announce(&self, announcement: Bytes) -> Result<(), Error> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Nats(bus) => bus.announce(announcement).await,
        }
    }

    /// The announcements of all relays, including this one. `None` on a bus for one process.
    pub async fn announcements(&self) -> Result<Option<Announcements>, Error> {
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Nats(bus) => bus.announcements().await.map(Some),
        }
    }

    /// Asks another relay, by its id. See invariant 13.
    pub async fn ask(&self, relay: &str, question: Bytes) -> Result<Bytes, Error> {
        match self {
            Self::Embedded(_) => Err(Error::new("there is no other relay")),
            Self::Nats(bus) => bus.ask(relay, question).await,
        }
    }

    /// The questions of other relays to this one. `None` on a bus for one process.
    pub async fn questions(&self) -> Result<Option<Questions>, Error> {
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Nats(bus) => bus.questions().await.map(Some),
        }
    }

    /// Asks any ingress about OpenRouter. See invariant 14.
    pub async fn ask_openrouter(&self, question: Bytes) -> Result<Bytes, AskError> {
        dispatch!(self, bus => bus.ask_openrouter(question).await)
    }

    /// As [`Publisher::files`].
    pub fn files(&self, retention: Duration) -> Files {
        self.publisher().files(retention)
    }

    /// The announcements of refusals by ingresses.
    pub async fn refusals(&self) -> Result<Refusals, Error> {
        match self {
            Self::Embedded(bus) => Ok(Refusals::Embedded(bus.refusals())),
            Self::Nats(bus) => bus.refusals().await.map(Refusals::Nats),
        }
    }

    /// Fails if nothing could be made durable now. See invariant 12.
    pub async fn check(&self) -> Result<(), Error> {
        dispatch!(self, bus => bus.check().await)
    }
}
