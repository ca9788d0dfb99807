//! The answer of `talaria explain`: why an event arrived or did not, and the next step of each delivery.
//!
//! The journal has the plan from when the event came. Whether a route would take the event now is decided again, as
//! [`crate::decisions::plan`] does, by the current configuration. If the two differ, the configuration was changed since, and
//! the answer tells so.

use crate::{
    decisions::retry::{is_too_old, too_old},
    decisions::route_block::RouteBlock,
    decisions::run::overdue,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use talaria_core::{
    config::{Route, RouteKind, Tenant, Wanted},
    json::Value,
};
use talaria_proto::{
    time::{duration_to_proto, from_proto, to_proto},
    v1::{
        Attempt, Delivery, DeliveryState, Event, Explanation, RouteExplanation, RouteMatch, Run, RunOutcome,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct ExplainInput<'a> {
    /// From the journal, with texts that may be shortened.
    pub event: Event,
    /// Not shortened.
    pub event_type: &'a str,
    /// `None` if it is not kept any more.
    pub payload: Option<&'a Value>,
    /// `None` if it is not configured any more.
    pub tenant: Option<&'a Tenant>,
    /// The planned deliveries with their attempts.
    pub planned: Vec<(Delivery, Vec<Attempt>)>,
    /// The blocks of the tenant's routes, by route name.
    pub blocks: &'a BTreeMap<String, RouteBlock>,
    /// The number of callbacks for the event with another body.
    pub conflicts: usize,
    /// The only route that gets it, if its job names one.
    pub only: Option<&'a str>,
}

pub(crate) fn explain(known: ExplainInput<'_>, now: Timestamp) -> Explanation {
    let summary = summary(&known.planned);
    let mut planned: BTreeMap<String, (Delivery, Vec<Attempt>)> =
        known.planned.into_iter().map(|planned| (planned.0.route.clone(), planned)).collect();
    let configured = known.tenant.map_or(Vec::new(), |tenant| tenant.routes.keys().cloned().collect());
    let names: BTreeSet<String> = configured.into_iter().chain(planned.keys().cloned()).collect();
    let mut routes: Vec<RouteExplanation> = names
        .into_iter()
        .map(|name| {
            let route = known.tenant.and_then(|tenant| tenant.routes.get(&name)).map(AsRef::as_ref);
            let (matches, why) = match known.only.filter(|only| *only != name) {
                Some(only) => (RouteMatch::No, format!("its job was submitted for the route {only} alone")),
                None => wanted(route, known.tenant.is_some(), known.event_type, known.payload),
            };
            let (mut delivery, attempts) = planned.remove(&name).unzip();
            if let Some(delivery) = &mut delivery {
                delivery.run_overdue = overdue(delivery, route, now).map(duration_to_proto);
            }
            let block = known.blocks.get(&name);
            let (next, next_at) = match &delivery {
                Some(delivery) => next(delivery, route, block, now),
                None if matches == RouteMatch::Yes => {
                    let hand_over =
                        format!("`talaria replay {} --route {name}` hands it over", known.event.id);
                    (format!("nothing by itself: an event is planned once, when it comes; {hand_over}"), None)
                }
                None => (String::new(), None),
            };
            RouteExplanation {
                matches: matches.into(),
                why,
                difference: difference(delivery.as_ref(), matches).to_owned(),
                delivery,
                attempts: attempts.unwrap_or_default(),
                held_because: block.map(RouteBlock::because).unwrap_or_default(),
                held_until: block.and_then(RouteBlock::until).map(to_proto),
                next,
                next_at: next_at.map(to_proto),
                route: name,
            }
        })
        .collect();
    // Routes that took the event or would take it come first.
    routes.sort_by_key(|route| route.delivery.is_none() && route.matches() != RouteMatch::Yes);
    Explanation {
        routes,
        summary,
        payload_kept: known.payload.is_some(),
        conflicts: u32::try_from(known.conflicts).unwrap_or(u32::MAX),
        event: Some(known.event),
    }
}

fn summary(planned: &[(Delivery, Vec<Attempt>)]) -> String {
    let mut counts = BTreeMap::<DeliveryState, usize>::new();
    for (delivery, _) in planned {
        *counts.entry(delivery.state()).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.into_iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
    match planned.len() {
        0 => "no route took it".to_owned(),
        1 => format!("1 route took it: {}", counts.join(", ")),
        n => format!("{n} routes took it: {}", counts.join(", ")),
    }
}

/// Whether a route takes the event now, and why.
fn wanted(
    route: Option<&Route>,
    has_tenant: bool,
    event_type: &str,
    payload: Option<&Value>,
) -> (RouteMatch, String) {
    let Some(route) = route else {
        let kind = if has_tenant { "route" } else { "tenant" };
        return (RouteMatch::NotConfigured, format!("the configuration has no such {kind}"));
    };
    match route.explain(event_type, payload) {
        Wanted::Yes(why) => (RouteMatch::Yes, why),
        Wanted::No(why) => (RouteMatch::No, why),
        Wanted::Unknown(why) => (RouteMatch::Unknown, why),
    }
}

/// The difference between the current configuration and the plan.
fn difference(planned: Option<&Delivery>, matches: RouteMatch) -> &'static str {
    match (planned.is_some(), matches) {
        (true, RouteMatch::NotConfigured) => "it took the event when that came, and was removed since",
        (true, RouteMatch::No) => "it took the event when that came, and was changed since",
        (false, RouteMatch::Yes) => "it did not take the event when that came: it was added or changed since",
        _ => "",
    }
}

/// The next step of a delivery, and its time.
fn next(
    delivery: &Delivery,
    route: Option<&Route>,
    block: Option<&RouteBlock>,
    now: Timestamp,
) -> (String, Option<Timestamp>) {
    let replay = format!("replay it with `talaria replay {}`", delivery.id);
    let next = match delivery.state() {
        DeliveryState::Waiting => {
            let at = from_proto(delivery.next_attempt_at.as_ref());
            let next = waiting(delivery, route, block, at, now);
            return match block {
                // The time is unknown for a pause without an end.
                Some(block) => (next, block.until().map(|until| until.max(at))),
                None => (next, Some(at)),
            };
        }
        DeliveryState::Delivered if delivery.current_run().is_some() || delivery.run_overdue.is_some() => {
            after_run(delivery, &replay)
        }
        DeliveryState::Delivered if route.is_some_and(|route| route.kind == RouteKind::Webhook) => {
            "nothing more: the receiver has it".to_owned()
        }
        DeliveryState::Delivered => "nothing more: Hermes has it".to_owned(),
        DeliveryState::Ignored => {
            format!(
                "nothing more: Hermes declined it; if it should not have, change the route there and {replay}"
            )
        }
        DeliveryState::Parked => format!("nothing by itself: once the cause is mended, {replay}"),
        DeliveryState::Cancelled => "nothing more: it was called off".to_owned(),
        DeliveryState::Ambiguous => {
            format!("nothing by itself: look whether it arrived at the target, and if it did not, {replay}")
        }
        // Written by a newer version.
        DeliveryState::Unspecified => String::new(),
    };
    (next, None)
}

/// The next step after a run, or without one that was expected.
fn after_run(delivery: &Delivery, replay: &str) -> String {
    match delivery.current_run().map(Run::outcome) {
        Some(RunOutcome::Finished) => {
            "nothing more: Hermes has it, and the agent's run has finished".to_owned()
        }
        Some(_) => format!("nothing by itself: once the cause is mended, {replay}"),
        None => {
            format!("nothing by itself: look at Hermes whether the agent ran, and if it did not, {replay}")
        }
    }
}

/// The next step of a delivery that is due `at` this time.
fn waiting(
    delivery: &Delivery,
    route: Option<&Route>,
    block: Option<&RouteBlock>,
    at: Timestamp,
    now: Timestamp,
) -> String {
    let Some(route) = route else {
        return "it is parked, because the route is not configured any more; put it back before, and this goes on"
            .to_owned();
    };
    let number = delivery.attempts + 1;
    if let Some(block @ (RouteBlock::Paused(_) | RouteBlock::Down(_))) = block {
        return block.next(number, now);
    }
    let received_at = from_proto(delivery.received_at.as_ref());
    let was_too_old = is_too_old(&route.retry, received_at, from_proto(delivery.updated_at.as_ref()));
    // A delivery that went on past its age was replayed or resumed, and its age counts from then.
    if is_too_old(&route.retry, received_at, at.max(now)) && !was_too_old {
        return format!("it is parked: {}", too_old(&route.retry));
    }
    if let Some(block) = block {
        return block.next(number, now);
    }
    let schedule = route.retry.schedule.len();
    let used = usize::try_from(delivery.counted_attempts).unwrap_or(usize::MAX);
    let rest = match used {
        // The schedule is used up.
        used if used >= schedule => "; if it fails, the delivery is parked".to_owned(),
        0 => String::new(),
        used => format!("; {used} of {} that count are used up", schedule + 1),
    };
    if at <= now {
        let limit = route.in_flight;
        return format!(
            "attempt {number}, which is under way or begins once fewer than {limit} attempts of the route are{rest}"
        );
    }
    format!("attempt {number} ({}){rest}", delivery.reason)
}

#[cfg(test)]
mod tests;
