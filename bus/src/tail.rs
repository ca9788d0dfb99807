//! The newest entries of a stream, in memory: whoever follows it closely need not read them back.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much is kept, in bytes as they are on disk.
const CAPACITY: usize = 8 << 20;

/// What an entry takes beside its bytes, about.
const OVERHEAD: usize = 128;

/// The newest entries, without a gap, each with its place.
#[derive(Debug)]
pub(crate) struct Tail<T>(Mutex<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    /// Every entry behind this place is here, …
    floor: u64,
    /// … up to this one.
    through: u64,
    entries: VecDeque<(u64, Arc<T>, usize)>,
    size: usize,
}

/// Entries with their places, and the place up to which there are no others.
pub(crate) type Found<T> = (Vec<(u64, Arc<T>)>, u64);

impl<T> Tail<T> {
    /// Empty, behind this place.
    pub(crate) fn behind(place: u64) -> Self {
        Self(Mutex::new(Kept { floor: place, through: place, entries: VecDeque::new(), size: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, each with its place and size, up to a place; the oldest ones make room.
    pub(crate) fn extend(&self, new: impl IntoIterator<Item = (u64, Arc<T>, usize)>, through: u64) {
        let mut tail = self.lock();
        for (place, entry, size) in new {
            let size = size + OVERHEAD;
            tail.size += size;
            tail.entries.push_back((place, entry, size));
        }
        tail.through = through;
        while tail.size > CAPACITY
            && let Some((place, _, size)) = tail.entries.pop_front()
        {
            tail.size -= size;
            tail.floor = place;
        }
    }

    /// Forgets what it has, because some of it may be gone from the disk too.
    pub(crate) fn clear(&self) {
        let mut tail = self.lock();
        tail.floor = tail.through;
        tail.size = 0;
        tail.entries.clear();
    }

    /// The entry at a place, if it is here.
    pub(crate) fn get(&self, place: u64) -> Option<Arc<T>> {
        let tail = self.lock();
        let index = tail.entries.binary_search_by_key(&place, |(place, ..)| *place).ok()?;
        tail.entries.get(index).map(|(_, entry, _)| Arc::clone(entry))
    }

    /// The entries behind a place, if there are any and they are here.
    pub(crate) fn after(&self, place: u64, max: usize) -> Option<Found<T>> {
        let tail = self.lock();
        if place < tail.floor || place >= tail.through {
            return None;
        }
        let skip = tail.entries.partition_point(|(entry, ..)| *entry <= place);
        let entries = tail.entries.iter().skip(skip);
        let found: Vec<_> = entries.take(max).map(|(place, entry, _)| (*place, Arc::clone(entry))).collect();
        let cut = tail.entries.len() > skip + found.len();
        let last = found.last().map(|(place, _)| *place);
        let through = last.filter(|_| cut).unwrap_or(tail.through);
        Some((found, through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tail: &Tail<u64>, places: impl IntoIterator<Item = u64>, size: usize, through: u64) {
        tail.extend(places.into_iter().map(|place| (place, Arc::new(place), size)), through);
    }

    fn places(found: Option<Found<u64>>) -> Option<(Vec<u64>, u64)> {
        let place = |(place, entry): (u64, Arc<u64>)| (place == *entry).then_some(place).unwrap();
        found.map(|(found, through)| (found.into_iter().map(place).collect(), through))
    }

    #[test]
    fn gives_what_it_has_and_nothing_else() {
        let tail = Tail::behind(7);
        assert_eq!(places(tail.after(7, 9)), None);
        add(&tail, [8, 9, 14, 15], 1, 20);
        assert_eq!(places(tail.after(7, 9)), Some((vec![8, 9, 14, 15], 20)));
        assert_eq!(places(tail.after(9, 1)), Some((vec![14], 14)), "cut off");
        assert_eq!(places(tail.after(15, 9)), Some((vec![], 20)), "nothing, and one knows how far");
        assert_eq!((places(tail.after(20, 9)), places(tail.after(6, 9))), (None, None));
        assert_eq!((tail.get(8).as_deref(), tail.get(7), tail.get(10)), (Some(&8), None, None));
    }

    #[test]
    fn what_was_cleared_is_gone_and_what_comes_behind_it_has_its_place() {
        let tail = Tail::behind(0);
        add(&tail, 1..4, 1, 3);
        tail.clear();
        add(&tail, 4..6, 1, 5);
        assert_eq!((tail.get(3), tail.get(4).as_deref()), (None, Some(&4)));
        assert_eq!((places(tail.after(2, 9)), places(tail.after(3, 9))), (None, Some((vec![4, 5], 5))));
    }

    #[test]
    fn the_oldest_make_room() {
        let tail = Tail::behind(0);
        add(&tail, 1..=10, CAPACITY / 4 - OVERHEAD, 10);
        assert_eq!(places(tail.after(6, 9)), Some((vec![7, 8, 9, 10], 10)));
        assert_eq!(places(tail.after(5, 9)), None, "not without a gap");
        assert_eq!(tail.get(6), None);
    }
}
