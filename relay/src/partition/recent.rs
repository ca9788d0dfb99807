//! The events that were planned lately and of which something still waits, in memory: most attempts follow within moments,
//! and need not read their event back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use talaria_proto::v1::Event;

/// How much is kept for all partitions of a relay, in bytes of payloads.
const CAPACITY: usize = 16 << 20;

/// What an event takes beside its payload, about.
const OVERHEAD: usize = 1024;

/// The newest events by their sequence. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct RecentEvents(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    events: HashMap<u64, Arc<Event>>,
    /// Those in `events`, oldest first, and some that were removed.
    order: VecDeque<u64>,
    size: usize,
}

fn size(event: &Event) -> usize {
    event.payload.len() + OVERHEAD
}

impl Kept {
    fn remove(&mut self, seq: u64) {
        self.size -= self.events.remove(&seq).map_or(0, |event| size(&event));
    }
}

impl RecentEvents {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; the oldest ones make room.
    pub(super) fn insert(&self, seq: u64, event: &Arc<Event>) {
        let mut kept = self.lock();
        kept.size += size(event);
        kept.order.push_back(seq);
        if let Some(known) = kept.events.insert(seq, Arc::clone(event)) {
            kept.size -= size(&known);
        }
        while let Some(oldest) = kept.order.front().copied()
            && (kept.size > CAPACITY || !kept.events.contains_key(&oldest))
        {
            kept.order.pop_front();
            kept.remove(oldest);
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<Arc<Event>> {
        self.lock().events.get(&seq).map(Arc::clone)
    }

    /// Nothing of the event waits any more.
    pub(super) fn remove(&self, seq: u64) {
        self.lock().remove(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_is_done_takes_none() {
        let recent = RecentEvents::default();
        let event = Arc::new(Event { payload: vec![0; CAPACITY / 2 - OVERHEAD].into(), ..Event::default() });
        let known = || [1, 2, 3, 4].map(|seq| recent.get(seq).is_some());
        (1..=3).for_each(|seq| recent.insert(seq, &event));
        assert_eq!(known(), [false, true, true, false]);
        recent.remove(2);
        recent.insert(3, &event);
        recent.insert(4, &event);
        assert_eq!(known(), [false, false, true, true]);
        (3..=4).for_each(|seq| recent.remove(seq));
        recent.insert(5, &event);
        let kept = recent.lock();
        assert_eq!((kept.size, kept.order.len()), (CAPACITY / 2, 1));
    }
}
