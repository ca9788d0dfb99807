//! The effect that a plan would have now.

use super::{Plan, ours};
use crate::{
    client,
    commands::mcp::{Server, deliveries::LIMIT, refused::Refused},
    print::{
        self,
        route::{block, is_shut, paused},
        state_name,
    },
};
use talaria_proto::v1::{
    Delivery, DeliveryFilter, DeliveryState, ExplainRequest, GetDeliveryRequest, GetSummaryRequest,
    GetSummaryResponse, ListDeliveriesRequest, PauseRequest, ProbeRouteRequest, ReplayDeliveriesRequest,
    ReplayDeliveryRequest, ResumeRequest, RouteMatch, RouteSummary, explain_request::Subject,
};

/// The effect that a plan would have now.
pub(super) struct Outlook {
    /// In one sentence.
    pub effect: String,
    /// Deliveries that it concerns.
    pub targets: Vec<Delivery>,
    /// More about it, which may be in the words of others.
    pub note: String,
    /// Must be the same when it is carried out.
    pub bound: String,
}

/// Looks at everything that the plan is about.
pub(super) async fn outlook(server: &Server, plan: &Plan) -> Result<Outlook, Refused> {
    match plan {
        Plan::Replay(request) if request.event_id.is_empty() => {
            let delivery = delivery(server, &request.delivery_id).await?;
            let effect = format!(
                "replay 1 delivery, which is {}. Hermes gets it under a new id, and runs the agent again even if it ran before.",
                state_name(delivery.state())
            );
            Ok(Outlook { effect, bound: version(&delivery), note: String::new(), targets: vec![delivery] })
        }
        Plan::Replay(request) => event(server, request).await,
        Plan::ReplayMany(request) => matching(server, request).await,
        Plan::Cancel(request) => {
            let delivery = delivery(server, &request.delivery_id).await?;
            if delivery.state() != DeliveryState::Waiting {
                return Err(ours(format!(
                    "Nothing can be cancelled: the delivery is {}, and only a waiting one can be cancelled.",
                    state_name(delivery.state())
                )));
            }
            let effect =
                "cancel 1 waiting delivery. It is not sent any more, unless it is replayed.".to_owned();
            Ok(Outlook { effect, bound: version(&delivery), note: String::new(), targets: vec![delivery] })
        }
        Plan::Pause(request) => pausing(server, request).await,
        Plan::Resume(request) => resuming(server, request).await,
        Plan::Probe(request) => probing(server, request).await,
    }
}

async fn delivery(server: &Server, id: &str) -> Result<Delivery, Refused> {
    let request = GetDeliveryRequest { delivery_id: id.to_owned() };
    let answer = client::ask(server.relay.status().await?.get_delivery(request)).await?;
    Ok(answer.delivery.unwrap_or_default())
}

/// Differs once anything has happened to the delivery.
fn version(delivery: &Delivery) -> String {
    format!("{} {:?} {} {}", delivery.id, delivery.state(), delivery.generation, delivery.attempts)
}

/// An event that is sent to one route.
async fn event(server: &Server, request: &ReplayDeliveryRequest) -> Result<Outlook, Refused> {
    let subject = Some(Subject::EventId(request.event_id.clone()));
    let mut relay = server.relay.control().await?;
    let found = client::ask(relay.explain(ExplainRequest { subject, tenant: String::new() })).await?;
    let explanation = found.explanations.into_iter().next().unwrap_or_default();
    let route = explanation.routes.into_iter().find(|route| route.route == request.route);
    let route =
        route.ok_or_else(|| ours("the event's tenant has no such route: why of the event lists them."))?;
    if route.matches() != RouteMatch::Yes {
        let advice =
            "the route has to take the event by the present configuration, which the operator can change.";
        return Err(Refused::Relays { words: route.why, advice: advice.into() });
    }
    let bound = route.delivery.as_ref().map_or("none".to_owned(), version);
    let effect = match &route.delivery {
        None => "send 1 event to a route that has not got it. Hermes runs the agent for it.".to_owned(),
        Some(delivery) => format!(
            "replay 1 delivery, which is {}. Hermes runs the agent again even if it ran before.",
            state_name(delivery.state())
        ),
    };
    Ok(Outlook { effect, targets: route.delivery.into_iter().collect(), note: String::new(), bound })
}

