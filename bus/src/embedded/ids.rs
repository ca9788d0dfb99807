//! Which events there are, by id.
//!
//! Ids are hashes: in an index on disk every event would change another page, and those pages would be most of
//! what a commit writes. So the index is in memory, some 50 bytes an event, and is read at the start from a table
//! that only grows at its end.

use std::collections::HashMap;
use talaria_core::id::EventId;

/// Where each event is, as of the open transaction.
#[derive(Default)]
pub(super) struct Ids {
    seqs: HashMap<EventId, u64>,
    /// What stood there before the open transaction changed it, in the order of the changes.
    before: Vec<(EventId, Option<u64>)>,
}

impl Ids {
    /// The place of an event.
    pub(super) fn get(&self, id: EventId) -> Option<u64> {
        self.seqs.get(&id).copied()
    }

    pub(super) fn insert(&mut self, id: EventId, seq: u64) {
        let before = self.seqs.insert(id, seq);
        self.before.push((id, before));
    }

    pub(super) fn remove(&mut self, id: EventId) {
        let before = self.seqs.remove(&id);
        self.before.push((id, before));
    }

    pub(super) fn commit(&mut self) {
        self.before.clear();
    }

    pub(super) fn roll_back(&mut self) {
        for (id, before) in self.before.drain(..).rev() {
            match before {
                Some(seq) => self.seqs.insert(id, seq),
                None => self.seqs.remove(&id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolled_back_transaction_changed_nothing() {
        let id = |job| EventId::new("acme", job, "t");
        let mut ids = Ids::default();
        ids.insert(id("old"), 1);
        ids.insert(id("gone"), 2);
        ids.commit();
        ids.remove(id("gone"));
        ids.insert(id("gone"), 3);
        ids.insert(id("new"), 4);
        ids.remove(id("old"));
        assert_eq!([id("old"), id("gone"), id("new")].map(|id| ids.get(id)), [None, Some(3), Some(4)]);
        ids.roll_back();
        assert_eq!([id("old"), id("gone"), id("new")].map(|id| ids.get(id)), [Some(1), Some(2), None]);
    }
}
