//! A job: its ledger, if it was submitted or tracked here, its events and their deliveries.

use super::{conflicts_of, list, tables};
use crate::{
    Failure,
    args::Status,
    client::{self, JobClient, StatusClient, ask, ids},
    print::{
        self, Screen,
        delivery::conflict,
        job::{note_missing_event, show as show_ledger},
        wrapped,
    },
};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_proto::v1::{
    DeliveryFilter, EventConflict, Job, ListDeliveriesResponse, ListEventsRequest, ListEventsResponse,
};

/// All that is known of a job.
struct Found {
    ledger: Option<Job>,
    events: ListEventsResponse,
    deliveries: ListDeliveriesResponse,
    conflicts: Vec<EventConflict>,
}

/// Shows the job of this id, Talaria's or OpenRouter's.
pub(super) async fn show(
    relay: &mut StatusClient,
    config: &Path,
    id: &str,
    args: &Status,
) -> Result<(), Failure> {
    let id = ids::job(relay, id, args.filter.tenant.as_deref()).await?;
    let mut jobs = client::jobs(&args.ask, config).await?;
    let found = find(relay, &mut jobs, &id, args).await?;
    if found.is_nothing() {
        return Err(unknown(&id, found.events.incomplete));
    }
    if args.ask.json { Ok(found.json()?) } else { found.text(Screen::stdout(args.list.wide)) }
}

fn unknown(id: &str, incomplete: bool) -> Failure {
    if incomplete {
        return Failure::Unreachable(format!(
            "no job {id} is known to the relays that answer: some partitions have no owner at the moment, or it does not \
             answer; ask again soon"
        ));
    }
    Failure::Unknown(format!(
        "no job {id} is known: it never came, waits to be planned, or is not kept any more"
    ))
}

async fn find(
    relay: &mut StatusClient,
    jobs: &mut JobClient,
    id: &str,
    args: &Status,
) -> Result<Found, Failure> {
    let ledger = client::ledger(jobs, id, args.filter.tenant.as_deref()).await?;
    let mut filter = DeliveryFilter { job_id: id.to_owned(), ..DeliveryFilter::from(&args.filter) };
    if let Some(job) = &ledger {
        // Another tenant may have a job of the same id at OpenRouter.
        (filter.tenant, filter.job_id) = (job.tenant.clone(), job.openrouter_id.clone());
    }
    let mut found = Found {
        ledger,
        events: ListEventsResponse::default(),
        deliveries: ListDeliveriesResponse::default(),
        conflicts: Vec::new(),
    };
    // Without an id of OpenRouter's, nothing can have come. An empty one would restrict nothing.
    if filter.job_id.is_empty() {
        return Ok(found);
    }
    let request = ListEventsRequest {
        tenant: filter.tenant.clone(),
        job_id: filter.job_id.clone(),
        page_size: args.list.limit,
        ..ListEventsRequest::default()
    };
    found.events = ask(relay.list_events(request)).await?;
    if found.events.events.is_empty() {
        return Ok(found);
    }
    found.deliveries = list(relay, filter, args).await?;
    found.deliveries.incomplete |= found.events.incomplete;
    for event in &found.events.events {
        found.conflicts.extend(conflicts_of(relay, &event.id).await?);
    }
    Ok(found)
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.ledger.is_none() && self.events.events.is_empty()
    }

    fn json(&self) -> anyhow::Result<()> {
        let mut document = print::json(&self.events)?;
        print::merge(&mut document, print::json(&self.deliveries)?);
        let conflicts = self.conflicts.iter().map(print::json).collect::<Result<Vec<_>, _>>()?;
        print::merge(&mut document, serde_json::json!({ "conflicts": conflicts }));
        if let Some(job) = &self.ledger {
            print::merge(&mut document, serde_json::json!({ "job": print::json(job)? }));
        }
        Ok(writeln!(io::stdout(), "{document:#}")?)
    }

    fn text(&self, screen: Screen) -> Result<(), Failure> {
        print::warn_if_incomplete(self.deliveries.incomplete)?;
        let (events, mut out) = (&self.events.events, anstream::stdout());
        if let Some(job) = &self.ledger {
            show_ledger(&mut out, job, screen)?;
            if events.is_empty() {
                return Ok(note_missing_event(&mut out, job)?);
            }
            writeln!(out)?;
        }
        tables::events(events, screen)?;
        for found in &self.conflicts {
            let line = format!("{}: {}", screen.id(&found.event_id), conflict(found));
            writeln!(out, "{}", wrapped(&line, screen))?;
        }
        writeln!(out)?;
        Ok(tables::deliveries(&self.deliveries, screen)?)
    }
}
