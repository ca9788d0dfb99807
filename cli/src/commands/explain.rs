//! `talaria explain`: why an event was delivered or not, and the next step of each delivery.

use crate::{
    Failure,
    args::Explain,
    client::{self, ids},
    print::{
        self, ALERT, BOLD, DIM, Screen, UNDER_TIME,
        delivery::{show_event_head, show_remarks, show_run},
        job, one_line, state_name, state_style,
    },
};
use jiff::Timestamp;
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};
use talaria_core::time::since;
use talaria_proto::{
    time::{duration_from_proto, from_proto},
    v1::{
        Attempt, AttemptOutcome, DeliveryState, ExplainRequest, ExplainResponse, Explanation,
        RouteExplanation, RouteMatch, Timings, explain_request::Subject,
    },
};
use tonic::Code;

pub(crate) async fn run(config: &Path, args: Explain) -> Result<(), Failure> {
    let subject = match args.id.clone() {
        id if id.starts_with("qrt_") => {
            return Err(Failure::Usage(format!("{id} was no event; talaria status --quarantined lists it")));
        }
        id if id.starts_with("rpl_") => {
            return Err(Failure::Usage(format!("{id} is a replay job; talaria replays {id} shows it")));
        }
        id if id.starts_with("evt_") => Subject::EventId(ids::complete_at(&args.ask, config, &id).await?),
        id if id.starts_with("dlv_") => Subject::DeliveryId(ids::complete_at(&args.ask, config, &id).await?),
        id if id.is_empty() => return Err(Failure::Usage("name what is to be explained".into())),
        _ => return explain_job(config, &args).await,
    };
    if args.tenant.is_some() {
        let mut status = client::status(&args.ask, config).await?;
        client::check_tenant(&mut status, args.tenant.as_deref()).await?;
    }
    let mut relay = client::control(&args.ask, config).await?;
    let request = ExplainRequest { subject: Some(subject), tenant: args.tenant.unwrap_or_default() };
    let answer = client::ask(relay.explain(request)).await?;
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    show_all(&mut anstream::stdout().lock(), &answer)
}

/// A job: its ledger, if it was submitted or tracked here, and its events.
async fn explain_job(config: &Path, args: &Explain) -> Result<(), Failure> {
    let mut status = client::status(&args.ask, config).await?;
    client::check_tenant(&mut status, args.tenant.as_deref()).await?;
    let id = ids::job(&mut status, &args.id, args.tenant.as_deref()).await?;
    let mut jobs = client::jobs(&args.ask, config).await?;
    let ledger = client::ledger(&mut jobs, &id, args.tenant.as_deref()).await?;
    let (job_id, tenant) = match &ledger {
        // Another tenant may have a job of the same id at OpenRouter.
        Some(job) => (job.openrouter_id.clone(), job.tenant.clone()),
        None => (id, args.tenant.clone().unwrap_or_default()),
    };
    let answer = if ledger.is_some() && job_id.is_empty() {
        // Without an id of OpenRouter's, nothing can have come.
        ExplainResponse::default()
    } else {
        let mut relay = client::control(&args.ask, config).await?;
        let request = ExplainRequest { subject: Some(Subject::JobId(job_id)), tenant };
        match relay.explain(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound && ledger.is_some() => ExplainResponse::default(),
            Err(status) => return Err(status.into()),
        }
    };
    if args.ask.json {
        let mut document = print::json(&answer)?;
        if let Some(job) = &ledger {
            print::merge(&mut document, serde_json::json!({ "job": print::json(job)? }));
        }
        return Ok(writeln!(io::stdout(), "{document:#}")?);
    }
    let mut out = anstream::stdout().lock();
    if let Some(job) = &ledger {
        let screen = Screen::stdout(false);
        job::show(&mut out, job, screen)?;
        job::show_next(&mut out, job, screen)?;
        if answer.explanations.is_empty() {
            return Ok(job::note_missing_event(&mut out, job)?);
        }
        writeln!(out)?;
    }
    show_all(&mut out, &answer)
}

fn show_all(out: &mut impl Write, answer: &ExplainResponse) -> Result<(), Failure> {
    print::warn_if_incomplete(answer.incomplete)?;
    let now = Timestamp::now();
    for (index, explanation) in answer.explanations.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        print::write_wrapped(out, Screen::stdout(false), |text| show(text, explanation, now))?;
    }
    if answer.more {
        writeln!(out, "\n{DIM}The job has more events: talaria explain evt_… explains one.{DIM:#}")?;
    }
    Ok(())
}

fn show(out: &mut impl Write, explanation: &Explanation, now: Timestamp) -> io::Result<()> {
    let event = explanation.event.clone().unwrap_or_default();
    show_event_head(out, &event)?;
    writeln!(out, "  {}", explanation.summary)?;
    if explanation.conflicts > 0 {
        let count = explanation.conflicts;
        let times = if count == 1 { "time" } else { "times" };
        writeln!(out, "  conflict: came {count} more {times} with another body; the first one stands")?;
    }
    if !explanation.payload_kept {
        writeln!(out, "  its payload is not kept any more")?;
    }
    for route in &explanation.routes {
        writeln!(out)?;
        show_route(out, &event.tenant, route, now)?;
    }
    Ok(())
}

