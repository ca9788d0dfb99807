//! The coverage of a question: whether every partition was answered for. Pure.

use super::{targets::Targets, wire::PeerAnswer};
use crate::{partition_set::PartitionSet, services::error::Error};
use std::collections::BTreeSet;
use talaria_bus::Partition;

/// The partitions of a question, and those without an answer.
pub(super) struct Coverage {
    asked: BTreeSet<Partition>,
    pub missing: BTreeSet<Partition>,
}

impl Coverage {
    pub(super) fn of(targets: &Targets) -> Self {
        let of_others = targets.others.iter().flat_map(|(_, partitions)| partitions);
        let missing: BTreeSet<Partition> = of_others.chain(&targets.unowned).copied().collect();
        let asked = missing.iter().chain(&targets.own).copied().collect();
        Self { asked, missing }
    }

    pub(super) fn add(&mut self, answer: &PeerAnswer) {
        if answer.outcome.as_ref().err().is_none_or(Error::is_an_answer) {
            self.missing.retain(|partition| !answer.answered.contains(partition));
        }
    }

    /// Partitions that this relay lost while it answered may be missing in its answer.
    pub(super) fn check_own(&mut self, targets: &Targets, own: &PartitionSet) {
        self.missing.extend(targets.own.difference(&own.partitions));
    }

    /// The missing partitions. An error if no partition was answered for.
    pub(super) fn check(self) -> Result<Vec<Partition>, Error> {
        let is_everything = !self.missing.is_empty() && self.missing.len() == self.asked.len();
        let missing = self.missing.into_iter().collect();
        if is_everything { Err(Error::NoOwner(missing)) } else { Ok(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn some(numbers: &[u16]) -> BTreeSet<Partition> {
        numbers.iter().map(|number| Partition::new(*number, 8).unwrap()).collect()
    }

    fn list(numbers: &[u16]) -> Vec<Partition> {
        some(numbers).into_iter().collect()
    }

    fn targets() -> Targets {
        let others = vec![("a".to_owned(), some(&[2, 3])), ("b".to_owned(), some(&[4]))];
        Targets { own: some(&[0, 1]), others, unowned: some(&[]) }
    }

    fn answer(asked: &[u16], answered: &[u16], outcome: Result<Bytes, Error>) -> PeerAnswer {
        PeerAnswer { relay: "a".into(), asked: some(asked), answered: some(answered), behind: 0, outcome }
    }

    #[test]
    fn a_partition_without_an_answer_makes_it_incomplete() {
        let not_found = || Err(Error::NotKnown { what: "x".into(), behind: 0 });
        let mut all = Coverage::of(&targets());
        all.add(&answer(&[2, 3], &[2, 3, 7], Ok(Bytes::new())));
        all.add(&answer(&[4], &[4], not_found()));
        assert_eq!(all.check(), Ok(vec![]), "not found is an answer");

        let mut moved = Coverage::of(&targets());
        moved.add(&answer(&[2, 3], &[2], Ok(Bytes::new())));
        moved.add(&answer(&[4], &[4], not_found()));
        assert_eq!(moved.check(), Ok(list(&[3])), "3 has gone elsewhere");

        let mut broken = Coverage::of(&targets());
        broken.add(&answer(&[2, 3], &[2, 3], Ok(Bytes::new())));
        broken.add(&answer(&[4], &[4], Err(Error::View)));
        assert_eq!(broken.check(), Ok(list(&[4])), "it could not look");

        let unowned = Targets { unowned: some(&[5]), ..targets() };
        let mut one_missing = Coverage::of(&unowned);
        one_missing.add(&answer(&[2, 3], &[2, 3], Ok(Bytes::new())));
        one_missing.add(&answer(&[4], &[4], Ok(Bytes::new())));
        assert_eq!(one_missing.check(), Ok(list(&[5])));
    }

    #[test]
    fn a_partition_that_is_lost_during_the_answer_makes_it_incomplete() {
        let own = Targets { own: some(&[0, 1]), ..Targets::default() };
        let mut kept = Coverage::of(&own);
        kept.check_own(&own, &PartitionSet::new(some(&[0, 1, 5]), 8));
        assert_eq!(kept.check(), Ok(vec![]));
        let mut lost = Coverage::of(&own);
        lost.check_own(&own, &PartitionSet::new(some(&[1]), 8));
        assert_eq!(lost.check(), Ok(list(&[0])));
    }

    #[test]
    fn without_any_answer_it_is_an_error() {
        let unowned = Targets { unowned: some(&[5]), ..Targets::default() };
        let error = Coverage::of(&unowned).check().unwrap_err();
        assert_eq!(error, Error::NoOwner(some(&[5]).into_iter().collect()));
        assert_eq!(error.code(), tonic::Code::Unavailable);
        let silent = Targets { others: vec![("a".into(), some(&[5]))], ..Targets::default() };
        let mut silent = Coverage::of(&silent);
        silent.add(&answer(&[5], &[], Err(Error::NoAnswer)));
        assert!(silent.check().is_err());
    }
}
