//! Does what operators ask for. Whatever is decided is decided in a turn: with everything known that was decided before,
//! and only if nobody decides something else meanwhile.

use super::request::Asker;
use crate::{services::access::Caller, decisions::conclude::{self, Timing}, projector, decisions::replay::{self, Wish, record}, view::{View, control, replayable}};
use jiff::Timestamp;
use metrics::counter;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use talaria_bus::{Bus, Clock, Error, Leased, Turn, time::to_proto};
use talaria_core::{
    config::{Config, Retry},
    id::DeliveryId,
};
use talaria_proto::v1::{
    ControlKind, Delivery, DeliveryState, DeliveryTask, Record, Pause, PauseChanged, DeliveryStatus, record::What,
};
use tokio::sync::watch;
use tonic::Status;

/// How long the bus and the view may take to show everything from before a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a delivery is looked at that is in somebody's hands one moment and waits the next.
const LOOKS: u32 = 5;

/// The pause between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The most names that an error lists.
const MOST_NAMES: usize = 20;

/// Does what operators ask for. Clones share what they do it with.
#[derive(Clone)]
pub(crate) struct Operator {
    /// As it is now.
    config: watch::Receiver<Arc<Config>>,
    pub(super) bus: Bus,
    pub(super) view: View,
    pub(super) clock: Clock,
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
pub(super) fn unavailable(error: Error) -> Status {
    Status::unavailable(error.to_string())
}

impl Operator {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, bus: Bus, view: View, clock: Clock) -> Self {
        Self { config, bus, view, clock }
    }

