//! Answers from this relay's view, for the partitions that it owns.

use super::request;
use crate::{
    decisions::unmatched::why_unmatched,
    services::{access::Caller, cluster::Page, error::Error, local::Local},
    view::{
        blocks::{self, Blocks},
        control, filter,
        query::{self, Most},
        summary,
    },
};
use std::{collections::BTreeMap, time::Duration};
use talaria_bus::Partition;
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::{
    time::{duration_to_proto, to_proto},
    v1::{
        BreakerState, Delivery, Event, FoundEvent, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest,
        GetEventResponse, GetSummaryRequest, GetSummaryResponse, ListDeliveriesRequest, ListEventsRequest,
        ListQuarantinedRequest, ListUnmatchedRequest, PaceSummary, QuarantinedCallback, RouteSummary,
        UnmatchedEvent,
    },
};
use tokio::time::timeout;

/// For the owners to say how much of their paces is used.
const PACE_DEADLINE: Duration = Duration::from_secs(1);

impl Local {
    /// An event without its payload.
    pub(in crate::services) async fn event(
        &self,
        caller: &Caller,
        request: GetEventRequest,
    ) -> Result<FoundEvent, Error> {
        let id: EventId = request::id(&request.event_id)?;
        self.wait_briefly().await;
        let (own, caller, config, now) = (self.own(), caller.clone(), self.config(), self.clock.now());
        let found = self.read(move |connection| {
            let found = query::event(connection, id)?;
            let seen = found.filter(|(_, event)| caller.sees(&event.tenant) && own.has_tenant(&event.tenant));
            let Some((event_seq, event)) = seen else { return Ok(None) };
            let mut deliveries = query::deliveries_of(connection, event_seq)?;
            blocks::explain_all(connection, &mut deliveries, &config, now)?;
            let conflicts = query::conflicts_of(connection, event_seq)?;
            let found = GetEventResponse { event: Some(event), deliveries, conflicts };
            Ok(Some(FoundEvent { found: Some(found), event_seq }))
        });
        let not_known = || Error::NotKnown { what: format!("event {id}"), behind: self.behind() };
        found.await?.ok_or_else(not_known)
    }

    /// A delivery with its attempts.
    pub(in crate::services) async fn delivery(
        &self,
        caller: &Caller,
        request: GetDeliveryRequest,
    ) -> Result<GetDeliveryResponse, Error> {
        let id: DeliveryId = request::id(&request.delivery_id)?;
        self.wait_briefly().await;
        let (own, caller, config, now) = (self.own(), caller.clone(), self.config(), self.clock.now());
        let found = self.read(move |connection| {
            let found = query::history(connection, id)?;
            let seen = found.filter(|(_, history)| {
                caller.sees(&history.delivery.tenant) && own.has_tenant(&history.delivery.tenant)
            });
            let Some((_, query::History { mut delivery, attempts, .. })) = seen else { return Ok(None) };
            blocks::explain_all(connection, std::slice::from_mut(&mut delivery), &config, now)?;
            let mut actions = control::actions_of(connection, id)?;
            for action in actions.iter_mut().filter(|action| !action.replay_job_id.is_empty()) {
                // The reason of a job is for callers who may see the job.
                let job = control::job(connection, &own, &action.replay_job_id)?.unwrap_or_default();
                if !caller.sees_job(&job) {
                    action.reason.clear();
                }
            }
            Ok(Some(GetDeliveryResponse { delivery: Some(delivery), attempts, actions }))
        });
        let not_known = || Error::NotKnown { what: format!("delivery {id}"), behind: self.behind() };
        found.await?.ok_or_else(not_known)
    }

    pub(in crate::services) async fn events(
        &self,
        caller: &Caller,
        request: ListEventsRequest,
        below: i64,
        size: usize,
    ) -> Result<Page<i64, Event>, Error> {
        let filter = request::event_filter(request, caller)?;
        let most = Most::page(size);
        let found = self.read(move |connection| query::events(connection, &filter, below, most)).await?;
        let own = self.own();
        Ok(Page::up_to(found).retain(|event| own.has_tenant(&event.tenant)))
    }

