//! The watch: a snapshot of deliveries, then each change of one, in the order of the journal.
//!
//! A token is a sequence of the journal, which all partitions share. A watch reads the journal itself, so it needs no owner, and
//! goes on while partitions move. A client that resumes with a token, at any relay, gets the changes after it: none is missed
//! and none comes twice, as long as the journal still reaches back to the token.
//!
//! The snapshot is a list over all relays. Each relay gives its part after its view has all commits up to the one at which the
//! changes begin. Changes during the snapshot come again after it.

use super::{StatusServer, request};
use crate::{
    decisions::fold::Folded,
    services::{access::Pass, error::Error, local::Local, page_token},
    view::{filter::DeliveryFilter, query},
};
use std::collections::HashMap;
use talaria_bus::Committed;
use talaria_core::id::DeliveryId;
use talaria_proto::{
    time::from_proto,
    v1::{
        self, Attempt, Delivery, DeliveryRef, DeliveryStatus, Event, ListDeliveriesRequest, Record,
        WatchDeliveriesRequest, WatchDeliveriesResponse, WatchKind, record::What,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The most messages that wait for a slow reader.
const QUEUE: usize = 64;

/// The most commits or deliveries in one read.
const BATCH: u16 = 256;

/// The most events whose facts are cached.
const REMEMBERED: usize = 10_000;

/// The kind of the tokens.
const KIND: &str = "w";

type Message = Result<WatchDeliveriesResponse, Status>;

/// The end of a watch.
enum End {
    /// The reader has gone.
    Gone,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<talaria_bus::Error> for End {
    fn from(error: talaria_bus::Error) -> Self {
        Error::from(error).into()
    }
}

pub(super) async fn watch(
    server: StatusServer,
    pass: Pass,
    asked: WatchDeliveriesRequest,
) -> Result<ReceiverStream<Message>, Error> {
    let resume = page_token::read::<u64>(KIND, &asked.resume_token)?;
    let named = asked.filter.unwrap_or_default();
    let filter = request::delivery_filter(named.clone(), pass.caller())?;
    if let Some(token) = resume {
        let bounds = server.cluster.local().bus.bounds().await?;
        if token > bounds.last_commit || token + 1 < bounds.first_commit {
            return Err(Error::TokenTooOld);
        }
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    let facts = FactsCache::default();
    let mut watch = Watch { server, pass: pass.clone(), named, filter, sender, facts };
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = watch.run(resume, asked.changes_only) => ended,
            () = pass.revoked() => Err(Error::Revoked.into()),
        };
        if let Err(End::Failed(error)) = ended {
            // The reader may have gone.
            let _ = watch.sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

struct Watch {
    server: StatusServer,
    pass: Pass,
    /// The requested filter, for the snapshot, and the checked one.
    named: v1::DeliveryFilter,
    filter: DeliveryFilter,
    sender: mpsc::Sender<Message>,
    facts: FactsCache,
}

impl Watch {
    fn local(&self) -> &Local {
        self.server.cluster.local()
    }

    async fn run(&mut self, resume: Option<u64>, changes_only: bool) -> Result<(), End> {
        let after = match resume {
            Some(token) => token,
            None => {
                // Before the snapshot: changes during it come again.
                let last = self.local().bus.bounds().await?.last_commit;
                let incomplete = if changes_only { false } else { self.snapshot(last).await? };
                let done = WatchDeliveriesResponse {
                    kind: WatchKind::SnapshotDone.into(),
                    token: page_token::write(KIND, &last),
                    incomplete,
                    ..WatchDeliveriesResponse::default()
                };
                self.send(done).await?;
                last
            }
        };
        self.changes(after).await
    }

    /// Whether it was incomplete.
    async fn snapshot(&self, last: u64) -> Result<bool, End> {
        let mut incomplete = false;
        let mut page_token = String::new();
        loop {
            let request = ListDeliveriesRequest {
                filter: Some(self.named.clone()),
                page_size: BATCH.into(),
                page_token,
            };
            let page = self.server.cluster.list(self.pass.caller(), request, last).await?;
            incomplete |= page.incomplete;
            for delivery in page.items {
                let message = WatchDeliveriesResponse {
                    kind: WatchKind::Snapshot.into(),
                    delivery: Some(delivery),
                    ..WatchDeliveriesResponse::default()
                };
                self.send(message).await?;
            }
            if page.next_page_token.is_empty() {
                return Ok(incomplete);
            }
            page_token = page.next_page_token;
        }
    }

    async fn changes(&mut self, after: u64) -> Result<(), End> {
        let mut following = self.local().bus.commits(after).await?;
        loop {
            let commits = tokio::select! {
                () = self.sender.closed() => return Err(End::Gone),
                () = self.server.stop.cancelled() => {
                    return Err(Error::Stopping.into());
                }
                commits = following.next(BATCH.into()) => commits?,
            };
            for Committed { seq, commit, .. } in commits {
                for record in &commit.records {
                    if let Some(event) = self.unmatched(record) {
                        self.send(WatchDeliveriesResponse {
                            kind: WatchKind::Unmatched.into(),
                            event: Some(event),
                            token: page_token::write(KIND, &seq),
                            ..WatchDeliveriesResponse::default()
                        })
                        .await?;
                    }
                    for change in self.changes_of(record).await? {
                        self.send(WatchDeliveriesResponse {
                            kind: WatchKind::Change.into(),
                            delivery: Some(change.delivery),
                            attempt: change.attempt,
                            token: page_token::write(KIND, &seq),
                            ..WatchDeliveriesResponse::default()
                        })
                        .await?;
                    }
                }
            }
        }
    }

    /// The event of a record, if no route took it and the filter matches.
    fn unmatched(&self, record: &Record) -> Option<Event> {
        let Some(What::EventPlanned(planned)) = &record.what else { return None };
        let event = planned.event.as_ref().filter(|_| planned.routes.is_empty())?;
        self.filter.includes_unmatched(event).then(|| event.clone())
    }

    /// The changes of a record to matching deliveries.
    async fn changes_of(&mut self, record: &Record) -> Result<Vec<DeliveryChange>, End> {
        if let Some(What::EventPlanned(planned)) = &record.what
            && let Some(event) = &planned.event
        {
            self.facts.remember(record.event_seq, EventFacts::of(event));
        }
        let mut changes = changes(record);
        // The record alone excludes most deliveries.
        changes.retain(|change| self.filter.might_match(&change.delivery));
        for change in changes.iter_mut().filter(|change| change.lacks_facts) {
            let facts = self.facts_of(record.event_seq, &change.delivery).await?;
            facts.add_to(&mut change.delivery);
        }
        changes.retain(|change| self.filter.matches(&change.delivery, change.attempt.as_ref()));
        Ok(changes)
    }

    /// The event's facts, from the view or from the event; empty if it is not kept any more.
    async fn facts_of(&mut self, event_seq: u64, delivery: &Delivery) -> Result<EventFacts, Error> {
        if let Some(known) = self.facts.of(event_seq) {
            return Ok(known);
        }
        let id = delivery.id.parse::<DeliveryId>().ok();
        let row = match id {
            Some(id) if self.local().owner_of(&delivery.tenant).is_ok() => {
                let route = id.route.to_i64();
                self.local().read(move |connection| query::delivery_at(connection, event_seq, route)).await?
            }
            _ => None,
        };
        let facts = match row {
            Some(row) => EventFacts {
                event_type: row.event_type,
                job_id: row.job_id,
                model: row.model,
                received_at: row.received_at,
            },
            None => match self.local().bus.event_at(event_seq).await? {
                Some(event) => EventFacts::of(&event),
                None => EventFacts::default(),
            },
        };
        self.facts.remember(event_seq, facts.clone());
        Ok(facts)
    }

    async fn send(&self, message: WatchDeliveriesResponse) -> Result<(), End> {
        self.sender.send(Ok(message)).await.map_err(|_| End::Gone)
    }
}

/// The fields of an event that are shown with its deliveries and are not in their records.
#[derive(Clone, Debug, Default, PartialEq)]
struct EventFacts {
    event_type: String,
    job_id: String,
    model: Option<String>,
    received_at: Option<prost_types::Timestamp>,
}

impl EventFacts {
    fn of(event: &Event) -> Self {
        Self {
            event_type: event.r#type.clone(),
            job_id: event.job_id.clone(),
            model: event.model.clone(),
            received_at: event.received_at,
        }
    }

    fn add_to(self, delivery: &mut Delivery) {
        (delivery.event_type, delivery.job_id, delivery.model) = (self.event_type, self.job_id, self.model);
        delivery.received_at = self.received_at.or(delivery.received_at);
    }
}

/// A cache in two generations: when the younger one is full, it replaces the older one.
#[derive(Default)]
struct FactsCache {
    young: HashMap<u64, EventFacts>,
    old: HashMap<u64, EventFacts>,
}

impl FactsCache {
    fn of(&self, event_seq: u64) -> Option<EventFacts> {
        self.young.get(&event_seq).or_else(|| self.old.get(&event_seq)).cloned()
    }

    fn remember(&mut self, event_seq: u64, facts: EventFacts) {
        if self.young.len() >= REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(event_seq, facts);
    }
}

#[derive(Debug, PartialEq)]
struct DeliveryChange {
    delivery: Delivery,
    attempt: Option<Attempt>,
    /// Whether the record lacks the event's facts.
    lacks_facts: bool,
}

/// The deliveries of a record, as they were after it. The start of an attempt and a carried event change nothing that is shown.
fn changes(record: &Record) -> Vec<DeliveryChange> {
    let at = from_proto(record.at.as_ref());
    let changed =
        |named: Option<&DeliveryRef>, status: Option<&DeliveryStatus>, attempt: Option<&Attempt>| {
            let (Some(named), Some(status)) = (named, status) else { return Vec::new() };
            let event_id = named.id.parse::<DeliveryId>().map(|id| id.event.to_string());
            let delivery = Delivery {
                id: named.id.clone(),
                event_id: event_id.unwrap_or_default(),
                tenant: named.tenant.clone(),
                route: named.route.clone(),
                ..Delivery::default()
            };
            let mut folded = Folded { delivery, step: 0 };
            folded.apply(status, at);
            vec![DeliveryChange { delivery: folded.delivery, attempt: attempt.cloned(), lacks_facts: true }]
        };
    match &record.what {
        Some(What::EventPlanned(planned)) => {
            let event = planned.event.clone().unwrap_or_default();
            let Ok(event_id) = event.id.parse() else { return Vec::new() };
            let of_route = |route: &String| {
                let id = DeliveryId::new(event_id, route).to_string();
                let delivery = Folded::planned(id, route, &event, at).delivery;
                DeliveryChange { delivery, attempt: None, lacks_facts: false }
            };
            planned.routes.iter().map(of_route).collect()
        }
        Some(What::AttemptFinished(finished)) => {
            changed(finished.delivery.as_ref(), finished.status.as_ref(), finished.attempt.as_ref())
        }
        Some(What::DeliveryMoved(moved)) => changed(moved.delivery.as_ref(), moved.status.as_ref(), None),
        Some(What::RunReported(reported)) => {
            let mut changes = changed(reported.delivery.as_ref(), reported.status.as_ref(), None);
            for change in &mut changes {
                change.delivery.run.clone_from(&reported.run);
            }
            changes
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
