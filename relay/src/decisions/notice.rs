//! Notices: what a tenant hears about Talaria's own work, and how often.
//!
//! A notice is an event of its tenant, so it goes to routes, and has deliveries, as any callback. Its id is a hash of the tenant, the type
//! and what it is about, with the change: the same change is told once, however often it is published.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use talaria_core::{
    config::{Config, Fault, Tenant},
    id::EventId,
    notice::NoticeKind,
    time::{after, for_people},
};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{
        BreakerCause, DeliveryRef, DeliveryStatus, Event, EventSource, Job, NoticesTold, QuarantinedCallback,
        RouteChanged,
    },
};

/// The most notices of a type that a tenant gets in [`WINDOW`], beside the one that says how many were left out.
pub(crate) const MOST: u32 = 10;

/// The span of time that [`MOST`] is for.
pub(crate) const WINDOW: Duration = Duration::from_secs(3_600);

/// The longest reason in a notice, in characters.
const LONGEST_REASON: usize = 500;

/// The prompt of a route of Hermes that has none, for a notice.
pub(crate) const PROMPT: &str = "Talaria, which carries OpenRouter's callbacks to you, has a notice for its operator.\n\n\
                                 {data.message}\n\nTell the operator so, and that this command shows more: {data.command}\n\
                                 Change nothing yourself.";

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub kind: NoticeKind,
    pub tenant: String,
    /// The thing that it is about and its change, for the id.
    pub about: String,
    /// The members of `data`.
    pub data: Map<String, Value>,
}

impl Notice {
    /// `message` is one sentence; `command` shows more.
    fn new(
        kind: NoticeKind,
        tenant: &str,
        about: String,
        message: String,
        command: String,
        more: Value,
    ) -> Self {
        let mut data = Map::new();
        data.insert("tenant".into(), tenant.into());
        data.insert("message".into(), message.into());
        data.insert("command".into(), command.into());
        if let Value::Object(more) = more {
            data.extend(more);
        }
        Self { kind, tenant: tenant.to_owned(), about, data }
    }

