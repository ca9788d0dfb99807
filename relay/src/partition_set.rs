//! A set of partitions, and so of tenants.

use std::collections::BTreeSet;
use talaria_bus::Partition;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionSet {
    pub partitions: BTreeSet<Partition>,
    /// The number of all partitions.
    count: u16,
}

impl PartitionSet {
    /// Some of `count` partitions.
    pub(crate) fn new(partitions: impl IntoIterator<Item = Partition>, count: u16) -> Self {
        Self { partitions: partitions.into_iter().collect(), count }
    }

    pub(crate) fn has_number(&self, number: u16) -> bool {
        self.partitions.iter().any(|partition| partition.number() == number)
    }

    pub(crate) fn has_tenant(&self, tenant: &str) -> bool {
        self.partitions.contains(&Partition::of(tenant, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_tenants_of_its_partitions() {
        let home = Partition::of("acme", 64);
        assert!(PartitionSet::new([home], 64).has_tenant("acme"));
        assert!(!PartitionSet::new(Partition::all(64).filter(|other| *other != home), 64).has_tenant("acme"));
        assert!(PartitionSet::new([Partition::ONLY], 1).has_tenant("anything"));
    }
}
