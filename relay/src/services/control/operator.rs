//! The operator's commands, in a partition that this relay owns.
//!
//! A decision that depends on the view is made in a [`Turn`]: with all earlier decisions in the view, and no other one
//! meanwhile.

use super::request;
use crate::{
    decisions::{audit::AuditInfo, pause, plan::wants, probe::NoProbe, replay},
    delivery_key::DeliveryKey,
    partition::handle::{Command, Done, NotDone, Owner, Turn},
    services::{
        access::Caller,
        error::Error,
        local::{CATCH_UP_TIMEOUT, Local},
        status::request::id,
    },
    view::{control, query, replayable},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use talaria_core::{
    id::{DeliveryId, EventId},
    time::after,
};
use talaria_proto::{
    time::to_proto,
    v1::{
        CancelDeliveryRequest, CancelDeliveryResponse, Delivery, DeliveryState, Event, Pause, PauseRequest,
        PauseResponse, ProbeRouteRequest, ProbeRouteResponse, Record, ReplayDeliveryRequest,
        ReplayDeliveryResponse, ResumeRequest, ResumeResponse,
    },
};
use tokio::{sync::Notify, time::timeout};

/// For a delivery whose attempt is under way.
pub(super) const TRIES: u32 = 5;

const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The most names that an error lists.
const MOST_NAMES: usize = 20;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(in crate::services) local: Local,
    /// Notified when a replay job begins here.
    pub(super) job_began: Arc<Notify>,
}

impl Operator {
    pub(in crate::services) fn new(local: Local) -> Self {
        Self { local, job_began: Arc::default() }
    }

    /// The turn of a partition, with the view caught up. Nothing is done yet, so a timeout is safe.
    pub(super) async fn turn(&self, owner: &Owner) -> Result<Turn, Error> {
        let turn = async {
            let turn = owner.turn().await;
            self.local.view.caught_up(owner.partition, turn.seq).await;
            turn
        };
        timeout(CATCH_UP_TIMEOUT, turn).await.map_err(|_| Error::FarBehind)
    }

    /// Appends records; gives the commit's sequence.
    pub(super) async fn append(&self, owner: &Owner, records: Vec<Record>) -> Result<u64, Error> {
        owner.command(Command::Append(records)).await.map_err(|error| match error {
            NotDone::TooLarge => Error::TooLarge,
            _ => Error::Lost,
        })
    }

    /// Waits until the view shows a commit, or for a timeout: the command is done in either case.
    pub(in crate::services) async fn wait_for_view(&self, owner: &Owner, seq: u64) {
        let shown = self.local.view.caught_up(owner.partition, seq);
        if timeout(CATCH_UP_TIMEOUT, shown).await.is_err() {
            tracing::warn!(partition = %owner.partition, "status view is behind");
        }
    }

    pub(in crate::services) async fn pause(
        &self,
        caller: &Caller,
        request: PauseRequest,
    ) -> Result<PauseResponse, Error> {
        let PauseRequest { tenant, route, requested_by, reason, duration } = request;
        let audit = request::audit(caller, &requested_by, &reason)?;
        let duration = request::pause_duration(duration.as_ref())?;
        caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let turn = self.turn(&owner).await?;
        let known = self.pause_of(&tenant, &route).await?;
        let now = self.local.clock.now();
        let pause = Pause {
            since: known.and_then(|known| known.since).or(Some(to_proto(now))),
            requested_by: audit.by.clone(),
            token_name: audit.token.clone(),
            reason: audit.reason.clone(),
            tenant,
            route,
            until: duration.map(|duration| to_proto(after(now, duration))),
        };
        let seq = self.append(&owner, pause::changed(&audit, now, pause.clone(), true)).await?;
        drop(turn);
        tracing::info!(
            tenant = pause.tenant,
            route = pause.route,
            by = audit.by,
            token = audit.token,
            reason = audit.reason,
            ?duration,
            "paused"
        );
        self.wait_for_view(&owner, seq).await;
        Ok(PauseResponse { pause: Some(pause) })
    }

    pub(in crate::services) async fn resume(
        &self,
        caller: &Caller,
        request: ResumeRequest,
    ) -> Result<ResumeResponse, Error> {
        let ResumeRequest { tenant, route, requested_by, reason } = request;
        let audit = request::audit(caller, &requested_by, &reason)?;
        caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let turn = self.turn(&owner).await?;
        let ended = self.pause_of(&tenant, &route).await?;
        if let Some(ended) = &ended {
            let records = pause::resumed(&audit, self.local.clock.now(), ended);
            let seq = self.append(&owner, records).await?;
            drop(turn);
            let AuditInfo { by, token, reason, .. } = &audit;
            tracing::info!(tenant, route, by, token, reason, "resumed");
            self.wait_for_view(&owner, seq).await;
        }
        let remaining = if route.is_empty() { None } else { self.pause_of(&tenant, "").await? };
        Ok(ResumeResponse { ended, remaining })
    }

