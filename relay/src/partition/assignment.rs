//! The assignment of partitions to relays. Decisions only; [`super::supervisor`] acts on them.
//!
//! There is no consensus: each relay decides by the announcements that it has heard, and a partition's journal refuses a relay
//! that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use talaria_bus::{Floors, Identity, Partition, hash};
use talaria_proto::v1::RelayAnnouncement;

/// A relay is gone when so many of our own beats came back since its last announcement. This is not measured by a clock: while
/// the broker is away, no announcement comes, and no relay is gone.
const MISSED: u32 = 5;

/// A relay that has just started takes no partition before so many of its beats came back: the others answer the first one at
/// once with their own announcements.
const LISTENS: u32 = 2;

/// The last announcement of another relay.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OtherRelay {
    run: u64,
    is_leaving: bool,
    owned: BTreeMap<Partition, Floors>,
    prepared: BTreeSet<Partition>,
    /// Our beats that came back since.
    missed: u32,
}

/// The announcements of all relays.
#[derive(Clone, Debug)]
pub(crate) struct Hearing {
    me: Identity,
    others: BTreeMap<String, OtherRelay>,
    /// Our beats that came back.
    own: u32,
    last_beat: u64,
    partitions: u16,
}

/// The effect of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    /// A relay has started, and should hear our announcement.
    Newcomer,
    /// A relay owns other partitions than before, or leaves.
    Changed,
    /// A newer run has our id, from a copy of the data directory.
    Displaced,
}

/// The state of the owner that a partition's journal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerStatus {
    /// It announces the partition as its own.
    Claims,
    /// It has left, or was silent for too long.
    Gone,
    /// This run was not heard, or does not announce the partition yet.
    Silent,
}

/// The partitions to take and to give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// To be owned, and claimed by no other relay.
    pub take: BTreeSet<Partition>,
    /// To be owned, but another relay still claims it.
    pub prepare: BTreeSet<Partition>,
    /// To be owned by another relay.
    pub give: BTreeSet<Partition>,
    /// Those of `give` whose next owner has read their journal, or that have no next owner.
    pub ready: BTreeSet<Partition>,
    /// The number of partitions to be owned.
    pub wanted: usize,
}

impl Hearing {
    pub(crate) fn new(me: Identity, partitions: u16) -> Self {
        Self { me, others: BTreeMap::new(), own: 0, last_beat: 0, partitions }
    }

    pub(crate) fn hear(&mut self, relay: &str, announced: &RelayAnnouncement) -> News {
        if relay == self.me.relay {
            return match announced.run {
                run if run > self.me.run => News::Displaced,
                run if run < self.me.run => News::Nothing,
                // Announced between two beats.
                _ if announced.number <= self.last_beat => News::Nothing,
                _ => {
                    self.last_beat = announced.number;
                    self.own = self.own.saturating_add(1);
                    self.others.values_mut().for_each(|heard| heard.missed = heard.missed.saturating_add(1));
                    News::Nothing
                }
            };
        }
        let partition = |number: u32| Partition::new(u16::try_from(number).ok()?, self.partitions);
        let owned = announced.owned.iter().filter_map(|owned| {
            let floors = Floors { events: owned.events_floor, journal: owned.journal_floor };
            Some((partition(owned.partition)?, floors))
        });
        let heard = OtherRelay {
            run: announced.run,
            is_leaving: announced.leaving,
            owned: owned.collect(),
            prepared: announced.prepared.iter().copied().filter_map(partition).collect(),
            missed: 0,
        };
        match self.others.insert(relay.to_owned(), heard.clone()) {
            Some(known) if known.run > heard.run => {
                // A late announcement of an earlier run.
                self.others.insert(relay.to_owned(), known);
                News::Nothing
            }
            Some(known) if known.run == heard.run && known.missed < MISSED => {
                let is_same =
                    known.is_leaving == heard.is_leaving && known.owned.keys().eq(heard.owned.keys());
                if is_same { News::Nothing } else { News::Changed }
            }
            _ => News::Newcomer,
        }
    }

