//! The newest entries of a stream, in memory: whoever follows it closely need not read them back from disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much is kept, in bytes as they are on disk.
const CAPACITY: usize = 8 << 20;

/// The newest entries, without a gap.
#[derive(Debug)]
pub(super) struct Tail<T>(Mutex<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    /// The place of the first one.
    first: u64,
    entries: VecDeque<(Arc<T>, usize)>,
    size: usize,
}

impl<T> Tail<T> {
    /// Empty, behind this place.
    pub(super) fn behind(place: u64) -> Self {
        Self(Mutex::new(Kept { first: place + 1, entries: VecDeque::new(), size: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, each with its size; the oldest ones make room.
    pub(super) fn extend(&self, new: impl Iterator<Item = (Arc<T>, usize)>) {
        let mut tail = self.lock();
        for (entry, size) in new {
            tail.size += size;
            tail.entries.push_back((entry, size));
        }
        while tail.size > CAPACITY
            && let Some((_, size)) = tail.entries.pop_front()
        {
            tail.size -= size;
            tail.first += 1;
        }
    }

    /// Forgets what it has, because some of it may be gone from the disk too.
    pub(super) fn clear(&self) {
        let mut tail = self.lock();
        tail.first += tail.entries.len() as u64;
        tail.size = 0;
        tail.entries.clear();
    }

    /// The entry at a place, if it is here.
    pub(super) fn get(&self, place: u64) -> Option<Arc<T>> {
        let tail = self.lock();
        let index = usize::try_from(place.checked_sub(tail.first)?).ok()?;
        tail.entries.get(index).map(|(entry, _)| Arc::clone(entry))
    }

    /// The entries behind a place, if they are here.
    pub(super) fn after(&self, place: u64, max: usize) -> Option<Vec<(u64, Arc<T>)>> {
        let tail = self.lock();
        let skip = usize::try_from((place + 1).checked_sub(tail.first)?).ok()?;
        let entries = tail.entries.iter().skip(skip).take(max).map(|(entry, _)| Arc::clone(entry));
        let found: Vec<_> = (place + 1..).zip(entries).collect();
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(found: Option<Vec<(u64, Arc<u64>)>>) -> Option<Vec<u64>> {
        found.map(|found| {
            found.into_iter().map(|(place, entry)| (place == *entry).then_some(place).unwrap()).collect()
        })
    }

    #[test]
    fn gives_what_it_has_and_nothing_else() {
        let tail = Tail::behind(7);
        assert_eq!(places(tail.after(7, 9)), None);
        tail.extend((8..12).map(|place| (Arc::new(place), 1)));
        assert_eq!(places(tail.after(7, 9)), Some(vec![8, 9, 10, 11]));
        assert_eq!(places(tail.after(9, 1)), Some(vec![10]));
        assert_eq!((places(tail.after(11, 9)), places(tail.after(6, 9))), (None, None));
        assert_eq!((tail.get(8).as_deref(), tail.get(7), tail.get(12)), (Some(&8), None, None));
    }

    #[test]
    fn what_was_cleared_is_gone_and_what_comes_behind_it_has_its_place() {
        let tail = Tail::behind(0);
        tail.extend((1..4).map(|place| (Arc::new(place), 1)));
        tail.clear();
        tail.extend((4..6).map(|place| (Arc::new(place), 1)));
        assert_eq!((tail.get(3), tail.get(4).as_deref()), (None, Some(&4)));
        assert_eq!((places(tail.after(2, 9)), places(tail.after(3, 9))), (None, Some(vec![4, 5])));
    }

    #[test]
    fn the_oldest_make_room() {
        let tail = Tail::behind(0);
        tail.extend((1..=10).map(|place| (Arc::new(place), CAPACITY / 4)));
        assert_eq!(places(tail.after(6, 9)), Some(vec![7, 8, 9, 10]));
        assert_eq!(places(tail.after(5, 9)), None, "not without a gap");
        assert_eq!(tail.get(6), None);
    }
}
