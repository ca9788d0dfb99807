//! The events that were planned lately, in memory: most attempts follow within moments and need not read their event back.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use talaria_proto::v1::Event;

/// How much is kept, in bytes of payloads.
const CAPACITY: usize = 1 << 20;

/// What an event takes beside its payload, about.
const OVERHEAD: usize = 1024;

/// The newest events of a partition by their sequence.
#[derive(Default)]
pub(super) struct RecentEvents {
    events: HashMap<u64, Arc<Event>>,
    order: VecDeque<u64>,
    size: usize,
}

fn size(event: &Event) -> usize {
    event.payload.len() + OVERHEAD
}

impl RecentEvents {
    /// Adds an event; the oldest ones make room.
    pub(super) fn insert(&mut self, seq: u64, event: &Arc<Event>) {
        self.size += size(event);
        self.order.push_back(seq);
        self.events.insert(seq, Arc::clone(event));
        while self.size > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.size -= self.events.remove(&oldest).map_or(0, |event| size(&event));
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<Arc<Event>> {
        self.events.get(&seq).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut recent = RecentEvents::default();
        let event = Arc::new(Event { payload: vec![0; CAPACITY / 2 - OVERHEAD].into(), ..Event::default() });
        (1..=3).for_each(|seq| recent.insert(seq, &event));
        assert_eq!([1, 2, 3].map(|seq| recent.get(seq).is_some()), [false, true, true]);
    }
}
