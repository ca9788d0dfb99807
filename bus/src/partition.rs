//! Partitions: the shares of the work that relays divide among themselves.
//!
//! A lane's partition is a hash of its names, the same on every machine and in every version: what one relay puts
//! into a partition another one finds there.

use crate::Lane;

/// How many there are. Many more than relays, so that shares come out even, and few enough to list them.
pub(crate) const PARTITIONS: u16 = 256;

/// One share of the work. The planning of events is a share of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition(pub u16);

impl Partition {
    /// The planning of events.
    pub(crate) const PLANNING: Self = Self(PARTITIONS);

    /// The lane's.
    pub(crate) fn of(lane: &Lane) -> Self {
        let hash = hash([lane.tenant.as_bytes(), lane.route.as_bytes()]);
        Self(u16::try_from(hash % u64::from(PARTITIONS)).unwrap_or_default())
    }

    /// Every share there is.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=PARTITIONS).map(Self)
    }
}

/// 64 bits of FNV-1a over the parts, each closed by a zero byte, and then mixed as murmur3 ends: cheap, the same
/// everywhere, and even enough for sharing work. Nothing that is secret depends on it.
pub(crate) fn hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
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
    fn a_lanes_partition_never_changes() {
        let partition =
            |tenant: &str, route: &str| Partition::of(&Lane { tenant: tenant.into(), route: route.into() }).0;
        assert_eq!(
            (partition("acme", "video"), partition("me", "video"), partition("acmev", "ideo")),
            (250, 174, 214)
        );
    }
}