    /// The configuration as it is now.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        self.view.read(question).await.map_err(|error| {
            tracing::error!(%error, "cannot read the status view");
            Status::internal("the status view cannot be read; the log says why")
        })
    }

    /// A turn, with the view as far as it has to be to decide. Nothing is done yet, so giving up is safe.
    pub(super) async fn turn(&self) -> Result<Turn, Status> {
        let turn = async {
            let turn = self.bus.turn().await.map_err(unavailable)?;
            projector::caught_up(self.view.position(), turn.place).await;
            Ok(turn)
        };
        let late =
            |_| Status::unavailable("the bus or the status is far behind; nothing was done, try again");
        tokio::time::timeout(PATIENCE, turn).await.map_err(late)?
    }

    /// Returns once the view here shows what was just done.
    pub(super) async fn shown(&self) -> Result<(), Status> {
        let journal = self.bus.journal_bounds().await.map_err(unavailable)?;
        projector::caught_up(self.view.position(), journal.newest).await;
        Ok(())
    }

    pub(super) async fn pause(&self, tenant: &str, route: &str, asker: &Asker) -> Result<Pause, Status> {
        self.exists(tenant, route, &asker.caller).await?;
        loop {
            let turn = self.turn().await?;
            let known = self.pause_of(tenant, route).await?;
            let now = self.clock.now();
            let pause = Pause {
                tenant: tenant.to_owned(),
                route: route.to_owned(),
                since: known.and_then(|known| known.since).or(Some(to_proto(now))),
                requested_by: asker.by.clone(),
                token_name: asker.token_name().to_owned(),
                reason: asker.reason.clone(),
            };
            let records = changed(asker.wish(now, ""), pause.clone(), true);
            if self.bus.decide(turn, records, Vec::new()).await.map_err(unavailable)? {
                tracing::info!(
                    tenant,
                    route,
                    by = asker.by,
                    token = asker.token_name(),
                    reason = asker.reason,
                    "paused"
                );
                self.shown().await?;
                return Ok(pause);
            }
        }
    }

    /// The pause that was ended, if there was one.
    pub(super) async fn resume(
        &self,
        tenant: &str,
        route: &str,
        asker: &Asker,
    ) -> Result<Option<Pause>, Status> {
        self.exists(tenant, route, &asker.caller).await?;
        loop {
            let turn = self.turn().await?;
            let Some(ended) = self.pause_of(tenant, route).await? else { return Ok(None) };
            let now = self.clock.now();
            let resumed = Pause {
                since: Some(to_proto(now)),
                requested_by: asker.by.clone(),
                token_name: asker.token_name().to_owned(),
                reason: asker.reason.clone(),
                ..ended.clone()
            };
            let records = changed(asker.wish(now, ""), resumed, false);
            if self.bus.decide(turn, records, Vec::new()).await.map_err(unavailable)? {
                tracing::info!(
                    tenant,
                    route,
                    by = asker.by,
                    token = asker.token_name(),
                    reason = asker.reason,
                    "resumed"
                );
                self.shown().await?;
                return Ok(Some(ended));
            }
        }
    }

    pub(super) async fn pause_of(&self, tenant: &str, route: &str) -> Result<Option<Pause>, Status> {
        let (tenant, route) = (tenant.to_owned(), route.to_owned());
        self.ask(move |connection| control::pause(connection, &tenant, &route)).await
    }

    /// Whether there is such a route, or such a tenant: configured, or with deliveries from when it was. Of others' nothing
    /// is said.
    async fn exists(&self, tenant: &str, route: &str, caller: &Caller) -> Result<(), Status> {
        let mut routes = self.ask(control::routes).await?;
        let config = self.config();
        for tenant in config.tenants.values() {
            routes.extend(tenant.routes.keys().map(|route| (tenant.name.clone(), route.clone())));
        }
        routes.retain(|(tenant, _)| caller.sees(tenant));
        let known = if route.is_empty() {
            config.tenants.contains_key(tenant) || routes.iter().any(|(name, _)| name == tenant)
        } else {
            routes.contains(&(tenant.to_owned(), route.to_owned()))
        };
        if known { Ok(()) } else { Err(Status::not_found(no_such(tenant, route, &routes))) }
    }

    /// Calls a delivery off that waits.
    pub(super) async fn cancel(&self, id: DeliveryId, asker: &Asker) -> Result<Delivery, Status> {
        for look in 0..LOOKS {
            self.turn().await?;
            let (event_seq, _, delivery) = self.known(id, &asker.caller).await?;
            if delivery.state() != DeliveryState::Waiting {
                return Err(Status::failed_precondition(format!(
                    "{id} does not wait any more: it is {}: {}",
                    plainly(delivery.state()),
                    delivery.reason
                )));
            }
            if let Some(leased) = self.bus.claim(event_seq, id).await.map_err(unavailable)? {
                let (mut records, task) = self.accounted(&leased, id);
                records.push(replay::cancelled(&task, asker.wish(self.clock.now(), "")).record);
                self.bus.settle(leased.lease, records).await.map_err(unavailable)?;
                tracing::info!(delivery = %id, by = asker.by, token = asker.token_name(), reason = asker.reason, "cancelled");
                counter!("talaria_deliveries_total", "state" => "cancelled").increment(1);
                self.shown().await?;
                return self.known(id, &asker.caller).await.map(|(_, _, delivery)| delivery);
            }
            self.before_next(look).await;
        }
        Err(under_way(id))
    }

    /// Sends a delivery again: one that has ended, or one that waits, and then now instead of when it is due.
    pub(super) async fn replay(&self, id: DeliveryId, asker: &Asker) -> Result<Delivery, Status> {
        let mut looks = 0;
        while looks < LOOKS {
            let turn = self.turn().await?;
            let (event_seq, step, delivery) = self.known(id, &asker.caller).await?;
            if !self.bus.kept([event_seq].into()).await.map_err(unavailable)?.contains(&event_seq) {
                return Err(Status::failed_precondition(format!("the event of {id} is not kept any more")));
            }
            if self.config().route(&delivery.tenant, &delivery.route).is_none() {
                return Err(Status::failed_precondition(format!(
                    "the route {}/{} is not configured; replay once it is back",
                    delivery.tenant, delivery.route
                )));
            }
            let done = if delivery.state() == DeliveryState::Waiting {
                let claimed = self.bus.claim(event_seq, id).await.map_err(unavailable)?;
                if let Some(leased) = &claimed {
                    let (mut records, task) = self.accounted(leased, id);
                    let again = replay::again(&task, asker.wish(self.clock.now(), ""));
                    records.push(again.record);
                    let task = again.task.unwrap_or(task);
                    self.bus.later(leased.lease, task, records).await.map_err(unavailable)?;
                } else {
                    self.before_next(looks).await;
                    looks += 1;
                }
                claimed.is_some()
            } else {
                let again = replay::again(
                    &replay::ended(&delivery, event_seq, step),
                    asker.wish(self.clock.now(), ""),
                );
                let tasks = again.task.into_iter().collect();
                self.bus.decide(turn, vec![again.record], tasks).await.map_err(unavailable)?
            };
            if done {
                tracing::info!(delivery = %id, by = asker.by, token = asker.token_name(), reason = asker.reason, "replayed");
                self.shown().await?;
                return self.known(id, &asker.caller).await.map(|(_, _, delivery)| delivery);
            }
        }
        Err(under_way(id))
    }

    async fn before_next(&self, look: u32) {
        if look + 1 < LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// A delivery with its event's place and its step.
    async fn known(&self, id: DeliveryId, caller: &Caller) -> Result<(u64, u32, Delivery), Status> {
        let known = self.ask(move |connection| replayable::delivery(connection, id)).await?;
        known.filter(|(_, _, delivery)| caller.sees(&delivery.tenant)).ok_or_else(|| {
            Status::not_found(format!("no delivery {id} is known, or it is not kept any more"))
        })
    }

    /// What was claimed, with what is still to be said about an attempt whose end nobody saw.
    fn accounted(&self, leased: &Leased, id: DeliveryId) -> (Vec<Record>, DeliveryTask) {
        let task = &leased.task;
        if !leased.interrupted {
            return (Vec::new(), task.clone());
        }
        let now = self.clock.now();
        let gone = Retry { schedule: Vec::new(), jitter: 0.0, max_age: Duration::MAX };
        let config = self.config();
        let retry = config.route(&task.tenant, &task.route).map_or(&gone, |route| &route.retry);
        let timing = Timing { now, retry, random: 0.5, not_before: now, age_from: now };
        let conclusion = conclude::interrupted(task, id, timing);
        let mut next = task.clone();
        if let Some(What::AttemptFinished(finished)) = &conclusion.record.what {
            let DeliveryStatus { step, generation, attempts, counted_attempts, .. } =
                finished.status.clone().unwrap_or_default();
            next = DeliveryTask { step, generation, attempts, counted_attempts, ..next };
        }
        (vec![conclusion.record], next)
    }

    /// Journals pauses again that the journal would forget soon. Decided as everything is, so that nothing is paused
    /// again that was resumed meanwhile.
    pub(crate) async fn renew_pauses(&self, journalled_before: Timestamp) -> Result<(), Status> {
        if !self.bus.leads()
            || self.ask(move |c| control::pauses_before(c, journalled_before)).await?.is_empty()
        {
            return Ok(());
        }
        let turn = self.turn().await?;
        let pauses = self.ask(move |c| control::pauses_before(c, journalled_before)).await?;
        let now = self.clock.now();
        let records = pauses.into_iter().map(|pause| record(now, What::PauseChanged(pause))).collect();
        // Should somebody else have decided something: the next time is soon enough.
        self.bus.decide(turn, records, Vec::new()).await.map(drop).map_err(unavailable)
    }
}

fn changed(wish: Wish<'_>, pause: Pause, paused: bool) -> Vec<Record> {
    let kind = if paused { ControlKind::Paused } else { ControlKind::Resumed };
    let action = wish.action(kind, &pause.tenant, &pause.route);
    let changed = PauseChanged { pause: Some(pause), paused };
    vec![record(wish.now, What::PauseChanged(changed)), record(wish.now, What::Acted(action))]
}

fn under_way(id: DeliveryId) -> Status {
    Status::failed_precondition(format!(
        "an attempt of {id} is under way, and whether it arrives cannot be known: try again when it has ended"
    ))
}

/// "delivered", not "DELIVERY_STATE_DELIVERED".
fn plainly(state: DeliveryState) -> String {
    state.as_str_name().trim_start_matches("DELIVERY_STATE_").to_lowercase()
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
