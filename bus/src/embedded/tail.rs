//! The newest entries of a stream in memory, so that a reader without backlog does not read the file.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most bytes of entries in memory, by their size on disk.
const CAPACITY: usize = 1 << 20;

/// The approximate memory of an entry beside its bytes.
const OVERHEAD: usize = 128;

/// The newest entries of a stream, without a gap.
#[derive(Debug)]
pub(crate) struct Tail<T>(Mutex<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    /// Every entry with a sequence above this one …
    floor: u64,
    /// … and up to this one is in `entries`.
    through: u64,
    entries: VecDeque<Entry<T>>,
    size: usize,
}

#[derive(Debug)]
struct Entry<T> {
    seq: u64,
    value: T,
    size: usize,
}

impl<T> Kept<T> {
    fn drop_first(&mut self) -> bool {
        let Some(first) = self.entries.pop_front() else { return false };
        self.size -= first.size;
        self.floor = first.seq;
        true
    }
}

impl<T: Clone> Tail<T> {
    /// An empty tail of a stream whose last entry has this sequence.
    pub(crate) fn behind(last: u64) -> Self {
        Self(Mutex::new(Kept { floor: last, through: last, entries: VecDeque::new(), size: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, each with its sequence and its size on disk. The oldest entries are dropped to make room.
    pub(crate) fn extend(&self, new: impl IntoIterator<Item = (u64, T, usize)>) {
        let mut tail = self.lock();
        for (seq, value, size) in new {
            debug_assert!(seq > tail.through, "sequences rise");
            let size = size + OVERHEAD;
            tail.size += size;
            tail.through = seq;
            tail.entries.push_back(Entry { seq, value, size });
        }
        while tail.size > CAPACITY && tail.drop_first() {}
    }

    /// Drops the entries before a sequence.
    pub(crate) fn trim(&self, before: u64) {
        let mut tail = self.lock();
        while tail.entries.front().is_some_and(|first| first.seq < before) && tail.drop_first() {}
    }

    /// The entry with a sequence, if it is in the tail.
    pub(crate) fn get(&self, seq: u64) -> Option<T> {
        let tail = self.lock();
        let index = tail.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        tail.entries.get(index).map(|entry| entry.value.clone())
    }

    /// The entries after a sequence, at most `max`. `None` when there are none, or when the next one is not in the tail.
    pub(crate) fn entries_after(&self, seq: u64, max: usize) -> Option<Vec<(u64, T)>> {
        let tail = self.lock();
        if seq < tail.floor || seq >= tail.through {
            return None;
        }
        let skip = tail.entries.partition_point(|entry| entry.seq <= seq);
        let entries = tail.entries.iter().skip(skip).take(max);
        Some(entries.map(|entry| (entry.seq, entry.value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tail: &Tail<u64>, seqs: impl IntoIterator<Item = u64>, size: usize) {
        tail.extend(seqs.into_iter().map(|seq| (seq, seq, size)));
    }

    fn after(tail: &Tail<u64>, seq: u64, max: usize) -> Option<Vec<u64>> {
        let found = tail.entries_after(seq, max)?;
        assert!(found.iter().all(|(seq, value)| seq == value));
        Some(found.into_iter().map(|(seq, _)| seq).collect())
    }

    #[test]
    fn returns_the_entries_after_a_sequence_and_none_if_the_next_one_is_missing() {
        let tail = Tail::behind(7);
        assert_eq!(after(&tail, 7, 9), None);
        add(&tail, [8, 9, 14, 15], 1);
        assert_eq!(after(&tail, 7, 9), Some(vec![8, 9, 14, 15]));
        assert_eq!(after(&tail, 9, 1), Some(vec![14]));
        assert_eq!((after(&tail, 15, 9), after(&tail, 6, 9)), (None, None));
        assert_eq!((tail.get(8), tail.get(7), tail.get(10)), (Some(8), None, None));
    }

    #[test]
    fn trimmed_entries_are_gone_and_the_others_stay() {
        let tail = Tail::behind(0);
        add(&tail, 1..4, 1);
        tail.trim(3);
        assert_eq!((tail.get(2), tail.get(3)), (None, Some(3)));
        assert_eq!((after(&tail, 1, 9), after(&tail, 2, 9)), (None, Some(vec![3])));
        tail.trim(100);
        assert_eq!((after(&tail, 2, 9), after(&tail, 3, 9)), (None, None));
        add(&tail, 4..6, 1);
        assert_eq!((after(&tail, 2, 9), after(&tail, 3, 9)), (None, Some(vec![4, 5])));
        assert_eq!(tail.lock().size, 2 * (1 + OVERHEAD));
    }

    #[test]
    fn the_oldest_make_room() {
        let tail = Tail::behind(0);
        add(&tail, 1..=10, CAPACITY / 4 - OVERHEAD);
        assert_eq!(after(&tail, 6, 9), Some(vec![7, 8, 9, 10]));
        assert_eq!(after(&tail, 5, 9), None, "6 is not in memory any more");
        assert_eq!(tail.get(6), None);
    }
}