    /// Decided by the owner's state alone, which is ahead of the view.
    pub(in crate::services) async fn probe(
        &self,
        caller: &Caller,
        request: ProbeRouteRequest,
    ) -> Result<ProbeRouteResponse, Error> {
        let ProbeRouteRequest { tenant, route, requested_by, reason } = request;
        let audit = request::audit(caller, &requested_by, &reason)?;
        if route.is_empty() {
            return Err(Error::Invalid("a single route is probed: name it in `route`".to_owned()));
        }
        caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let command = Command::Probe { tenant: tenant.clone(), route: route.clone(), audit: audit.clone() };
        match owner.command(command).await {
            Ok(seq) => {
                let AuditInfo { by, token, reason, .. } = &audit;
                tracing::info!(tenant, route, by, token, reason, "route probed");
                self.wait_for_view(&owner, seq).await;
                Ok(ProbeRouteResponse { already_probing: false })
            }
            Err(NotDone::NoProbe(NoProbe::UnderWay)) => Ok(ProbeRouteResponse { already_probing: true }),
            Err(NotDone::NoProbe(why)) => Err(Error::NoProbe { tenant, route, why }),
            Err(NotDone::TooLarge) => Err(Error::TooLarge),
            Err(_) => Err(Error::Lost),
        }
    }

    async fn pause_of(&self, tenant: &str, route: &str) -> Result<Option<Pause>, Error> {
        let (tenant, route) = (tenant.to_owned(), route.to_owned());
        self.local.read(move |connection| control::pause(connection, &tenant, &route)).await
    }

    /// Fails if there is no such route or tenant, neither configured nor with old deliveries. The error names those that the
    /// caller may see.
    async fn exists(&self, tenant: &str, route: &str, caller: &Caller) -> Result<(), Error> {
        let mut routes = self.local.read(control::routes).await?;
        let config = self.local.config();
        for tenant in config.tenants.values() {
            routes.extend(tenant.routes.keys().map(|route| (tenant.name.clone(), route.clone())));
        }
        routes.retain(|(tenant, _)| caller.sees(tenant));
        let known = if route.is_empty() {
            config.tenants.contains_key(tenant) || routes.iter().any(|(name, _)| name == tenant)
        } else {
            routes.contains(&(tenant.to_owned(), route.to_owned()))
        };
        if known { Ok(()) } else { Err(Error::NoSuchRoute(no_such(tenant, route, &routes))) }
    }

    pub(in crate::services) async fn cancel(
        &self,
        caller: &Caller,
        request: CancelDeliveryRequest,
    ) -> Result<CancelDeliveryResponse, Error> {
        let CancelDeliveryRequest { delivery_id, requested_by, reason } = request;
        let audit = request::audit(caller, &requested_by, &reason)?;
        let id: DeliveryId = id(&delivery_id)?;
        let (_, _, delivery) = self.known(id, caller).await?;
        let owner = self.local.owner_of(&delivery.tenant)?;
        for count in 0..TRIES {
            let turn = self.turn(&owner).await?;
            let (event_seq, _, delivery) = self.known(id, caller).await?;
            if delivery.state().is_final() {
                let (state, reason) = (delivery.state(), delivery.reason);
                return Err(Error::NotWaiting { id, state, reason });
            }
            let done = owner.command(Command::Cancel(key(event_seq, id), audit.clone())).await;
            drop(turn);
            if let Some(seq) = finished(&done)? {
                let AuditInfo { by, token, reason, .. } = &audit;
                tracing::info!(delivery = %id, by, token, reason, "cancelled");
                self.wait_for_view(&owner, seq).await;
                let (_, _, delivery) = self.known(id, caller).await?;
                return Ok(CancelDeliveryResponse { delivery: Some(delivery) });
            }
            before_next(count).await;
        }
        Err(Error::UnderWay(id))
    }

    /// Replays a delivery that has ended, or sends a waiting one now. With an event and a route, a delivery that was not planned
    /// is planned.
    pub(in crate::services) async fn replay(
        &self,
        caller: &Caller,
        request: ReplayDeliveryRequest,
    ) -> Result<ReplayDeliveryResponse, Error> {
        let (id, to_plan) = request::replayed(&request)?;
        let audit = request::audit(caller, &request.requested_by, &request.reason)?;
        let tenant = match to_plan {
            None => self.known(id, caller).await?.2.tenant,
            Some(_) => self.known_event(id.event, caller).await?.1.tenant,
        };
        let owner = self.local.owner_of(&tenant)?;
        for count in 0..TRIES {
            let turn = self.turn(&owner).await?;
            let known = self.known(id, caller).await;
            if let Ok((_, _, delivery)) = &known
                && let Some(wanted) = request.generation.filter(|wanted| *wanted != delivery.generation)
            {
                return Err(Error::OtherGeneration { id, wanted, now: delivery.generation });
            }
            let command = match (known, to_plan) {
                (Err(error), Some(route)) if error.is_not_found() => {
                    self.first_delivery(id, route, caller, &audit).await?
                }
                (known, _) => self.next_delivery(id, known?, &audit).await?,
            };
            let done = owner.command(command).await;
            drop(turn);
            if let Some(seq) = finished(&done)? {
                let AuditInfo { by, token, reason, .. } = &audit;
                tracing::info!(delivery = %id, by, token, reason, "replayed");
                self.wait_for_view(&owner, seq).await;
                let (_, _, delivery) = self.known(id, caller).await?;
                return Ok(ReplayDeliveryResponse { delivery: Some(delivery) });
            }
            before_next(count).await;
        }
        Err(Error::UnderWay(id))
    }

