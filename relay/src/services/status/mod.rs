//! `StatusService`: events, deliveries, and their changes.
//!
//! - [`request`]: checks of the requests.
//! - [`answers`]: answers from this relay's view.
//! - [`configuration`]: the status of the configuration.
//! - [`evidence`]: requests and answers of attempts.
//! - [`ids`]: complete ids by their beginnings.
//! - [`series`]: points over time.
//! - [`watch`]: the stream of changes.

mod answers;
mod configuration;
mod evidence;
mod ids;
pub(super) mod request;
mod series;
mod watch;

use super::{
    access::{Caller, caller, pass},
    cluster::Cluster,
    error::Error,
    refusals::Refusals,
};
use crate::view::filter::allows;
use std::{collections::BTreeMap, pin::Pin, sync::Arc};
use talaria_core::config::{Config, ConfigStatus};
use talaria_proto::v1::{
    ClusterMethod, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest, GetEventResponse,
    GetEvidenceRequest, GetEvidenceResponse, GetSeriesRequest, GetSeriesResponse, GetSummaryRequest,
    GetSummaryResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListEventsRequest, ListEventsResponse,
    ListIdsRequest, ListIdsResponse, ListQuarantinedRequest, ListQuarantinedResponse, ListRefusalsRequest,
    ListRefusalsResponse, ListRelaysRequest, ListRelaysResponse, ListUnmatchedRequest, ListUnmatchedResponse,
    WatchDeliveriesRequest, WatchDeliveriesResponse, status_service_server::StatusService,
};
use tokio::{sync::watch::Receiver, time::Instant};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The longest name of a tenant that an error repeats, in characters, and how many tenants it lists.
const LONGEST_NAME: usize = 100;
const MOST_NAMES: usize = 20;

/// The service. Clones share it.
#[derive(Clone)]
pub(crate) struct StatusServer {
    cluster: Cluster,
    config_status: Receiver<Arc<ConfigStatus>>,
    refusals: Refusals,
    /// Ends the watches, for which the server would wait.
    stop: CancellationToken,
}

impl StatusServer {
    pub(super) fn new(
        cluster: Cluster,
        config_status: Receiver<Arc<ConfigStatus>>,
        refusals: Refusals,
        stop: CancellationToken,
    ) -> Self {
        Self { cluster, config_status, refusals, stop }
    }
}

/// The merged sums of all relays, each for its tenants. If two relays have the same tenant, while a partition moves, the first
/// one counts.
fn merged(sums: impl IntoIterator<Item = GetSummaryResponse>) -> GetSummaryResponse {
    let (mut routes, mut tenants, mut view_behind) = (BTreeMap::new(), BTreeMap::new(), 0);
    for sum in sums {
        for route in sum.routes {
            routes.entry((route.tenant.clone(), route.route.clone())).or_insert(route);
        }
        for tenant in sum.tenants {
            tenants.entry(tenant.tenant.clone()).or_insert(tenant);
        }
        view_behind = sum.view_behind.max(view_behind);
    }
    let (routes, tenants) = (routes.into_values().collect(), tenants.into_values().collect());
    GetSummaryResponse { routes, tenants, view_behind, ..GetSummaryResponse::default() }
}

/// The error for an unknown tenant, with the names of the others.
fn no_such(tenant: &str, config: &Config, caller: &Caller) -> String {
    let name: String = tenant.chars().take(LONGEST_NAME).collect();
    let names: Vec<&str> =
        config.tenants.keys().map(String::as_str).filter(|name| caller.sees(name)).take(MOST_NAMES).collect();
    let more = if config.tenants.len() > MOST_NAMES { ", …" } else { "" };
    format!("there is no tenant {name}; there is: {}{more}", names.join(", "))
}