    /// Events that no route took, each with the reason by the current configuration.
    pub(in crate::services) async fn unmatched(
        &self,
        caller: &Caller,
        request: ListUnmatchedRequest,
        below: i64,
        size: usize,
    ) -> Result<Page<i64, UnmatchedEvent>, Error> {
        let filter = request::unmatched_filter(&request, caller)?;
        let most = Most::page(size);
        let (found, end) =
            self.read(move |connection| query::events(connection, &filter, below, most)).await?;
        let (own, config) = (self.own(), self.config());
        let with_reason = |(position, event): (i64, Event)| {
            let why = why_unmatched(&event.r#type, config.tenants.get(&event.tenant).map(AsRef::as_ref));
            (position, UnmatchedEvent { event: Some(event), why })
        };
        let page = Page::up_to((found.into_iter().map(with_reason).collect(), end));
        Ok(page
            .retain(|unmatched| unmatched.event.as_ref().is_some_and(|event| own.has_tenant(&event.tenant))))
    }

    pub(in crate::services) async fn deliveries(
        &self,
        caller: &Caller,
        request: ListDeliveriesRequest,
        below: query::DeliveryPosition,
        size: usize,
    ) -> Result<Page<query::DeliveryPosition, Delivery>, Error> {
        let filter = request::delivery_filter(request.filter.unwrap_or_default(), caller)?;
        let (config, now) = (self.config(), self.clock.now());
        let question = move |connection: &rusqlite::Connection| {
            let mut blocks = Blocks::new(connection, &config, now);
            query::deliveries(connection, &filter, below, Most::page(size), |delivery| {
                blocks.explain(delivery)
            })
        };
        let (found, own) = (self.read(question).await?, self.own());
        Ok(Page::up_to(found).retain(|delivery| own.has_tenant(&delivery.tenant)))
    }

    pub(in crate::services) async fn quarantined(
        &self,
        caller: &Caller,
        request: ListQuarantinedRequest,
        (received_at, id): (i64, String),
        size: usize,
    ) -> Result<Page<(i64, String), QuarantinedCallback>, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let (own, kept) = (self.own(), self.own());
        let question = move |connection: &rusqlite::Connection| {
            query::quarantined(connection, &own, tenant.as_deref(), (received_at, &id), size)
        };
        let mut found = self.read(question).await?;
        if !request.include_payload {
            found.callbacks.iter_mut().for_each(|(_, callback)| callback.payload.clear());
        }
        let page =
            Page::new((found.callbacks, found.more)).retain(|callback| kept.has_tenant(&callback.tenant));
        Ok(Page { total: found.total, ..page })
    }

    /// Sums, without the configuration, which the relay that the client asked adds.
    pub(in crate::services) async fn summary(
        &self,
        caller: &Caller,
        request: GetSummaryRequest,
    ) -> Result<GetSummaryResponse, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let (now, own, named) = (self.clock.now(), self.own(), tenant.clone());
        let tenant_partition = tenant.as_deref().map(|tenant| self.partition_of(tenant));
        // Before the rows are read: a commit that is folded afterwards is missing in them.
        let view_behind = self.behind();
        let mut sums = self
            .read(move |connection| {
                Ok(GetSummaryResponse {
                    routes: summary::route_summaries(connection, tenant.as_deref(), now)?,
                    tenants: summary::tenant_summaries(connection, tenant.as_deref())?,
                    ..GetSummaryResponse::default()
                })
            })
            .await?;
        sums.routes.retain(|route| own.has_tenant(&route.tenant));
        let config = self.config();
        for route in &mut sums.routes {
            route.not_configured = config.route(&route.tenant, &route.route).is_none();
        }
        let is_listed = |tenant: &str| own.has_tenant(tenant) && filter::allows(named.as_deref(), tenant);
        for (tenant, route) in config.routes().filter(|(tenant, _)| is_listed(&tenant.name)) {
            let Some(down) = &route.down else { continue };
            let is_same = |sum: &&mut RouteSummary| sum.tenant == tenant.name && sum.route == route.name;
            match sums.routes.iter_mut().find(is_same) {
                Some(known) => known.down_because.clone_from(&down.what),
                None => sums.routes.push(RouteSummary {
                    tenant: tenant.name.clone(),
                    route: route.name.clone(),
                    breaker: BreakerState::Admitting.into(),
                    down_because: down.what.clone(),
                    ..RouteSummary::default()
                }),
            }
        }
        self.add_paces(&mut sums.routes, tenant_partition).await;
        sums.tenants.retain(|tenant| own.has_tenant(&tenant.tenant));
        sums.view_behind = view_behind;
        Ok(sums)
    }

    /// Adds how much of their paces is used, which the owners alone know. An owner that is busy for long is left out.
    async fn add_paces(&self, routes: &mut [RouteSummary], only: Option<Partition>) {
        let of_owners = async {
            let mut all = Vec::new();
            for owner in self.owners.all() {
                if only.is_none_or(|only| only == owner.partition) {
                    all.extend(owner.paces().await.unwrap_or_default());
                }
            }
            all
        };
        let paces = timeout(PACE_DEADLINE, of_owners).await.unwrap_or_default();
        let by_route: BTreeMap<_, _> =
            paces.iter().map(|it| ((&*it.tenant, &*it.route), &it.usage)).collect();
        let config = self.config();
        for route in routes {
            let configured = config.route(&route.tenant, &route.route).and_then(|route| route.pace.as_ref());
            let usage = by_route.get(&(route.tenant.as_str(), route.route.as_str()));
            route.pace = usage.zip(configured).map(|(usage, configured)| PaceSummary {
                limit: usage.limit,
                configured: usage.configured,
                window: Some(duration_to_proto(configured.window)),
                sent: usage.sent,
                next_first: Some(to_proto(usage.next_first)),
                next_again: Some(to_proto(usage.next_again)),
            });
        }
    }
}
