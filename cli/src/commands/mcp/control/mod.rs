//! The tools that intervene. A call of `plan_…` shows what would happen and gives a code; `confirm` with that code does it.
//!
//! [`outlook`]: a plan is looked at again before it is carried out. If that which it is about has changed in between, nothing is done.

mod outlook;

use super::{
    Server,
    answer::Answer,
    deliveries::{Selection, line},
    plans::LIFE,
    read,
    refused::Refused,
    video::NAME,
};
use crate::{
    args::Target,
    client::{self, ids},
    print::route::paused,
};
use outlook::{Outlook, outlook};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{sync::PoisonError, time::Instant};
use talaria_core::time::{parse_duration, rounded};
use talaria_proto::v1::{
    CancelDeliveryRequest, DeliveryFilter, PauseRequest, ProbeRouteRequest, ReplayDeliveriesRequest,
    ReplayDeliveryRequest, ReplayFilter, ResumeRequest,
};

/// A request that waits for its confirmation.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Replay(ReplayDeliveryRequest),
    ReplayMany(Box<ReplayDeliveriesRequest>),
    Cancel(CancelDeliveryRequest),
    Pause(PauseRequest),
    Resume(ResumeRequest),
    Probe(ProbeRouteRequest),
}

/// A plan as it was shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    plan: Plan,
    /// Must be the same when it is carried out.
    bound: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    delivery: Option<String>,
    event: Option<String>,
    route: Option<String>,
    filter: Option<Selection>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    delivery: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    target: String,
    r#for: Option<String>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfTarget {
    target: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    code: String,
}

fn ours(text: impl Into<String>) -> Refused {
    Refused::Ours(text.into())
}

/// A reason is required here: an operator reads it in the list of actions, and has no agent to ask.
fn reason(text: &str) -> Result<String, Refused> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ours("reason is empty: write why, for the operators who read it later, and call again."));
    }
    Ok(text.to_owned())
}

fn target(text: &str) -> Result<Target, Refused> {
    text.parse::<Target>().map_err(|error| ours(format!("target: {error}. Correct it, and call again.")))
}

fn requested_by() -> String {
    NAME.to_owned()
}

pub(super) async fn replay(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let Replay { delivery, event, route, filter, reason: why } = read(arguments)?;
    let (requested_by, reason) = (requested_by(), reason(&why)?);
    let plan = match (delivery, event, route, filter) {
        (Some(id), None, None, None) => {
            let delivery_id = ids::complete(&mut server.relay.status().await?, &id).await?;
            Plan::Replay(ReplayDeliveryRequest { delivery_id, requested_by, reason, ..Default::default() })
        }
        (None, Some(id), Some(route), None) => {
            let event_id = ids::complete(&mut server.relay.status().await?, &id).await?;
            Plan::Replay(ReplayDeliveryRequest {
                event_id,
                route,
                requested_by,
                reason,
                ..Default::default()
            })
        }
        (None, None, None, Some(filter)) => {
            let filter = many(filter.filter(&server.relay).await?)?;
            Plan::ReplayMany(Box::new(ReplayDeliveriesRequest {
                filter: Some(filter),
                requested_by,
                reason,
                ..Default::default()
            }))
        }
        _ => return Err(ours("write one of: delivery; event and route; filter. Then call again.")),
    };
    show(server, plan).await
}

/// A filter for a replay. One that restricts nothing but states is refused: an agent replays no whole installation.
fn many(filter: DeliveryFilter) -> Result<ReplayFilter, Refused> {
    let filter = ReplayFilter {
        tenant: filter.tenant,
        route: filter.route,
        job_id: filter.job_id,
        event_type: filter.event_type,
        states: filter.states,
        since: filter.since,
        until: filter.until,
        model: filter.model,
        outcomes: filter.outcomes,
        http_statuses: filter.http_statuses,
        reason: filter.reason,
        runs: filter.runs,
    };
    if (ReplayFilter { states: filter.states.clone(), ..ReplayFilter::default() }) == filter {
        return Err(ours(
            "this filter would replay everything: restrict it by more than states, and call again.",
        ));
    }
    Ok(filter)
}

pub(super) async fn cancel(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let Cancel { delivery, reason: why } = read(arguments)?;
    let reason = reason(&why)?;
    let delivery_id = ids::complete(&mut server.relay.status().await?, &delivery).await?;
    show(server, Plan::Cancel(CancelDeliveryRequest { delivery_id, requested_by: requested_by(), reason }))
        .await
}

