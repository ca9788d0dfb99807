//! Which relay should own which partition. Decisions only; [`super::supervisor`] acts on them.
//!
//! Nothing is agreed on: each relay decides by what it heard, and a partition's journal refuses the relay that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use talaria_bus::{Floors, Identity, Partition, hash};
use talaria_proto::v1::RelayAnnouncement;

/// A relay is gone when so many beats of this relay came back since its last announcement. Counted so, and not by a
/// clock: while the broker is away no announcement comes, and no relay is gone.
const MISSED: u32 = 5;

/// A relay that has just started takes nothing before so many of its beats came back: the others answer the first
/// one at once with what they own.
const LISTENS: u32 = 2;

/// What another relay announced last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    run: u64,
    is_leaving: bool,
    owned: BTreeMap<Partition, Floors>,
    /// This relay's own beats that came back since.
    missed: u32,
}

/// What was heard of all relays.
#[derive(Clone, Debug)]
pub(crate) struct Hearing {
    me: Identity,
    others: BTreeMap<String, Heard>,
    /// This relay's own beats that came back.
    own: u32,
    last_beat: u64,
    partitions: u16,
}

/// What an announcement changes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    Nothing,
    /// A relay has started: it should hear of this one.
    Newcomer,
    /// A relay owns something else than before, or leaves.
    Changed,
    /// A newer run has this relay's id: a copy of its data directory.
    Displaced,
}

/// What is known of the owner that a partition's journal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It announces the partition as its own.
    Claims,
    /// It has left, or nothing was heard of it for as long as a relay may be silent.
    Gone,
    /// This run of it was not heard, or it does not announce the partition: it may be about to.
    Silent,
}

/// What this relay should do about the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Those that it should own and that no other relay claims.
    pub take: BTreeSet<Partition>,
    /// Those that another relay should own.
    pub give: BTreeSet<Partition>,
    /// How many it should own.
    pub wanted: usize,
}

impl Hearing {
    pub(crate) fn new(me: Identity, partitions: u16) -> Self {
        Self { me, others: BTreeMap::new(), own: 0, last_beat: 0, partitions }
    }

    /// An announcement came.
    pub(crate) fn hear(&mut self, relay: &str, announced: &RelayAnnouncement) -> News {
        if relay == self.me.relay {
            return match announced.run {
                run if run > self.me.run => News::Displaced,
                run if run < self.me.run => News::Nothing,
                // Said between two beats.
                _ if announced.number <= self.last_beat => News::Nothing,
                _ => {
                    self.last_beat = announced.number;
                    self.own = self.own.saturating_add(1);
                    self.others.values_mut().for_each(|heard| heard.missed = heard.missed.saturating_add(1));
                    News::Nothing
                }
            };
        }
        let owned = announced.owned.iter().filter_map(|owned| {
            let number = u16::try_from(owned.partition).ok()?;
            let floors = Floors { events: owned.events_floor, journal: owned.journal_floor };
            Some((Partition::new(number, self.partitions)?, floors))
        });
        let heard =
            Heard { run: announced.run, is_leaving: announced.leaving, owned: owned.collect(), missed: 0 };
        match self.others.insert(relay.to_owned(), heard.clone()) {
            Some(known) if known.run > heard.run => {
                // A late one of an earlier run.
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

    /// Relays that are there, beside this one.
    fn alive(&self) -> impl Iterator<Item = (&String, &Heard)> {
        self.others.iter().filter(|(_, heard)| heard.missed < MISSED)
    }

    /// Whether enough was heard to take something.
    pub(crate) fn has_listened(&self) -> bool {
        self.own >= LISTENS
    }

    /// What is known of the relay that owns a partition by its journal, when this one is about to take it over.
    pub(crate) fn owner(&self, partition: Partition, relay: &str, run: u64) -> Owner {
        match self.others.get(relay).filter(|heard| heard.run == run) {
            Some(heard) if heard.missed >= MISSED => Owner::Gone,
            Some(heard) if heard.owned.contains_key(&partition) => Owner::Claims,
            Some(heard) if heard.is_leaving => Owner::Gone,
            _ => Owner::Silent,
        }
    }

    /// Whether a relay that was silent since so many beats is gone.
    pub(crate) fn is_gone_since(&self, beats: u32) -> bool {
        self.own.saturating_sub(beats) >= MISSED
    }

    /// How many beats of this relay came back.
    pub(crate) fn beats(&self) -> u32 {
        self.own
    }

    /// What the other relays own, by relay.
    pub(crate) fn owned_by_others(&self) -> BTreeMap<String, Vec<Partition>> {
        let owned =
            |(relay, heard): (&String, &Heard)| (relay.clone(), heard.owned.keys().copied().collect());
        self.alive().map(owned).collect()
    }

    /// What this relay, which owns these partitions, should do.
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
                // Where there is no other relay, a relay that leaves gives up all the same.
                if !is_ours {
                    assignment.give.insert(partition);
                }
            } else if is_ours
                && self.has_listened()
                && !self.alive().any(|(_, heard)| heard.owned.contains_key(&partition))
            {
                assignment.take.insert(partition);
            }
        }
        assignment
    }

    /// Before which sequences nothing is needed by any partition, given the floors of this relay's own; `None` while some
    /// partition has no owner, or when another relay does the trimming.
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
