//! Any relay answers for all partitions.
//!
//! The relay that gets a request has authenticated the caller. It answers for the partitions that it owns out of its own
//! view, puts the request to the owners of the others over the bus, and merges what they say:
//!
//! - Where a tenant is named, its partition alone is in question; otherwise all are.
//! - Lists are merged by their order. Positions in them are sequences of the streams, or times with ids, so a page token means
//!   the same at every relay and after a takeover.
//! - What is asked for by its id is what the first relay finds.
//! - Commands go to the owner of the tenant's partition, and to no other relay.
//! - Where partitions were not answered for, lists and sums say that they are incomplete. Where only one partition was in
//!   question, or nothing was found, that is an error.
//!
//! Everything is bounded: a question in time ([`ANSWER_DEADLINE`](crate::partition::handle::ANSWER_DEADLINE)), a message of
//! the bus by [`pieces`], a relay's part of a list in bytes (the relay that asks goes on from there, see [`wire`]), and how
//! many questions a relay answers at once by [`serve`].
//!
//! Alternative: each relay folds the journals of all partitions and answers alone. Then each relay writes what all of them
//! deliver, which is what made relays slower the more there were.

mod list;
mod merge;
mod pieces;
mod serve;
mod targets;
mod wire;

pub(super) use list::{Actions, Deliveries, Events, Jobs, List, Quarantined, Unmatched};
pub(super) use merge::Page;
pub(crate) use serve::answer_questions;

use super::{access::Caller, control::Operator, error::Error, local::Local, status::request};
use crate::partition::{handle::Ownership, share::Share};
use merge::Merge;
use prost::Message;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use talaria_bus::Partition;
use talaria_proto::v1::{ClusterMethod, ListPart, PlannedThrough};
use targets::Targets;
use tokio::{sync::watch, task::JoinSet};
use wire::Heard;

/// All relays. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Answers for what this relay owns.
    pub(super) operator: Operator,
    ownership: watch::Receiver<Arc<Ownership>>,
}

/// A page of a list over all relays.
pub(super) struct Listed<T> {
    pub items: Vec<T>,
    pub next_page_token: String,
    pub total: u64,
    pub incomplete: bool,
}

/// What all relays answered.
pub(super) struct Gathered<M> {
    /// This one.
    pub own: Result<M, Error>,
    /// The others.
    pub others: Vec<M>,
    /// Partitions for which no relay answered.
    pub missing: Vec<Partition>,
    /// How far the view is behind that is behind most.
    pub behind: u64,
}

/// How long a partition without an owner is waited for.
const OWNER_TIMEOUT: Duration = Duration::from_secs(3);

/// For what answers are missing.
struct Coverage {
    wanted: BTreeSet<Partition>,
    missing: BTreeSet<Partition>,
}

impl Coverage {
    fn of(targets: &Targets) -> Self {
        let asked = targets.others.iter().flat_map(|(_, partitions)| partitions);
        let missing: BTreeSet<Partition> = asked.chain(&targets.unowned).copied().collect();
        let wanted = missing.iter().chain(&targets.own).copied().collect();
        Self { wanted, missing }
    }

    fn hear(&mut self, heard: &Heard) {
        let is_an_answer = heard.outcome.as_ref().err().is_none_or(Error::is_an_answer);
        if is_an_answer {
            self.missing.retain(|partition| !heard.answered.contains(partition));
        }
    }

    /// What this relay lost while it answered may be missing in its answer.
    fn keep(&mut self, targets: &Targets, own: &Share) {
        self.missing.extend(targets.own.difference(&own.partitions));
    }

    /// What is missing. It is an error where that is all that was asked for.
    fn check(self) -> Result<Vec<Partition>, Error> {
        let is_everything = !self.missing.is_empty() && self.missing.len() == self.wanted.len();
        let missing = self.missing.into_iter().collect();
        if is_everything { Err(Error::NoOwner(missing)) } else { Ok(missing) }
    }
}

