//! Carries out what operators ask for, in a partition that this relay owns.
//!
//! What depends on what the view shows is decided in a [`Turn`]: with everything known that was decided before, while nothing
//! else is decided. So a decision is made once.

use super::request::{self, Asker};
use crate::{
    decisions::{pause, plan::wants, probe::NoProbe, replay},
    partition::handle::{AuditInfo, Command, Done, Key, NotDone, Owner, Turn},
    services::{
        access::Caller,
        error::Error,
        local::{CATCH_UP_TIMEOUT, Local},
        status::request::id,
    },
    view::{control, query, replayable},
};
use metrics::counter;
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
use tonic::Code;

/// How often a delivery is looked at that has an attempt under way one moment and waits the next.
const LOOKS: u32 = 5;

/// The pause between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The most names that an error lists.
const MOST_NAMES: usize = 20;

/// Carries out what operators ask for. Clones share it.
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

    /// The turn of a partition, with the view as far as it has to be to decide. Nothing is done yet, so giving up is safe.
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
            NotDone::Lost | NotDone::NotWaiting | NotDone::UnderWay | NotDone::NoProbe(_) => Error::Lost,
        })
    }

    /// Returns once the view shows a commit. Should the view take long, what was asked for is done all the same.
    pub(super) async fn shown(&self, owner: &Owner, seq: u64) {
        let shown = self.local.view.caught_up(owner.partition, seq);
        if timeout(CATCH_UP_TIMEOUT, shown).await.is_err() {
            tracing::warn!(partition = %owner.partition, "the status does not show yet what was done");
        }
    }

    pub(in crate::services) async fn pause(
        &self,
        caller: &Caller,
        request: PauseRequest,
    ) -> Result<PauseResponse, Error> {
        let PauseRequest { tenant, route, requested_by, reason, duration } = request;
        let asker = Asker::read(caller.clone(), requested_by, reason)?;
        let duration = request::pause_duration(duration.as_ref())?;
        asker.caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let turn = self.turn(&owner).await?;
        let known = self.pause_of(&tenant, &route).await?;
        let now = self.local.clock.now();
        let pause = Pause {
            since: known.and_then(|known| known.since).or(Some(to_proto(now))),
            requested_by: asker.by.clone(),
            token_name: asker.token_name().to_owned(),
            reason: asker.reason.clone(),
            tenant,
            route,
            until: duration.map(|duration| to_proto(after(now, duration))),
        };
        let seq = self.append(&owner, pause::changed(asker.wish(now, ""), pause.clone(), true)).await?;
        drop(turn);
        tracing::info!(
            tenant = pause.tenant,
            route = pause.route,
            by = asker.by,
            token = asker.token_name(),
            reason = asker.reason,
            ?duration,
            "paused"
        );
        self.shown(&owner, seq).await;
        Ok(PauseResponse { pause: Some(pause) })
    }

    pub(in crate::services) async fn resume(
        &self,
        caller: &Caller,
        request: ResumeRequest,
    ) -> Result<ResumeResponse, Error> {
        let ResumeRequest { tenant, route, requested_by, reason } = request;
        let asker = Asker::read(caller.clone(), requested_by, reason)?;
        asker.caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let turn = self.turn(&owner).await?;
        let ended = self.pause_of(&tenant, &route).await?;
        if let Some(ended) = &ended {
            let wish = asker.wish(self.local.clock.now(), "");
            let seq = self.append(&owner, pause::resumed(wish, ended)).await?;
            drop(turn);
            let (by, token, reason) = (&asker.by, asker.token_name(), &asker.reason);
            tracing::info!(tenant, route, by, token, reason, "resumed");
            self.shown(&owner, seq).await;
        }
        let remaining = if route.is_empty() { None } else { self.pause_of(&tenant, "").await? };
        Ok(ResumeResponse { ended, remaining })
    }

    /// Has a shut route probed now. Only the owner's state decides, which is ahead of any view.
    pub(in crate::services) async fn probe(
        &self,
        caller: &Caller,
        request: ProbeRouteRequest,
    ) -> Result<ProbeRouteResponse, Error> {
        let ProbeRouteRequest { tenant, route, requested_by, reason } = request;
        let asker = Asker::read(caller.clone(), requested_by, reason)?;
        if route.is_empty() {
            let message = "a single route is probed: name it in `route`".to_owned();
            return Err(Error::Refused { code: Code::InvalidArgument, message });
        }
        asker.caller.narrow(&tenant)?;
        let owner = self.local.owner_of(&tenant)?;
        self.exists(&tenant, &route, caller).await?;
        let command = Command::Probe { tenant: tenant.clone(), route: route.clone(), audit: asker.audit() };
        match owner.command(command).await {
            Ok(seq) => {
                let (by, token, reason) = (&asker.by, asker.token_name(), &asker.reason);
                tracing::info!(tenant, route, by, token, reason, "a shut route is probed");
                self.shown(&owner, seq).await;
                Ok(ProbeRouteResponse { already_probing: false })
            }
            Err(NotDone::NoProbe(NoProbe::UnderWay)) => Ok(ProbeRouteResponse { already_probing: true }),
            Err(NotDone::NoProbe(why)) => Err(Error::NoProbe { tenant, route, why }),
            Err(NotDone::TooLarge) => Err(Error::TooLarge),
            Err(NotDone::Lost | NotDone::NotWaiting | NotDone::UnderWay) => Err(Error::Lost),
        }
    }

    async fn pause_of(&self, tenant: &str, route: &str) -> Result<Option<Pause>, Error> {
        let (tenant, route) = (tenant.to_owned(), route.to_owned());
        self.local.read(move |connection| control::pause(connection, &tenant, &route)).await
    }

    /// Whether there is such a route, or such a tenant: configured, or with deliveries from when it was. Of others' nothing
    /// is said.
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

    /// Cancels a delivery that waits.
    pub(in crate::services) async fn cancel(
        &self,
        caller: &Caller,
        request: CancelDeliveryRequest,
    ) -> Result<CancelDeliveryResponse, Error> {
        let CancelDeliveryRequest { delivery_id, requested_by, reason } = request;
        let asker = Asker::read(caller.clone(), requested_by, reason)?;
        let id: DeliveryId = id(&delivery_id)?;
        let (_, _, delivery) = self.known(id, caller).await?;
        let owner = self.local.owner_of(&delivery.tenant)?;
        for look in 0..LOOKS {
            let turn = self.turn(&owner).await?;
            let (event_seq, _, delivery) = self.known(id, caller).await?;
            if delivery.state().is_final() {
                let (state, reason) = (delivery.state(), delivery.reason);
                return Err(Error::NotWaiting { id, state, reason });
            }
            let done = owner.command(Command::Cancel(key(event_seq, id), asker.audit())).await;
            drop(turn);
            if let Some(seq) = finished(&done)? {
                let (by, token, reason) = (&asker.by, asker.token_name(), &asker.reason);
                tracing::info!(delivery = %id, by, token, reason, "cancelled");
                counter!("talaria_deliveries_total", "state" => "cancelled").increment(1);
                self.shown(&owner, seq).await;
                let (_, _, delivery) = self.known(id, caller).await?;
                return Ok(CancelDeliveryResponse { delivery: Some(delivery) });
            }
            before_next(look).await;
        }
        Err(Error::UnderWay(id))
    }

    /// Sends a delivery again: one that has ended, or one that waits, and then now instead of when it is due. One that was never
    /// planned is planned, where it is asked for by its event and its route.
    pub(in crate::services) async fn replay(
        &self,
        caller: &Caller,
        request: ReplayDeliveryRequest,
    ) -> Result<ReplayDeliveryResponse, Error> {
        let (id, to_plan) = request::replayed(&request)?;
        let asker = Asker::read(caller.clone(), request.requested_by.clone(), request.reason.clone())?;
        let tenant = match to_plan {
            None => self.known(id, caller).await?.2.tenant,
            Some(_) => self.known_event(id.event, caller).await?.1.tenant,
        };
        let owner = self.local.owner_of(&tenant)?;
        for look in 0..LOOKS {
            let turn = self.turn(&owner).await?;
            let command = match (self.known(id, caller).await, to_plan) {
                (Err(error), Some(route)) if error.is_not_found() => {
                    self.first_delivery(id, route, caller, &asker).await?
                }
                (known, _) => self.next_delivery(id, known?, &asker).await?,
            };
            let done = owner.command(command).await;
            drop(turn);
            if let Some(seq) = finished(&done)? {
                let (by, token, reason) = (&asker.by, asker.token_name(), &asker.reason);
                tracing::info!(delivery = %id, by, token, reason, "replayed");
                self.shown(&owner, seq).await;
                let (_, _, delivery) = self.known(id, caller).await?;
                return Ok(ReplayDeliveryResponse { delivery: Some(delivery) });
            }
            before_next(look).await;
        }
        Err(Error::UnderWay(id))
    }

    /// What sends a delivery again that is known.
    async fn next_delivery(
        &self,
        id: DeliveryId,
        (event_seq, step, delivery): (u64, u32, Delivery),
        asker: &Asker,
    ) -> Result<Command, Error> {
        if self.local.config().route(&delivery.tenant, &delivery.route).is_none() {
            let Delivery { tenant, route, .. } = delivery;
            return Err(Error::RouteNotConfigured { tenant, route });
        }
        // The owner has the payload of what waits, also where the event was carried.
        if delivery.state() == DeliveryState::Waiting {
            return Ok(Command::Replay(key(event_seq, id), asker.audit()));
        }
        if self.local.bus.event(event_seq).await?.is_none() {
            return Err(Error::EventNotKept(id));
        }
        let task = replay::ended(&delivery, event_seq, step);
        let again = replay::again(&task, asker.wish(self.local.clock.now(), ""));
        Ok(Command::Append(vec![again.record]))
    }

    /// What plans a delivery to a route that did not want the event when it came, and wants it now.
    async fn first_delivery(
        &self,
        id: DeliveryId,
        route: &str,
        caller: &Caller,
        asker: &Asker,
    ) -> Result<Command, Error> {
        let (event_seq, event) = self.known_event(id.event, caller).await?;
        let (config, tenant) = (self.local.config(), event.tenant.clone());
        let Some(configured) = config.route(&tenant, route) else {
            return Err(Error::RouteNotConfigured { tenant, route: route.to_owned() });
        };
        let Some(stored) = self.local.bus.event(event_seq).await? else {
            return Err(Error::EventNotKept(id));
        };
        if !wants(configured, &stored) {
            return Err(Error::RouteDoesNotWant { event: id.event, tenant, route: route.to_owned() });
        }
        let task = replay::unplanned(&event, event_seq, id, route);
        let planned = replay::again(&task, asker.wish(self.local.clock.now(), ""));
        Ok(Command::Append(vec![planned.record]))
    }

    /// An event with its sequence.
    async fn known_event(&self, id: EventId, caller: &Caller) -> Result<(u64, Event), Error> {
        let own = self.local.own();
        let known = self.local.read(move |connection| query::event(connection, id)).await?;
        let seen = known.filter(|(_, event)| caller.sees(&event.tenant) && own.has(&event.tenant));
        seen.ok_or_else(|| Error::NotKnown { what: format!("event {id}"), behind: self.local.behind() })
    }

    /// A delivery with its event's sequence and its step.
    async fn known(&self, id: DeliveryId, caller: &Caller) -> Result<(u64, u32, Delivery), Error> {
        let own = self.local.own();
        let known = self.local.read(move |connection| replayable::delivery(connection, id)).await?;
        let seen =
            known.filter(|(_, _, delivery)| caller.sees(&delivery.tenant) && own.has(&delivery.tenant));
        let not_known = || Error::NotKnown { what: format!("delivery {id}"), behind: self.local.behind() };
        seen.ok_or_else(not_known)
    }
}

