//! The kept events, by id, by sequence, and in the order of their base records.
//!
//! The **base record** of an event is `EventPlanned` or its last `EventCarried`: no record before it is needed for the event.
//! The events are a linked list in the order of their base records. So an event is removed or moved to the end in constant
//! time, and leaves no gap.

use super::slab::{Ix, Slab};
use hashbrown::{HashTable, hash_table::Entry};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    iter,
};
use talaria_core::id::EventId;

/// Sequence of the commit with a base record. Until it is known, the number of the commit among those of this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base(u64);

/// Marks the number of a commit. No sequence is so high.
const PENDING: u64 = 1 << 63;

impl Base {
    pub(super) fn pending(number: u64) -> Self {
        Self(number | PENDING)
    }

    pub(super) fn known(seq: u64) -> Self {
        Self(seq)
    }

    fn is_pending(self) -> bool {
        self.0 >= PENDING
    }

    /// The sequence; `None` while it is not known.
    pub(super) fn seq(self) -> Option<u64> {
        (!self.is_pending()).then_some(self.0)
    }
}

/// A kept event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub id: EventId,
    /// Whether its payload is in its base record.
    pub is_carried: bool,
    /// Whether its base record is missing, and it was made from a record about one of its deliveries. Then it is not found by
    /// its id, so that a repetition counts as new, and it is kept only while a delivery of it waits.
    pub is_orphan: bool,
    pub event_seq: u64,
    /// See [`super::digest`].
    pub digest: u64,
    pub base: Base,
    /// When its base record was written.
    pub base_at: i64,
    /// When the last record about it or its deliveries was written.
    pub last_at: i64,
    pub received_at: i64,
    /// Its first waiting delivery.
    pub first: Ix,
    earlier: Ix,
    later: Ix,
}

impl Kept {
    pub(super) fn new(id: EventId, event_seq: u64, base: Base, at: i64) -> Self {
        Self {
            id,
            is_carried: false,
            is_orphan: false,
            event_seq,
            digest: 0,
            base,
            base_at: at,
            last_at: at,
            received_at: 0,
            first: Ix::NONE,
            earlier: Ix::NONE,
            later: Ix::NONE,
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.first != Ix::NONE
    }

    /// Whether `EventPlanned` is its base record.
    fn is_plain(&self) -> bool {
        !self.is_carried && !self.is_orphan
    }
}

/// Finds events by their id. The ids are in the slab alone: a map with ids as its keys would take 40 bytes more for each event.
#[derive(Clone, Debug, Default)]
struct ById {
    table: HashTable<Ix>,
    hasher: RandomState,
}

impl ById {
    fn find(&self, events: &Slab<Kept>, id: EventId) -> Option<Ix> {
        let has_id = |ix: &Ix| events.get(*ix).is_some_and(|kept| kept.id == id);
        self.table.find(self.hasher.hash_one(Some(id)), has_id).copied()
    }

    /// Adds an event that is in the slab with this id. If another one has the same id, the later one of both is found by it.
    fn insert(&mut self, events: &Slab<Kept>, id: EventId, ix: Ix) {
        let Self { table, hasher } = self;
        let id_of = |ix: &Ix| events.get(*ix).map(|kept| kept.id);
        match table.entry(
            hasher.hash_one(Some(id)),
            |ix| id_of(ix) == Some(id),
            |ix| hasher.hash_one(id_of(ix)),
        ) {
            Entry::Occupied(mut known) => *known.get_mut() = ix,
            Entry::Vacant(vacant) => drop(vacant.insert(ix)),
        }
    }

    /// Removes an event, before it leaves the slab, if it is the one that is found by its id.
    fn remove(&mut self, events: &Slab<Kept>, ix: Ix) {
        let hash = self.hasher.hash_one(events.get(ix).map(|kept| kept.id));
        if let Ok(entry) = self.table.find_entry(hash, |known| *known == ix) {
            entry.remove();
        }
    }
}

/// The kept events.
#[derive(Clone, Debug)]
pub(super) struct KeptEvents {
    events: Slab<Kept>,
    /// Ordered, because new sequences are the highest ones: their end of the tree stays in the processor's cache, unlike the
    /// entries of a hash table.
    by_seq: BTreeMap<u64, Ix>,
    by_id: ById,
    oldest: Ix,
    newest: Ix,
    /// The first plain event in the order of base records.
    first_plain: Ix,
    /// The sequences of the orphans.
    orphans: BTreeSet<u64>,
}

impl Default for KeptEvents {
    fn default() -> Self {
        Self {
            events: Slab::default(),
            by_seq: BTreeMap::new(),
            by_id: ById::default(),
            oldest: Ix::NONE,
            newest: Ix::NONE,
            first_plain: Ix::NONE,
            orphans: BTreeSet::new(),
        }
    }
}

impl KeptEvents {
    pub(super) fn get(&self, ix: Ix) -> Option<&Kept> {
        self.events.get(ix)
    }

