//! Appending to a partition's journal.

use crate::{AppendError, dispatch, embedded, nats};
use std::sync::Arc;
use talaria_proto::v1::Commit;

/// Appends to a partition's journal, one commit after another.
pub enum Journal {
    /// In SQLite.
    Embedded(embedded::Journal),
    /// In NATS.
    Nats(Box<nats::Journal>),
}

impl Journal {
    /// Appends a commit, and returns its sequence once it is durable. If the future is dropped before, the commit may be in the
    /// journal or not, and this `Journal` must not be used any more. See invariants 5 to 7.
    pub async fn append(&mut self, commit: impl Into<Arc<Commit>>) -> Result<u64, AppendError> {
        dispatch!(self, journal => journal.append(commit.into()).await)
    }
}
