//! Reports about the agent's runs: whether one is genuine, what it says, and whether it changes the account.
//!
//! A report comes from a program that has the route's secret, which is not more than that: its texts are bounded, on one line and
//! without secrets, its end is not in the future, and it changes no state of a delivery.

use super::mask::Mask;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::{hint::black_box, iter::repeat_n, sync::LazyLock, time::Duration};
use talaria_core::{
    config::{Config, Route},
    id::DeliveryId,
    report::{Signed, TOLERANCE},
    time::{after, in_one_unit, rounded},
};
use talaria_proto::{
    time::{duration_from_proto, duration_to_proto, from_proto, to_proto},
    v1::{
        Attempt, Delivery, DeliveryRef, DeliveryState, DeliveryStatus, Record, Run, RunOutcome, RunReported,
        record::What,
    },
};

/// The longest texts, in characters.
const LONGEST_COMMAND: usize = 100;
const LONGEST_SESSION: usize = 200;
const LONGEST_TEXT: usize = 500;

/// The longest run.
const LONGEST_RUN: Duration = Duration::from_secs(366 * 86_400);

/// Stands for the secret of an unknown route, so that its report takes as long as a known one's.
static DUMMY: LazyLock<SecretString> = LazyLock::new(|| "no route's".into());

/// Whether a report is signed with a secret of the route, in time. `None` is an unknown route. The duration depends neither on the
/// route nor on the match.
pub(crate) fn is_genuine(
    config: &Config,
    route: Option<&Route>,
    signed: &Signed<'_>,
    body: &[u8],
    now: Timestamp,
) -> bool {
    let secrets = route.map_or(&[][..], |route| &route.secrets);
    let most = config.routes().map(|(_, route)| route.secrets.len()).max().unwrap_or_default();
    let missing = most.max(1).saturating_sub(secrets.len());
    let is_signed = signed.is_by(secrets, body);
    black_box(signed.is_by(repeat_n(&*DUMMY, missing), body));
    is_signed && signed.is_recent(now)
}

/// What a genuine report says: the delivery, and its run. Otherwise why it is none. `mask` has the route's secrets.
pub(crate) fn read(
    report_id: &str,
    body: &[u8],
    mask: &Mask,
    now: Timestamp,
) -> Result<(DeliveryId, Run), String> {
    let Ok(Value::Object(report)) = serde_json::from_slice(body) else {
        return Err("the body is not a JSON object".to_owned());
    };
    let text = |members: &Map<String, Value>, key: &str, longest: usize| match members.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(one_line(mask, text, longest)),
        Some(_) => Err(format!("{key} is not a text")),
    };
    let (id, generation) = report
        .get("delivery")
        .and_then(Value::as_str)
        .and_then(delivery)
        .ok_or("delivery is not the id of a delivery, as Hermes got it in X-Request-ID")?;
    let named = report.get("outcome").and_then(Value::as_str);
    let outcome = RunOutcome::REPORTED.into_iter().find(|outcome| Some(outcome.name()) == named);
    let outcome = outcome.ok_or("outcome is not finished, failed, interrupted or command")?;
    let ended_at: Option<Timestamp> =
        report.get("ended_at").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let ended_at = ended_at.ok_or("ended_at is not a time, such as 2026-01-01T00:00:00.123Z")?;
    // A report with a late end would stand in the way of all that come after it.
    if ended_at > after(now, Duration::from_secs(TOLERANCE)) {
        return Err(format!("ended_at is more than {TOLERANCE} s in the future"));
    }
    let duration = number(&report, "duration_ms")?.map(Duration::from_millis);
    if duration.is_some_and(|duration| duration > LONGEST_RUN) {
        return Err("duration_ms is more than a year".to_owned());
    }
    let mut run = Run {
        outcome: outcome.into(),
        session: text(&report, "session", LONGEST_SESSION)?,
        ended_at: Some(to_proto(ended_at)),
        duration: duration.map(duration_to_proto),
        answer: text(&report, "answer", LONGEST_TEXT)?,
        calls: number(&report, "calls")?.map(|calls| u32::try_from(calls).unwrap_or(u32::MAX)),
        report_id: report_id.to_owned(),
        generation,
        ..Run::default()
    };
    if outcome == RunOutcome::Command {
        let command = text(&report, "command", LONGEST_COMMAND)?;
        command.trim_start_matches('/').clone_into(&mut run.command);
        if run.command.is_empty() {
            return Err("command has no name".to_owned());
        }
    }
    if let Some(error) = members(&report, "error")?.filter(|_| outcome == RunOutcome::Failed) {
        run.error = text(error, "message", LONGEST_TEXT)?;
        let status = number(error, "status")?;
        if status.is_some_and(|status| !(100..=999).contains(&status)) {
            return Err("error.status is not an HTTP status".to_owned());
        }
        run.error_status = status.and_then(|status| u32::try_from(status).ok());
    }
    if let Some(tokens) = members(&report, "tokens")? {
        (run.input_tokens, run.output_tokens) = (number(tokens, "input")?, number(tokens, "output")?);
    }
    Ok((id, run))
}

