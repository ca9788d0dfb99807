//! One delivery: what happened to it, what it waits for, and what would change that.

use super::{frame::Page, parts, visitor::Visitor, waterfall::waterfall};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::{
    time::from_proto,
    v1::{
        Attempt, AttemptOutcome, ControlAction, ControlKind, Delivery, DeliveryState, ExplainRequest,
        Explanation, GetDeliveryRequest, RouteExplanation, Run, explain_request::Subject,
    },
};

pub(super) async fn page(visitor: &Visitor, id: &str) -> Result<Page, Fault> {
    let asked = GetDeliveryRequest { delivery_id: id.to_owned() };
    let answer = visitor.status().get_delivery(asked).await?.into_inner();
    let delivery = answer.delivery.unwrap_or_default();
    let asked = ExplainRequest { subject: Some(Subject::DeliveryId(id.to_owned())), tenant: String::new() };
    // An explanation needs the partition's owner; without one the rest is shown.
    let explained = visitor.control().explain(asked).await;
    let explanation = explained.ok().and_then(|answer| answer.into_inner().explanations.into_iter().next());
    let here = format!("/deliveries/{id}");
    let main = html! {
        h1 { "Delivery " (parts::whole_id(&delivery.id)) }
        div data-live id="delivery" {
            p.headline { (parts::state(delivery.state())) " " (parts::text(&delivery.reason)) }
            (pairs(&delivery, explanation.as_ref()))
            @if let Some(route) = explanation.as_ref().and_then(|explanation| explanation.routes.first()) { (next(route)) }
            @if visitor.controls() { (controls(&delivery, &here)) }
            h2 { "What happened" }
            (timeline(&delivery, &answer.attempts, &answer.actions))
        }
    };
    Ok(Page::new("Delivery", "/deliveries", main))
}

fn pairs(delivery: &Delivery, explanation: Option<&Explanation>) -> Markup {
    let event = explanation.and_then(|explanation| explanation.event.as_ref());
    html! {
        dl.pairs {
            dt { "Route" } dd { a href={ "/routes/" (delivery.tenant) "/" (delivery.route) } { (delivery.tenant) "/" (delivery.route) } }
            dt { "Event" } dd { (parts::id("events", &delivery.event_id)) " " (parts::text(&delivery.event_type)) }
            dt { "Job" } dd { a href=(super::form::url("/search", &[("q", &delivery.job_id)])) { (parts::text(&delivery.job_id)) } }
            @if let Some(model) = event.and_then(|event| event.model.as_deref()) { dt { "Model" } dd { (parts::text(model)) } }
            dt { "Attempts" }
            dd { (delivery.attempts) ", of which " (delivery.counted_attempts) " count against the retry schedule" }
            dt { "Generation" } dd { (delivery.generation) }
            @if let Some(run) = talaria_relay::describe_run_of(delivery) { dt { "Run" } dd { (parts::text(&run)) } }
            @if let Some(run) = &delivery.run { (run_pairs(run)) }
            @if delivery.next_attempt_at.is_some() { dt { "Next attempt" } dd { (parts::time(delivery.next_attempt_at.as_ref())) } }
        }
    }
}

/// The facts of a run that were reported.
fn run_pairs(run: &Run) -> Markup {
    let tokens = run.input_tokens.zip(run.output_tokens);
    html! {
        dt { "Run ended" } dd { (parts::time(run.ended_at.as_ref())) }
        @if !run.session.is_empty() { dt { "Session" } dd { (parts::text(&run.session)) } }
        @if let Some((input, output)) = tokens { dt { "Tokens" } dd { (input) " in, " (output) " out" } }
        @if let Some(calls) = run.calls { dt { "Calls" } dd { (calls) } }
        @if !run.answer.is_empty() { dt { "Answer" } dd { (parts::text(&run.answer)) } }
    }
}

/// What happens next, and what differs from the plan.
fn next(route: &RouteExplanation) -> Markup {
    html! {
        section.next aria-label="What happens next" {
            @if !route.next.is_empty() {
                p { strong { "Next: " } (parts::sentence(&route.next)) @if route.next_at.is_some() { " (" (parts::time(route.next_at.as_ref())) ")" } }
            }
            @if !route.held_because.is_empty() {
                p {
                    strong { "The route is held: " } (parts::text(&route.held_because))
                    @if route.held_until.is_some() { ", until " (parts::time(route.held_until.as_ref())) }
                }
            }
            p.hint { (parts::text(&route.why)) @if !route.difference.is_empty() { " " (parts::text(&route.difference)) } }
        }
    }
}

