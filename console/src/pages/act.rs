//! What buttons do.

use super::{deliveries, form::Fields, frame::Page, parts, visitor::Visitor};
use crate::fault::Fault;
use http::StatusCode;
use jiff::Timestamp;
use maud::html;
use talaria_core::{
    short_id::short,
    time::{for_people, parse_duration},
};
use talaria_proto::{
    time::{duration_to_proto, from_proto, to_proto},
    v1::{
        CancelDeliveryRequest, CancelReplayJobRequest, PauseRequest, ProbeRouteRequest,
        ReplayDeliveriesRequest, ReplayDeliveryRequest, ResumeRequest, StopJobRequest,
    },
};
use tonic::Code;

/// Who asks, beside the token's name.
const REQUESTED_BY: &str = "console";

/// The most deliveries that are selected one by one: a page of the list.
const MOST_SELECTED: usize = 100;

/// What came of a button.
pub(super) enum Outcome {
    /// A page that asks whether it is meant.
    Confirm(Page),
    /// It is done, and the page to go back to says so.
    Done { back: String, note: String },
}

/// Does what a button says.
pub(super) async fn act(visitor: &Visitor, path: &str, fields: &Fields) -> Result<Outcome, Fault> {
    let text = |name: &str| fields.text(name).to_owned();
    let (requested_by, reason) = (REQUESTED_BY.to_owned(), text("reason"));
    let note = match path {
        "/act/pause" => {
            let duration = fields.get("for").map(|text| {
                parse_duration(text)
                    .ok_or_else(|| Fault::invalid(format!("{text} is no duration, such as 30m or 2h")))
            });
            let duration = duration.transpose()?.map(duration_to_proto);
            let (tenant, route) = (text("tenant"), text("route"));
            let request = PauseRequest { tenant, route, requested_by, reason, duration };
            let pause = visitor.control().pause(request).await?.into_inner().pause.unwrap_or_default();
            let until =
                pause.until.as_ref().map(|until| format!(" until {}", for_people(from_proto(Some(until)))));
            format!("{} is paused{}.", name(&pause.tenant, &pause.route), until.unwrap_or_default())
        }
        "/act/resume" => {
            let (tenant, route) = (text("tenant"), text("route"));
            let named = name(&tenant, &route);
            let request = ResumeRequest { tenant, route, requested_by, reason };
            let answer = visitor.control().resume(request).await?.into_inner();
            match (answer.ended, answer.remaining) {
                (_, Some(_)) => format!("{named} is still held by the pause of its whole tenant."),
                (Some(_), None) => format!("{named} is not paused any more."),
                (None, None) => format!("{named} was not paused."),
            }
        }
        "/act/probe" => {
            let (tenant, route) = (text("tenant"), text("route"));
            let named = name(&tenant, &route);
            let request = ProbeRouteRequest { tenant, route, requested_by, reason };
            let answer = visitor.control().probe_route(request).await?.into_inner();
            if answer.already_probing {
                format!("{named} is probed already.")
            } else {
                format!("A delivery probes {named}.")
            }
        }
        "/act/cancel" => {
            let delivery_id = fields.needed("delivery")?.to_owned();
            let named = short(&delivery_id);
            visitor
                .control()
                .cancel_delivery(CancelDeliveryRequest { delivery_id, requested_by, reason })
                .await?;
            format!("{named} is cancelled.")
        }
        "/act/replay" => {
            let request = ReplayDeliveryRequest {
                delivery_id: text("delivery"),
                event_id: text("event"),
                route: text("route"),
                requested_by,
                reason,
                generation: generation(fields.get("generation"))?,
            };
            let delivery = visitor.control().replay_delivery(request).await?.into_inner().delivery;
            let delivery = delivery.unwrap_or_default();
            format!("{} is sent again to {}.", short(&delivery.id), name(&delivery.tenant, &delivery.route))
        }
        "/act/replay-selected" => replay_selected(visitor, fields, &reason).await?,
        "/act/replay-all" => return replay_all(visitor, fields, reason).await,
        "/act/cancel-replay" => {
            let job_id = fields.needed("replay")?.to_owned();
            let named = short(&job_id);
            let request = CancelReplayJobRequest { job_id, requested_by, reason };
            let answer = visitor.control().cancel_replay_job(request).await?.into_inner();
            let rest = if answer.incomplete {
                ", but a part of it whose partition has no owner goes on: cancel it again"
            } else {
                ""
            };
            format!("The replay {named} is cancelled{rest}.")
        }
        "/act/stop-job" => {
            let job_id = fields.needed("job")?.to_owned();
            let named = short(&job_id);
            let request = StopJobRequest { job_id, tenant: text("tenant"), requested_by, reason };
            visitor.jobs().stop_job(request).await?;
            format!("{named} is not waited for any more. OpenRouter goes on with it, and its cost stays.")
        }
        _ => {
            return Err(
                Fault::http(StatusCode::NOT_FOUND, None, "there is no such action").with(Code::NotFound)
            );
        }
    };
    Ok(Outcome::Done { back: fields.back().into_owned(), note })
}

/// The generation that the page showed, so that a second press of the button sends nothing.
fn generation(shown: Option<&str>) -> Result<Option<u32>, Fault> {
    let parsed =
        shown.map(|shown| shown.parse().map_err(|_| Fault::invalid(format!("{shown} is no generation"))));
    parsed.transpose()
}

