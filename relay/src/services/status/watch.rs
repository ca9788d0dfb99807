//! The stream of changes: what is now, then every record about a delivery, as the journal has them.
//!
//! A token is a place in the journal. Whoever resumes with one reads on behind it, so nothing is missed and
//! nothing comes twice, as long as the journal still has that place.

use super::{StatusServer, request};
use crate::{services::access::Pass, view::query::{self, DeliveryFilter, TOP}};
use std::{collections::HashMap, sync::Arc};
use talaria_bus::time::from_proto;
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{
    Attempt, Delivery, DeliveryRef, Record, DeliveryStatus, WatchDeliveriesRequest, WatchDeliveriesResponse,
    WatchKind, record::What,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How many messages may wait for a slow reader before it is waited for.
const AHEAD: usize = 64;

/// How many records or deliveries are read in one go.
const BATCH: usize = 256;

type Message = Result<WatchDeliveriesResponse, Status>;

/// Why a watch ends: the reader has gone, or something has failed and he should know.
enum End {
    Gone,
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

pub(super) async fn watch(
    server: StatusServer,
    pass: Pass,
    asked: WatchDeliveriesRequest,
) -> Result<ReceiverStream<Message>, Status> {
    let resume = request::watch_place(&asked.resume_token)?;
    let filter = request::delivery_filter(asked.filter.unwrap_or_default(), pass.caller())?;
    if let Some(place) = resume {
        let bounds =
            server.bus.journal_bounds().await.map_err(|error| Status::unavailable(error.to_string()))?;
        if place > bounds.newest || place + 1 < bounds.oldest {
            return Err(Status::out_of_range(
                "the journal does not reach back to this token; watch without one",
            ));
        }
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    let mut watch = Watch { server, filter, sender };
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = watch.run(resume, asked.changes_only) => ended,
            () = pass.revoked() => Err(Status::unauthenticated("who may ask was changed: ask again").into()),
        };
        if let Err(End::Failed(status)) = ended {
            let _ = watch.sender.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

struct Watch {
    server: StatusServer,
    filter: DeliveryFilter,
    sender: mpsc::Sender<Message>,
}

impl Watch {
    async fn run(&mut self, resume: Option<u64>, changes_only: bool) -> Result<(), End> {
        let place = match resume {
            Some(place) => place,
            None => {
                // Taken first: what changes during the snapshot comes again behind it.
                let place = *self.server.view.position().borrow();
                if !changes_only {
                    self.snapshot().await?;
                }
                self.send(WatchKind::SnapshotDone, None, None, place).await?;
                place
            }
        };
        self.changes(place).await
    }

    async fn snapshot(&self) -> Result<(), End> {
        let mut below = TOP;
        loop {
            let filter = self.filter.clone();
            let ask = self.server.ask(move |connection| query::deliveries(connection, &filter, below, BATCH));
            let (page, more) = ask.await?;
            for (place, delivery) in page {
                below = place;
                let message = WatchDeliveriesResponse {
                    kind: WatchKind::Snapshot.into(),
                    delivery: Some(delivery),
                    ..WatchDeliveriesResponse::default()
                };
                self.sender.send(Ok(message)).await.map_err(|_| End::Gone)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn changes(&self, mut place: u64) -> Result<(), End> {
        loop {
            let records = tokio::select! {
                () = self.sender.closed() => return Err(End::Gone),
                () = self.server.stop.cancelled() => {
                    return Err(Status::unavailable("the relay is stopping; resume with the last token").into());
                }
                records = self.server.bus.journal(place, BATCH) => records.map_err(|error| Status::unavailable(error.to_string()))?,
            };
            place = records.through;
            let records = records.records;
            if records.is_empty() {
                continue;
            }
            // The view tells what the records leave out, so it has to have come as far.
            crate::projector::caught_up(self.server.view.position(), place).await;
            let known = self.known(&records).await?;
            for (place, record) in &records {
                for change in changes(record, &known) {
                    if self.filter.matches(&change.delivery) {
                        self.send(WatchKind::Change, Some(change.delivery), change.attempt, *place).await?;
                    }
                }
            }
        }
    }

    /// The deliveries that the records speak of, as the view has them now.
    async fn known(&self, records: &[(u64, Arc<Record>)]) -> Result<HashMap<String, Delivery>, Status> {
        let ids: Vec<DeliveryId> = records.iter().flat_map(|(_, record)| spoken_of(record)).collect();
        let read = move |connection: &rusqlite::Connection| {
            let mut known = HashMap::new();
            for id in ids {
                known
                    .extend(query::delivery(connection, id)?.map(|delivery| (delivery.id.clone(), delivery)));
            }
            Ok(known)
        };
        self.server.ask(read).await
    }

    async fn send(
        &self,
        kind: WatchKind,
        delivery: Option<Delivery>,
        attempt: Option<Attempt>,
        place: u64,
    ) -> Result<(), End> {
        let token = request::watch_token(place);
        let message = WatchDeliveriesResponse { kind: kind.into(), delivery, attempt, token };
        self.sender.send(Ok(message)).await.map_err(|_| End::Gone)
    }
}

struct Change {
    delivery: Delivery,
    attempt: Option<Attempt>,
}

fn spoken_of(record: &Record) -> Vec<DeliveryId> {
    match &record.what {
        Some(What::EventPlanned(planned)) => {
            let event = planned.event.as_ref().and_then(|event| event.id.parse().ok());
            event.map_or(Vec::new(), |event| {
                planned.routes.iter().map(|route| DeliveryId::new(event, route)).collect()
            })
        }
        Some(What::AttemptFinished(finished)) => id_of(finished.delivery.as_ref()),
        Some(What::DeliveryMoved(moved)) => id_of(moved.delivery.as_ref()),
        _ => Vec::new(),
    }
}

fn id_of(delivery: Option<&DeliveryRef>) -> Vec<DeliveryId> {
    delivery.and_then(|delivery| delivery.id.parse().ok()).into_iter().collect()
}

/// The deliveries of a record, each as it stood after it: the view may know more already.
fn changes(record: &Record, known: &HashMap<String, Delivery>) -> Vec<Change> {
    let at = from_proto(record.at.as_ref());
    let stood = |delivery: Option<&DeliveryRef>, status: Option<&DeliveryStatus>, attempt: Option<&Attempt>| {
        let known = delivery.and_then(|delivery| known.get(&delivery.id));
        let (Some(known), Some(status)) = (known, status) else { return Vec::new() };
        let mut folded = crate::decisions::fold::Folded { delivery: known.clone(), step: 0 };
        folded.stand(status, at);
        vec![Change { delivery: folded.delivery, attempt: attempt.cloned() }]
    };
    match &record.what {
        Some(What::EventPlanned(planned)) => {
            let known = spoken_of(record).into_iter().filter_map(|id| known.get(&id.to_string()));
            let planned = |delivery: &Delivery| {
                let named = DeliveryRef {
                    id: delivery.id.clone(),
                    tenant: delivery.tenant.clone(),
                    route: delivery.route.clone(),
                };
                let mut folded = crate::decisions::fold::Folded::new(&named);
                folded.plan(planned.event.as_ref()?, at);
                Some(Change { delivery: folded.delivery, attempt: None })
            };
            known.filter_map(planned).collect()
        }
        Some(What::AttemptFinished(finished)) => {
            stood(finished.delivery.as_ref(), finished.status.as_ref(), finished.attempt.as_ref())
        }
        Some(What::DeliveryMoved(moved)) => stood(moved.delivery.as_ref(), moved.status.as_ref(), None),
        _ => Vec::new(),
    }
}