impl Cluster {
    pub(crate) fn new(operator: Operator, ownership: watch::Receiver<Arc<Ownership>>) -> Self {
        Self { operator, ownership }
    }

    pub(crate) fn local(&self) -> &Local {
        &self.operator.local
    }

    /// Who can be asked of a tenant, or of all.
    pub(super) async fn targets(&self, tenant: Option<&str>) -> Targets {
        match tenant {
            Some(tenant) => self.targets_of([self.local().partition_of(tenant)]).await,
            None => self.targets_of(Partition::all(self.local().bus.partitions())).await,
        }
    }

    /// Who can be asked of these partitions. One that has no owner has one soon, as a rule: after a start, or after it moved.
    pub(super) async fn targets_of(&self, wanted: impl IntoIterator<Item = Partition>) -> Targets {
        let wanted: Vec<Partition> = wanted.into_iter().collect();
        let (mut owners, mut ownership) = (self.local().owners.changes(), self.ownership.clone());
        let give_up = tokio::time::sleep(OWNER_TIMEOUT);
        tokio::pin!(give_up);
        loop {
            owners.mark_unchanged();
            ownership.mark_unchanged();
            let own = self.local().own().partitions;
            let targets = Targets::new(wanted.iter().copied(), &own, &self.ownership.borrow());
            if targets.unowned.is_empty() {
                return targets;
            }
            tokio::select! {
                Ok(()) = owners.changed() => {}
                Ok(()) = ownership.changed() => {}
                () = &mut give_up => return targets,
            }
        }
    }

    /// Puts a question to the other relays; answers come in any order. Dropping the stream ends the question.
    fn ask_all(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        targets: &Targets,
        min_commit: u64,
    ) -> JoinSet<Heard> {
        let question = wire::question(caller, method, request, min_commit);
        let mut asked = JoinSet::new();
        for (relay, partitions) in &targets.others {
            let bus = self.local().bus.clone();
            asked.spawn(wire::ask(bus, relay.clone(), partitions.clone(), question.clone()));
        }
        asked
    }

    /// What all relays answer of a tenant, or of all; `own` is this relay's answer.
    pub(super) async fn gather<M: Message + Default>(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        tenant: Option<&str>,
        own: impl Future<Output = Result<M, Error>>,
    ) -> Result<Gathered<M>, Error> {
        let targets = self.targets(tenant).await;
        let mut coverage = Coverage::of(&targets);
        let (mut others, mut behind) = (Vec::new(), self.local().behind());
        let mut asked = self.ask_all(caller, method, request, &targets, 0);
        let own = own.await;
        while let Some(heard) = asked.join_next().await {
            let Ok(mut heard) = heard else { continue };
            match heard.decoded() {
                Ok(answer) => others.push(answer),
                Err(error) => heard.outcome = Err(error),
            }
            coverage.hear(&heard);
            behind = behind.max(heard.behind);
        }
        coverage.keep(&targets, &self.local().own());
        Ok(Gathered { own, others, missing: coverage.check()?, behind })
    }

    /// Puts a question to one relay, about these partitions.
    pub(super) async fn hear_one<M: Message + Default>(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        relay: &str,
        partitions: &BTreeSet<Partition>,
    ) -> (Result<M, Error>, Heard) {
        let question = wire::question(caller, method, request, 0);
        let bus = self.local().bus.clone();
        let heard = wire::ask(bus, relay.to_owned(), partitions.clone(), question).await;
        (heard.decoded(), heard)
    }

    /// The last event that was planned in any partition; `None` when not all relays answered.
    pub(crate) async fn planned_through(&self) -> Option<u64> {
        let method = ClusterMethod::PlannedThrough;
        let own = async { Ok(PlannedThrough { event_seq: self.local().planned_through().await }) };
        let all = self.gather(&Caller::anybody(), method, &(), None, own).await.ok()?;
        let furthest = all.others.into_iter().chain(all.own).map(|answer| answer.event_seq).max();
        furthest.filter(|_| all.missing.is_empty())
    }

