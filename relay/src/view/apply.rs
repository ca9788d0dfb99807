//! Folds commits into rows.
//!
//! The deliveries of a batch are folded in memory, and each is written once: one that was planned, started and delivered
//! within the batch costs one row. All other records are written in the order of the journal, so that the later one of two
//! counts, whatever their times are. A commit before its partition's cursor is skipped.

mod carried;
mod counts;
mod direct;
mod row;
mod series;

use crate::view::schema::message;
pub(super) use counts::Counts;

use super::schema::{Attempts, job_key, span};
use crate::{decisions::fold::Folded, delivery_key::DeliveryKey};
use jiff::Timestamp;
use prost::Message as _;
use row::Row;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use series::Series;
use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use talaria_bus::{Committed, Partition};
use talaria_core::id::{DeliveryId, EventId, RouteKey};
use talaria_proto::{
    time::{from_proto, to_proto},
    v1::{Attempt, ControlKind, DeliveryRef, DeliveryStatus, Event, EventPlanned, Record, record::What},
};

/// The result of a batch.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The cursors after it.
    pub cursors: Vec<(Partition, u64)>,
    /// Partitions with events to remove.
    pub forgotten: Vec<Partition>,
}

/// Folds all of the commits, or none, and moves the cursors. The commits of each partition are in order.
pub(super) fn apply(connection: &mut Connection, commits: &[Committed]) -> rusqlite::Result<Applied> {
    let transaction = connection.transaction()?;
    let mut batch = Batch::new(&transaction)?;
    for commit in commits {
        batch.commit(commit)?;
    }
    let applied = batch.write()?;
    transaction.commit()?;
    Ok(applied)
}

struct Batch<'a> {
    connection: &'a Connection,
    insert_event: CachedStatement<'a>,
    select_delivery: CachedStatement<'a>,
    /// The commit that is folded.
    partition: u16,
    seq: u64,
    /// The number of actions in it so far.
    actions: u16,
    cursors: BTreeMap<Partition, Cursor>,
    /// By tenant and route.
    lanes: HashMap<(&'a str, &'a str), LaneKey>,
    deliveries: BTreeMap<DeliveryKey, Box<Row>>,
    /// The lowest and the highest event of each span of time.
    spans: BTreeMap<i64, (u64, u64)>,
    counts: Counts,
    series: Series<'a>,
    /// For encoded messages.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    seq: Option<u64>,
    /// Events whose base is before this commit were forgotten within the batch.
    forgotten: u64,
    /// Whether a commit was folded.
    moved: bool,
}

#[derive(Clone, Copy)]
struct LaneKey {
    number: i64,
    key: RouteKey,
}