    pub(super) fn get_mut(&mut self, ix: Ix) -> Option<&mut Kept> {
        self.events.get_mut(ix)
    }

    pub(super) fn find(&self, event_seq: u64) -> Option<Ix> {
        self.by_seq.get(&event_seq).copied()
    }

    pub(super) fn by_seq(&self, event_seq: u64) -> Option<&Kept> {
        self.get(self.find(event_seq)?)
    }

    pub(super) fn by_id(&self, id: EventId) -> Option<&Kept> {
        self.get(self.by_id.find(&self.events, id)?)
    }

    /// The events in the order of their base records.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        iter::successors(self.get(self.oldest), |kept| self.get(kept.later))
    }

    /// The first event in the order of base records.
    pub(super) fn oldest(&self) -> Option<(Ix, &Kept)> {
        self.get(self.oldest).map(|kept| (self.oldest, kept))
    }

    /// The next event in the order of base records.
    pub(super) fn later(&self, kept: &Kept) -> Option<(Ix, &Kept)> {
        self.get(kept.later).map(|later| (kept.later, later))
    }

    /// The lowest sequence of an event whose payload is not in its base record.
    pub(super) fn first_in_stream(&self) -> Option<u64> {
        // Events are planned in the order of their sequences, so the first plain one has the lowest.
        let plain = self.get(self.first_plain).map(|kept| kept.event_seq);
        plain.into_iter().chain(self.orphans.first().copied()).min()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Adds an event at the end of the order of base records.
    pub(super) fn push(&mut self, kept: Kept) -> Ix {
        let ix = self.events.insert(kept);
        self.by_seq.insert(kept.event_seq, ix);
        if kept.is_orphan {
            self.orphans.insert(kept.event_seq);
        } else {
            self.by_id.insert(&self.events, kept.id, ix);
        }
        self.link(ix);
        ix
    }

    /// Changes the base record of an event, which moves it to the end.
    pub(super) fn rebase(&mut self, ix: Ix, id: EventId, change: impl FnOnce(&mut Kept)) {
        self.unlink(ix);
        self.by_id.remove(&self.events, ix);
        if let Some(kept) = self.events.get_mut(ix) {
            change(kept);
            (kept.id, kept.is_orphan) = (id, false);
            self.orphans.remove(&kept.event_seq);
        }
        self.by_id.insert(&self.events, id, ix);
        self.link(ix);
    }

    pub(super) fn remove(&mut self, ix: Ix) {
        self.unlink(ix);
        self.by_id.remove(&self.events, ix);
        if let Some(kept) = self.events.get(ix) {
            self.by_seq.remove(&kept.event_seq);
            self.orphans.remove(&kept.event_seq);
        }
        self.events.remove(ix);
    }

    /// Sets the sequence of a commit's base records. Those without a sequence are all at the end.
    pub(super) fn number(&mut self, commit: Base, seq: u64) {
        let mut ix = self.newest;
        while let Some(kept) = self.events.get_mut(ix).filter(|kept| kept.base.is_pending()) {
            if kept.base == commit {
                kept.base = Base(seq);
            }
            ix = kept.earlier;
        }
    }

    fn link(&mut self, ix: Ix) {
        let earlier = self.newest;
        let Some(kept) = self.events.get_mut(ix) else { return };
        (kept.earlier, kept.later) = (earlier, Ix::NONE);
        if kept.is_plain() && self.first_plain == Ix::NONE {
            self.first_plain = ix;
        }
        match self.events.get_mut(earlier) {
            Some(earlier) => earlier.later = ix,
            None => self.oldest = ix,
        }
        self.newest = ix;
    }

    fn unlink(&mut self, ix: Ix) {
        let Some(&Kept { earlier, later, .. }) = self.events.get(ix) else { return };
        if self.first_plain == ix {
            self.first_plain = later;
            while let Some(kept) = self.events.get(self.first_plain).filter(|kept| !kept.is_plain()) {
                self.first_plain = kept.later;
            }
        }
        match self.events.get_mut(earlier) {
            Some(earlier) => earlier.later = later,
            None => self.oldest = later,
        }
        match self.events.get_mut(later) {
            Some(later) => later.earlier = earlier,
            None => self.newest = earlier,
        }
    }
}