    /// What has an id: of this relay, if it has it, and otherwise of the first other one that does.
    pub(super) async fn find<M: Message + Default>(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        own: impl Future<Output = Result<M, Error>>,
    ) -> Result<M, Error> {
        let targets = self.targets(caller.tenant.as_deref()).await;
        let not_found = match own.await {
            Err(error) if error.is_not_found() => error,
            answered => return answered,
        };
        let mut coverage = Coverage::of(&targets);
        let mut behind = 0;
        let mut asked = self.ask_all(caller, method, request, &targets, 0);
        while let Some(heard) = asked.join_next().await {
            let Ok(heard) = heard else { continue };
            if let Ok(found) = heard.decoded() {
                return Ok(found);
            }
            coverage.hear(&heard);
            behind = behind.max(heard.behind);
        }
        coverage.keep(&targets, &self.local().own());
        Err(not_found.of_all(behind, coverage.missing.into_iter().collect()))
    }

    /// A page of a list.
    pub(super) async fn list<L: List>(
        &self,
        caller: &Caller,
        request: L::Request,
        min_commit: u64,
    ) -> Result<Listed<L::Item>, Error> {
        let tenant = caller.narrow(L::tenant(&request))?;
        let size = request::page_size(L::page_size(&request))?;
        let targets = self.targets(tenant.as_deref()).await;
        let mut coverage = Coverage::of(&targets);
        let mut asked = self.ask_all(caller, L::METHOD, &request, &targets, min_commit);
        let (mut merge, mut relays) = (Merge::new(size, L::join), vec![None]);
        // Where nothing is owned here, it checks the request all the same.
        match self.own_page::<L>(caller, request.clone(), min_commit).await {
            Ok(page) => drop(merge.add(page)),
            Err(Error::FarBehind) if !targets.others.is_empty() => {
                merge.add(Page::new((Vec::new(), false)));
                coverage.missing.extend(&targets.own);
            }
            Err(error) => return Err(error),
        }
        while let Some(heard) = asked.join_next().await {
            let Ok(mut heard) = heard else { continue };
            match Self::page_of::<L>(&heard) {
                Ok(page) => {
                    merge.add(page);
                    relays.push(Some((heard.relay.clone(), heard.asked.clone())));
                }
                Err(error) => heard.outcome = Err(error),
            }
            coverage.hear(&heard);
        }
        loop {
            let wanted = merge.wanted();
            if wanted.is_empty() {
                break;
            }
            for (source, below) in wanted {
                let mut request = request.clone();
                L::go_on(&mut request, &below);
                match relays.get(source) {
                    Some(Some((relay, partitions))) => {
                        let question = wire::question(caller, L::METHOD, &request, min_commit);
                        let bus = self.local().bus.clone();
                        let heard = wire::ask(bus, relay.clone(), partitions.clone(), question).await;
                        match Self::page_of::<L>(&heard) {
                            Ok(page) => merge.go_on(source, page),
                            Err(_) => {
                                merge.give_up(source);
                                coverage.missing.extend(partitions);
                            }
                        }
                    }
                    _ => merge.go_on(source, self.own_page::<L>(caller, request, min_commit).await?),
                }
            }
        }
        coverage.keep(&targets, &self.local().own());
        let incomplete = !coverage.check()?.is_empty();
        let Page { items, end, total } = merge.finish();
        let items = items.into_iter().map(|(_, item)| item).collect();
        Ok(Listed {
            items,
            next_page_token: end.as_ref().map(L::token).unwrap_or_default(),
            total,
            incomplete,
        })
    }

    fn page_of<L: List>(heard: &Heard) -> Result<Page<L::Position, L::Item>, Error> {
        let part: ListPart = heard.decoded()?;
        wire::page::<L>(&part)
    }

