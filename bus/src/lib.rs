//! Where ingress and relay meet: events, a journal for each partition, announcements and questions.
//!
//! ```text
//! ingress ── publish ──▶ (events) ── Events::next ──▶ owner of the partition ── Journal::append ──▶ (journal)
//!                                                        ▲      in a relay                             │
//!                            at a start or a takeover:   └───────────────── read ──────────────────────┤
//!                                                                        watches ◀── Following::next ──┘
//! ```
//!
//! An ingress has a [`Publisher`], which can do nothing else. A relay has a [`Bus`]. Two backends keep the same contract:
//! SQLite in a directory for one process, with one partition, and NATS JetStream for many processes, with 64.
//!
//! # The contract
//!
//! The `conformance` suite holds both backends to it. "Durable" means that neither the death of a process nor of the machine
//! undoes it.
//!
//! Events:
//!
//!  1. `publish` and `quarantine` return after what they were given is durable. The same bytes may be stored twice; whoever
//!     plans finds repetitions. Two bodies under one event id are both stored.
//!  2. Sequences rise in the order of storing, over all partitions, and are never given twice.
//!  3. `Events::next` gives what was stored in a partition behind a sequence, in order, each once, and waits for the first.
//!  4. `event` gives back what was published, byte for byte, until it is trimmed.
//!
//! Journals:
//!
//!  5. `Journal::append` returns a commit's sequence after the commit is durable, all of it. Sequences rise over all partitions
//!     and are never given twice.
//!  6. A commit follows the one that its `Journal` knows to be the partition's last, or it is refused: of two writers at most
//!     one goes on. A refused commit is not in the journal, unless its acknowledgement was lost and another writer went on
//!     behind it, which has read it.
//!  7. `append` repeats what failed until it is durable or refused, with pauses, and says so once and then rarely. A commit
//!     whose acknowledgement was lost stands in the journal once.
//!  8. `read` gives a partition's commits behind a sequence, in order. An empty answer means that there were no more when
//!     it was asked for; no commit that was acknowledged before is missing from it.
//!  9. `Following::next` gives the commits of all partitions behind a sequence, in order, and waits for the first.
//!
//! Keeping:
//!
//! 10. `trim` removes events and commits before two sequences, and nothing else. Sequences go on behind what was removed, and
//!     appending goes on, also when all commits of a partition were removed.
//!
//! Faults:
//!
//! 11. What cannot be made durable is an [`Error`], has changed nothing, and succeeds when it is tried again after the cause is
//!     gone, without a restart. (`append` does so itself.)
//! 12. `check` fails when something could not be made durable now, or when the streams are not as they have to be.
//!
//! Relays:
//!
//! 13. Announcements and questions are best effort: any of them may be lost, and nothing that has to hold depends on them.
//!     So is what an ingress announces of what it refused.

pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod error;
mod identity;
mod log_limit;
mod nats;
mod partition;
pub mod private;
pub mod sqlite;
mod tail;
pub mod time;
pub mod trace;

pub use clock::Clock;
pub use embedded::{
    backup::{Backup, BackupError, backup},
    restore::{InUse, Restored, inspect, restore},
};
pub use error::{AppendError, Error};
pub use log_limit::LogLimit;
pub use partition::{Partition, hash};

use bytes::Bytes;
use std::{path::Path, sync::Arc};
use talaria_core::config;
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};

/// What an ingress stored, with its sequence.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The sequence.
    pub seq: u64,
    /// What it is.
    pub what: Incoming,
}

/// What an ingress stored.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// An event, with its payload.
    Event(Arc<Event>),
    /// A signed callback that is not an event.
    Quarantined(Arc<QuarantinedCallback>),
    /// A message that no ingress of ours wrote; it is passed over.
    Unreadable,
}

/// A commit with its sequence.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The sequence.
    pub seq: u64,
    /// Whose journal it is in.
    pub partition: Partition,
    /// The commit.
    pub commit: Arc<Commit>,
}

/// Which streams there are, and how far they reach. Asking for them fails with [`Error::is_gone`] where one is missing. 0 for the first and the last sequence of an empty stream that never held
/// anything. A trimmed stream keeps its last sequence; when all of it was trimmed, the first one is the next that will be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tells these streams from every other pair of streams.
    pub source: String,
    /// The first event that is there.
    pub first_event: u64,
    /// The last event that was stored.
    pub last_event: u64,
    /// The first commit that is there, of any partition.
    pub first_commit: u64,
    /// The last commit that was stored, of any partition.
    pub last_commit: u64,
}

/// Sequences before which nothing is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    /// In the events.
    pub events: u64,
    /// In the journal.
    pub journal: u64,
}

/// Which relay this is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The same after a restart in the same data directory. Fits into a NATS subject.
    pub relay: String,
    /// This run of it; larger with each start.
    pub run: u64,
}