/// The selected ones, one by one, so that one that cannot be replayed does not stop the others.
async fn replay_selected(visitor: &Visitor, fields: &Fields, reason: &str) -> Result<String, Fault> {
    let selected: Vec<&str> = fields.all("delivery").collect();
    if selected.is_empty() {
        return Err(Fault::invalid("no delivery is selected"));
    }
    if selected.len() > MOST_SELECTED {
        return Err(Fault::invalid(format!("at most {MOST_SELECTED} deliveries are selected at once")));
    }
    let (mut replayed, mut refused) = (0, Vec::new());
    for id in selected {
        let (id, shown) = id.split_once('@').map_or((id, None), |(id, shown)| (id, Some(shown)));
        let request = ReplayDeliveryRequest {
            delivery_id: id.to_owned(),
            generation: generation(shown)?,
            requested_by: REQUESTED_BY.to_owned(),
            reason: reason.to_owned(),
            ..ReplayDeliveryRequest::default()
        };
        match visitor.control().replay_delivery(request).await {
            Ok(_) => replayed += 1,
            Err(status) => refused.push(format!("{}: {}", short(id), status.message())),
        }
    }
    let noun = if replayed == 1 { "delivery is" } else { "deliveries are" };
    let refused =
        if refused.is_empty() { String::new() } else { format!(" Not replayed: {}", refused.join("; ")) };
    Ok(format!("{replayed} {noun} sent again.{refused}"))
}

/// All that match: counted first, and begun when that is confirmed.
async fn replay_all(visitor: &Visitor, fields: &Fields, reason: String) -> Result<Outcome, Fault> {
    let confirmed = fields.get("confirmed").is_some();
    let rate_per_minute = match fields.get("rate") {
        Some(rate) => {
            rate.parse().map_err(|_| Fault::invalid(format!("{rate} is no number of deliveries a minute")))?
        }
        None => 0,
    };
    let mut filter = deliveries::replay_filter(fields)?;
    let no_state = filter.states.is_empty();
    // Once the form is used, another click begins nothing.
    if let Some(once) = fields.get("confirmed")
        && visitor.controls()
        && visitor.once.take(once).is_none()
    {
        return Err(Fault::invalid("this was confirmed already, or too long ago"));
    }
    // What is confirmed is what was counted.
    filter.until.get_or_insert_with(|| to_proto(Timestamp::now()));
    let (since, until) = (moment(filter.since.as_ref()), moment(filter.until.as_ref()));
    let request = ReplayDeliveriesRequest {
        filter: Some(filter),
        requested_by: REQUESTED_BY.to_owned(),
        reason,
        rate_per_minute,
        dry_run: !confirmed,
        all: true,
    };
    let answer = visitor.control().replay_deliveries(request).await?.into_inner();
    if confirmed {
        let note = match answer.job {
            Some(job) => {
                format!("The replay {} of {} deliveries has begun.", short(&job.id), answer.replayable)
            }
            None => "Nothing matches, so nothing is replayed.".to_owned(),
        };
        return Ok(Outcome::Done { back: "/replays".to_owned(), note });
    }
    let mut hidden = fields.kept(deliveries::FILTERS);
    hidden.retain(|(name, _)| !matches!(*name, "since" | "until"));
    let times = [("since", since.as_str()), ("until", until.as_str())];
    hidden.extend(times.into_iter().filter(|(_, time)| !time.is_empty()));
    let once = visitor.once.put(String::new());
    let main = html! {
        h1 { "Replay all that match" }
        (parts::incomplete(answer.incomplete))
        dl.pairs {
            dt { "Match" } dd { (parts::count(answer.matching)) }
            dt { "Can be replayed" } dd { strong { (parts::count(answer.replayable)) } }
            @if answer.event_not_kept > 0 { dt { "Event not kept any more" } dd { (parts::count(answer.event_not_kept)) } }
            @if answer.route_not_configured > 0 { dt { "Route not configured" } dd { (parts::count(answer.route_not_configured)) } }
            @if no_state { dt { "state" } dd { "parked, because none is chosen" } }
            @for (name, value) in &hidden { dt { (name) } dd { (parts::text(value)) } }
        }
        @if answer.replayable > 0 {
            form.stack method="post" action="/act/replay-all" {
                @for (name, value) in &hidden { input type="hidden" name=(name) value=(value); }
                input type="hidden" name="confirmed" value=(once);
                label for="rate" { "At most so many a minute" }
                input id="rate" name="rate" type="number" min="1" max="60000" value="600";
                label for="reason" { "Why (recorded with the action)" }
                input id="reason" name="reason" maxlength="500";
                div.row {
                    button.main { "Replay " (parts::count(answer.replayable)) }
                    a href=(fields.back()) { "Back" }
                }
            }
        } @else {
            p { "Nothing can be replayed. " a href=(fields.back()) { "Back" } }
        }
    };
    Ok(Outcome::Confirm(Page::new("Replay", "/deliveries", main)))
}

/// A time as a field of a form.
fn moment(time: Option<&prost_types::Timestamp>) -> String {
    time.map(|time| from_proto(Some(time)).to_string()).unwrap_or_default()
}

/// "acme/video", or "acme" for all of it.
fn name(tenant: &str, route: &str) -> String {
    if route.is_empty() { tenant.to_owned() } else { format!("{tenant}/{route}") }
}
