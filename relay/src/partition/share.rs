//! A set of partitions.

use std::collections::BTreeSet;
use talaria_bus::Partition;

/// A set of partitions, and so of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub partitions: BTreeSet<Partition>,
    /// How many partitions there are in all.
    count: u16,
}

impl Share {
    /// Some of `count` partitions.
    pub(crate) fn new(partitions: impl IntoIterator<Item = Partition>, count: u16) -> Self {
        Self { partitions: partitions.into_iter().collect(), count }
    }

    /// Whether the partition of this number is one of them.
    pub(crate) fn has_number(&self, number: u16) -> bool {
        self.partitions.iter().any(|partition| partition.number() == number)
    }

    /// Whether a tenant is in one of them.
    pub(crate) fn has(&self, tenant: &str) -> bool {
        self.partitions.contains(&Partition::of(tenant, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_the_tenants_of_its_partitions() {
        let home = Partition::of("acme", 64);
        assert!(Share::new([home], 64).has("acme"));
        assert!(!Share::new(Partition::all(64).filter(|other| *other != home), 64).has("acme"));
        assert!(Share::new([Partition::ONLY], 1).has("anything"));
    }
}
