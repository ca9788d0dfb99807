//! A set of event sequences, to find the lowest one. Sequences that are near each other share a word of bits, so that a backlog
//! takes a few bytes for each, and at most 30 where all of them are far apart.

use std::collections::{BTreeMap, btree_map::Entry};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EventSet {
    /// Of 64 sequences each, by the first one divided by 64.
    words: BTreeMap<u64, u64>,
}

impl EventSet {
    pub(super) fn insert(&mut self, event_seq: u64) {
        let (word, bit) = parts(event_seq);
        *self.words.entry(word).or_default() |= bit;
    }

    pub(super) fn remove(&mut self, event_seq: u64) {
        let (word, bit) = parts(event_seq);
        if let Entry::Occupied(mut bits) = self.words.entry(word) {
            *bits.get_mut() &= !bit;
            if *bits.get() == 0 {
                bits.remove();
            }
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.words.first_key_value().map(|(word, bits)| word << 6 | u64::from(bits.trailing_zeros()))
    }
}

fn parts(event_seq: u64) -> (u64, u64) {
    (event_seq >> 6, 1 << (event_seq & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_finds_the_lowest_of_those_that_are_in(
            changes in prop::collection::vec((any::<bool>(), prop_oneof![0..200_u64, any::<u64>()]), 0..300),
        ) {
            let (mut set, mut expected) = (EventSet::default(), BTreeSet::new());
            for (is_in, event_seq) in changes {
                if is_in {
                    set.insert(event_seq);
                    expected.insert(event_seq);
                } else {
                    set.remove(event_seq);
                    expected.remove(&event_seq);
                }
                prop_assert_eq!(set.first(), expected.first().copied());
            }
            for event_seq in expected {
                set.remove(event_seq);
            }
            prop_assert_eq!(set, EventSet::default(), "and keeps no empty word");
        }
    }
}
