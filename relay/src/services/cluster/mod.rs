//! The cluster of relays: each of them answers for all partitions.
//!
//! The relay that gets a request has authenticated the caller. It answers for its own partitions from its view, asks the owners
//! of the others over the bus, and merges the answers:
//!
//! - A request that names a tenant is about the tenant's partition; any other is about all partitions ([`targets`]).
//! - Lists are merged by their order ([`list`], [`merge`]). Their positions are sequences of the streams, or times with ids, so
//!   a page token means the same at every relay and after a takeover.
//! - A request for an id gets the first relay's answer that has it.
//! - Evidence is with the relays that made the attempts, so a request for it goes to all of them.
//! - Commands go to the owner of the tenant's partition only.
//! - If partitions were not answered for, lists and sums are marked as incomplete ([`coverage`]). If there was only one
//!   partition, or nothing was found, that is an error.
//!
//! Everything is bounded: a question in time ([`ANSWER_DEADLINE`](super::error::ANSWER_DEADLINE)), a message of the bus by
//! [`pieces`], a relay's part of a list in bytes (see [`wire`]), and the number of questions at once by [`serve`].
//!
//! Alternative: each relay folds the journals of all partitions and answers alone. Then each relay writes the records of all,
//! and relays get slower the more there are.

mod coverage;
mod list;
mod merge;
mod pieces;
mod serve;
mod targets;
mod wire;

pub(super) use list::ListRequest;
pub(super) use merge::Page;
pub(crate) use serve::answer_questions;

use super::{access::Caller, control::Operator, error::Error, local::Local, status::request};
use crate::partition::handle::Ownership;
use coverage::Coverage;
use merge::Merge;
use prost::Message;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use talaria_bus::Partition;
use talaria_proto::v1::{ClusterMethod, ListPart, ListRelaysResponse, PlannedThrough, RelaySummary};
use targets::Targets;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use wire::PeerAnswer;

/// All relays. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// For this relay's own partitions.
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

/// The answers of all relays.
pub(super) struct Gathered<M> {
    /// Of this relay.
    pub own: Result<M, Error>,
    pub others: Vec<M>,
    /// Partitions without an answer.
    pub missing: Vec<Partition>,
    /// The most commits that a view is behind.
    pub behind: u64,
}

/// How long more is asked for before a page that is not full is answered. A filter may match little of much.
const FILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for an owner of a partition without one.
const OWNER_TIMEOUT: Duration = Duration::from_secs(3);

impl Cluster {
    pub(crate) fn new(operator: Operator, ownership: watch::Receiver<Arc<Ownership>>) -> Self {
        Self { operator, ownership }
    }

    pub(crate) fn local(&self) -> &Local {
        &self.operator.local
    }

    /// The relays that are heard, and which partitions they own.
    pub(super) fn relays(&self) -> ListRelaysResponse {
        let (own, ownership) = (self.local().own().partitions, self.ownership.borrow());
        let numbers = |partitions: &mut dyn Iterator<Item = Partition>| {
            partitions.map(|partition| partition.number().into()).collect::<BTreeSet<u32>>()
        };
        let mut relays = vec![RelaySummary {
            id: self.local().bus.identity().relay.clone(),
            partitions: numbers(&mut own.iter().copied()).into_iter().collect(),
            answers: true,
        }];
        for (id, theirs) in &ownership.others {
            let partitions = numbers(&mut theirs.iter().copied()).into_iter().collect();
            relays.push(RelaySummary { id: id.clone(), partitions, answers: false });
        }
        relays.sort_by(|a, b| a.id.cmp(&b.id));
        let owned: BTreeSet<u32> = relays.iter().flat_map(|relay| relay.partitions.iter().copied()).collect();
        let all = numbers(&mut Partition::all(self.local().bus.partitions()));
        let unowned = all.difference(&owned).copied().collect();
        ListRelaysResponse { relays, unowned, partitions: self.local().bus.partitions().into() }
    }

    /// The relays to ask about a tenant, or about all.
    pub(super) async fn targets(&self, tenant: Option<&str>) -> Targets {
        match tenant {
            Some(tenant) => self.targets_of([self.local().partition_of(tenant)]).await,
            None => self.targets_of(Partition::all(self.local().bus.partitions())).await,
        }
    }

    /// The relays to ask about these partitions. A partition without an owner usually has one soon: after a start, or after it
    /// moved.
    pub(super) async fn targets_of(&self, partitions: impl IntoIterator<Item = Partition>) -> Targets {
        let partitions: Vec<Partition> = partitions.into_iter().collect();
        let (mut owners, mut ownership) = (self.local().owners.changes(), self.ownership.clone());
        let give_up = tokio::time::sleep(OWNER_TIMEOUT);
        tokio::pin!(give_up);
        loop {
            owners.mark_unchanged();
            ownership.mark_unchanged();
            let own = self.local().own().partitions;
            let targets = Targets::new(partitions.iter().copied(), &own, &self.ownership.borrow());
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

    /// Asks all other relays; answers come in any order. Dropping the set ends the question.
    fn ask_all(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        targets: &Targets,
        min_commit: u64,
    ) -> JoinSet<PeerAnswer> {
        let question = wire::question(caller, method, request, min_commit);
        let mut asked = JoinSet::new();
        for (relay, partitions) in &targets.others {
            let bus = self.local().bus.clone();
            asked.spawn(wire::ask(bus, relay.clone(), partitions.clone(), question.clone()));
        }
        asked
    }

    /// Asks all relays about a tenant, or about all; `own` is this relay's answer.
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
        while let Some(answer) = asked.join_next().await {
            let Ok(mut answer) = answer else { continue };
            match answer.decoded() {
                Ok(message) => others.push(message),
                Err(error) => answer.outcome = Err(error),
            }
            coverage.add(&answer);
            behind = behind.max(answer.behind);
        }
        coverage.check_own(&targets, &self.local().own());
        Ok(Gathered { own, others, missing: coverage.check()?, behind })
    }

    /// Asks all relays that run, whichever partitions they own; `own` is this relay's answer. Whether one did not answer.
    pub(super) async fn ask_everywhere<M: Message + Default>(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        own: impl Future<Output = Result<M, Error>>,
    ) -> (Vec<M>, bool) {
        let others =
            self.ownership.borrow().others.keys().map(|relay| (relay.clone(), BTreeSet::new())).collect();
        let mut asked = self.ask_all(caller, method, request, &Targets { others, ..Targets::default() }, 0);
        let mut answers = vec![own.await];
        while let Some(answer) = asked.join_next().await {
            answers.push(answer.map_err(|_| Error::NoAnswer).and_then(|answer| answer.decoded()));
        }
        let count = answers.len();
        let answers: Vec<M> = answers.into_iter().filter_map(Result::ok).collect();
        let incomplete = answers.len() < count;
        (answers, incomplete)
    }

    /// Asks one relay about these partitions.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        method: ClusterMethod,
        request: &impl Message,
        min_commit: u64,
        (relay, partitions): (String, BTreeSet<Partition>),
    ) -> PeerAnswer {
        let question = wire::question(caller, method, request, min_commit);
        wire::ask(self.local().bus.clone(), relay, partitions, question).await
    }

