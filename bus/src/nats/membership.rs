//! Which relays work together, and who owns what. Decisions only; [`super::relays`] does the talking.

use crate::partition::{Partition, hash};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};
use talaria_proto::v1::{Member, Membership};

/// The relays that work together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InForce {
    /// The commit that says so; 0 while none is known.
    pub seq: u64,
    pub membership: Membership,
}

impl InForce {
    /// Whether a run is among them.
    pub(super) fn has(&self, run: u32) -> bool {
        self.membership.members.iter().any(|member| member.run == run)
    }

    /// What a run owns.
    pub(super) fn owned_by(&self, run: u32) -> Vec<Partition> {
        let owner = |owner: &u32| self.membership.members.get(usize::try_from(*owner).ok()?);
        let owned = Partition::all()
            .zip(&self.membership.owners)
            .filter(|(_, owner_index)| owner(owner_index).is_some_and(|member| member.run == run));
        owned.map(|(partition, _)| partition).collect()
    }
}

/// A relay is gone when so many of our own announcements came back since its last one. Counted so, and not by a
/// clock: while the broker is away nobody's come, and nobody is gone.
const MISSED: u32 = 6;

/// Who was heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// By name: the run, and our own announcements since its last one.
    heard: HashMap<String, (u32, u32)>,
    /// Our own announcements that came back.
    own: u32,
}

impl Hearing {
    /// Somebody else's announcement came.
    pub(super) fn other(&mut self, name: &str, run: u32) {
        self.heard.insert(name.to_owned(), (run, 0));
    }

    /// Our own came back.
    pub(super) fn own(&mut self) {
        self.own = self.own.saturating_add(1);
        for (_, missed) in self.heard.values_mut() {
            *missed = missed.saturating_add(1);
        }
        self.heard.retain(|_, (_, missed)| *missed < 10 * MISSED);
    }

    /// Whether a member is still there, as far as we heard.
    fn is_there(&self, member: &Member) -> bool {
        match self.heard.get(&member.name) {
            // Another run in the same data directory: that one has ended.
            Some((run, _)) if *run != member.run => false,
            Some((_, missed)) => *missed < MISSED,
            // Nobody who has just begun to listen can tell.
            None => self.own < MISSED,
        }
    }
}

/// What the members should be, if that is not what they are. `me` says how this relay wants to stand among them;
/// without it, it wants to be gone.
pub(super) fn next(
    current: &[Member],
    hearing: &Hearing,
    name: &str,
    me: Option<&Member>,
) -> Option<Vec<Member>> {
    let mut members: Vec<Member> = current
        .iter()
        .filter(|member| member.name != name && hearing.is_there(member))
        .chain(me)
        .cloned()
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sorted = current.to_vec();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    (members != sorted).then_some(members)
}

/// For each share of the work its owner, as an index into the members.
///
/// Rendezvous hashing: the members are ranked for each partition by a hash of both, and the first one has it, so that
/// whoever comes or goes moves little. Bounded: nobody has more routes than his even share, or more partitions, or a few
/// relays and a few hundred routes would come out far from even.
fn owners(members: &[Member], routes: &Routes) -> Vec<u32> {
    let staying: Vec<(u32, &Member)> = (0..).zip(members).filter(|(_, member)| !member.leaving).collect();
    if staying.is_empty() {
        return Vec::new();
    }
    let count = |partition: Partition| routes.get(&partition).copied().unwrap_or(0);
    let shares =
        [Partition::all().count(), routes.values().sum()].map(|all: usize| all.div_ceil(staying.len()));
    // Whatever is hard to place first.
    let mut partitions: Vec<Partition> = Partition::all().collect();
    partitions.sort_by_key(|partition| (Reverse(count(*partition)), *partition));
    let mut loads: HashMap<u32, [usize; 2]> = HashMap::new();
    let mut owners = BTreeMap::new();
    for partition in partitions {
        let with = |index: u32| {
            let [partitions, routes] = loads.get(&index).copied().unwrap_or_default();
            [partitions + 1, routes + count(partition)]
        };
        let fits = |index: u32| with(index).iter().zip(&shares).all(|(load, share)| load <= share);
        let rank = |member: &Member| hash([member.name.as_bytes(), &partition.0.to_be_bytes()]);
        let best = staying
            .iter()
            // Where nobody has room, whoever has the least.
            .max_by_key(|(index, member)| {
                let load = if fits(*index) { [0, 0] } else { with(*index) };
                (fits(*index), Reverse(load[1]), Reverse(load[0]), rank(member), &member.name)
            })
            .map_or(0, |(index, _)| *index);
        loads.insert(best, with(best));
        owners.insert(partition, best);
    }
    owners.into_values().collect()
}

