//! The key of a delivery within a partition.

/// The sequence of the delivery's event, and the key of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DeliveryKey {
    pub event_seq: u64,
    pub route: i64,
}
