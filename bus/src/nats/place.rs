//! Places in the journal: the facts of one commit have places of their own, behind those of the commit before.

use super::names::{Author, Names};
use bytes::Bytes;
use prost::Message as _;
use std::{mem, sync::Arc};
use talaria_proto::v1::{Commit, Fact, fact::What as Kind, operation::What};

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
    commit.operations.retain(|operation| operation.what.as_ref().is_none_or(|what| may(author, what)));
    if commit.operations.len() < count {
        tracing::error!(
            seq,
            subject,
            "a message of the journal does what its author may not do; that is left out"
        );
    }
    commit
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
        Some(Author::Relay) => !matches!(what, What::Planned(_) | What::Membership(_)),
        Some(Author::Planning) => matches!(what, What::Planned(_)),
        Some(Author::Membership) => matches!(what, What::Membership(_)),
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
    use talaria_proto::v1::{Operation, Recorded, Settled};

    #[test]
    fn nobody_does_what_is_not_his() {
        use talaria_proto::v1::{EventConflict, Membership, Planned, RouteChanged, Taken};
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
        ];
        let operations: Vec<_> = whats.into_iter().map(|what| Operation { what: Some(what) }).collect();
        let data: Bytes = Commit { operations: operations.clone() }.encode_to_vec().into();
        let names = Names::new("talaria");
        for (subject, left) in [
            (names.journal_ingress(), vec![0]),
            (names.journal_relay("a"), vec![0, 1, 2, 3]),
            (names.journal_planning(), vec![4]),
            (names.journal_membership(), vec![5]),
            ("talaria.journal.other".into(), vec![]),
            ("talaria2.journal.ingress".into(), vec![]),
        ] {
            let expected: Vec<_> = left.into_iter().map(|index: usize| operations[index].clone()).collect();
            assert_eq!(read(&names, 1, &subject, data.clone()).operations, expected, "{subject}");
        }
        assert_eq!(read(&names, 1, "talaria.journal.relay.a", Bytes::from_static(b"no")), Commit::default());
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