/// How many routes there are in a partition; the others have none.
pub(super) type Routes = HashMap<Partition, usize>;

/// The membership in which these relays share the work.
pub(super) fn membership(members: Vec<Member>, routes: &Routes) -> Membership {
    let owners = owners(&members, routes);
    Membership { members, owners }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lane;

    fn member(name: &str, run: u32) -> Member {
        Member { name: name.into(), run, leaving: false }
    }

    fn named(count: u32) -> Vec<Member> {
        (0..count).map(|number| member(&format!("relay {number}"), number + 1)).collect()
    }

    #[test]
    fn shares_are_even_and_whoever_leaves_moves_little() {
        for count in 1..12 {
            let mut members = named(count);
            let before = owners(&members, &Routes::new());
            let load = |owners: &[u32], of: u32| owners.iter().filter(|owner| **owner == of).count();
            for index in 0..count {
                assert!(load(&before, index) <= before.len().div_ceil(count as usize), "{count} relays");
            }
            members[0].leaving = true;
            let after = owners(&members, &Routes::new());
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            assert!(count == 1 || moved <= 2 * load(&before, 0) + 8, "{moved} moved of {}", before.len());
        }
        assert!(owners(&[], &Routes::new()).is_empty());
        assert!(owners(&[Member { leaving: true, ..member("a", 1) }], &Routes::new()).is_empty());
    }

    #[test]
    fn routes_are_shared_as_evenly_as_partitions() {
        let lanes = (0..200).map(|number| Lane {
            tenant: format!("tenant {}", number / 4).as_str().into(),
            route: format!("route {}", number % 4).as_str().into(),
        });
        let mut routes = Routes::new();
        lanes.for_each(|lane| *routes.entry(Partition::of(&lane)).or_default() += 1);
        for count in 1..9 {
            let owners = owners(&named(count), &routes);
            for relay in 0..count {
                let owned = Partition::all().zip(&owners).filter(|(_, owner)| **owner == relay);
                let load: usize = owned.map(|(partition, _)| routes.get(&partition).unwrap_or(&0)).sum();
                let even = 200 / count as usize;
                assert!(load.abs_diff(even) <= even / 10 + 1, "{load} of 200 for one of {count}");
            }
        }
    }

    #[test]
    fn a_relay_joins_and_is_removed_when_it_is_not_heard_any_more() {
        let (me, other) = (member("me", 7), member("other", 3));
        let mut hearing = Hearing::default();
        assert_eq!(next(&[], &hearing, "me", Some(&me)), Some(vec![me.clone()]));
        let both = vec![me.clone(), other.clone()];
        assert_eq!(next(std::slice::from_ref(&other), &hearing, "me", Some(&me)), Some(both.clone()));
        assert_eq!(next(&both, &hearing, "me", Some(&me)), None, "nobody knows yet whether it is there");
        for _ in 0..3 {
            hearing.own();
        }
        hearing.other("other", 3);
        for missed in 1..=MISSED {
            assert_eq!(next(&both, &hearing, "me", Some(&me)), None, "{missed}");
            hearing.own();
        }
        assert_eq!(next(&both, &hearing, "me", Some(&me)), Some(vec![me.clone()]));
        hearing.other("other", 3);
        assert_eq!(next(std::slice::from_ref(&me), &hearing, "me", Some(&me)), None, "it joins by itself");
    }

    #[test]
    fn an_earlier_run_of_anybody_is_gone_at_once() {
        let me = member("me", 7);
        let mut hearing = Hearing::default();
        let earlier = vec![member("me", 6), member("other", 3)];
        let after = vec![me.clone(), member("other", 3)];
        assert_eq!(next(&earlier, &hearing, "me", Some(&me)), Some(after.clone()));
        hearing.other("other", 4);
        assert_eq!(next(&after, &hearing, "me", Some(&me)), Some(vec![me]));
    }

    #[test]
    fn a_relay_that_was_never_heard_is_gone_after_a_while() {
        let me = member("me", 7);
        let mut hearing = Hearing::default();
        for _ in 0..MISSED {
            hearing.own();
        }
        let both = vec![me.clone(), member("other", 3)];
        assert_eq!(next(&both, &hearing, "me", Some(&me)), Some(vec![me]));
    }

    #[test]
    fn on_its_way_out_a_relay_owns_nothing_and_then_is_none() {
        let leaving = Member { leaving: true, ..member("me", 7) };
        let current = [member("me", 7), member("other", 3)];
        let hearing = Hearing::default();
        let members = next(&current, &hearing, "me", Some(&leaving)).unwrap();
        assert!(owners(&members, &Routes::new()).iter().all(|owner| *owner == 1));
        assert_eq!(next(&members, &hearing, "me", None), Some(vec![member("other", 3)]));
    }
}
