//! What this relay's view says, of the partitions that the relay owns.

use super::request;
use crate::{
    decisions::unmatched::why_unmatched,
    services::{access::Caller, cluster::Page, error::Error, local::Local},
    view::{blocks, control, query, summary},
};
use talaria_core::id::{DeliveryId, EventId};
use talaria_proto::v1::{
    BreakerState, Delivery, Event, FoundEvent, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest,
    GetEventResponse, GetSummaryRequest, GetSummaryResponse, ListDeliveriesRequest, ListEventsRequest,
    ListQuarantinedRequest, ListUnmatchedRequest, QuarantinedCallback, RouteSummary, UnmatchedEvent,
};

impl Local {
    /// An event without its payload.
    pub(in crate::services) async fn event(
        &self,
        caller: &Caller,
        request: GetEventRequest,
    ) -> Result<FoundEvent, Error> {
        let id: EventId = request::id(&request.event_id)?;
        self.settled().await;
        let (own, caller, config) = (self.own(), caller.clone(), self.config());
        let found = self.read(move |connection| {
            let found = query::event(connection, id)?;
            let seen = found.filter(|(_, event)| caller.sees(&event.tenant) && own.has(&event.tenant));
            let Some((event_seq, event)) = seen else { return Ok(None) };
            let mut deliveries = query::deliveries_of(connection, event_seq)?;
            blocks::explain_waiting(connection, &mut deliveries, &config)?;
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
        self.settled().await;
        let (own, caller, config) = (self.own(), caller.clone(), self.config());
        let found = self.read(move |connection| {
            let found = query::history(connection, id)?;
            let seen = found.filter(|(_, history)| {
                caller.sees(&history.delivery.tenant) && own.has(&history.delivery.tenant)
            });
            let Some((_, query::History { mut delivery, attempts, .. })) = seen else { return Ok(None) };
            blocks::explain_waiting(connection, std::slice::from_mut(&mut delivery), &config)?;
            let mut actions = control::actions_of(connection, id)?;
            for action in actions.iter_mut().filter(|action| !action.replay_job_id.is_empty()) {
                // Why a job was begun is said to those who may see the job.
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
    ) -> Result<Page<i64, Event>, Error> {
        let size = request::page_size(request.page_size)?;
        let below = request::event_page(&request.page_token)?;
        let filter = request::event_filter(request, caller)?;
        let found = self.read(move |connection| query::events(connection, &filter, below, size)).await?;
        let own = self.own();
        Ok(Page::new(found).retain(|event| own.has(&event.tenant)))
    }

    /// Events that no route took, each with the reason by the configuration as it is.
    pub(in crate::services) async fn unmatched(
        &self,
        caller: &Caller,
        request: ListUnmatchedRequest,
    ) -> Result<Page<i64, UnmatchedEvent>, Error> {
        let size = request::page_size(request.page_size)?;
        let below = request::unmatched_page(&request.page_token)?;
        let filter = request::unmatched_filter(&request, caller)?;
        let (found, more) =
            self.read(move |connection| query::events(connection, &filter, below, size)).await?;
        let (own, config) = (self.own(), self.config());
        let with_reason = |(position, event): (i64, Event)| {
            let why = why_unmatched(&event.r#type, config.tenants.get(&event.tenant).map(AsRef::as_ref));
            (position, UnmatchedEvent { event: Some(event), why })
        };
        let page = Page::new((found.into_iter().map(with_reason).collect(), more));
        Ok(page.retain(|unmatched| unmatched.event.as_ref().is_some_and(|event| own.has(&event.tenant))))
    }

    pub(in crate::services) async fn deliveries(
        &self,
        caller: &Caller,
        request: ListDeliveriesRequest,
    ) -> Result<Page<query::Place, Delivery>, Error> {
        let size = request::page_size(request.page_size)?;
        let below = request::delivery_page(&request.page_token)?;
        let filter = request::delivery_filter(request.filter.unwrap_or_default(), caller)?;
        let config = self.config();
        let question = move |connection: &rusqlite::Connection| {
            let (found, more) = query::deliveries(connection, &filter, below, size)?;
            let (places, mut deliveries): (Vec<_>, Vec<Delivery>) = found.into_iter().unzip();
            blocks::explain_waiting(connection, &mut deliveries, &config)?;
            Ok((places.into_iter().zip(deliveries).collect(), more))
        };
        let (found, own) = (self.read(question).await?, self.own());
        Ok(Page::new(found).retain(|delivery| own.has(&delivery.tenant)))
    }

    pub(in crate::services) async fn quarantined(
        &self,
        caller: &Caller,
        request: ListQuarantinedRequest,
    ) -> Result<Page<(i64, String), QuarantinedCallback>, Error> {
        let size = request::page_size(request.page_size)?;
        let (received_at, id) = request::quarantine_page(&request.page_token)?;
        let tenant = caller.narrow(&request.tenant)?;
        let (own, shown) = (self.own(), self.own());
        let question = move |connection: &rusqlite::Connection| {
            query::quarantined(connection, &own, tenant.as_deref(), (received_at, &id), size)
        };
        let mut found = self.read(question).await?;
        if !request.include_payload {
            found.callbacks.iter_mut().for_each(|(_, callback)| callback.payload.clear());
        }
        let page = Page::new((found.callbacks, found.more)).retain(|callback| shown.has(&callback.tenant));
        Ok(Page { total: found.total, ..page })
    }

    /// Sums, without the configuration: that is the matter of the relay that was asked first.
    pub(in crate::services) async fn summary(
        &self,
        caller: &Caller,
        request: GetSummaryRequest,
    ) -> Result<GetSummaryResponse, Error> {
        let tenant = caller.narrow(&request.tenant)?;
        let (now, own, named) = (self.clock.now(), self.own(), tenant.clone());
        // Before the rows are read: afterwards it may be folded, and they are without it.
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
        sums.routes.retain(|route| own.has(&route.tenant));
        let config = self.config();
        for route in &mut sums.routes {
            route.not_configured = config.route(&route.tenant, &route.route).is_none();
        }
        let is_meant = |tenant: &str| own.has(tenant) && named.as_deref().is_none_or(|named| named == tenant);
        for (tenant, route) in config.routes().filter(|(tenant, _)| is_meant(&tenant.name)) {
            let Some(down) = &route.down else { continue };
            let is_it = |it: &&mut RouteSummary| it.tenant == tenant.name && it.route == route.name;
            match sums.routes.iter_mut().find(is_it) {
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
        sums.tenants.retain(|tenant| own.has(&tenant.tenant));
        sums.view_behind = view_behind;
        Ok(sums)
    }
}