fn show_route(
    out: &mut impl Write,
    tenant: &str,
    route: &RouteExplanation,
    now: Timestamp,
) -> io::Result<()> {
    write!(out, "{BOLD}{tenant}/{}{BOLD:#}  ", one_line(&route.route))?;
    match &route.delivery {
        None => writeln!(out, "{DIM}not planned{DIM:#}")?,
        Some(delivery) => {
            let (state, style) = (state_name(delivery.state()), state_style(delivery.state()));
            writeln!(out, "{style}{state}{style:#}  {DIM}{}{DIM:#}", delivery.id)?;
        }
    }
    let matches = match route.matches() {
        RouteMatch::Yes => "matches",
        RouteMatch::No => "does not match",
        RouteMatch::NotConfigured => "not configured",
        RouteMatch::Unknown | RouteMatch::Unspecified => "may match",
    };
    writeln!(out, "  {matches}: {}", one_line(&route.why))?;
    if !route.difference.is_empty() {
        writeln!(out, "  changed: {}", one_line(&route.difference))?;
    }
    let mut sent_as = "";
    for attempt in &route.attempts {
        show_attempt(out, attempt, attempt.idempotency_key != sent_as)?;
        sent_as = &attempt.idempotency_key;
    }
    // The reason is often the same as the block or part of the next step.
    let is_repeated = |reason: &str| reason == route.held_because || route.next.contains(reason);
    if let Some(delivery) = route.delivery.as_ref().filter(|delivery| !is_repeated(&delivery.reason)) {
        let (state, style) = (state_name(delivery.state()), state_style(delivery.state()));
        let at = print::time(delivery.updated_at.as_ref());
        writeln!(out, "  {DIM}{at}{DIM:#}  {style}{state}{style:#}: {}", one_line(&delivery.reason))?;
    }
    if let Some(delivery) = &route.delivery {
        show_run(out, delivery)?;
    }
    // A block concerns waiting deliveries only.
    let waits = route.delivery.as_ref().is_some_and(|delivery| delivery.state() == DeliveryState::Waiting);
    if waits && !route.held_because.is_empty() {
        let until = moment(route.held_until.as_ref(), now);
        let until = if route.held_until.is_some() { format!(" until {until}") } else { String::new() };
        writeln!(out, "  {ALERT}held{ALERT:#}{until}: {}", one_line(&route.held_because))?;
    }
    if !route.next.is_empty() {
        let when = match &route.next_at {
            Some(at) if from_proto(Some(at)) > now => format!(" at {}", moment(Some(at), now)),
            _ => String::new(),
        };
        writeln!(out, "  {BOLD}next{when}{BOLD:#}: {}", one_line(&route.next))?;
    }
    Ok(())
}

/// "2026-11-28 14:00:00Z, in 30 s".
fn moment(time: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let left = since(from_proto(time), now);
    format!("{}, in {}", print::time(time), print::duration(left))
}

fn show_attempt(out: &mut impl Write, attempt: &Attempt, new_id: bool) -> io::Result<()> {
    let at = print::time(attempt.started_at.as_ref());
    writeln!(out, "  {DIM}{at}{DIM:#}  attempt {}: {}", attempt.number, one_line(&attempt.detail))?;
    let outcome = attempt.outcome().as_str_name().trim_start_matches("ATTEMPT_OUTCOME_");
    let mut facts = vec![outcome.to_owned()];
    facts.extend(attempt.http_status.map(|status| format!("HTTP {status}")));
    facts.extend(attempt.duration.as_ref().map(|took| print::duration(duration_from_proto(Some(took)))));
    // The attempt that ended the delivery is neither.
    let free = matches!(attempt.outcome(), AttemptOutcome::RouteFault | AttemptOutcome::RateLimited);
    facts.extend(attempt.counted.then(|| "counted".to_owned()));
    facts.extend(free.then(|| "not counted".to_owned()));
    facts.push(format!("generation {}", attempt.generation));
    writeln!(out, "{UNDER_TIME}{}", facts.join(", "))?;
    if new_id {
        writeln!(out, "{UNDER_TIME}{DIM}sent as {}{DIM:#}", one_line(&attempt.idempotency_key))?;
    }
    if let Some(timings) = &attempt.timings {
        writeln!(out, "{UNDER_TIME}{}", timings_line(timings))?;
    }
    show_remarks(out, attempt)
}

