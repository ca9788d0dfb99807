//! `StatusService`: answers out of the view.
//!
//! - [`configuration`]: how the configuration stands.
//! - [`request`]: what was asked, checked.
//! - [`watch`]: the stream of changes.

mod configuration;
pub(crate) mod request;
mod watch;

use crate::{services::access::{caller, pass}, view::{View, control, query, recall, summary}};
use std::{pin::Pin, sync::Arc};
use talaria_bus::{Bus, Clock};
use talaria_core::{
    config::Standing,
    id::{DeliveryId, EventId},
};
use talaria_proto::v1::{
    Delivery, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest, GetEventResponse, GetSummaryRequest,
    GetSummaryResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListEventsRequest, ListEventsResponse,
    ListQuarantinedRequest, ListQuarantinedResponse, WatchDeliveriesRequest, WatchDeliveriesResponse,
    status_service_server::StatusService,
};
use tokio::sync::watch::Receiver;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The service. Clones share it.
#[derive(Clone)]
pub(crate) struct StatusServer {
    view: View,
    bus: Bus,
    clock: Clock,
    standing: Receiver<Arc<Standing>>,
    /// Ends the watches: a server waits for its streams.
    stop: CancellationToken,
}

impl StatusServer {
    pub(crate) fn new(
        view: View,
        bus: Bus,
        clock: Clock,
        standing: Receiver<Arc<Standing>>,
        stop: CancellationToken,
    ) -> Self {
        Self { view, bus, clock, standing, stop }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        ask(&self.view, question).await
    }
}

/// Asks the view; whoever asked is told no more than that it cannot be read.
pub(crate) async fn ask<T: Send + 'static>(
    view: &View,
    question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Status> {
    view.read(question).await.map_err(|error| {
        tracing::error!(%error, "cannot read the status view");
        Status::internal("the status view cannot be read; the log says why")
    })
}

#[tonic::async_trait]
impl StatusService for StatusServer {
    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id: EventId = request::id(&request.event_id)?;
        let found = self.ask(move |connection| {
            let seen = query::event(connection, id)?.filter(|(_, event)| caller.sees(&event.tenant));
            let Some((seq, event)) = seen else { return Ok(None) };
            let mut deliveries = query::deliveries_of(connection, seq)?;
            recall::explain_waiting(connection, &mut deliveries)?;
            Ok(Some((seq, event, deliveries, query::conflicts_of(connection, seq)?)))
        });
        let Some((seq, mut event, deliveries, conflicts)) = found.await? else {
            return Err(Status::not_found(format!("no event {id} is known, or it is not kept any more")));
        };
        if request.include_payload {
            let stored = self.bus.event(seq).await.map_err(|error| Status::unavailable(error.to_string()))?;
            event.payload = stored.map(|stored| stored.payload.clone()).unwrap_or_default();
        }
        Ok(Response::new(GetEventResponse { event: Some(event), deliveries, conflicts }))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = request::page_size(request.page_size)?;
        let below = request::event_page(&request.page_token)?;
        let filter = request::event_filter(request, &caller)?;
        let (events, more) =
            self.ask(move |connection| query::events(connection, &filter, below, size)).await?;
        let next_page_token = events.last().filter(|_| more).map(|(seq, _)| request::event_token(*seq));
        Ok(Response::new(ListEventsResponse {
            events: events.into_iter().map(|(_, event)| event).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn get_delivery(
        &self,
        request: Request<GetDeliveryRequest>,
    ) -> Result<Response<GetDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let id: DeliveryId = request::id(&request.into_inner().delivery_id)?;
        let found = self.ask(move |connection| {
            let seen = query::delivery(connection, id)?.filter(|delivery| caller.sees(&delivery.tenant));
            let Some(mut delivery) = seen else { return Ok(None) };
            recall::explain_waiting(connection, std::slice::from_mut(&mut delivery))?;
            let mut actions = control::actions_of(connection, id)?;
            for action in actions.iter_mut().filter(|action| !action.replay_job_id.is_empty()) {
                // Why a job was begun is said to those who may see the job.
                let job = control::job(connection, &action.replay_job_id)?.unwrap_or_default();
                if !caller.sees_job(&job) {
                    action.reason.clear();
                }
            }
            let attempts = query::attempts(connection, id)?;
            Ok(Some(GetDeliveryResponse { delivery: Some(delivery), attempts, actions }))
        });
        let unknown = || Status::not_found(format!("no delivery {id} is known, or it is not kept any more"));
        found.await?.map(Response::new).ok_or_else(unknown)
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = request::page_size(request.page_size)?;
        let below = request::delivery_page(&request.page_token)?;
        let filter = request::delivery_filter(request.filter.unwrap_or_default(), &caller)?;
        let question = move |connection: &rusqlite::Connection| {
            let (found, more) = query::deliveries(connection, &filter, below, size)?;
            let last = found.last().filter(|_| more).map(|(place, _)| *place);
            let mut deliveries: Vec<Delivery> = found.into_iter().map(|(_, delivery)| delivery).collect();
            recall::explain_waiting(connection, &mut deliveries)?;
            Ok((deliveries, last))
        };
        let (deliveries, last) = self.ask(question).await?;
        let next_page_token = last.map(request::delivery_token);
        Ok(Response::new(ListDeliveriesResponse {
            deliveries,
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    type WatchDeliveriesStream = Pin<Box<dyn Stream<Item = Result<WatchDeliveriesResponse, Status>> + Send>>;

    async fn watch_deliveries(
        &self,
        request: Request<WatchDeliveriesRequest>,
    ) -> Result<Response<Self::WatchDeliveriesStream>, Status> {
        let pass = pass(&request)?;
        let stream = watch::watch(self.clone(), pass, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_summary(
        &self,
        request: Request<GetSummaryRequest>,
    ) -> Result<Response<GetSummaryResponse>, Status> {
        let caller = caller(&request)?;
        let tenant = caller.narrow(&request.into_inner().tenant)?;
        let now = self.clock.now();
        // It names what is of others.
        let configuration = caller.sees("").then(|| configuration::configuration(&self.standing.borrow()));
        let sums = self.ask(move |connection| {
            Ok(GetSummaryResponse {
                configuration,
                routes: summary::route_summaries(connection, tenant.as_deref(), now)?,
                tenants: summary::tenant_summaries(connection, tenant.as_deref())?,
            })
        });
        sums.await.map(Response::new)
    }

    async fn list_quarantined(
        &self,
        request: Request<ListQuarantinedRequest>,
    ) -> Result<Response<ListQuarantinedResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = request::page_size(request.page_size)?;
        let (received_at, id) = request::quarantine_page(&request.page_token)?;
        let tenant = caller.narrow(&request.tenant)?;
        let question = move |connection: &rusqlite::Connection| {
            query::quarantined(connection, tenant.as_deref(), (received_at, &id), size)
        };
        let page = self.ask(question).await?;
        let next_page_token =
            page.callbacks.last().filter(|_| page.more).map(|(place, _)| request::quarantine_token(place));
        let callbacks = page.callbacks.into_iter().map(|(_, mut callback)| {
            if !request.include_payload {
                callback.payload.clear();
            }
            callback
        });
        Ok(Response::new(ListQuarantinedResponse {
            callbacks: callbacks.collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            total: page.total,
        }))
    }
}