pub(super) async fn pause(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let Pause { target: named, r#for: time, reason: why } = read(arguments)?;
    let (Target { tenant, route }, reason) = (target(&named)?, reason(&why)?);
    let duration = match time {
        None => None,
        Some(text) => {
            let time = parse_duration(&text).and_then(|time| time.try_into().ok());
            Some(time.ok_or_else(|| {
                ours("for: expected a duration such as 30min or 2h. Correct it, and call again.")
            })?)
        }
    };
    show(server, Plan::Pause(PauseRequest { tenant, route, requested_by: requested_by(), reason, duration }))
        .await
}

pub(super) async fn resume(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let OfTarget { target: named, reason: why } = read(arguments)?;
    let (Target { tenant, route }, reason) = (target(&named)?, reason(&why)?);
    show(server, Plan::Resume(ResumeRequest { tenant, route, requested_by: requested_by(), reason })).await
}

pub(super) async fn probe(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let OfTarget { target: named, reason: why } = read(arguments)?;
    let (Target { tenant, route }, reason) = (target(&named)?, reason(&why)?);
    if route.is_empty() {
        return Err(ours("target: a single route is probed, TENANT/ROUTE. Correct it, and call again."));
    }
    show(server, Plan::Probe(ProbeRouteRequest { tenant, route, requested_by: requested_by(), reason })).await
}

/// Shows the plan, and keeps it under a code.
async fn show(server: &Server, plan: Plan) -> Result<String, Refused> {
    let Outlook { effect, targets, note, bound } = outlook(server, &plan).await?;
    let code = server
        .plans
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .add(Shown { plan, bound }, Instant::now());
    let mut answer = Answer::new();
    let fence = answer.fence();
    answer.add(&format!("Plan: {effect}"));
    if !note.is_empty() {
        answer.add(&format!("Note: {}", fence.text(&note)));
    }
    answer.add(&format!(
        "Nothing was done. After the user has agreed, confirm with code {code} does it. The code is good once, for {}.",
        rounded(LIFE)
    ));
    for delivery in &targets {
        answer.add(&line(delivery, &fence));
    }
    Ok(answer.finish("deliveries lists them."))
}

pub(super) async fn confirm(server: &Server, arguments: Map<String, Value>) -> Result<String, Refused> {
    let Confirm { code } = read(arguments)?;
    let plans = || server.plans.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = plans().take(&code, Instant::now());
    let Shown { plan, bound } = shown.ok_or_else(|| {
        ours("Nothing was done: no plan has this code. It was used, or its time is over. Plan it again, and confirm that code.")
    })?;
    let now = match outlook(server, &plan).await {
        Ok(now) => now,
        Err(refused) => {
            // It can be confirmed once the relay answers.
            plans().put_back(&code, Shown { plan, bound }, Instant::now());
            return Err(refused);
        }
    };
    if now.bound != bound {
        return Err(ours(
            "Nothing was done: it has changed since it was planned. Plan it again, and look at the plan.",
        ));
    }
    carry_out(server, plan).await
}

async fn carry_out(server: &Server, plan: Plan) -> Result<String, Refused> {
    let mut relay = server.relay.control().await?;
    let mut answer = Answer::new();
    let fence = answer.fence();
    let delivery = match plan {
        Plan::Replay(request) => client::change(relay.replay_delivery(request)).await?.delivery,
        Plan::Cancel(request) => client::change(relay.cancel_delivery(request)).await?.delivery,
        Plan::ReplayMany(request) => {
            let done = client::change(relay.replay_deliveries(*request)).await?;
            let job = done.job.map_or("none, because nothing matches any more".to_owned(), |job| job.id);
            answer
                .add(&format!("Done: {} deliveries are being replayed. Replay job: {job}.", done.replayable));
            None
        }
        Plan::Pause(request) => {
            let pause = client::change(relay.pause(request)).await?.pause.unwrap_or_default();
            answer.add(&format!("Done: {}", fence.text(&paused(&pause))));
            None
        }
        Plan::Resume(request) => {
            let done = client::change(relay.resume(request)).await?;
            answer.add(if done.ended.is_some() {
                "Done: the pause has ended."
            } else {
                "Nothing was done: it was not paused."
            });
            if let Some(pause) = done.remaining {
                answer.add(&format!("The tenant is still paused: {}", fence.text(&paused(&pause))));
            }
            None
        }
        Plan::Probe(request) => {
            let done = client::change(relay.probe_route(request)).await?;
            answer.add(if done.already_probing {
                "Nothing was done: the route is being probed already."
            } else {
                "Done: one delivery probes the route. deliveries shows what came of it."
            });
            None
        }
    };
    if let Some(delivery) = delivery {
        answer.add("Done:");
        answer.add(&line(&delivery, &fence));
    }
    Ok(answer.finish(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use talaria_proto::v1::DeliveryState;

    #[test]
    fn a_reason_is_required() {
        assert_eq!(reason(" Hermes moves ").unwrap(), "Hermes moves");
        assert!(reason("  ").unwrap_err().text().contains("reason is empty"));
        let Value::Object(arguments) = json!({"delivery": "dlv_x"}) else { panic!() };
        assert!(read::<Cancel>(arguments).unwrap_err().text().contains("missing field `reason`"));
    }

    #[test]
    fn everything_is_never_replayed_at_once() {
        let parked =
            DeliveryFilter { states: vec![DeliveryState::Parked.into()], ..DeliveryFilter::default() };
        assert!(many(parked.clone()).unwrap_err().text().contains("would replay everything"));
        assert_eq!(many(DeliveryFilter { tenant: "acme".into(), ..parked }).unwrap().tenant, "acme");
    }
}