    /// The last event that was planned in any partition; `None` when not all relays answered.
    pub(crate) async fn planned_through(&self) -> Option<u64> {
        let method = ClusterMethod::PlannedThrough;
        let own = async { Ok(PlannedThrough { event_seq: self.local().planned_through().await }) };
        let all = self.gather(&Caller::unrestricted(), method, &(), None, own).await.ok()?;
        let furthest = all.others.into_iter().chain(all.own).map(|answer| answer.event_seq).max();
        furthest.filter(|_| all.missing.is_empty())
    }

    /// The answer of the first relay that has an id; this relay is asked first.
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
        while let Some(answer) = asked.join_next().await {
            let Ok(answer) = answer else { continue };
            if let Ok(found) = answer.decoded() {
                return Ok(found);
            }
            coverage.add(&answer);
            behind = behind.max(answer.behind);
        }
        coverage.check_own(&targets, &self.local().own());
        Err(not_found.of_all(behind, coverage.missing.into_iter().collect()))
    }

    /// A page of a list.
    pub(super) async fn list<L: ListRequest>(
        &self,
        caller: &Caller,
        request: L,
        min_commit: u64,
    ) -> Result<Listed<L::Item>, Error> {
        let tenant = caller.narrow(request.tenant())?;
        let size = request::page_size(request.page_size())?;
        let targets = self.targets(tenant.as_deref()).await;
        let mut coverage = Coverage::of(&targets);
        let mut asked = self.ask_all(caller, L::METHOD, &request, &targets, min_commit);
        let (mut merge, mut relays) = (Merge::new(size, L::join), vec![None]);
        // A relay that owns no partition still checks the request.
        match self.own_page(caller, request.clone(), min_commit).await {
            Ok(page) => drop(merge.add(page)),
            Err(Error::FarBehind) if !targets.others.is_empty() => {
                merge.add(Page::new((Vec::new(), false)));
                coverage.missing.extend(&targets.own);
            }
            Err(error) => return Err(error),
        }
        while let Some(answer) = asked.join_next().await {
            let Ok(mut answer) = answer else { continue };
            match Self::page_of::<L>(&answer) {
                Ok(page) => {
                    merge.add(page);
                    relays.push(Some((answer.relay.clone(), answer.asked.clone())));
                }
                Err(error) => answer.outcome = Err(error),
            }
            coverage.add(&answer);
        }
        let asks_on_until = Instant::now() + FILL_TIMEOUT;
        loop {
            let to_ask = merge.to_ask();
            if to_ask.is_empty() || Instant::now() >= asks_on_until {
                break;
            }
            for (source, below) in to_ask {
                let mut request = request.clone();
                *request.page_token() = L::token(&below);
                match relays.get(source) {
                    Some(Some(target)) => {
                        let answer = self.ask(caller, L::METHOD, &request, min_commit, target.clone()).await;
                        match Self::page_of::<L>(&answer) {
                            Ok(page) => merge.go_on(source, page),
                            Err(_) => {
                                merge.give_up(source);
                                coverage.missing.extend(answer.asked);
                            }
                        }
                    }
                    _ => merge.go_on(source, self.own_page(caller, request, min_commit).await?),
                }
            }
        }
        coverage.check_own(&targets, &self.local().own());
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

    fn page_of<L: ListRequest>(answer: &PeerAnswer) -> Result<Page<L::Position, L::Item>, Error> {
        let part: ListPart = answer.decoded()?;
        wire::page::<L>(&part)
    }

    async fn own_page<L: ListRequest>(
        &self,
        caller: &Caller,
        request: L,
        min_commit: u64,
    ) -> Result<Page<L::Position, L::Item>, Error> {
        let local = self.local();
        if min_commit > 0 {
            local.shows(&local.own(), min_commit).await?;
        }
        request.page(local, caller).await
    }

    /// Sends a command to the owner of a tenant's partition.
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
        for target in targets.others {
            let answer = self.ask(caller, method, request, 0, target).await;
            match answer.outcome {
                Ok(_) => return answer.decoded(),
                // Nothing was done.
                Err(Error::NotOwned) => {}
                Err(error @ Error::Refused { .. }) => return Err(error),
                Err(_) => return Err(Error::MayBeDone { relay: answer.relay, partition }),
            }
        }
        Err(Error::NoOwner(vec![partition]))
    }
}
