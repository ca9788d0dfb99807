//! Commits a stream as it grows.

use crate::{Committed, Error, Stored, dispatch, embedded, nats};

/// The entries of a partition in the events stream.
pub enum Events {
    /// From SQLite.
    Embedded(embedded::Events),
    /// From NATS.
    Nats(Box<nats::Events>),
}

impl Events {
    /// The next entries, at least one and at most `max`. Waits for the first. Dropping the future loses nothing. See
    /// invariant 3.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        dispatch!(self, events => events.next(max).await)
    }
}

/// The commits of all partitions.
pub enum Commits {
    /// From SQLite.
    Embedded(embedded::Commits),
    /// From NATS.
    Nats(Box<nats::Commits>),
}

impl Commits {
    /// The next commits, at least one and at most `max`. Waits for the first. Dropping the future loses nothing. See
    /// invariant 9.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Committed>, Error> {
        dispatch!(self, commits => commits.next(max).await)
    }
}
