//! Events, and their planning.

use super::{Embedded, store::Store};
use crate::{
    Error, Plan, Published, Stored,
    queue::DeliveryRow,
    sqlite::{limit, message},
    time,
};
use prost::Message as _;
use rusqlite::OptionalExtension as _;
use std::sync::Arc;
use talaria_core::id::EventId;
use talaria_proto::v1::{Event, Fact};

impl Embedded {
    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<Published, Error> {
        let id: EventId = event.id.parse().map_err(Error::new)?;
        let received_at = time::from_proto(event.received_at.as_ref()).as_microsecond();
        let bytes = event.encode_to_vec();
        match self.write_urgently(move |store| store.publish(id, received_at, &bytes, event)).await? {
            (seq, None) => Ok(Published::New { seq }),
            (seq, Some(stored)) => {
                let stored = Event::decode(stored.as_slice()).map_err(Error::new)?;
                Ok(Published::Duplicate { seq, payload_sha256: stored.payload_sha256 })
            }
        }
    }

    pub(crate) async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        if let Some(event) = self.inner.signals.newest_events.get(seq) {
            return Ok(Some(event));
        }
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT event FROM events WHERE seq = ?")?;
            statement.query_row([seq], |row| message(row, 0).map(Arc::new)).optional()
        })
        .await
    }

    pub(crate) async fn unplanned(&self, max: usize) -> Result<Vec<Stored>, Error> {
        let mut planned = self.inner.signals.planned.subscribe();
        let mut newest = self.inner.signals.events.subscribe();
        loop {
            let after = *planned.borrow_and_update();
            if newest.wait_for(|newest| *newest > after).await.is_err() {
                return Err(Error::new("the bus has stopped"));
            }
            if let Some((events, _)) = self.inner.signals.newest_events.after(after, max) {
                return Ok(events.into_iter().map(|(seq, event)| Stored { seq, event }).collect());
            }
            let events = self.read(move |connection| read_events(connection, after, max)).await?;
            // Empty when they were planned in the meantime.
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    pub(crate) async fn plan(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let rows = plans.into_iter().map(PlanRow::try_from).collect::<Result<Vec<_>, Error>>()?;
        self.write(move |store| rows.into_iter().try_for_each(|row| store.plan(row))).await
    }
}

fn read_events(connection: &rusqlite::Connection, after: u64, max: usize) -> rusqlite::Result<Vec<Stored>> {
    let query = "SELECT seq, event FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map((after, limit(max)), |row| {
        Ok(Stored { seq: row.get(0)?, event: Arc::new(message(row, 1)?) })
    })?;
    rows.collect()
}

/// A plan, ready to be written: whatever can be wrong with it was found before it meets others in a group.
struct PlanRow {
    seq: u64,
    facts: Vec<Fact>,
    deliveries: Vec<DeliveryRow>,
}

impl TryFrom<Plan> for PlanRow {
    type Error = Error;

    fn try_from(plan: Plan) -> Result<Self, Error> {
        let deliveries = plan.deliveries.into_iter().map(DeliveryRow::try_from).collect::<Result<_, _>>()?;
        Ok(Self { seq: plan.seq, facts: plan.facts, deliveries })
    }
}

impl Store {
    /// The event's place, and the stored event if there was one.
    fn publish(
        &mut self,
        id: EventId,
        received_at: i64,
        event: &[u8],
        stored: Arc<Event>,
    ) -> rusqlite::Result<(u64, Option<Vec<u8>>)> {
        if let Some(seq) = self.ids.get(id) {
            let mut statement = self.connection.prepare_cached("SELECT event FROM events WHERE seq = ?")?;
            return statement.query_row([seq], |row| Ok((seq, Some(row.get(0)?))));
        }
        let seq = self.last_event + 1;
        let insert = "INSERT INTO events VALUES (?, ?, ?)";
        self.connection.prepare_cached(insert)?.execute((seq, received_at, event))?;
        let insert = "INSERT INTO event_ids VALUES (?, ?)";
        self.connection.prepare_cached(insert)?.execute((seq, id.as_bytes()))?;
        self.ids.insert(id, seq);
        self.last_event = seq;
        self.new_events.push((seq, stored, event.len()));
        Ok((seq, None))
    }

    fn plan(&mut self, plan: PlanRow) -> rusqlite::Result<()> {
        if plan.seq <= self.last_planned {
            return Ok(());
        }
        self.append(plan.facts)?;
        for delivery in &plan.deliveries {
            self.queue.enqueue(&self.connection, delivery)?;
        }
        self.last_planned = plan.seq;
        self.set_mark("planned", plan.seq)
    }
}
