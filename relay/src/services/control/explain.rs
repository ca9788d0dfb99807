//! Gathers what is known of an event out of the view and the bus, and has it explained.

use super::Operator;
use crate::{services::access::Caller, decisions::route_block::RouteBlock, decisions::explain::{Known, explain as decide}, services::status::{ask, request}, view::{
        query::{self, EventFilter, Period},
        recall,
    }};
use rusqlite::Connection;
use std::collections::BTreeMap;
use talaria_core::{
    id::{DeliveryId, EventId, RouteKey},
    json::{Value, parse},
};
use talaria_proto::v1::{
    Attempt, Delivery, Event, ExplainRequest, ExplainResponse, Explanation, explain_request::Subject,
};
use tonic::Status;

/// How many events of a job are explained: each one's payload is read.
const EVENTS: usize = 20;

/// What the view knows of an event.
struct Found {
    seq: u64,
    event: Event,
    planned: Vec<(Delivery, Vec<Attempt>)>,
    blocks: BTreeMap<String, RouteBlock>,
    conflicts: usize,
}

/// What is asked for, checked.
enum Asked {
    Event(EventId, Caller),
    Job(EventFilter),
}

pub(super) async fn explain(
    server: &Operator,
    caller: &Caller,
    asked: ExplainRequest,
) -> Result<ExplainResponse, Status> {
    let tenant = caller.narrow(&asked.tenant)?;
    let event = |id: EventId| Asked::Event(id, caller.clone());
    let (asked, only, what) = match asked.subject {
        Some(Subject::EventId(id)) => (event(request::id(&id)?), None, format!("event {id}")),
        Some(Subject::DeliveryId(text)) => {
            let id: DeliveryId = request::id(&text)?;
            (event(id.event), Some(id.route), format!("delivery {text}"))
        }
        Some(Subject::JobId(job)) if !job.is_empty() => {
            let shown: String = job.chars().take(request::LONGEST_ID).collect();
            let period = Period { since: None, until: None };
            let filter = EventFilter { tenant, job_id: Some(job), period };
            (Asked::Job(filter), None, format!("job {shown}"))
        }
        _ => {
            return Err(Status::invalid_argument(
                "name what is to be explained: event_id, delivery_id or job_id",
            ));
        }
    };
    let (found, more) = ask(&server.view, move |connection| find(connection, &asked)).await?;
    let mut explanations = Vec::new();
    for found in found {
        let mut explanation = explain_one(server, found).await?;
        if let Some(only) = only {
            explanation.routes.retain(|route| RouteKey::new(&route.route) == only);
        }
        if only.is_none() || !explanation.routes.is_empty() {
            explanations.push(explanation);
        }
    }
    if explanations.is_empty() {
        return Err(not_known(server, &what).await);
    }
    Ok(ExplainResponse { explanations, more })
}

fn find(connection: &Connection, asked: &Asked) -> rusqlite::Result<(Vec<Found>, bool)> {
    let (events, more) = match asked {
        Asked::Event(id, caller) => {
            let seen = query::event(connection, *id)?.filter(|(_, event)| caller.sees(&event.tenant));
            (seen.into_iter().collect(), false)
        }
        Asked::Job(filter) => {
            let (events, more) = query::events(connection, filter, i64::MAX, EVENTS)?;
            (events.into_iter().map(|(seq, event)| (seq.unsigned_abs(), event)).collect(), more)
        }
    };
    let found = |(seq, event): (u64, Event)| {
        let with_attempts = |delivery: Delivery| {
            let attempts = delivery.id.parse().map(|id| query::attempts(connection, id));
            Ok((delivery, attempts.unwrap_or(Ok(Vec::new()))?))
        };
        let planned = query::deliveries_of(connection, seq)?.into_iter().map(with_attempts);
        Ok(Found {
            seq,
            planned: planned.collect::<rusqlite::Result<_>>()?,
            blocks: recall::blocks(connection, &event.tenant)?,
            conflicts: query::conflicts_of(connection, seq)?.len(),
            event,
        })
    };
    let events: Vec<(u64, Event)> = events;
    Ok((events.into_iter().map(found).collect::<rusqlite::Result<_>>()?, more))
}

async fn explain_one(server: &Operator, found: Found) -> Result<Explanation, Status> {
    let stored = server.bus.event(found.seq).await.map_err(|error| Status::unavailable(error.to_string()))?;
    // Ingress read it before it was taken; what cannot be read has no fields, for planning as for this.
    let payload = stored.as_ref().map(|stored| parse(&stored.payload).ok());
    let payload = payload.as_ref().map(|read| read.as_ref().map_or(&Value::Null, |document| document.root()));
    let event_type =
        stored.as_ref().map_or_else(|| found.event.r#type.clone(), |stored| stored.r#type.clone());
    let config = server.config();
    let known = Known {
        event_type: &event_type,
        payload,
        tenant: config.tenants.get(&found.event.tenant).map(AsRef::as_ref),
        planned: found.planned,
        blocks: &found.blocks,
        conflicts: found.conflicts,
        event: found.event,
    };
    Ok(decide(known, server.clock.now()))
}

/// The view knows an event from when it is planned.
async fn not_known(server: &Operator, what: &str) -> Status {
    let behind = match server.bus.journal_bounds().await {
        Ok(journal) => server.bus.entries_between(*server.view.position().borrow(), journal.newest),
        Err(_) => 0,
    };
    let hint = match behind {
        0 => "it never came, waits to be planned, or is not kept any more".to_owned(),
        n => format!("the status is {n} entries of the journal behind; ask again soon"),
    };
    Status::not_found(format!("no {what} is known: {hint}"))
}
