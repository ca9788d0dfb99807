//! The targets of a question: the relays to ask, with their partitions. Pure.

use crate::partition::handle::Ownership;
use std::collections::BTreeSet;
use talaria_bus::Partition;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::services) struct Targets {
    /// Owned by this relay.
    pub own: BTreeSet<Partition>,
    /// By the other relays that announced them. If two relays announce the same partition, both are asked: one of them knows that
    /// it does not own it any more.
    pub others: Vec<(String, BTreeSet<Partition>)>,
    /// Partitions without an owner, as far as this relay knows.
    pub unowned: BTreeSet<Partition>,
}

impl Targets {
    pub(super) fn new(
        partitions: impl IntoIterator<Item = Partition>,
        own: &BTreeSet<Partition>,
        ownership: &Ownership,
    ) -> Self {
        let (own, mut unowned): (BTreeSet<_>, BTreeSet<_>) =
            partitions.into_iter().partition(|partition| own.contains(partition));
        let of_others = unowned.clone();
        let mut others = Vec::new();
        for (relay, announced) in &ownership.others {
            let asked: BTreeSet<_> =
                announced.iter().copied().filter(|partition| of_others.contains(partition)).collect();
            if !asked.is_empty() {
                unowned.retain(|partition| !asked.contains(partition));
                others.push((relay.clone(), asked));
            }
        }
        Self { own, others, unowned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(numbers: &[u16]) -> BTreeSet<Partition> {
        numbers.iter().map(|number| Partition::new(*number, 8).unwrap()).collect()
    }

    #[test]
    fn every_partition_is_asked_for_where_it_is_owned() {
        let announced = |numbers| partitions(numbers).into_iter().collect();
        let others = [("a".to_owned(), announced(&[1, 2, 3])), ("b".to_owned(), announced(&[3, 4]))];
        let ownership = Ownership { others: others.into() };
        let all = Targets::new(Partition::all(8), &partitions(&[0, 2]), &ownership);
        assert_eq!(all.own, partitions(&[0, 2]));
        assert_eq!(
            all.others,
            [("a".to_owned(), partitions(&[1, 3])), ("b".to_owned(), partitions(&[3, 4]))],
            "our own are not asked for elsewhere, and a disputed one is asked for at both"
        );
        assert_eq!(all.unowned, partitions(&[5, 6, 7]));
        let one = Targets::new(partitions(&[4]), &partitions(&[0]), &ownership);
        assert_eq!((one.own.len(), one.others.len(), one.unowned.len()), (0, 1, 0));
        let none = Targets::new(partitions(&[7]), &partitions(&[0]), &ownership);
        assert_eq!((none.own.len(), none.others.len(), none.unowned), (0, 0, partitions(&[7])));
    }
}
