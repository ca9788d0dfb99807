//! A cache of recently planned events with waiting deliveries: most attempts follow within moments, and need not read their
//! event back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use talaria_proto::v1::Event;

/// For all partitions of a relay, in bytes of payloads.
const CAPACITY: usize = 16 << 20;

/// The approximate size of an event without its payload, in bytes.
const OVERHEAD: usize = 1024;

/// The newest events by their sequence. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct RecentEvents(Arc<Mutex<Cache>>);

#[derive(Default)]
struct Cache {
    events: HashMap<u64, Arc<Event>>,
    /// The events, oldest first, and some that were removed.
    order: VecDeque<u64>,
    size: usize,
}

fn size(event: &Event) -> usize {
    event.payload.len() + OVERHEAD
}

impl Cache {
    fn remove(&mut self, seq: u64) {
        self.size -= self.events.remove(&seq).map_or(0, |event| size(&event));
    }
}

impl RecentEvents {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts the oldest events for a new one.
    pub(super) fn insert(&self, seq: u64, event: &Arc<Event>) {
        let mut cache = self.lock();
        cache.size += size(event);
        cache.order.push_back(seq);
        if let Some(known) = cache.events.insert(seq, Arc::clone(event)) {
            cache.size -= size(&known);
        }
        while let Some(oldest) = cache.order.front().copied()
            && (cache.size > CAPACITY || !cache.events.contains_key(&oldest))
        {
            cache.order.pop_front();
            cache.remove(oldest);
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<Arc<Event>> {
        self.lock().events.get(&seq).map(Arc::clone)
    }

    pub(super) fn remove(&self, seq: u64) {
        self.lock().remove(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_evicted_and_removed_ones_take_no_room() {
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
        let cache = recent.lock();
        assert_eq!((cache.size, cache.order.len()), (CAPACITY / 2, 1));
    }
}