/// Whether a NATS server can be reached and has the streams as they have to be: for a relay with the journal, for an ingress
/// without. Creates nothing.
pub async fn look_at_nats(config: &config::Nats, with_journal: bool) -> Result<(), Error> {
    nats::look(config, with_journal).await
}

/// What an ingress can do. Clones share it.
#[derive(Clone)]
pub enum Publisher {
    /// To SQLite.
    Embedded(embedded::Embedded),
    /// To NATS.
    Nats(Arc<nats::Publisher>),
}

impl Publisher {
    /// Connects to NATS for an ingress alone.
    pub async fn nats(config: &config::Nats) -> Result<Self, Error> {
        nats::Publisher::open(config).await.map(|publisher| Self::Nats(Arc::new(publisher)))
    }

    /// Stores an event. See invariant 1.
    pub async fn publish(&self, event: impl Into<Arc<Event>>) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.publish(event.into()).await,
            Self::Nats(bus) => bus.publish(event.into()).await,
        }
    }

    /// Stores a signed callback that is not an event. See invariant 1.
    pub async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.quarantine(callback).await,
            Self::Nats(bus) => bus.quarantine(callback).await,
        }
    }

    /// Tells the relays what this ingress refused. See invariant 13.
    pub async fn announce_refusals(&self, announcement: Bytes) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => {
                bus.announce_refusals(announcement);
                Ok(())
            }
            Self::Nats(bus) => bus.announce_refusals(announcement).await,
        }
    }

    /// Whether something could be made durable now. See invariant 12.
    pub async fn check(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.check().await,
            Self::Nats(bus) => bus.check().await,
        }
    }
}

/// What a relay can do, with one of the backends. The set is closed, so it is an enum and not a trait object. Clones
/// share it.
#[derive(Clone)]
pub enum Bus {
    /// SQLite in a directory, for one process.
    Embedded(embedded::Embedded),
    /// NATS JetStream, for many.
    Nats(Box<nats::Nats>),
}

impl Bus {
    /// Opens the embedded bus in a directory, which is created if need be.
    pub async fn embedded(directory: &Path) -> Result<Self, Error> {
        embedded::Embedded::open(directory).await.map(Self::Embedded)
    }

    /// Connects to NATS for a relay, with its files in a directory, which is created if need be.
    pub async fn nats(config: &config::Nats, directory: &Path) -> Result<Self, Error> {
        nats::Nats::open(config, directory).await.map(|bus| Self::Nats(Box::new(bus)))
    }

    /// For an ingress in the same process.
    pub fn publisher(&self) -> Publisher {
        match self {
            Self::Embedded(bus) => Publisher::Embedded(bus.clone()),
            Self::Nats(bus) => Publisher::Nats(bus.publisher()),
        }
    }

    /// Which relay this is.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Embedded(bus) => bus.identity(),
            Self::Nats(bus) => bus.identity(),
        }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(_) => 1,
            Self::Nats(_) => partition::NATS_PARTITIONS,
        }
    }

    /// A partition's commits behind a sequence, at most about `max`; none when there were no more. See invariant 8.
    pub async fn read(&self, partition: Partition, after: u64, max: usize) -> Result<Vec<Committed>, Error> {
        match self {
            Self::Embedded(bus) => bus.read(after, max).await,
            Self::Nats(bus) => bus.read(partition, after, max).await,
        }
    }

    /// For appending to a partition whose last commit, as far as the caller read it, has this sequence (0 for none). Costs
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

    /// What comes into a partition behind a sequence. See invariant 3.
    pub async fn events(&self, partition: Partition, after: u64) -> Result<Events, Error> {
        match self {
            Self::Embedded(bus) => Ok(Events::Embedded(embedded::Events::new(bus, after))),
            Self::Nats(bus) => {
                nats::Events::open(bus, partition, after).await.map(|events| Events::Nats(Box::new(events)))
            }
        }
    }

    /// The event at a sequence; `None` when it is not kept any more. See invariant 4.
    pub async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        match self {
            Self::Embedded(bus) => bus.event(seq).await,
            Self::Nats(bus) => bus.event(seq).await,
        }
    }

    /// A sequence up to which no event of a partition stands behind `after`: `after` itself, or where the events ended when
    /// this was asked. By it a partition to which nothing comes lets the stream be trimmed.
    pub async fn quiet_through(&self, partition: Partition, after: u64) -> Result<u64, Error> {
        match self {
            // Every event is of the one partition.
            Self::Embedded(_) => Ok(after),
            Self::Nats(bus) => bus.quiet_through(partition, after).await,
        }
    }

    /// The commit at a sequence; `None` when it is not kept any more.
    pub async fn commit(&self, seq: u64) -> Result<Option<Commit>, Error> {
        match self {
            Self::Embedded(bus) => bus.commit(seq).await,
            Self::Nats(bus) => bus.commit(seq).await,
        }
    }

    /// The commits of all partitions behind a sequence, as they come. See invariant 9.
    pub async fn follow(&self, after: u64) -> Result<Following, Error> {
        match self {
            Self::Embedded(bus) => Ok(Following::Embedded(embedded::Following::new(bus, after))),
            Self::Nats(bus) => {
                nats::Following::open(bus, after).await.map(|following| Following::Nats(Box::new(following)))
            }
        }
    }

    /// Which streams there are, and how far they reach.
    pub async fn bounds(&self) -> Result<Bounds, Error> {
        match self {
            Self::Embedded(bus) => bus.bounds().await,
            Self::Nats(bus) => bus.bounds().await,
        }
    }

    /// Removes what stands before these sequences; says how many events and how many commits went. See invariant 10.
    pub async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> {
        match self {
            Self::Embedded(bus) => bus.trim(floors).await,
            Self::Nats(bus) => bus.trim(floors).await,
        }
    }

    /// Tells the other relays something of this one. See invariant 13.
    pub async fn announce(&self, announcement: Bytes) -> Result<(), Error> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Nats(bus) => bus.announce(announcement).await,
        }
    }

    /// What relays announce, this one among them. `None` on a bus for one process.
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

    /// What other relays ask this one. `None` on a bus for one process.
    pub async fn questions(&self) -> Result<Option<Questions>, Error> {
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Nats(bus) => bus.questions().await.map(Some),
        }
    }

    /// What ingresses announce of what they refused.
    pub async fn refusals(&self) -> Result<Refusals, Error> {
        match self {
            Self::Embedded(bus) => Ok(Refusals::Embedded(bus.refusals())),
            Self::Nats(bus) => bus.refusals().await.map(Refusals::Nats),
        }
    }

    /// Whether something could be made durable now. See invariant 12.
    pub async fn check(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.check().await,
            Self::Nats(bus) => bus.check().await,
        }
    }
}