    pub(crate) fn into_event(self, now: Timestamp) -> Event {
        let Self { kind, tenant, about, data } = self;
        let payload =
            json!({"type": kind.event_type(), "timestamp": now.to_string(), "data": data}).to_string();
        let status = kind.event_type().rsplit('.').next().unwrap_or_default();
        Event {
            id: EventId::new(&tenant, &about, kind.event_type()).to_string(),
            tenant,
            r#type: kind.event_type().to_owned(),
            job_id: about,
            status: status.to_owned(),
            received_at: Some(to_proto(now)),
            payload_sha256: Sha256::digest(&payload).to_vec().into(),
            payload_size: payload.len() as u64,
            payload: payload.into(),
            source: EventSource::Notice.into(),
            ..Event::default()
        }
    }
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

/// `waiting` is how many deliveries wait for the route.
pub(crate) fn route(changed: &RouteChanged, waiting: usize, now: Timestamp) -> Notice {
    let RouteChanged { tenant, route, held_because, held_until, .. } = changed;
    let (about, command) = (format!("{route}/{now}"), format!("talaria status --routes --tenant {tenant}"));
    let name = format!("{tenant}/{route}");
    let Some(until) = held_until else {
        let message = format!("The route {name} is open again.");
        let more = json!({"route": route, "since": now.to_string(), "waiting": waiting});
        return Notice::new(NoticeKind::RouteOpen, tenant, about, message, command, more);
    };
    let (until, reason) = (from_proto(Some(until)), shortened(held_because));
    let cause = match changed.cause() {
        BreakerCause::Failures => "failures",
        BreakerCause::Configuration | BreakerCause::Unspecified => "configuration",
    };
    let message = format!("The route {name} is shut until {}: {reason}", for_people(until));
    let more = json!({
        "route": route, "reason": reason, "cause": cause, "since": now.to_string(), "until": until.to_string(),
        "waiting": waiting,
    });
    Notice::new(NoticeKind::RouteShut, tenant, about, message, command, more)
}

pub(crate) fn parked(delivery: &DeliveryRef, status: &DeliveryStatus, now: Timestamp) -> Notice {
    let DeliveryRef { id, tenant, route } = delivery;
    let reason = shortened(&status.reason);
    let event = id.parse().map(|id: talaria_core::id::DeliveryId| id.event.to_string()).unwrap_or_default();
    Notice::new(
        NoticeKind::DeliveryParked,
        tenant,
        format!("{id}/{}", status.step),
        format!("A delivery to {tenant}/{route} was given up: {reason}"),
        format!("talaria status {id}"),
        json!({
            "route": route, "delivery": id, "event": event, "reason": reason, "attempts": status.attempts,
            "since": now.to_string(),
        }),
    )
}

pub(crate) fn overdue(job: &Job, now: Timestamp) -> Notice {
    let state = if job.callback_missing { "callback_missing" } else { "abandoned" };
    let reason = if job.callback_missing {
        "a poll found its end, and its callback did not come".to_owned()
    } else {
        shortened(&job.reason)
    };
    Notice::new(
        NoticeKind::JobOverdue,
        &job.tenant,
        format!("{}/{state}", job.id),
        format!("The job {} is overdue: {reason}", job.id),
        format!("talaria status {}", job.id),
        json!({
            "job": job.id, "openrouter_id": job.openrouter_id, "model": job.model, "state": state, "reason": reason,
            "since": now.to_string(),
        }),
    )
}

pub(crate) fn quarantined(callback: &QuarantinedCallback) -> Notice {
    let QuarantinedCallback { id, tenant, reason, .. } = callback;
    let reason = shortened(reason);
    Notice::new(
        NoticeKind::CallbackQuarantined,
        tenant,
        id.clone(),
        format!("A callback is signed rightly and is no event, so it was quarantined: {reason}"),
        format!("talaria status --quarantined --tenant {tenant}"),
        json!({
            "callback": id, "reason": reason, "bytes": callback.payload_size,
            "since": from_proto(callback.received_at.as_ref()).to_string(),
        }),
    )
}

/// For each tenant that takes such notices: the changed configuration of a process is refused. `process` is its command. The notice
/// has no text of the file, which may be about other tenants.
pub fn configuration_refused(config: &Config, process: &str, fault: &Fault, now: Timestamp) -> Vec<Event> {
    let kind = NoticeKind::ConfigurationRefused;
    let takers =
        config.tenants.values().filter(|tenant| tenant.routes.values().any(|route| route.takes_notice(kind)));
    // Each process that reads the same file makes the same notice, once in an hour.
    let digest = fault.problems.iter().fold(Sha256::new(), |digest, problem| {
        digest.chain_update(format!("{}:{}:{}\n", problem.line, problem.column, problem.what))
    });
    let digest = HEXLOWER.encode(digest.finalize().get(..8).unwrap_or_default());
    let about = format!("configuration/{digest}/{}", now.as_second() / 3_600);
    let (count, line) = (fault.problems.len(), fault.problems.first().map_or(0, |problem| problem.line));
    let notice = |tenant: &Arc<Tenant>| {
        Notice::new(
            kind,
            &tenant.name,
            about.clone(),
            format!(
                "A changed configuration was refused, and the last valid one stays in force: {count} {}, the first in line {line}",
                if count == 1 { "problem" } else { "problems" }
            ),
            "talaria check".to_owned(),
            json!({"process": process, "problems": count, "line": line, "since": fault.at.to_string()}),
        )
        .into_event(now)
    };
    takers.map(notice).collect()
}

/// Says how many notices of a type were left out.
pub(crate) fn left_out(kind: NoticeKind, known: &NoticesTold) -> Notice {
    let (tenant, count, since) = (&known.tenant, known.left_out, from_proto(known.since.as_ref()));
    Notice::new(
        kind,
        tenant,
        format!("left out since {since}"),
        format!(
            "{count} more notices of this type were left out since {}: at most {MOST} go out in an hour",
            for_people(since)
        ),
        format!("talaria status --tenant {tenant}"),
        json!({"left_out": count, "since": since.to_string()}),
    )
}

/// Whether the hour of these notices is over. A clock that was set back ends it, too.
pub(crate) fn is_over(known: &NoticesTold, now: Timestamp) -> bool {
    let since = from_proto(known.since.as_ref());
    now < since || now >= after(since, WINDOW)
}

/// The notices of a type after one more, and whether that one goes out. `has_room` is false while too many are not published yet.
pub(crate) fn admit(known: Option<&NoticesTold>, has_room: bool, now: Timestamp) -> (NoticesTold, bool) {
    let known = known.filter(|known| !is_over(known, now)).cloned();
    let mut known =
        known.unwrap_or_else(|| NoticesTold { since: Some(to_proto(now)), ..NoticesTold::default() });
    let is_told = known.told < MOST && has_room;
    if is_told {
        known.told += 1;
    } else {
        known.left_out += 1;
    }
    (known, is_told)
}

#[cfg(test)]
mod tests;
