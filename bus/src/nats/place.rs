//! Places in the journal: the facts of one commit have places of their own, behind those of the commit before.

use super::names::{Author, Names};
use crate::partition::Partition;
use bytes::Bytes;
use prost::Message as _;
use std::{mem, sync::Arc};
use talaria_proto::v1::{
    Commit, Decided, Fact, LeaseRef, Membership, Operation, Planned, fact::What as Kind, operation::What,
};

/// How many facts one commit can have places for.
const FACTS_A_COMMIT: u64 = 1 << 20;

/// The place of a commit's fact, by its index.
fn place(commit: u64, index: u64) -> u64 {
    start_of(commit) + index.min(FACTS_A_COMMIT - 1)
}

/// The first place of a commit. Commits count from 1, and 0 is before all of them.
pub(super) fn start_of(commit: u64) -> u64 {
    end_of(commit).saturating_sub(FACTS_A_COMMIT - 1)
}

/// The place behind which nothing of a commit is.
pub(super) fn end_of(commit: u64) -> u64 {
    commit * FACTS_A_COMMIT
}

/// The commit that a place is in.
pub(super) fn commit_of(place: u64) -> u64 {
    place.div_ceil(FACTS_A_COMMIT)
}

/// A message of the journal as the commit that it is, without what its author may not do.
pub(super) fn read(names: &Names, seq: u64, subject: &str, data: Bytes) -> Commit {
    let mut commit = Commit::decode(data).unwrap_or_else(|error| {
        tracing::error!(%error, seq, subject, "a message of the journal cannot be read and is passed over");
        Commit::default()
    });
    let author = names.author(subject);
    let count = commit.operations.len();
    let is_right = |what: &What| may(author, what) && is_possible(what);
    commit.operations.retain(|operation| operation.what.as_ref().is_some_and(is_right));
    if commit.operations.len() < count {
        let why = "of a newer version, not its author's to do, or impossible";
        tracing::error!(seq, subject, why, "what a message of the journal does is left out");
    }
    // On these subjects every message counts: the next one has to follow it.
    if commit.operations.is_empty() {
        let what = match author {
            Some(Author::Planning) => What::Planned(Planned::default()),
            Some(Author::Membership) => What::Membership(Membership::default()),
            Some(Author::Control) => What::Decided(Decided::default()),
            _ => return commit,
        };
        commit.operations.push(Operation { what: Some(what) });
    }
    commit
}

/// Whether an operation can be applied: places are numbers that SQLite can hold, and every partition has an owner.
fn is_possible(what: &What) -> bool {
    let is_place = |seq: u64| i64::try_from(seq).is_ok();
    let are_facts = |facts: &[Fact]| facts.iter().all(|fact| is_place(fact.event_seq));
    let is_lease = |lease: &Option<LeaseRef>| lease.as_ref().is_none_or(|lease| is_place(lease.event_seq));
    match what {
        What::Recorded(recorded) => are_facts(&recorded.facts),
        What::Planned(planned) => {
            is_place(planned.event_seq)
                && are_facts(&planned.facts)
                && planned.deliveries.iter().all(|task| task.event_seq == planned.event_seq)
        }
        What::Taken(taken) => taken.leases.iter().all(|lease| is_place(lease.event_seq)),
        What::Settled(settled) => is_lease(&settled.lease) && are_facts(&settled.facts),
        What::PutOff(put_off) => is_lease(&put_off.lease) && are_facts(&put_off.facts),
        What::GivenBack(given_back) => is_lease(&given_back.lease),
        What::Decided(decided) => {
            are_facts(&decided.facts) && decided.deliveries.iter().all(|task| is_place(task.event_seq))
        }
        What::Membership(membership) => {
            let owners = &membership.owners;
            let is_member = |owner: &u32| (*owner as usize) < membership.members.len();
            owners.is_empty() || owners.len() == Partition::all().count() && owners.iter().all(is_member)
        }
    }
}

fn may(author: Option<Author>, what: &What) -> bool {
    match author {
        // What an ingress finds out beside events, and nothing about deliveries.
        Some(Author::Ingress) => match what {
            What::Recorded(recorded) => recorded
                .facts
                .iter()
                .all(|fact| matches!(fact.what, Some(Kind::EventConflict(_) | Kind::CallbackQuarantined(_)))),
            _ => false,
        },
        Some(Author::Relay) => !matches!(what, What::Planned(_) | What::Membership(_) | What::Decided(_)),
        Some(Author::Planning) => matches!(what, What::Planned(_)),
        Some(Author::Membership) => matches!(what, What::Membership(_)),
        Some(Author::Control) => matches!(what, What::Decided(_)),
        None => false,
    }
}