/// "dns 1.2 ms, connect 0.3 ms, tls 4 ms, first byte 12 ms, total 13 ms".
fn timings_line(timings: &Timings) -> String {
    let reused = timings.reused_connection.then(|| "connection reused".to_owned());
    let parts = [
        ("dns", &timings.dns),
        ("connect", &timings.connect),
        ("tls", &timings.tls),
        ("first byte", &timings.first_byte),
        ("total", &timings.total),
    ];
    let parts = parts.into_iter().filter_map(|(name, took)| {
        Some(format!("{name} {}", short(duration_from_proto(Some(took.as_ref()?)))))
    });
    reused.into_iter().chain(parts).collect::<Vec<_>>().join(", ")
}

/// With one decimal below 10 ms.
fn short(took: Duration) -> String {
    if took >= Duration::from_millis(10) {
        return print::duration(took);
    }
    let millis = format!("{:.1}", took.as_secs_f64() * 1_000.0);
    format!("{} ms", millis.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::time::after;
    use talaria_proto::{
        time::{duration_to_proto, to_proto},
        v1::{Delivery, Event},
    };

    fn shown(explanation: &Explanation, now: Timestamp) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        show(&mut out, explanation, now).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn known_timings_are_listed() {
        let micros = |micros| Some(duration_to_proto(Duration::from_micros(micros)));
        let mut timings = Timings {
            dns: micros(1_230),
            connect: micros(300),
            tls: micros(4_000),
            first_byte: micros(12_400),
            total: micros(13_000),
            reused_connection: false,
        };
        assert_eq!(
            timings_line(&timings),
            "dns 1.2 ms, connect 0.3 ms, tls 4 ms, first byte 12 ms, total 13 ms"
        );
        (timings.dns, timings.connect, timings.tls) = (None, None, None);
        timings.reused_connection = true;
        assert_eq!(timings_line(&timings), "connection reused, first byte 12 ms, total 13 ms");
        assert_eq!(
            [10, 20_000, 1_500_000].map(|n| short(Duration::from_micros(n))),
            ["0 ms", "20 ms", "1.5 s"]
        );
    }

    #[test]
    fn a_route_is_shown_and_payload_text_makes_no_line() {
        let now = Timestamp::from_second(1_777_000_000).unwrap();
        let forged = "x\n  next: nothing more\u{202e}\u{1b}[31m";
        let attempt = Attempt {
            number: 1,
            generation: 1,
            idempotency_key: "dlv_x.1".into(),
            started_at: Some(to_proto(now)),
            outcome: AttemptOutcome::Failed.into(),
            http_status: Some(500),
            detail: forged.into(),
            counted: true,
            guarded: vec!["a leading / defused".into(), forged.into()],
            unfilled: vec!["talaria.job.context.chat_id".into()],
            timings: Some(Timings {
                total: Some(duration_to_proto(Duration::from_millis(5))),
                ..Timings::default()
            }),
            ..Attempt::default()
        };
        let delivery = Delivery {
            id: "dlv_x".into(),
            state: DeliveryState::Waiting.into(),
            reason: forged.into(),
            ..Delivery::default()
        };
        let route = RouteExplanation {
            route: "r".into(),
            matches: RouteMatch::No.into(),
            why: forged.into(),
            difference: "it was changed".into(),
            delivery: Some(delivery),
            attempts: vec![attempt],
            held_because: forged.into(),
            held_until: Some(to_proto(after(now, Duration::from_secs(30)))),
            next: forged.into(),
            next_at: Some(to_proto(after(now, Duration::from_secs(31)))),
        };
        let event =
            Event { tenant: "acme".into(), r#type: forged.into(), job_id: forged.into(), ..Event::default() };
        let explanation = Explanation {
            event: Some(event),
            payload_kept: false,
            summary: "1 route took it: 1 waiting".into(),
            routes: vec![route],
            conflicts: 1,
        };
        let said = shown(&explanation, now);
        assert!(!said.contains(['\u{1b}', '\u{202e}']) && !said.contains("\n  next: "), "{said}");
        for part in [
            "acme/r  WAITING  dlv_x\n  does not match: x\\n",
            "\n  changed: it was changed\n",
            "attempt 1: x\\n",
            "FAILED, HTTP 500, counted, generation 1\n",
            "sent as dlv_x.1\n",
            "total 5 ms\n",
            "guard: a leading / defused\n",
            "template: {talaria.job.context.chat_id} had no value, and stayed as it is written\n",
            "in 30 s: x\\n",
            "in 31 s: x\\n",
            "conflict: came 1 more time with",
            "its payload is not kept any more",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.matches("  held until ").count(), 1, "{said}");
        assert!(!said.contains("WAITING: "), "what holds it is said once: {said}");
        let mut ended = explanation.clone();
        if let Some(delivery) = &mut ended.routes[0].delivery {
            delivery.set_state(DeliveryState::Delivered);
        }
        let mut never_planned = explanation;
        never_planned.routes[0].delivery = None;
        for explanation in [ended, never_planned] {
            assert!(!shown(&explanation, now).contains("held"), "nothing is held any more");
        }
    }
}