    /// The command that replays a known delivery.
    async fn next_delivery(
        &self,
        id: DeliveryId,
        (event_seq, step, delivery): (u64, u32, Delivery),
        audit: &AuditInfo,
    ) -> Result<Command, Error> {
        if self.local.config().route(&delivery.tenant, &delivery.route).is_none() {
            let Delivery { tenant, route, .. } = delivery;
            return Err(Error::RouteNotConfigured { tenant, route });
        }
        // The owner has the payload of a waiting delivery, also if the event was carried.
        if delivery.state() == DeliveryState::Waiting {
            return Ok(Command::Replay(key(event_seq, id), audit.clone()));
        }
        if self.local.bus.event_at(event_seq).await?.is_none() {
            return Err(Error::EventNotKept(id));
        }
        let task = replay::ended(&delivery, event_seq, step);
        let again = replay::again(&task, audit, self.local.clock.now());
        Ok(Command::Append(vec![again.into_record()]))
    }

    /// The command that plans a delivery to a route that did not want the event when it came, and wants it now.
    async fn first_delivery(
        &self,
        id: DeliveryId,
        route: &str,
        caller: &Caller,
        audit: &AuditInfo,
    ) -> Result<Command, Error> {
        let (event_seq, event) = self.known_event(id.event, caller).await?;
        let (config, tenant) = (self.local.config(), event.tenant.clone());
        let Some(configured) = config.route(&tenant, route) else {
            return Err(Error::RouteNotConfigured { tenant, route: route.to_owned() });
        };
        let Some(stored) = self.local.bus.event_at(event_seq).await? else {
            return Err(Error::EventNotKept(id));
        };
        if !wants(configured, &stored) {
            return Err(Error::RouteDoesNotWant { event: id.event, tenant, route: route.to_owned() });
        }
        let task = replay::unplanned(&event, event_seq, id, route);
        let planned = replay::again(&task, audit, self.local.clock.now());
        Ok(Command::Append(vec![planned.into_record()]))
    }

    /// An event with its sequence.
    async fn known_event(&self, id: EventId, caller: &Caller) -> Result<(u64, Event), Error> {
        let own = self.local.own();
        let known = self.local.read(move |connection| query::event(connection, id)).await?;
        let seen = known.filter(|(_, event)| caller.sees(&event.tenant) && own.has_tenant(&event.tenant));
        seen.ok_or_else(|| Error::NotKnown { what: format!("event {id}"), behind: self.local.behind() })
    }

    /// A delivery with its event's sequence and its step.
    async fn known(&self, id: DeliveryId, caller: &Caller) -> Result<(u64, u32, Delivery), Error> {
        let own = self.local.own();
        let known = self.local.read(move |connection| replayable::delivery(connection, id)).await?;
        let seen = known
            .filter(|(_, _, delivery)| caller.sees(&delivery.tenant) && own.has_tenant(&delivery.tenant));
        let not_known = || Error::NotKnown { what: format!("delivery {id}"), behind: self.local.behind() };
        seen.ok_or_else(not_known)
    }
}

pub(super) fn key(event_seq: u64, id: DeliveryId) -> DeliveryKey {
    DeliveryKey { event_seq, route: id.route.to_i64() }
}

/// The commit of a command about a delivery; `None` if the command has to be tried again, because an attempt is under way or has
/// ended and is not in the view yet.
pub(super) fn finished(done: &Done) -> Result<Option<u64>, Error> {
    match done {
        Ok(seq) => Ok(Some(*seq)),
        Err(NotDone::UnderWay | NotDone::NotWaiting) => Ok(None),
        Err(NotDone::TooLarge) => Err(Error::TooLarge),
        Err(_) => Err(Error::Lost),
    }
}

pub(super) async fn before_next(count: u32) {
    if count + 1 < TRIES {
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

fn no_such(tenant: &str, route: &str, routes: &BTreeSet<(String, String)>) -> String {
    let mut names: Vec<String> = routes.iter().map(|(tenant, route)| format!("{tenant}/{route}")).collect();
    if names.len() > MOST_NAMES {
        let more = names.len() - MOST_NAMES;
        names.truncate(MOST_NAMES);
        names.push(format!("and {more} more"));
    }
    let name = if route.is_empty() { format!("tenant {tenant}") } else { format!("route {tenant}/{route}") };
    let name = name.chars().take(200).collect::<String>();
    if names.is_empty() {
        return format!("there is no {name}, nor any other route");
    }
    format!("there is no {name}; there is: {}", names.join(", "))
}
