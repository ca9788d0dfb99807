//! Explanations of events, with facts from the view and the bus.

use crate::{
    decisions::{
        explain::{ExplainInput, explain as decide},
        route_block::RouteBlock,
    },
    services::{access::Caller, cluster::Cluster, error::Error, local::Local, status::request},
    view::{
        blocks,
        filter::EventFilter,
        jobs,
        query::{self, Most},
    },
};
use rusqlite::Connection;
use std::collections::BTreeMap;
use talaria_core::{
    config::Config,
    id::{DeliveryId, EventId, RouteKey},
    json::{Value, parse},
};
use talaria_proto::v1::{
    Attempt, ClusterMethod, Delivery, Event, ExplainPart, ExplainRequest, ExplainResponse, Explanation,
    PlacedExplanation, explain_request::Subject,
};

/// The most events of a job that are explained: each one's payload is read.
const EVENTS: usize = 20;

/// An event, from the view.
struct EventHistory {
    seq: u64,
    event: Event,
    planned: Vec<(Delivery, Vec<Attempt>)>,
    blocks: BTreeMap<String, RouteBlock>,
    conflicts: usize,
    /// The only route that gets it, if its job names one.
    only: Option<String>,
}

/// The subject of a request, checked.
enum Asked {
    Event(EventId, Caller),
    Job(EventFilter),
}

impl Cluster {
    /// Over all relays: a job's events may be of several tenants.
    pub(super) async fn explain(
        &self,
        caller: &Caller,
        request: ExplainRequest,
    ) -> Result<ExplainResponse, Error> {
        let own = explain(self.local(), caller, request.clone());
        let method = ClusterMethod::Explain;
        if !matches!(request.subject, Some(Subject::JobId(_))) {
            let part = self.find(caller, method, &request, own).await?;
            return Ok(merged([part], false));
        }
        let tenant = caller.narrow(&request.tenant)?;
        let all = self.gather(caller, method, &request, tenant.as_deref(), own).await?;
        match all.own {
            Err(error) if !error.is_not_found() => Err(error),
            Err(error) if all.others.is_empty() => Err(error.of_all(all.behind, all.missing)),
            own => Ok(merged(all.others.into_iter().chain(own), !all.missing.is_empty())),
        }
    }
}

/// The newest explanations of all parts. An event that two relays have, while its partition moves, is there once.
fn merged(parts: impl IntoIterator<Item = ExplainPart>, incomplete: bool) -> ExplainResponse {
    let (mut all, mut more) = (BTreeMap::new(), false);
    for part in parts {
        more |= part.more;
        all.extend(part.explanations.into_iter().map(|placed| (placed.event_seq, placed.explanation)));
    }
    more |= all.len() > EVENTS;
    let explanations = all.into_values().rev().take(EVENTS).flatten().collect();
    ExplainResponse { explanations, more, incomplete }
}

/// This relay's part.
pub(in crate::services) async fn explain(
    local: &Local,
    caller: &Caller,
    asked: ExplainRequest,
) -> Result<ExplainPart, Error> {
    let tenant = caller.narrow(&asked.tenant)?;
    let event = |id: EventId| Asked::Event(id, caller.clone());
    let (asked, only, subject) = match asked.subject {
        Some(Subject::EventId(id)) => (event(request::id(&id)?), None, format!("event {id}")),
        Some(Subject::DeliveryId(text)) => {
            let id: DeliveryId = request::id(&text)?;
            (event(id.event), Some(id.route), format!("delivery {text}"))
        }
        Some(Subject::JobId(job)) if !job.is_empty() => {
            let name: String = job.chars().take(request::LONGEST_ID).collect();
            let filter = EventFilter { tenant, job_id: Some(job), ..EventFilter::default() };
            (Asked::Job(filter), None, format!("job {name}"))
        }
        _ => {
            let message = "name what is to be explained: event_id, delivery_id or job_id";
            return Err(Error::Invalid(message.to_owned()));
        }
    };
    let own = local.own();
    let config = local.config();
    let (mut found, more) = local.read(move |connection| find(connection, &asked, &config)).await?;
    found.retain(|found| own.has_tenant(&found.event.tenant));
    let mut explanations = Vec::new();
    for found in found {
        let event_seq = found.seq;
        let mut explanation = explain_one(local, found).await?;
        if let Some(only) = only {
            explanation.routes.retain(|route| RouteKey::new(&route.route) == only);
        }
        if only.is_none() || !explanation.routes.is_empty() {
            explanations.push(PlacedExplanation { event_seq, explanation: Some(explanation) });
        }
    }
    if explanations.is_empty() {
        // An event is in the view once it is planned.
        return Err(Error::NeverCame { what: subject, behind: local.behind() });
    }
    Ok(ExplainPart { explanations, more })
}

