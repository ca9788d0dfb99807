//! The bus between ingress and relay: events, a journal for each partition, announcements and questions.
//!
//! ```text
//! ingress ── publish ──▶ (events) ── Events::next ──▶ owner of the partition ── Journal::append ──▶ (journal)
//!                                                        ▲      in a relay                             │
//!                            at a start or a takeover:   └───────────────── read ──────────────────────┤
//!                                                                        watches ◀── Commits::next ────┘
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
//!  1. `publish` and `quarantine` return after their argument is durable. The same bytes may be stored twice; the planner
//!     finds repetitions. Two bodies under one event id are both stored.
//!  2. Sequences rise in the order of storing, over all partitions, and are never given twice.
//!  3. `Events::next` gives the entries of a partition after a sequence, in order, each once, and waits for the first.
//!  4. `event_at` gives back the published event, byte for byte, until it is trimmed.
//!
//! Journals:
//!
//!  5. `Journal::append` returns a commit's sequence after the whole commit is durable. Sequences rise over all partitions
//!     and are never given twice.
//!  6. A commit follows the one that its `Journal` knows to be the partition's last, or it is refused: of two writers at most
//!     one continues. A refused commit is not in the journal, unless its acknowledgement was lost and another writer appended
//!     behind it, which has read it.
//!  7. `append` retries until the commit is durable or refused, with pauses, and logs the first failure and then few. A commit
//!     whose acknowledgement was lost is in the journal once.
//!  8. `read` gives a partition's commits after a sequence, in order. An empty answer means that there were no more at the time
//!     of the request; no commit that was acknowledged before is missing from it.
//!  9. `Commits::next` gives the commits of all partitions after a sequence, in order, and waits for the first.
//!
//! Retention:
//!
//! 10. `trim` removes events and commits before two sequences, and nothing else. Sequences continue after the removed ones, and
//!     so does appending, also when all commits of a partition were removed.
//!
//! Faults:
//!
//! 11. A failed write is an [`Error`], has changed nothing, and succeeds when it is repeated after the cause is gone, without
//!     a restart. (`append` repeats it itself.)
//! 12. `check` fails when nothing could be made durable now, or when the streams do not have the required settings.
//!
//! Relays:
//!
//! 13. Announcements and questions are best effort: any of them may be lost, and no promise depends on them. So are an ingress'
//!     announcements of its refusals.
//!
//! OpenRouter:
//!
//! 14. `ask_openrouter` gives a question to at most one ingress, and returns its answer. Question and answer may be lost. An
//!     error of which [`AskError::was_not_asked`] holds means that no ingress carries the question out, now or later. After any
//!     other error one may have done so, or may still do so.
//!
//! Files of completed jobs:
//!
//! 15. `Files::open` gives all bytes of a file that was finished, until it is removed or, over NATS, older than the retention. A
//!     file that was not finished is under no name. It is removed, or, if its process was killed, is so at the next start
//!     (embedded) or when it is older than the retention (NATS).
//!
//! # Files in the data directory
//!
//! [`sqlite`] and [`private`] open them. They are public because the relay's view is a SQLite file in the same directory, with
//! the same settings and permissions.

mod bus;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod entry;
mod error;
mod files;
mod follow;
mod identity;
mod journal;
mod nats;
mod openrouter;
mod partition;
pub mod private;
mod publisher;
mod relays;
pub mod sqlite;

pub use bus::Bus;
pub use embedded::{
    backup::{Backup, BackupError, backup, record_backup},
    contents::{BusFile, is_bus_file},
    restore::{InUse, Restored, inspect, restore},
};
pub use entry::{Bounds, Committed, Floors, Incoming, Stored, StreamSize};
pub use error::{AppendError, Error};
pub use files::{Files, NewFile, OpenFile};
pub use follow::{Commits, Events};
pub use identity::Identity;
pub use journal::Journal;
pub use nats::{
    backup::{NatsBackup, NatsStream, backup_nats},
    look_at_nats,
    move_in::MoveIn,
    permissions::{NatsUser, Permissions, nats_public_key, nats_users_conf, new_nats_key},
    restore::{NatsRestored, restore_nats},
};
pub use openrouter::{AskError, OpenRouterQuestions};
pub use partition::{Partition, hash};
pub use publisher::Publisher;
pub use relays::{Announcements, Question, Questions, Refusals};

/// Calls the same method of the backend that a handle has.
macro_rules! dispatch {
    ($handle:expr, $backend:ident => $call:expr) => {
        match $handle {
            Self::Embedded($backend) => $call,
            Self::Nats($backend) => $call,
        }
    };
}
use dispatch;
