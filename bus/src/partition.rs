//! Partitions: the shares into which tenants are divided.
//!
//! Everything of a tenant belongs to one partition, which is a hash of its name, the same on every machine and in every
//! version.

use std::fmt;

/// The number of partitions on NATS: many more than relays, so that shares are even, and few enough to list.
pub(crate) const NATS_PARTITIONS: u16 = 64;

/// One share of the tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u16);

impl Partition {
    /// The only partition of the embedded bus.
    pub const ONLY: Self = Self(0);

    /// The partition of a tenant among `count`.
    pub fn of(tenant: &str, count: u16) -> Self {
        Self(u16::try_from(hash([tenant.as_bytes()]) % u64::from(count.max(1))).unwrap_or_default())
    }

    /// All of `count` partitions.
    pub fn all(count: u16) -> impl Iterator<Item = Self> {
        (0..count).map(Self)
    }

    /// From 0 to the number of partitions less one.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The partition of this number, if it is below `count`.
    pub fn new(number: u16, count: u16) -> Option<Self> {
        (number < count).then_some(Self(number))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// 64 bits of FNV-1a over the parts, each closed by a zero byte, with the finalizer of murmur3: cheap, the same on every
/// machine, and even enough to share work. Nothing secret depends on it.
pub fn hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let bytes = parts.into_iter().flat_map(|part| part.iter().chain(&[0]));
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for multiplier in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_partition_never_changes() {
        let numbers = ["acme", "me", "other"].map(|tenant| Partition::of(tenant, 64).number());
        assert_eq!(numbers, [25, 63, 53]);
    }
}
