//! `talaria render`: renders the prompt of a route or a template.

use crate::{Failure, args::Render, select};
use anyhow::anyhow;
use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, Write as _},
    path::Path,
};
use talaria_core::{
    config::{BodyMode, Guard, Role, RouteKind},
    hermes::template::{OURS, Template},
    json::{Document, Text, Value, parse, print::dump_text},
    openrouter::documented::COMPLETED,
};
use talaria_relay::defuse;

pub(crate) fn run(path: &Path, args: &Render) -> Result<(), Failure> {
    if args.jsonl {
        return cases();
    }
    let bytes = match &args.payload {
        Some(payload) => select::read_input(payload)?,
        None => COMPLETED.into(),
    };
    let payload = parse(&bytes).map_err(|error| anyhow!("the payload is not JSON: {error}"))?;
    if let Some(why) = payload.unreadable_for_hermes() {
        return Err(anyhow!("Hermes could not read this: {why}").into());
    }
    // A payload for a trial need not be a complete event.
    let event_type = payload.root().get("type").and_then(Value::as_str).unwrap_or("unknown");
    let (template, name, guard) = match &args.template {
        Some(template) => (Template::new(&template.as_str().into()), "template".to_owned(), ON),
        None => {
            let config = select::load_tolerant(path, Role::Sender)?;
            let (_, route) = select::route(&config, args.route.as_deref())?;
            if route.kind == RouteKind::Webhook {
                return Err(anyhow!("the route is a webhook, which gets the event's own bytes").into());
            }
            if route.body == BodyMode::Raw {
                return Err(anyhow!("the route sends raw bodies: Hermes renders its own prompt").into());
            }
            (route.prompt.clone(), route.name.clone(), route.guard)
        }
    };
    let guard = if args.no_guard { OFF } else { guard };
    let unfilled = unfilled(&template, payload.root(), &event_type.into());
    let prompt = template.render(payload.root(), &event_type.into(), &name.as_str().into());
    let (text, notes) = defuse(prompt, guard);
    let mut out = io::stdout().lock();
    out.write_all(text.to_str_lossy().as_bytes())?;
    if !text.as_bytes().ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    for note in notes {
        writeln!(io::stderr().lock(), "guard: {note}")?;
    }
    for note in unfilled {
        writeln!(io::stderr().lock(), "template: {note}")?;
    }
    Ok(())
}

/// Notes about the tokens without a value, once each.
fn unfilled(template: &Template, payload: &Value, event_type: &Text) -> Vec<String> {
    let tokens: BTreeSet<&str> = template.tokens().collect();
    let unfilled =
        tokens.into_iter().filter(|token| !Template::finds(token, &Value::Null, payload, event_type));
    let note = |token: &str| match token.strip_prefix(OURS) {
        Some("event_id" | "delivery_id" | "tenant" | "route" | "attempt" | "generation") => {
            format!("{{{token}}} gets its value with the delivery")
        }
        Some(_) => {
            format!("{{{token}}} gets its value with the delivery, if that has one, and otherwise stays")
        }
        None => format!("{{{token}}} has no value in this payload, and stays as it is written"),
    };
    unfilled.map(note).collect()
}

const ON: Guard = Guard { commands: true, references: true };
const OFF: Guard = Guard { commands: false, references: false };

/// Writes a line for each line of standard input.
fn cases() -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match case(&line) {
            Ok(prompt) => writeln!(out, "{{\"prompt\": {}}}", dump_text(&prompt))?,
            Err(error) => writeln!(out, "{{\"error\": {}}}", dump_text(&error.into()))?,
        }
    }
    Ok(out.flush()?)
}

fn case(line: &[u8]) -> Result<Text, String> {
    let case: Document = parse(line).map_err(|error| format!("the line is not JSON: {error}"))?;
    let text = |key: &str| match case.root().get(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("{key} must be a string")),
    };
    let body = parse(text("body")?.as_bytes()).map_err(|error| format!("the body is not JSON: {error}"))?;
    if let Some(why) = body.unreadable_for_hermes() {
        return Err(why);
    }
    Ok(Template::new(text("template")?).render(body.root(), text("event_type")?, text("route")?).text)
}