impl Asker {
    /// As an owner records it.
    fn audit(&self) -> AuditInfo {
        AuditInfo {
            by: self.by.clone(),
            token: self.token_name().to_owned(),
            reason: self.reason.clone(),
            job: String::new(),
        }
    }
}

fn key(event_seq: u64, id: DeliveryId) -> Key {
    Key { event_seq, route: id.route.to_i64() }
}

/// The commit of a command about a delivery; nothing where the delivery has to be looked at again: an attempt is under way, or
/// ended a moment ago, which the view does not show yet.
fn finished(done: &Done) -> Result<Option<u64>, Error> {
    match done {
        Ok(seq) => Ok(Some(*seq)),
        Err(NotDone::UnderWay | NotDone::NotWaiting) => Ok(None),
        Err(NotDone::TooLarge) => Err(Error::TooLarge),
        Err(NotDone::Lost | NotDone::NoProbe(_)) => Err(Error::Lost),
    }
}

async fn before_next(look: u32) {
    if look + 1 < LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn no_such(tenant: &str, route: &str, routes: &BTreeSet<(String, String)>) -> String {
    let mut names: Vec<String> = routes.iter().map(|(tenant, route)| format!("{tenant}/{route}")).collect();
    if names.len() > MOST_NAMES {
        let more = names.len() - MOST_NAMES;
        names.truncate(MOST_NAMES);
        names.push(format!("and {more} more"));
    }
    let what = if route.is_empty() { format!("tenant {tenant}") } else { format!("route {tenant}/{route}") };
    let what = what.chars().take(200).collect::<String>();
    if names.is_empty() {
        return format!("there is no {what}, nor any other route");
    }
    format!("there is no {what}; there is: {}", names.join(", "))
}
