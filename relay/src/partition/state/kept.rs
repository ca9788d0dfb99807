//! The events that are kept, by id, by sequence, and in the order of their base records.
//!
//! An event's **base record** is the one before which nothing is needed for it: `EventPlanned`, or the last `EventCarried`.
//! The events are a linked list in the order of these records, so that moving one to the end and removing one cost the same
//! wherever it stands. Ids and sequences are indexed by tables of numbers alone, because a million entries that repeat their
//! keys would cost more than the events.

use super::slab::{Ix, Slab};
use hashbrown::HashTable;
use std::{collections::BTreeSet, hash::BuildHasher as _, hash::RandomState, iter};
use talaria_core::id::EventId;

/// The sequence of the commit that holds a base record; until that is known, the commit's number among those of this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base(u64);

/// No sequence reaches this far.
const PENDING: u64 = 1 << 63;

impl Base {
    pub(super) fn pending(number: u64) -> Self {
        Self(number | PENDING)
    }

    fn is_pending(self) -> bool {
        self.0 >= PENDING
    }

    /// The sequence, once it is known.
    pub(super) fn seq(self) -> Option<u64> {
        (!self.is_pending()).then_some(self.0)
    }
}

/// An event that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub id: EventId,
    /// Whether its payload is in the base record.
    pub is_carried: bool,
    /// Its base record is missing from the journal: it was made from a record about one of its deliveries. It has no id, so
    /// that a repetition counts as new, and is kept only as long as something of it waits.
    pub is_orphan: bool,
    pub event_seq: u64,
    /// The first bytes of its payload's SHA-256.
    pub digest: u64,
    pub base: Base,
    /// When its base record was written.
    pub base_at: i64,
    /// When the last record about it or its deliveries was written.
    pub last_at: i64,
    pub received_at: i64,
    /// The first of its deliveries that wait.
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

    /// Whether it is as it was planned.
    fn is_plain(&self) -> bool {
        !self.is_carried && !self.is_orphan
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct KeptEvents {
    events: Slab<Kept>,
    by_seq: HashTable<Ix>,
    by_id: HashTable<Ix>,
    hasher: RandomState,
    oldest: Ix,
    newest: Ix,
    /// The first, in the order of base records, that is plain.
    first_plain: Ix,
    /// The sequences of the orphans.
    orphans: BTreeSet<u64>,
}

impl Default for KeptEvents {
    fn default() -> Self {
        Self {
            events: Slab::default(),
            by_seq: HashTable::new(),
            by_id: HashTable::new(),
            hasher: RandomState::new(),
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
        let is_it = |ix: &Ix| self.events.get(*ix).is_some_and(|kept| kept.event_seq == event_seq);
        self.by_seq.find(self.hasher.hash_one(event_seq), is_it).copied()
    }

    pub(super) fn by_seq(&self, event_seq: u64) -> Option<&Kept> {
        self.get(self.find(event_seq)?)
    }

    pub(super) fn by_id(&self, id: EventId) -> Option<&Kept> {
        let is_it = |ix: &Ix| self.events.get(*ix).is_some_and(|kept| kept.id == id);
        self.by_id.find(self.hasher.hash_one(id), is_it).and_then(|ix| self.get(*ix))
    }

    /// In the order of their base records.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        iter::successors(self.get(self.oldest), |kept| self.get(kept.later))
    }

    /// The first one in the order of base records.
    pub(super) fn oldest(&self) -> Option<(Ix, &Kept)> {
        self.get(self.oldest).map(|kept| (self.oldest, kept))
    }

    /// The one behind it in the order of base records.
    pub(super) fn later(&self, kept: &Kept) -> Option<(Ix, &Kept)> {
        self.get(kept.later).map(|later| (kept.later, later))
    }

    /// The lowest sequence of an event whose payload is not in its base record.
    pub(super) fn first_in_stream(&self) -> Option<u64> {
        // Events are planned in the order of their sequences, so that the first plain one has the lowest of them.
        let plain = self.get(self.first_plain).map(|kept| kept.event_seq);
        plain.into_iter().chain(self.orphans.first().copied()).min()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Adds an event, the last one in the order of base records.
    pub(super) fn push(&mut self, kept: Kept) -> Ix {
        let ix = self.events.insert(kept);
        let Self { events, by_seq, hasher, .. } = self;
        let hash_of = |ix: &Ix| hasher.hash_one(events.get(*ix).map_or(0, |kept| kept.event_seq));
        by_seq.insert_unique(hash_of(&ix), ix, hash_of);
        if kept.is_orphan {
            self.orphans.insert(kept.event_seq);
        } else {
            self.index_id(ix, kept.id);
        }
        self.link(ix);
        ix
    }

    /// Gives an event another base record, the last one in their order.
    pub(super) fn rebase(&mut self, ix: Ix, id: EventId, change: impl FnOnce(&mut Kept)) {
        self.unlink(ix);
        self.unindex_id(ix);
        if let Some(kept) = self.events.get_mut(ix) {
            change(kept);
            (kept.id, kept.is_orphan) = (id, false);
            self.orphans.remove(&kept.event_seq);
        }
        self.index_id(ix, id);
        self.link(ix);
    }

    pub(super) fn remove(&mut self, ix: Ix) {
        self.unlink(ix);
        self.unindex_id(ix);
        if let Some(kept) = self.events.get(ix)
            && let Ok(entry) =
                self.by_seq.find_entry(self.hasher.hash_one(kept.event_seq), |other| *other == ix)
        {
            entry.remove();
            self.orphans.remove(&kept.event_seq);
        }
        self.events.remove(ix);
    }

    /// The base records of this commit have this sequence. Those whose sequence is not known are the last ones.
    pub(super) fn number(&mut self, commit: Base, seq: u64) {
        let mut ix = self.newest;
        while let Some(kept) = self.events.get_mut(ix).filter(|kept| kept.base.is_pending()) {
            if kept.base == commit {
                kept.base = Base(seq);
            }
            ix = kept.earlier;
        }
    }

    /// Of two events with one id, the later one is found by it.
    fn index_id(&mut self, ix: Ix, id: EventId) {
        let Self { events, by_id, hasher, .. } = self;
        let id_of = |ix: Ix| events.get(ix).map(|kept| kept.id);
        let hash = hasher.hash_one(id);
        match by_id.find_mut(hash, |other| id_of(*other) == Some(id)) {
            Some(known) => *known = ix,
            None => {
                let hash_of = |ix: &Ix| id_of(*ix).map_or(0, |id| hasher.hash_one(id));
                by_id.insert_unique(hash, ix, hash_of);
            }
        }
    }

    fn unindex_id(&mut self, ix: Ix) {
        if let Some(kept) = self.events.get(ix)
            && let Ok(entry) = self.by_id.find_entry(self.hasher.hash_one(kept.id), |other| *other == ix)
        {
            entry.remove();
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