    async fn own_page<L: List>(
        &self,
        caller: &Caller,
        request: L::Request,
        min_commit: u64,
    ) -> Result<Page<L::Position, L::Item>, Error> {
        let local = self.local();
        if min_commit > 0 {
            local.shows(&local.own(), min_commit).await?;
        }
        L::page(local, caller, request).await
    }

    /// Has a command carried out by the owner of a tenant's partition.
    pub(super) async fn command<M: Message + Default>(
        &self,
        caller: &Caller,
        tenant: &str,
        method: ClusterMethod,
        request: &impl Message,
        own: impl Future<Output = Result<M, Error>>,
    ) -> Result<M, Error> {
        let partition = self.local().partition_of(tenant);
        let targets = self.targets(Some(tenant)).await;
        if !targets.own.is_empty() {
            let lost = || Error::NoOwner(vec![partition]);
            return own.await.map_err(|error| if error == Error::NotOwned { lost() } else { error });
        }
        let question = wire::question(caller, method, request, 0);
        for (relay, partitions) in targets.others {
            let heard = wire::ask(self.local().bus.clone(), relay, partitions, question.clone()).await;
            match heard.outcome {
                Ok(_) => return heard.decoded(),
                // It did nothing.
                Err(Error::NotOwned) => {}
                Err(error @ Error::Refused { .. }) => return Err(error),
                Err(_) => return Err(Error::MayBeDone { relay: heard.relay, partition }),
            }
        }
        Err(Error::NoOwner(vec![partition]))
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

    fn heard(asked: &[u16], answered: &[u16], outcome: Result<Bytes, Error>) -> Heard {
        Heard { relay: "a".into(), asked: some(asked), answered: some(answered), behind: 0, outcome }
    }

    #[test]
    fn what_nobody_answered_for_makes_it_incomplete() {
        let not_found = || Err(Error::NotKnown { what: "x".into(), behind: 0 });
        let mut all = Coverage::of(&targets());
        all.hear(&heard(&[2, 3], &[2, 3, 7], Ok(Bytes::new())));
        all.hear(&heard(&[4], &[4], not_found()));
        assert_eq!(all.check(), Ok(vec![]), "that it is not there is an answer");

        let mut moved = Coverage::of(&targets());
        moved.hear(&heard(&[2, 3], &[2], Ok(Bytes::new())));
        moved.hear(&heard(&[4], &[4], not_found()));
        assert_eq!(moved.check(), Ok(list(&[3])), "3 has gone elsewhere");

        let mut broken = Coverage::of(&targets());
        broken.hear(&heard(&[2, 3], &[2, 3], Ok(Bytes::new())));
        broken.hear(&heard(&[4], &[4], Err(Error::View)));
        assert_eq!(broken.check(), Ok(list(&[4])), "it could not look");

        let unowned = Targets { unowned: some(&[5]), ..targets() };
        let mut one_missing = Coverage::of(&unowned);
        one_missing.hear(&heard(&[2, 3], &[2, 3], Ok(Bytes::new())));
        one_missing.hear(&heard(&[4], &[4], Ok(Bytes::new())));
        assert_eq!(one_missing.check(), Ok(list(&[5])));
    }

    #[test]
    fn what_was_lost_while_it_was_answered_for_makes_it_incomplete() {
        let own = Targets { own: some(&[0, 1]), ..Targets::default() };
        let mut kept = Coverage::of(&own);
        kept.keep(&own, &Share::new(some(&[0, 1, 5]), 8));
        assert_eq!(kept.check(), Ok(vec![]));
        let mut lost = Coverage::of(&own);
        lost.keep(&own, &Share::new(some(&[1]), 8));
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
        silent.hear(&heard(&[5], &[], Err(Error::NoAnswer)));
        assert!(silent.check().is_err());
    }
}