fn find(
    connection: &Connection,
    asked: &Asked,
    config: &Config,
) -> rusqlite::Result<(Vec<EventHistory>, bool)> {
    let (events, more) = match asked {
        Asked::Event(id, caller) => {
            let seen = query::event(connection, *id)?.filter(|(_, event)| caller.sees(&event.tenant));
            (seen.into_iter().collect(), false)
        }
        Asked::Job(filter) => {
            let (events, end) = query::events(connection, filter, i64::MAX, Most::page(EVENTS))?;
            (events.into_iter().map(|(seq, event)| (seq.unsigned_abs(), event)).collect(), end.is_some())
        }
    };
    let found = |(seq, event): (u64, Event)| {
        let planned = query::histories_of(connection, seq)?.into_iter();
        let job = jobs::job(connection, &event.job_id, |job| job.tenant == event.tenant)?;
        Ok(EventHistory {
            seq,
            planned: planned.map(|history| (history.delivery, history.attempts)).collect(),
            blocks: blocks::blocks(connection, &event.tenant, config)?,
            conflicts: query::conflicts_of(connection, seq)?.len(),
            only: job.map(|job| job.route).filter(|route| !route.is_empty()),
            event,
        })
    };
    let events: Vec<(u64, Event)> = events;
    Ok((events.into_iter().map(found).collect::<rusqlite::Result<_>>()?, more))
}

async fn explain_one(local: &Local, found: EventHistory) -> Result<Explanation, Error> {
    let stored = local.bus.event_at(found.seq).await?;
    // Ingress has parsed it before. An unreadable payload counts as null, as in planning.
    let payload = stored.as_ref().map(|stored| parse(&stored.payload).ok());
    let payload = payload.as_ref().map(|read| read.as_ref().map_or(&Value::Null, |document| document.root()));
    let event_type =
        stored.as_ref().map_or_else(|| found.event.r#type.clone(), |stored| stored.r#type.clone());
    let config = local.config();
    let known = ExplainInput {
        event_type: &event_type,
        payload,
        tenant: config.tenants.get(&found.event.tenant).map(AsRef::as_ref),
        planned: found.planned,
        blocks: &found.blocks,
        conflicts: found.conflicts,
        only: found.only.as_deref(),
        event: found.event,
    };
    Ok(decide(known, local.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_explanations_of_all_relays_are_shown() {
        let part = |seqs: &[u64], more| {
            let placed = |seq: &u64| {
                let explanation = Explanation { summary: seq.to_string(), ..Explanation::default() };
                PlacedExplanation { event_seq: *seq, explanation: Some(explanation) }
            };
            ExplainPart { explanations: seqs.iter().map(placed).collect(), more }
        };
        let summaries = |response: &ExplainResponse| {
            response.explanations.iter().map(|it| it.summary.parse().unwrap()).collect::<Vec<u64>>()
        };
        let few = merged([part(&[9, 3], false), part(&[7, 3], false)], true);
        assert_eq!((summaries(&few), few.more, few.incomplete), (vec![9, 7, 3], false, true));
        let many: Vec<u64> = (0..15).map(|n| 2 * n).rev().collect();
        let other: Vec<u64> = (0..15).map(|n| 2 * n + 1).rev().collect();
        let cut = merged([part(&many, false), part(&other, false)], false);
        assert_eq!(summaries(&cut), (10..30).rev().collect::<Vec<u64>>());
        assert!(cut.more && !cut.incomplete);
        assert!(merged([part(&[1], true)], false).more);
    }
}