impl<'a> Batch<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let insert_event =
            connection.prepare_cached("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        let select_delivery = connection.prepare_cached(
            "SELECT lane, state, step, started, started_at, delivery, attempts FROM deliveries
             WHERE event_seq = ? AND route = ?",
        )?;
        Ok(Self {
            connection,
            insert_event,
            select_delivery,
            partition: 0,
            seq: 0,
            actions: 0,
            cursors: BTreeMap::new(),
            lanes: HashMap::new(),
            deliveries: BTreeMap::new(),
            spans: BTreeMap::new(),
            counts: Counts::default(),
            series: Series::default(),
            buffer: Vec::new(),
        })
    }

    fn commit(&mut self, committed: &'a Committed) -> rusqlite::Result<()> {
        let cursor = match self.cursors.get_mut(&committed.partition) {
            Some(cursor) => cursor,
            None => {
                let select = "SELECT seq FROM cursors WHERE partition = ?";
                let mut statement = self.connection.prepare_cached(select)?;
                let stored =
                    statement.query_row([committed.partition.number()], |row| row.get(0)).optional()?;
                let cursor = Cursor { seq: stored.flatten(), ..Cursor::default() };
                self.cursors.entry(committed.partition).or_insert(cursor)
            }
        };
        if cursor.seq.is_some_and(|seq| seq >= committed.seq) {
            return Ok(());
        }
        (cursor.seq, cursor.moved) = (Some(committed.seq), true);
        (self.partition, self.seq, self.actions) = (committed.partition.number(), committed.seq, 0);
        for record in &committed.commit.records {
            if let Some(What::EventsForgotten(forgotten)) = &record.what {
                let cursor = self.cursors.entry(committed.partition).or_default();
                cursor.forgotten = cursor.forgotten.max(forgotten.before);
            } else {
                self.record(record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &'a Record) -> rusqlite::Result<()> {
        let at = from_proto(record.at.as_ref());
        let seq = record.event_seq;
        match &record.what {
            Some(What::EventPlanned(planned)) => self.planned(seq, planned, at),
            Some(What::AttemptStarted(started)) => {
                if let Some(row) = self.row(seq, started.delivery.as_ref(), at)? {
                    row.started = Some((started.number, at.as_microsecond()));
                }
                Ok(())
            }
            Some(What::AttemptFinished(finished)) => {
                let (status, attempt) = (finished.status.as_ref(), finished.attempt.as_ref());
                self.moved(seq, finished.delivery.as_ref(), at, status, attempt)
            }
            Some(What::DeliveryMoved(moved)) => {
                self.moved(seq, moved.delivery.as_ref(), at, moved.status.as_ref(), None)?;
                if moved.action.as_ref().is_some_and(|action| action.kind() == ControlKind::Replayed)
                    && let Some(row) = self.row(seq, moved.delivery.as_ref(), at)?
                {
                    row.folded.delivery.replayed_at = Some(to_proto(at));
                }
                moved.action.iter().try_for_each(|action| self.acted(seq, action, at))
            }
            Some(What::RunReported(reported)) => {
                if let Some(row) = self.row(seq, reported.delivery.as_ref(), at)? {
                    row.folded.delivery.run.clone_from(&reported.run);
                }
                Ok(())
            }
            Some(What::EventCarried(carried)) => self.carried(seq, carried, at),
            Some(What::EventRepeated(repeated)) => self.repeated(repeated, at),
            Some(What::CallbackQuarantined(callback)) => self.quarantined(callback, at),
            Some(What::RouteChanged(changed)) => self.route_changed(changed),
            Some(What::PauseChanged(changed)) => self.pause_changed(changed),
            Some(What::Acted(action)) => self.acted(seq, action, at),
            Some(What::ReplayJob(job)) => self.replay_job(job),
            Some(What::Job(job)) => self.job(job),
            Some(What::JobsForgotten(forgotten)) => self.jobs_forgotten(forgotten),
            Some(What::Opened(opened)) => self.opened(opened),
            // `None` is a record of a newer version; an update rebuilds the view.
            Some(What::Closed(_) | What::EventsForgotten(_) | What::NoticesTold(_)) | None => Ok(()),
        }
    }

    /// A delivery got another status, by an attempt or without one.
    fn moved(
        &mut self,
        seq: u64,
        named: Option<&'a DeliveryRef>,
        at: Timestamp,
        status: Option<&DeliveryStatus>,
        attempt: Option<&Attempt>,
    ) -> rusqlite::Result<()> {
        let Some(row) = self.row(seq, named, at)? else { return Ok(()) };
        let before = row.folded.delivery.state();
        row.started = None;
        if let Some(status) = status {
            row.folded.apply(status, at);
        }
        if let Some(attempt) = attempt {
            Attempts::push(&mut row.attempts, attempt);
        }
        let (state, latency) = (row.folded.delivery.state(), row.latency());
        let Some(named) = named else { return Ok(()) };
        let of = (self.partition, named.tenant.as_str(), named.route.as_str());
        if state != before {
            self.series.moved(of, at, state, latency);
        }
        if let Some(attempt) = attempt {
            self.series.attempt(of, at, attempt);
        }
        Ok(())
    }

    fn planned(&mut self, seq: u64, planned: &'a EventPlanned, at: Timestamp) -> rusqlite::Result<()> {
        let Some(event) = &planned.event else { return Ok(()) };
        let Some(id) = self.event(seq, event, !planned.routes.is_empty())? else { return Ok(()) };
        self.counts.cost(self.partition, event, &planned.routes);
        let received_at = from_proto(event.received_at.as_ref());
        for route in &planned.routes {
            let lane = self.lane(&event.tenant, route)?;
            self.series.took((self.partition, &event.tenant, route), received_at);
            let id = DeliveryId { event: id, route: lane.key }.to_string();
            let folded = Folded::planned(id, route, event, at);
            self.insert(seq, lane, Row::new(lane, folded));
        }
        Ok(())
    }

    /// Writes an event. Gives its id, if it has one.
    fn event(&mut self, seq: u64, event: &'a Event, matched: bool) -> rusqlite::Result<Option<EventId>> {
        let Ok(id) = event.id.parse::<EventId>() else { return Ok(None) };
        self.buffer.clear();
        if event.payload.is_empty() && event.media_urls.is_empty() {
            event.encode_raw(&mut self.buffer);
        } else {
            let shown = Event { payload: bytes::Bytes::new(), media_urls: Vec::new(), ..event.clone() };
            shown.encode_raw(&mut self.buffer);
        }
        let job = job_key(id.as_bytes());
        let row = (seq, self.partition, self.seq, job, &event.tenant, &self.buffer, !matched);
        self.insert_event.execute(row)?;
        let received_at = from_proto(event.received_at.as_ref());
        let (low, high) = self.spans.entry(span(received_at.as_microsecond())).or_insert((seq, seq));
        (*low, *high) = ((*low).min(seq), (*high).max(seq));
        self.counts.event(&event.tenant, matched, 1);
        self.series.event((self.partition, &event.tenant), received_at, matched);
        Ok(Some(id))
    }

    fn insert(&mut self, seq: u64, lane: LaneKey, row: Row) {
        self.deliveries.insert(DeliveryKey { event_seq: seq, route: lane.key.to_i64() }, Box::new(row));
    }

    /// The row of a delivery; `None` when its event is not known, because it was forgotten before this was folded.
    fn row(
        &mut self,
        seq: u64,
        named: Option<&'a DeliveryRef>,
        at: Timestamp,
    ) -> rusqlite::Result<Option<&mut Row>> {
        let Some(named) = named else { return Ok(None) };
        let lane = self.lane(&named.tenant, &named.route)?;
        let key = DeliveryKey { event_seq: seq, route: lane.key.to_i64() };
        if !self.deliveries.contains_key(&key) {
            let row = match self.stored(key)? {
                Some(row) => row,
                None => match self.stored_event(seq)? {
                    Some(event) => {
                        // An operator had the delivery planned later.
                        if !self.has_deliveries(seq)? {
                            let update = "UPDATE events SET unmatched = FALSE WHERE seq = ?";
                            self.connection.prepare_cached(update)?.execute([seq])?;
                            self.counts.matched(&event.tenant);
                        }
                        let of = (self.partition, named.tenant.as_str(), named.route.as_str());
                        self.series.took(of, from_proto(event.received_at.as_ref()));
                        let folded = Folded::planned(named.id.clone(), &named.route, &event, at);
                        Row::new(lane, folded)
                    }
                    None => return Ok(None),
                },
            };
            self.deliveries.insert(key, Box::new(row));
        }
        Ok(self.deliveries.get_mut(&key).map(AsMut::as_mut))
    }

    fn stored(&mut self, key: DeliveryKey) -> rusqlite::Result<Option<Row>> {
        let read = |row: &rusqlite::Row<'_>| {
            let started: Option<u32> = row.get(3)?;
            Ok(Row {
                lane: row.get(0)?,
                stored: Some(row.get(1)?),
                folded: Folded { step: row.get(2)?, delivery: message(row, 5)? },
                started: started.zip(row.get(4)?),
                attempts: row.get(6)?,
            })
        };
        self.select_delivery.query_row((key.event_seq, key.route), read).optional()
    }

    fn has_deliveries(&self, seq: u64) -> rusqlite::Result<bool> {
        let key = |route| DeliveryKey { event_seq: seq, route };
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM deliveries WHERE event_seq = ?")?;
        Ok(self.deliveries.range(key(i64::MIN)..=key(i64::MAX)).next().is_some()
            || statement.exists([seq])?)
    }

    fn stored_event(&self, seq: u64) -> rusqlite::Result<Option<Event>> {
        let mut statement = self.connection.prepare_cached("SELECT event FROM events WHERE seq = ?")?;
        statement.query_row([seq], |row| message(row, 0)).optional()
    }

    fn lane(&mut self, tenant: &'a str, route: &'a str) -> rusqlite::Result<LaneKey> {
        let entry = match self.lanes.entry((tenant, route)) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(entry) => entry,
        };
        let select = "SELECT lane FROM lanes WHERE tenant = ? AND route = ?";
        let known = self.connection.prepare_cached(select)?.query_row((tenant, route), |row| row.get(0));
        let number = match known.optional()? {
            Some(number) => number,
            None => {
                let insert = "INSERT INTO lanes (partition, tenant, route) VALUES (?, ?, ?) RETURNING lane";
                let mut statement = self.connection.prepare_cached(insert)?;
                statement.query_row((self.partition, tenant, route), |row| row.get(0))?
            }
        };
        Ok(*entry.insert(LaneKey { number, key: RouteKey::new(route) }))
    }

    fn write(mut self) -> rusqlite::Result<Applied> {
        self.write_deliveries()?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO spans VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET low = min(low, excluded.low), high = max(high, excluded.high)",
        )?;
        for (span, (low, high)) in self.spans {
            statement.execute((span, low, high))?;
        }
        self.counts.write(self.connection)?;
        self.series.write(self.connection, &mut self.buffer)?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO cursors VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET seq = excluded.seq, forgotten = max(forgotten, excluded.forgotten)",
        )?;
        let mut applied = Applied::default();
        for (partition, cursor) in self.cursors {
            let Some(seq) = cursor.seq.filter(|_| cursor.moved) else { continue };
            statement.execute((partition.number(), seq, cursor.forgotten))?;
            applied.cursors.push((partition, seq));
            if cursor.forgotten > 0 {
                applied.forgotten.push(partition);
            }
        }
        Ok(applied)
    }

    fn write_deliveries(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO deliveries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let mut update = self.connection.prepare_cached(
            "UPDATE deliveries SET lane = ?3, state = ?4, step = ?5, latency = ?6, started = ?7, started_at = ?8,
                                   delivery = ?9, attempts = ?10
             WHERE event_seq = ?1 AND route = ?2",
        )?;
        for (key, row) in std::mem::take(&mut self.deliveries) {
            let Folded { delivery, step } = &row.folded;
            self.buffer.clear();
            delivery.encode_raw(&mut self.buffer);
            let (started, started_at) = row.started.unzip();
            let statement = if row.stored.is_some() { &mut update } else { &mut insert };
            statement.execute((
                key.event_seq,
                key.route,
                row.lane,
                delivery.state,
                step,
                row.latency(),
                started,
                started_at,
                &self.buffer,
                &row.attempts,
            ))?;
            if let Some(stored) = row.stored {
                self.counts.delivery(row.lane, stored, -1);
            }
            self.counts.delivery(row.lane, delivery.state, 1);
        }
        Ok(())
    }
}