#[tonic::async_trait]
impl StatusService for StatusServer {
    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let local = self.cluster.local();
        let own = local.event(&caller, request.clone());
        let found = self.cluster.find(&caller, ClusterMethod::GetEvent, &request, own).await?;
        let mut answer = found.found.unwrap_or_default();
        if request.include_payload
            && let Some(event) = &mut answer.event
        {
            let stored = local.bus.event_at(found.event_seq).await.map_err(Error::from)?;
            event.payload = stored.map(|stored| stored.payload.clone()).unwrap_or_default();
        }
        Ok(Response::new(answer))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        list!(self.cluster, request, ListEventsResponse { events })
    }

    async fn list_unmatched(
        &self,
        request: Request<ListUnmatchedRequest>,
    ) -> Result<Response<ListUnmatchedResponse>, Status> {
        list!(self.cluster, request, ListUnmatchedResponse { events })
    }

    async fn get_delivery(
        &self,
        request: Request<GetDeliveryRequest>,
    ) -> Result<Response<GetDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let own = self.cluster.local().delivery(&caller, request.clone());
        let found = self.cluster.find(&caller, ClusterMethod::GetDelivery, &request, own).await?;
        Ok(Response::new(found))
    }

    async fn get_evidence(
        &self,
        request: Request<GetEvidenceRequest>,
    ) -> Result<Response<GetEvidenceResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(evidence::of_all(&self.cluster, &caller, request.into_inner()).await?))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        list!(self.cluster, request, ListDeliveriesResponse { deliveries })
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
        let request = request.into_inner();
        let tenant = caller.narrow(&request.tenant)?;
        let method = ClusterMethod::GetSummary;
        let own = self.cluster.local().summary(&caller, request.clone());
        let all = self.cluster.gather(&caller, method, &request, tenant.as_deref(), own).await?;
        let sums = merged([all.own?].into_iter().chain(all.others));
        let incomplete = !all.missing.is_empty();
        if let Some(tenant) =
            tenant.filter(|_| !incomplete && sums.tenants.is_empty() && sums.routes.is_empty())
        {
            let config = self.cluster.local().config();
            if !config.tenants.contains_key(&tenant) {
                return Err(Error::NoSuchTenant(no_such(&tenant, &config, &caller)).into());
            }
        }
        Ok(Response::new(GetSummaryResponse {
            // It names other tenants, too.
            configuration: caller
                .sees("")
                .then(|| configuration::configuration(&self.config_status.borrow())),
            incomplete,
            ..sums
        }))
    }

    async fn get_series(
        &self,
        request: Request<GetSeriesRequest>,
    ) -> Result<Response<GetSeriesResponse>, Status> {
        let caller = caller(&request)?;
        let local = self.cluster.local();
        let request = series::with_times(request.into_inner(), local.clock.now());
        let tenant = caller.narrow(&request.tenant)?;
        let own = local.series(&caller, request.clone());
        let method = ClusterMethod::GetSeries;
        let all = self.cluster.gather(&caller, method, &request, tenant.as_deref(), own).await?;
        let series = series::merged([all.own?].into_iter().chain(all.others))?;
        let incomplete = !all.missing.is_empty();
        if let Some(tenant) = tenant.filter(|_| !incomplete && series.is_empty()) {
            series::check_exists(&tenant, &request.route, &local.config(), &caller)?;
        }
        Ok(Response::new(GetSeriesResponse { series, incomplete, view_behind: all.behind }))
    }

    async fn list_quarantined(
        &self,
        request: Request<ListQuarantinedRequest>,
    ) -> Result<Response<ListQuarantinedResponse>, Status> {
        let caller = caller(&request)?;
        let listed = self.cluster.list(&caller, request.into_inner(), 0).await?;
        Ok(Response::new(ListQuarantinedResponse {
            callbacks: listed.items,
            next_page_token: listed.next_page_token,
            total: listed.total,
            incomplete: listed.incomplete,
        }))
    }

    async fn list_refusals(
        &self,
        request: Request<ListRefusalsRequest>,
    ) -> Result<Response<ListRefusalsResponse>, Status> {
        let caller = caller(&request)?;
        let tenant = caller.narrow(&request.into_inner().tenant)?;
        let is_listed = |of: &str| caller.sees(of) && allows(tenant.as_deref(), of);
        let refusals = self.refusals.list(Instant::now(), is_listed);
        Ok(Response::new(ListRefusalsResponse { refusals }))
    }

    async fn list_relays(
        &self,
        request: Request<ListRelaysRequest>,
    ) -> Result<Response<ListRelaysResponse>, Status> {
        caller(&request)?;
        Ok(Response::new(self.cluster.relays()))
    }

    async fn list_ids(&self, request: Request<ListIdsRequest>) -> Result<Response<ListIdsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let tenant = caller.narrow(&request.tenant)?;
        let own = self.cluster.local().ids(&caller, request.clone());
        let method = ClusterMethod::ListIds;
        let all = self.cluster.gather(&caller, method, &request, tenant.as_deref(), own).await?;
        let found = ids::merged(&request, [all.own?].into_iter().chain(all.others));
        Ok(Response::new(ListIdsResponse { incomplete: !all.missing.is_empty(), ..found }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{RouteSummary, TenantSummary};

    #[test]
    fn the_sums_of_all_relays_stand_by_tenant_and_route() {
        let sums = |backlog, names: &[(&str, &str)], view_behind| GetSummaryResponse {
            routes: names
                .iter()
                .map(|(tenant, route)| RouteSummary {
                    tenant: (*tenant).into(),
                    route: (*route).into(),
                    backlog,
                    ..RouteSummary::default()
                })
                .collect(),
            tenants: names
                .iter()
                .map(|(tenant, _)| TenantSummary { tenant: (*tenant).into(), ..TenantSummary::default() })
                .collect(),
            view_behind,
            ..GetSummaryResponse::default()
        };
        let own = sums(1, &[("b", "x"), ("d", "x")], 2);
        let other = sums(2, &[("a", "y"), ("a", "z"), ("b", "x")], 9);
        let all = merged([own, other]);
        let routes: Vec<_> =
            all.routes.iter().map(|it| (it.tenant.as_str(), it.route.as_str(), it.backlog)).collect();
        assert_eq!(routes, [("a", "y", 2), ("a", "z", 2), ("b", "x", 1), ("d", "x", 1)]);
        let tenants: Vec<_> = all.tenants.iter().map(|it| it.tenant.as_str()).collect();
        assert_eq!((tenants, all.view_behind), (vec!["a", "b", "d"], 9));
    }
}