/// The delivery and the generation in the id that Hermes got.
fn delivery(text: &str) -> Option<(DeliveryId, u32)> {
    let (id, generation) = text.rsplit_once('.')?;
    let (id, number): (DeliveryId, u32) = (id.parse().ok()?, generation.parse().ok()?);
    (number > 0 && id.idempotency_key(number) == text).then_some((id, number))
}

fn number(members: &Map<String, Value>, key: &str) -> Result<Option<u64>, String> {
    match members.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{key} is not a whole number")),
    }
}

fn members<'a>(report: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match report.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(format!("{key} is not a JSON object")),
    }
}

/// Secrets go before it is shortened, which could leave half of one, and again when blanks have replaced what could part one.
fn one_line(mask: &Mask, text: &str, longest: usize) -> String {
    let masked = mask.text(text.to_owned());
    let masked = mask.text(masked.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
    let line: String = masked.trim().chars().take(longest).collect();
    line.trim_end().to_owned()
}

/// Whether an attempt under this generation was begun. Of a carried event's deliveries only the number of attempts is known.
pub(crate) fn was_sent(
    delivery: &Delivery,
    attempts: &[Attempt],
    is_under_way: bool,
    generation: u32,
) -> bool {
    let all_known = attempts.len() >= usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
    attempts.iter().any(|attempt| attempt.generation == generation)
        || (is_under_way && generation == delivery.generation)
        || (!all_known && generation <= delivery.generation)
}

/// Whether a report changes the account: it is the first one, of a newer generation, or with a later end. Otherwise it is a repetition.
pub(crate) fn replaces(known: Option<&Run>, run: &Run) -> bool {
    let rank = |run: &Run| (run.generation, from_proto(run.ended_at.as_ref()));
    known.is_none_or(|known| rank(run) > rank(known))
}

/// The record of a run, for a delivery with this step.
pub(crate) fn reported(delivery: &Delivery, event_seq: u64, step: u32, run: Run, now: Timestamp) -> Record {
    let status = DeliveryStatus {
        step,
        state: delivery.state,
        reason: delivery.reason.clone(),
        generation: delivery.generation,
        attempts: delivery.attempts,
        counted_attempts: delivery.counted_attempts,
        next_attempt_at: delivery.next_attempt_at,
    };
    let named = DeliveryRef {
        id: delivery.id.clone(),
        tenant: delivery.tenant.clone(),
        route: delivery.route.clone(),
    };
    let reported = RunReported { delivery: Some(named), run: Some(run), status: Some(status) };
    Record { at: Some(to_proto(now)), event_seq, what: Some(What::RunReported(reported)) }
}

/// The time in which the route expects a report about a delivery, if it is over and none came.
pub(crate) fn overdue(delivery: &Delivery, route: Option<&Route>, now: Timestamp) -> Option<Duration> {
    let within = route?.runs?;
    let is_missing = delivery.state() == DeliveryState::Delivered && delivery.current_run().is_none();
    // A delivered delivery has not changed since.
    (is_missing && now > after(from_proto(delivery.updated_at.as_ref()), within)).then_some(within)
}

/// A run in one clause, such as "run finished in 41 s".
pub fn describe_run(run: &Run) -> String {
    let took = |word: &str| match &run.duration {
        Some(duration) => format!(" {word} {}", rounded(duration_from_proto(Some(duration)))),
        None => String::new(),
    };
    match run.outcome() {
        RunOutcome::Finished => format!("run finished{}", took("in")),
        RunOutcome::Failed => {
            let status = run.error_status.map(|status| status.to_string());
            let parts: Vec<String> =
                status.into_iter().chain(Some(run.error.clone())).filter(|part| !part.is_empty()).collect();
            if parts.is_empty() {
                format!("run failed{}", took("after"))
            } else {
                format!("run failed: {}", parts.join(" "))
            }
        }
        RunOutcome::Interrupted => format!("run interrupted{}", took("after")),
        RunOutcome::Command => {
            format!("the prompt was taken as the command /{}: a fault of the guard", run.command)
        }
        // Written by a newer version.
        RunOutcome::Unspecified | RunOutcome::None => "run ended".to_owned(),
    }
}

/// The run of a delivery, in one clause; `None` without a report that came or is overdue.
pub fn describe_run_of(delivery: &Delivery) -> Option<String> {
    match (&delivery.run, &delivery.run_overdue) {
        (Some(run), _) if run.generation == delivery.generation => Some(describe_run(run)),
        (_, Some(within)) => {
            let text = in_one_unit(duration_from_proto(Some(within)));
            let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
            Some(format!("no run reported within {number} {unit}"))
        }
        (Some(run), None) => Some(format!("before it was sent again: {}", describe_run(run))),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