/// The facts of a commit, each with its place and its size.
pub(super) fn facts_of(seq: u64, commit: &mut Commit) -> Vec<(u64, Arc<Fact>, usize)> {
    let facts = commit.operations.iter_mut().filter_map(|operation| match operation.what.as_mut()? {
        What::Recorded(recorded) => Some(mem::take(&mut recorded.facts)),
        What::Planned(planned) => Some(mem::take(&mut planned.facts)),
        What::Settled(settled) => Some(mem::take(&mut settled.facts)),
        What::PutOff(put_off) => Some(mem::take(&mut put_off.facts)),
        What::Decided(decided) => Some(mem::take(&mut decided.facts)),
        What::Taken(_) | What::GivenBack(_) | What::Membership(_) => None,
    });
    let placed = |(index, fact): (u64, Fact)| {
        let size = fact.encoded_len();
        (place(seq, index), Arc::new(fact), size)
    };
    (0..).zip(facts.flatten()).map(placed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{Recorded, Settled};

    #[test]
    fn nobody_does_what_is_not_his() {
        use talaria_proto::v1::{EventConflict, RouteChanged, Taken};
        let fact = |kind| Fact { what: Some(kind), ..Fact::default() };
        let conflict = fact(Kind::EventConflict(EventConflict::default()));
        let changed = fact(Kind::RouteChanged(RouteChanged::default()));
        let whats = [
            What::Recorded(Recorded { facts: vec![conflict.clone()] }),
            What::Recorded(Recorded { facts: vec![conflict, changed] }),
            What::Taken(Taken::default()),
            What::Settled(Settled::default()),
            What::Planned(Planned::default()),
            What::Membership(Membership::default()),
            What::Decided(Decided::default()),
        ];
        let operations: Vec<_> = whats.into_iter().map(|what| Operation { what: Some(what) }).collect();
        let data: Bytes = Commit { operations: operations.clone() }.encode_to_vec().into();
        let names = Names::new("talaria");
        for (subject, left) in [
            (names.journal_ingress(), vec![0]),
            (names.journal_relay("a"), vec![0, 1, 2, 3]),
            (names.journal_planning(), vec![4]),
            (names.journal_membership(), vec![5]),
            (names.journal_control(), vec![6]),
            ("talaria.journal.other".into(), vec![]),
            ("talaria2.journal.ingress".into(), vec![]),
        ] {
            let expected: Vec<_> = left.into_iter().map(|index: usize| operations[index].clone()).collect();
            assert_eq!(read(&names, 1, &subject, data.clone()).operations, expected, "{subject}");
        }
        let garbage = |subject: &str| read(&names, 1, subject, Bytes::from_static(b"no")).operations;
        assert!(garbage("talaria.journal.relay.a").is_empty());
        assert_eq!(garbage("talaria.journal.planning"), [operations[4].clone()]);
        assert_eq!(garbage("talaria.journal.membership"), [operations[5].clone()]);
        assert_eq!(garbage("talaria.journal.control"), [operations[6].clone()]);
    }

    #[test]
    fn what_could_never_be_applied_is_left_out() {
        let lease = Some(LeaseRef { event_seq: u64::MAX, ..LeaseRef::default() });
        let fact = Fact { event_seq: u64::MAX, ..Fact::default() };
        let members = vec![talaria_proto::v1::Member::default()];
        for what in [
            What::Settled(Settled { lease, ..Settled::default() }),
            What::Recorded(Recorded { facts: vec![fact] }),
            What::Planned(Planned { event_seq: u64::MAX, ..Planned::default() }),
            What::Membership(Membership { members: members.clone(), owners: vec![0] }),
            What::Membership(Membership { members, owners: vec![u32::MAX; Partition::all().count()] }),
        ] {
            assert!(!is_possible(&what), "{what:?}");
        }
        assert!(is_possible(&What::Membership(Membership::default())));
    }

    #[test]
    fn every_fact_has_a_place_within_its_commits() {
        let facts = |count| vec![Fact::default(); count];
        let whats = [
            What::Recorded(Recorded { facts: facts(2) }),
            What::Settled(Settled { lease: None, facts: facts(1) }),
        ];
        let operations = whats.into_iter().map(|what| Operation { what: Some(what) }).collect();
        let placed = facts_of(7, &mut Commit { operations });
        let places: Vec<u64> = placed.iter().map(|(place, ..)| *place).collect();
        assert_eq!(places, [start_of(7), start_of(7) + 1, start_of(7) + 2]);
        assert!(end_of(6) + 1 == start_of(7) && places[2] < end_of(7));
        assert_eq!((start_of(0), end_of(0), commit_of(0), start_of(1), commit_of(1)), (0, 0, 0, 1, 1));
        assert!(places.iter().all(|place| commit_of(*place) == 7) && commit_of(end_of(7)) == 7);
    }
}
