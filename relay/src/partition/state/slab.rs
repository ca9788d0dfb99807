//! Storage for many small items, each under a number that does not change.
//!
//! Items are in chunks of a fixed size. A `Vec` that grows copies all of its items and may leave half of its memory unused;
//! here growing copies nothing, and at most one chunk is not full.

const CHUNK: usize = 1 << 8;

/// The number of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ix(u32);

impl Ix {
    /// The number of no item.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn parts(self) -> (usize, usize) {
        let number = self.0 as usize;
        (number / CHUNK, number % CHUNK)
    }
}

/// The items. The number of a removed item is used again, so the caller must not keep it.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<Ix>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn get(&self, ix: Ix) -> Option<&T> {
        let (chunk, index) = ix.parts();
        self.chunks.get(chunk)?.get(index)
    }

    pub(super) fn get_mut(&mut self, ix: Ix) -> Option<&mut T> {
        let (chunk, index) = ix.parts();
        self.chunks.get_mut(chunk)?.get_mut(index)
    }

    /// All slots, also those of removed items.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    pub(super) fn insert(&mut self, item: T) -> Ix {
        if let Some(ix) = self.free.pop() {
            if let Some(slot) = self.get_mut(ix) {
                *slot = item;
            }
            return ix;
        }
        let number = self.slots();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(item),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
        Ix(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Removes an item, which must exist. Removing the last one frees the memory of all.
    pub(super) fn remove(&mut self, ix: Ix) {
        self.free.push(ix);
        if self.free.len() == self.slots() {
            *self = Self::default();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots() - self.free.len()
    }

    fn slots(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_removed_items_are_used_again_and_the_last_one_frees_the_memory() {
        let mut slab = Slab::default();
        let numbers: Vec<Ix> = (0..=CHUNK * 2).map(|item| slab.insert(item)).collect();
        assert_eq!((slab.len(), slab.chunks.len()), (CHUNK * 2 + 1, 3));
        assert!(numbers.iter().enumerate().all(|(item, ix)| slab.get(*ix) == Some(&item)));
        assert_eq!(slab.get(Ix::NONE), None);
        slab.remove(numbers[7]);
        assert_eq!((slab.insert(99), slab.len()), (numbers[7], CHUNK * 2 + 1));
        *slab.get_mut(numbers[8]).unwrap() = 88;
        assert_eq!([7, 8, 9].map(|index: usize| *slab.get(numbers[index]).unwrap()), [99, 88, 9]);
        for ix in numbers {
            slab.remove(ix);
        }
        assert_eq!((slab.len(), slab.chunks.len(), slab.free.capacity()), (0, 0, 0));
    }
}
