//! A single event or delivery, with its history.

use super::{
    ALERT, BOLD, DIM, UNDER_TIME, action, changes::Changes, duration, one_line, state_name, state_style,
    time, visible,
};
use crate::print::Screen;
use jiff::Timestamp;
use std::io::{self, Write as _};
use talaria_proto::time::{duration_from_proto, from_proto};
use talaria_proto::v1::{
    Attempt, AttemptOutcome, ControlAction, Delivery, Event, EventConflict, GetDeliveryResponse,
    GetEventResponse,
};
use talaria_relay::describe_run_of;

/// A conflict, in one line.
pub(crate) fn conflict(conflict: &EventConflict) -> String {
    let at = time(conflict.received_at.as_ref());
    let id = &conflict.event_id;
    format!(
        "conflict: came again at {at} with another body; the first one stands. `talaria status {id} --payload` shows both"
    )
}

/// An event, without its deliveries.
pub(crate) fn show_event_head(out: &mut impl io::Write, event: &Event) -> io::Result<()> {
    writeln!(out, "{BOLD}{}{BOLD:#}  {}", event.id, one_line(&event.r#type))?;
    let job = format!("{} ({})", one_line(&event.job_id), one_line(&event.status));
    let received = time(event.received_at.as_ref());
    writeln!(out, "  tenant {}, job {job}, received {received}", event.tenant)?;
    for (name, value) in
        [("model", &event.model), ("generation", &event.generation_id), ("error", &event.error)]
    {
        if let Some(value) = value {
            writeln!(out, "  {name} {}", one_line(value))?;
        }
    }
    for url in &event.unsigned_urls {
        writeln!(out, "  file {}", one_line(url))?;
    }
    Ok(())
}

/// An event with its conflicts and, where `payload` asks for them, its payloads.
pub(crate) fn show_event(answer: &GetEventResponse, payload: bool) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let event = answer.event.clone().unwrap_or_default();
    show_event_head(&mut out, &event)?;
    for conflict in &answer.conflicts {
        writeln!(
            out,
            "  conflict: came again at {} with another body ({} bytes); the first one stands",
            time(conflict.received_at.as_ref()),
            conflict.payload.len()
        )?;
        if payload {
            writeln!(out, "{}", visible(&String::from_utf8_lossy(&conflict.payload)))?;
        }
    }
    if payload {
        writeln!(out, "{}", visible(&String::from_utf8_lossy(&event.payload)))?;
    }
    if answer.deliveries.is_empty() {
        let help = format!(
            "talaria explain {id} says why; talaria replay {id} --route ROUTE hands it over",
            id = event.id
        );
        writeln!(out, "  no route of the tenant took it: {help}")?;
    }
    Ok(())
}

/// A delivery with its attempts.
pub(crate) fn show_delivery(answer: &GetDeliveryResponse) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let delivery = answer.delivery.clone().unwrap_or_default();
    let style = state_style(delivery.state());
    writeln!(out, "{BOLD}{}{BOLD:#}  {}/{}", delivery.id, delivery.tenant, delivery.route)?;
    // Attempts and actions, by time.
    let mut actions = answer.actions.iter().peekable();
    for attempt in &answer.attempts {
        let began = from_proto(attempt.started_at.as_ref());
        while let Some(action) = actions.next_if(|action| from_proto(action.at.as_ref()) < began) {
            show_action(&mut out, action)?;
        }
        let at = time(attempt.started_at.as_ref());
        writeln!(out, "  {DIM}{at}{DIM:#}  attempt {}: {}", attempt.number, attempt_line(attempt))?;
        show_remarks(&mut out, attempt)?;
    }
    for action in actions {
        show_action(&mut out, action)?;
    }
    let at = time(delivery.updated_at.as_ref());
    let state = state_name(delivery.state());
    writeln!(out, "  {DIM}{at}{DIM:#}  {style}{state}{style:#}: {}", one_line(&delivery.reason))?;
    if let Some(next) = &delivery.next_attempt_at {
        writeln!(out, "{UNDER_TIME}next attempt at {}", time(Some(next)))?;
    }
    show_run(&mut out, &delivery)
}

/// The run that a delivery led to, or that none was reported in time.
pub(crate) fn show_run(out: &mut impl io::Write, delivery: &Delivery) -> io::Result<()> {
    let Some(line) = describe_run_of(delivery) else { return Ok(()) };
    let Some(run) = &delivery.run else { return writeln!(out, "{UNDER_TIME}{ALERT}{line}{ALERT:#}") };
    writeln!(out, "  {DIM}{}{DIM:#}  {}", time(run.ended_at.as_ref()), one_line(&line))?;
    let facts = [
        run.input_tokens.map(|tokens| format!("{tokens} tokens in")),
        run.output_tokens.map(|tokens| format!("{tokens} tokens out")),
        run.calls.map(|calls| format!("{calls} {}", if calls == 1 { "call" } else { "calls" })),
        (!run.session.is_empty()).then(|| format!("session {}", one_line(&run.session))),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        writeln!(out, "{UNDER_TIME}{}", facts.join(", "))?;
    }
    if !run.answer.is_empty() {
        writeln!(out, "{UNDER_TIME}answer: {}", one_line(&run.answer))?;
    }
    Ok(())
}

/// The run, if there is something to say about it, and the reason of the state.
pub(crate) fn why(delivery: &Delivery) -> String {
    describe_run_of(delivery).into_iter().chain(Some(delivery.reason.clone())).collect::<Vec<_>>().join("; ")
}

/// What was made of the prompt of an attempt.
pub(crate) fn show_remarks(out: &mut impl io::Write, attempt: &Attempt) -> io::Result<()> {
    for note in &attempt.guarded {
        writeln!(out, "{UNDER_TIME}guard: {}", one_line(note))?;
    }
    for token in &attempt.unfilled {
        writeln!(
            out,
            "{UNDER_TIME}template: {{{}}} had no value, and stayed as it is written",
            one_line(token)
        )?;
    }
    Ok(())
}

fn show_action(out: &mut impl io::Write, action: &ControlAction) -> io::Result<()> {
    let at = time(action.at.as_ref());
    writeln!(out, "  {DIM}{at}{DIM:#}  {}", action::line(action))
}

/// An attempt, in one line.
pub(crate) fn attempt_line(attempt: &Attempt) -> String {
    let took =
        attempt.duration.as_ref().map(|took| format!(" in {}", duration(duration_from_proto(Some(took)))));
    // A refusal of the route or of the pace does not count towards the retries.
    let free = matches!(attempt.outcome(), AttemptOutcome::RouteFault | AttemptOutcome::RateLimited);
    let free = if free { ", not counted" } else { "" };
    format!("{}{}{free}", one_line(&attempt.detail), took.unwrap_or_default())
}

/// A delivery in one line, with its columns whole.
pub(crate) fn delivery_line(delivery: &Delivery) -> String {
    Changes::new(Screen { width: None }).line(delivery, None, Timestamp::now())
}
