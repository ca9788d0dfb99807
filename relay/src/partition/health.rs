//! The health of a relay: whether it owns its partitions.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The number of partitions that it should own; `None` while that is unknown.
    pub wanted: Option<usize>,
    /// The number of them that it owns.
    pub owned: usize,
    /// Why it cannot own some, or work at all.
    pub fault: Option<String>,
}

impl Health {
    /// Why the relay does not work, in one sentence; `None` when it does.
    pub(crate) fn fault(&self) -> Option<String> {
        match (&self.fault, self.wanted) {
            (Some(fault), _) => Some(fault.clone()),
            (None, None) => Some("the other relays are not known yet".to_owned()),
            (None, Some(wanted)) if self.owned < wanted => {
                Some(format!("{} of {wanted} partitions are taken over", self.owned))
            }
            (None, Some(_)) => None,
        }
    }
}