fn controls(delivery: &Delivery, here: &str) -> Markup {
    let generation = delivery.generation.to_string();
    let fields = [("delivery", delivery.id.as_str()), ("generation", &generation)];
    let waits = delivery.state() == DeliveryState::Waiting;
    let of_route = [("tenant", delivery.tenant.as_str()), ("route", delivery.route.as_str())];
    html! {
        section.controls aria-label="Actions" {
            (parts::button("/act/replay", if waits { "Send now" } else { "Replay" }, &fields, here))
            @if waits {
                (parts::button("/act/cancel", "Cancel", &fields, here))
                (parts::button("/act/probe", "Probe the route", &of_route, here))
            }
        }
    }
}

/// Attempts and actions by time, and where they led.
fn timeline(delivery: &Delivery, attempts: &[Attempt], actions: &[ControlAction]) -> Markup {
    let attempts = attempts
        .iter()
        .map(|attempt| (from_proto(attempt.started_at.as_ref()), shown_attempt(&delivery.id, attempt)));
    let actions = actions.iter().map(|action| (from_proto(action.at.as_ref()), shown_action(action)));
    let mut all: Vec<_> = attempts.chain(actions).collect();
    // Stable, so that what has the same time stays in its order.
    all.sort_by_key(|(at, _)| *at);
    html! {
        ol.timeline {
            li { (parts::time(delivery.received_at.as_ref())) div { "The callback was verified, and the delivery planned." } }
            @for (_, shown) in all { li { (shown) } }
            li { (parts::time(delivery.updated_at.as_ref())) div { (parts::state(delivery.state())) " " (parts::text(&delivery.reason)) } }
            @if let Some(run) = delivery.current_run() {
                li { (parts::time(run.ended_at.as_ref())) div { (parts::text(&talaria_relay::describe_run(run))) } }
            }
        }
    }
}

fn shown_attempt(delivery: &str, attempt: &Attempt) -> Markup {
    html! {
        (parts::time(attempt.started_at.as_ref()))
        div {
            p {
                a href={ "/deliveries/" (delivery) "/attempts/" (attempt.number) } { strong { "Attempt " (attempt.number) } } " "
                (outcome(attempt.outcome()))
                ": " (parts::text(&attempt.detail))
                @if !attempt.counted { span.none { " (not counted)" } }
            }
            @if let Some(timings) = &attempt.timings { (waterfall(timings)) }
            @for note in &attempt.guarded { p.hint { "Guard: " (parts::text(note)) } }
            @for token in &attempt.unfilled { p.hint { "The token {" (parts::text(token)) "} had no value, and stayed as it is written." } }
        }
    }
}

pub(super) fn outcome(outcome: AttemptOutcome) -> Markup {
    let name = outcome.as_str_name().trim_start_matches("ATTEMPT_OUTCOME_").replace('_', " ");
    let kind = match outcome {
        AttemptOutcome::Accepted | AttemptOutcome::Delivered | AttemptOutcome::Duplicate => "good",
        AttemptOutcome::Ignored | AttemptOutcome::Unspecified => "still",
        AttemptOutcome::RateLimited | AttemptOutcome::AnswerLost | AttemptOutcome::Interrupted => "busy",
        AttemptOutcome::RouteFault | AttemptOutcome::Failed | AttemptOutcome::NotUnderstood => "bad",
    };
    parts::badge(kind, &name)
}

fn shown_action(action: &ControlAction) -> Markup {
    html! {
        (parts::time(action.at.as_ref()))
        div { (did(action)) }
    }
}

/// "replayed by ana: mended"
pub(super) fn did(action: &ControlAction) -> Markup {
    let verb = match action.kind() {
        ControlKind::Paused => "paused",
        ControlKind::Resumed => "resumed",
        ControlKind::Cancelled | ControlKind::ReplayJobCancelled => "cancelled",
        ControlKind::Replayed => "replayed",
        ControlKind::ReplayJobStarted => "a replay was begun",
        ControlKind::Probed => "probed",
        ControlKind::JobSubmitted => "submitted",
        ControlKind::JobTracked => "tracked",
        ControlKind::JobStopped => "stopped waiting for",
        ControlKind::Unspecified => "did",
    };
    html! {
        (verb) " by " (parts::text(&talaria_relay::who(&action.requested_by, &action.token_name)))
        @if !action.reason.is_empty() { ": " (parts::text(&action.reason)) }
    }
}