/// Appends to a partition's journal, one commit after another.
pub enum Journal {
    /// In SQLite.
    Embedded(embedded::Journal),
    /// In NATS.
    Nats(Box<nats::Journal>),
}

impl Journal {
    /// Appends a commit, and gives its sequence once it is durable. Dropped before that, it may be there or not, and this
    /// `Journal` must not be used any more. See invariants 5 to 7.
    pub async fn append(&mut self, commit: impl Into<Arc<Commit>>) -> Result<u64, AppendError> {
        match self {
            Self::Embedded(journal) => journal.append(commit.into()).await,
            Self::Nats(journal) => journal.append(&commit.into()).await,
        }
    }
}

/// What comes into a partition.
pub enum Events {
    /// From SQLite.
    Embedded(embedded::Events),
    /// From NATS.
    Nats(Box<nats::Events>),
}

impl Events {
    /// The next ones, at least one and at most `max`. Waits for the first. Dropping the future loses nothing. See invariant 3.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        match self {
            Self::Embedded(events) => events.next(max).await,
            Self::Nats(events) => events.next(max).await,
        }
    }
}

/// The commits of all partitions, as they come.
pub enum Following {
    /// From SQLite.
    Embedded(embedded::Following),
    /// From NATS.
    Nats(Box<nats::Following>),
}

impl Following {
    /// The next ones, at least one and at most `max`. Waits for the first. Dropping the future loses nothing. See invariant 9.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Committed>, Error> {
        match self {
            Self::Embedded(following) => following.next(max).await,
            Self::Nats(following) => following.next(max).await,
        }
    }
}

/// What relays announce.
pub struct Announcements(nats::Announcements);

impl Announcements {
    /// The next one: the relay's id, and what it says. An error when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<(String, Bytes), Error> {
        self.0.next().await
    }
}

/// What ingresses announce of what they refused.
pub enum Refusals {
    /// The one of this process.
    Embedded(embedded::Refusals),
    /// Those of all processes.
    Nats(nats::Announcements),
}

impl Refusals {
    /// The next announcement: the ingress' id, and what it says. An error when the subscription ended, and a new one is
    /// needed.
    pub async fn next(&mut self) -> Result<(String, Bytes), Error> {
        match self {
            Self::Embedded(refusals) => refusals.next().await,
            Self::Nats(refusals) => refusals.next().await,
        }
    }
}

/// What other relays ask this one.
pub struct Questions(nats::Questions);

impl Questions {
    /// The next one. An error when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<Question, Error> {
        self.0.next().await
    }
}

/// Something that another relay asks.
pub struct Question {
    /// What.
    pub question: Bytes,
    reply: nats::Reply,
}

impl Question {
    /// Answers it.
    pub async fn answer(self, answer: Bytes) -> Result<(), Error> {
        self.reply.send(answer).await
    }
}
