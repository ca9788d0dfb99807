//! Entries of the two streams, and their sequences.

use crate::Partition;
use std::sync::Arc;
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};

/// An entry of the events stream.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence.
    pub seq: u64,
    /// Its content.
    pub what: Incoming,
}

/// The content of an entry of the events stream.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// An event, with its payload.
    Event(Arc<Event>),
    /// A signed callback that is not an event.
    Quarantined(Arc<QuarantinedCallback>),
    /// A message that no ingress wrote; relays skip it.
    Unreadable,
}

/// A commit with its sequence.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its sequence.
    pub seq: u64,
    /// The partition of its journal.
    pub partition: Partition,
    /// The commit.
    pub commit: Arc<Commit>,
}

/// The first and the last sequence of both streams. All are 0 for a stream that never held an entry. A trimmed stream keeps its
/// last sequence; when all of it was trimmed, the first one is the next that will be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Identifies this pair of streams among all others.
    pub source: String,
    /// The first event that was not trimmed.
    pub first_event: u64,
    /// The last event that was stored.
    pub last_event: u64,
    /// The first commit that was not trimmed, of any partition.
    pub first_commit: u64,
    /// The last commit that was stored, of any partition.
    pub last_commit: u64,
}

/// A stream's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSize {
    /// "events" or "journal".
    pub stream: &'static str,
    /// Entries that were not trimmed.
    pub entries: u64,
    /// Their bytes on each server; 0 on the embedded bus, whose streams share a file.
    pub bytes: u64,
    /// The most bytes that it may have; 0 without a limit of its own.
    pub max_bytes: u64,
    /// Copies of it that are behind or away.
    pub replicas_behind: u64,
}

/// The sequences before which no partition needs an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floors {
    /// In the events.
    pub events: u64,
    /// In the journal.
    pub journal: u64,
}
