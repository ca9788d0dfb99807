//! A delivery in the queue: its lane, and the right to work on it.

use std::{collections::HashMap, sync::Arc};
use talaria_proto::v1::DeliveryTask;

/// How long a delivery may be held before it counts as abandoned. Longer than the longest timeout of a route.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// A tenant's route, as the queue sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The route's name within the tenant.
    pub route: Arc<str>,
}

/// How many deliveries of each lane may be out at once; lanes that are not named have [`Windows::DEFAULT`].
#[derive(Clone, Debug, Default)]
pub struct Windows(pub HashMap<Lane, usize>);

impl Windows {
    /// The window of lanes that no configuration names any more.
    pub const DEFAULT: usize = 16;

    pub(crate) fn of(&self, lane: &Lane) -> usize {
        self.0.get(lane).copied().unwrap_or(Self::DEFAULT)
    }
}

/// The right to work on a delivery, until it is used, given back or [`LEASE`] is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) event_seq: u64,
    pub(crate) route: i64,
    pub(crate) token: i64,
}

/// A delivery in somebody's hands.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The right to work on it.
    pub lease: Lease,
    /// What it is.
    pub task: DeliveryTask,
    /// Whether an earlier holder vanished: it may have sent the request.
    pub interrupted: bool,
    /// Tells apart the times for which this process has had the lane: with another number than before, others may have
    /// worked on it in between.
    pub term: u64,
}

/// What was found among the deliveries of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey<T> {
    /// In what waits, in the order of being due.
    pub found: Vec<T>,
    /// How many other processes hold.
    pub held_elsewhere: usize,
}