    /// The other relays that are alive.
    fn alive(&self) -> impl Iterator<Item = (&String, &OtherRelay)> {
        self.others.iter().filter(|(_, heard)| heard.missed < MISSED)
    }

    /// Whether this relay has listened long enough to take partitions.
    pub(crate) fn has_listened(&self) -> bool {
        self.own >= LISTENS
    }

    /// The state of the relay that owns a partition by its journal.
    pub(crate) fn owner(&self, partition: Partition, relay: &str, run: u64) -> OwnerStatus {
        match self.others.get(relay).filter(|heard| heard.run == run) {
            Some(heard) if heard.missed >= MISSED => OwnerStatus::Gone,
            Some(heard) if heard.owned.contains_key(&partition) => OwnerStatus::Claims,
            Some(heard) if heard.is_leaving => OwnerStatus::Gone,
            _ => OwnerStatus::Silent,
        }
    }

    /// Whether a relay that is silent since our beat `beats` is gone.
    pub(crate) fn is_gone_since(&self, beats: u32) -> bool {
        self.own.saturating_sub(beats) >= MISSED
    }

    /// The number of our beats that came back.
    pub(crate) fn beats(&self) -> u32 {
        self.own
    }

    /// The partitions of the other relays, by relay.
    pub(crate) fn owned_by_others(&self) -> BTreeMap<String, Vec<Partition>> {
        let owned =
            |(relay, heard): (&String, &OtherRelay)| (relay.clone(), heard.owned.keys().copied().collect());
        self.alive().map(owned).collect()
    }

    /// The assignment for this relay, which owns these partitions.
    pub(crate) fn assign(&self, owned: &BTreeSet<Partition>, is_leaving: bool) -> Assignment {
        let staying: Vec<&str> = self
            .alive()
            .filter(|(_, heard)| !heard.is_leaving)
            .map(|(relay, _)| relay.as_str())
            .chain((!is_leaving).then_some(self.me.relay.as_str()))
            .collect();
        let mut assignment = Assignment::default();
        for partition in Partition::all(self.partitions) {
            let number = partition.number().to_be_bytes();
            let owner = staying.iter().max_by_key(|relay| (hash([relay.as_bytes(), &number]), **relay));
            let is_ours = owner.is_some_and(|owner| *owner == self.me.relay);
            assignment.wanted += usize::from(is_ours);
            if owned.contains(&partition) {
                // A relay that leaves gives its partitions up even if there is no other relay.
                if !is_ours {
                    assignment.give.insert(partition);
                    let next = owner.and_then(|owner| self.others.get(*owner));
                    if next.is_none_or(|next| next.prepared.contains(&partition)) {
                        assignment.ready.insert(partition);
                    }
                }
            } else if is_ours && self.has_listened() {
                let is_claimed = self.alive().any(|(_, heard)| heard.owned.contains_key(&partition));
                let wanted = if is_claimed { &mut assignment.prepare } else { &mut assignment.take };
                wanted.insert(partition);
            }
        }
        assignment
    }

    /// The lowest floors of all partitions, with the floors of this relay's own; `None` while a partition has no owner, or if
    /// another relay trims.
    pub(crate) fn floors(&self, own: &BTreeMap<Partition, Floors>) -> Option<Floors> {
        let mut lowest: Option<Floors> = None;
        for partition in Partition::all(self.partitions) {
            let others = || self.alive().find_map(|(_, heard)| heard.owned.get(&partition));
            let floors = own.get(&partition).or_else(others)?;
            if lowest.is_none() && !own.contains_key(&partition) {
                // The owner of the first partition trims for all.
                return None;
            }
            let low = lowest.unwrap_or(*floors);
            lowest = Some(Floors {
                events: low.events.min(floors.events),
                journal: low.journal.min(floors.journal),
            });
        }
        lowest
    }
}

#[cfg(test)]
mod tests;