/// All deliveries that match a filter.
async fn matching(server: &Server, request: &ReplayDeliveriesRequest) -> Result<Outlook, Refused> {
    let mut relay = server.relay.control().await?;
    let counted = ReplayDeliveriesRequest { dry_run: true, ..request.clone() };
    let counts = client::ask(relay.replay_deliveries(counted)).await?;
    if counts.incomplete {
        return Err(ours(
            "Nothing can be planned: a relay does not answer at the moment. Call again in a minute.",
        ));
    }
    if counts.replayable == 0 {
        return Err(ours(format!(
            "Nothing can be replayed: {} deliveries match; of {} the event is not kept any more, of {} the route is not configured.",
            counts.matching, counts.event_not_kept, counts.route_not_configured
        )));
    }
    let wanted = request.filter.clone().unwrap_or_default();
    // As the relay takes them where none is given.
    let states = match (wanted.states.is_empty(), wanted.runs.is_empty()) {
        (false, _) => wanted.states,
        (true, true) => vec![DeliveryState::Parked.into()],
        (true, false) => {
            DeliveryState::ALL.into_iter().filter(|state| state.is_final()).map(i32::from).collect()
        }
    };
    let filter = DeliveryFilter {
        tenant: wanted.tenant,
        route: wanted.route,
        job_id: wanted.job_id,
        states,
        since: wanted.since,
        until: wanted.until,
        event_type: wanted.event_type,
        model: wanted.model,
        outcomes: wanted.outcomes,
        http_statuses: wanted.http_statuses,
        reason: wanted.reason,
        runs: wanted.runs,
    };
    let list = ListDeliveriesRequest { filter: Some(filter), page_size: LIMIT, page_token: String::new() };
    let list = client::ask(server.relay.status().await?.list_deliveries(list)).await?;
    let cannot = counts.matching - counts.replayable.min(counts.matching);
    let effect = format!(
        "replay {} of {} matching deliveries, at most 10 each second; {cannot} cannot be replayed. Hermes gets each under a new id, \
         and runs the agent again even if it ran before. The newest are listed below, at most {LIMIT}.",
        counts.replayable, counts.matching
    );
    let bound = format!("{} {}", counts.matching, counts.replayable);
    Ok(Outlook { effect, targets: list.deliveries, note: String::new(), bound })
}

/// The sums of a tenant, and those of its routes that are meant.
async fn summary(
    server: &Server,
    tenant: &str,
    route: &str,
) -> Result<(GetSummaryResponse, Vec<RouteSummary>), Refused> {
    let request = GetSummaryRequest { tenant: tenant.to_owned() };
    let summary = client::ask(server.relay.status().await?.get_summary(request)).await?;
    if summary.incomplete {
        return Err(ours(
            "Nothing can be planned: a relay does not answer at the moment. Call again in a minute.",
        ));
    }
    let is_meant = |it: &&RouteSummary| it.tenant == tenant && (route.is_empty() || it.route == route);
    let routes = summary.routes.iter().filter(is_meant).cloned().collect();
    Ok((summary, routes))
}

/// The pause of exactly this route or tenant; empty without one.
fn pause_of(summary: &GetSummaryResponse, routes: &[RouteSummary], tenant: &str, route: &str) -> String {
    let own = if route.is_empty() {
        summary.tenants.iter().find(|it| it.tenant == tenant).and_then(|it| it.pause.as_ref())
    } else {
        // The tenant's pause hides that of a route.
        routes.iter().filter_map(|it| it.pause.as_ref()).find(|pause| pause.route == route)
    };
    own.map_or(String::new(), paused)
}

fn waiting(routes: &[RouteSummary]) -> u64 {
    routes.iter().map(|route| route.backlog).sum()
}

async fn pausing(server: &Server, request: &PauseRequest) -> Result<Outlook, Refused> {
    let (summary, routes) = summary(server, &request.tenant, &request.route).await?;
    let what = if request.route.is_empty() {
        format!("pause a tenant with {}", print::counted(routes.len(), "known route"))
    } else {
        "pause 1 route".to_owned()
    };
    let time = match &request.duration {
        Some(time) => format!("for {} s", time.seconds),
        None => "until it is resumed".to_owned(),
    };
    let effect = format!(
        "{what}, {time}. Nothing is sent meanwhile; callbacks are taken, and their deliveries wait, {} now.",
        waiting(&routes)
    );
    let note = pause_of(&summary, &routes, &request.tenant, &request.route);
    Ok(Outlook { effect, targets: Vec::new(), bound: note.clone(), note })
}

async fn resuming(server: &Server, request: &ResumeRequest) -> Result<Outlook, Refused> {
    let (summary, routes) = summary(server, &request.tenant, &request.route).await?;
    let note = pause_of(&summary, &routes, &request.tenant, &request.route);
    let is_hidden = !request.route.is_empty() && !pause_of(&summary, &routes, &request.tenant, "").is_empty();
    if note.is_empty() && !is_hidden {
        return Err(ours(
            "Nothing to resume: the target is not paused. A tenant and its routes are paused independently.",
        ));
    }
    let effect =
        format!("end a pause. Deliveries that wait, {} now, go out at the route's pace.", waiting(&routes));
    Ok(Outlook { effect, targets: Vec::new(), bound: note.clone(), note })
}

async fn probing(server: &Server, request: &ProbeRouteRequest) -> Result<Outlook, Refused> {
    let (_, routes) = summary(server, &request.tenant, &request.route).await?;
    let route = routes.first().filter(|route| is_shut(route));
    let route = route.ok_or_else(|| ours("Nothing to probe: the route is not shut."))?;
    let effect = format!(
        "probe a shut route with 1 of {} waiting deliveries. Hermes' answer opens it or not.",
        route.backlog
    );
    Ok(Outlook { effect, targets: Vec::new(), note: block(route), bound: route.held_because.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_that_was_tried_again_is_another_version() {
        let one = Delivery { id: "dlv_x".into(), generation: 1, ..Delivery::default() };
        assert_eq!(version(&one), version(&one.clone()));
        assert_ne!(version(&one), version(&Delivery { attempts: 1, ..one.clone() }));
        assert_ne!(version(&one), version(&Delivery { state: DeliveryState::Parked.into(), ..one }));
    }
}
