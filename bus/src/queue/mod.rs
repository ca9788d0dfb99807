//! The work queue, as rows of a SQLite file. Both backends keep theirs with it.
//!
//! A delivery is a row with a time at which it is due. Holding it moves that time to the end of the lease, so a
//! holder that vanishes is nothing special: the row comes due again, and what is left of the lease says that
//! somebody had it.
//!
//! Nothing here begins or commits a transaction, and nothing here asks the clock.

mod lanes;

pub(crate) use lanes::Lanes;

use crate::{
    Error, LEASE, Lane, Lease, Leased, Survey,
    sqlite::{limit, message},
    time,
};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::DeliveryTask;

/// So many of one lane are taken before the next lane has its turn.
const TURN: usize = 16;

pub(crate) const TABLES: &str = "
-- Tenants' routes, by a short number.
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
    UNIQUE (tenant, route)
);
-- One row a delivery that waits or is held. While it is held, `due` is the end of the lease.
CREATE TABLE deliveries (
    event_seq INTEGER NOT NULL,
    route INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    due INTEGER NOT NULL,
    lease INTEGER,
    task BLOB NOT NULL,
    PRIMARY KEY (event_seq, route)
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (lane, due);
";

/// A delivery, ready to be written.
pub(crate) struct DeliveryRow {
    lane: Lane,
    key: Key,
    due: i64,
    task: Vec<u8>,
}

impl TryFrom<DeliveryTask> for DeliveryRow {
    type Error = Error;

    fn try_from(task: DeliveryTask) -> Result<Self, Error> {
        let id: DeliveryId = task.delivery_id.parse().map_err(Error::new)?;
        Ok(Self {
            lane: Lane { tenant: task.tenant.as_str().into(), route: task.route.as_str().into() },
            key: (task.event_seq, id.route.to_i64()),
            due: due(&task),
            task: task.encode_to_vec(),
        })
    }
}

/// A row: the event's place, and the route's key.
pub(crate) type Key = (u64, i64);

/// When a task is due, in microseconds since 1970.
pub(crate) fn due(task: &DeliveryTask) -> i64 {
    time::micros(time::from_proto(task.due_at.as_ref()))
}

/// A row that was taken.
pub(crate) struct Taken {
    pub lease: Lease,
    pub term: u64,
    pub interrupted: bool,
    pub task: Vec<u8>,
}

impl Taken {
    /// A row that cannot be read stays held, so that it stands in nobody's way.
    pub(crate) fn read(self) -> Option<Leased> {
        match DeliveryTask::decode(self.task.as_slice()) {
            Ok(task) => {
                let Self { lease, term, interrupted, .. } = self;
                Some(Leased { lease, task, interrupted, term })
            }
            Err(error) => {
                tracing::error!(%error, event_seq = self.lease.event_seq, "a delivery cannot be read");
                None
            }
        }
    }
}

/// What may be taken.
pub(crate) struct Choice {
    /// Rows that are due, in the order in which they should go out.
    pub keys: Vec<Key>,
    /// When to look again, if there are none.
    pub next_due: Timestamp,
}

/// When a lease that begins now is over.
pub(crate) fn lease_end(now: Timestamp) -> Timestamp {
    time::after(now, LEASE)
}

/// The queue. Its rows are in a connection that is passed in; what is known of them without asking is here.
#[derive(Default)]
pub(crate) struct Queue {
    pub lanes: Lanes,
    /// Whether somebody who waits for deliveries should look again.
    pub changed: bool,
}

impl Queue {
    pub(crate) fn enqueue(
        &mut self,
        connection: &Connection,
        delivery: &DeliveryRow,
    ) -> rusqlite::Result<()> {
        let lane = self.lanes.number(connection, &delivery.lane)?;
        let insert = "INSERT INTO deliveries VALUES (?, ?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING";
        let (event_seq, route) = delivery.key;
        let row = (event_seq, route, lane, delivery.due, &delivery.task);
        connection.prepare_cached(insert)?.execute(row)?;
        self.lanes.expect(lane, delivery.due);
        self.changed = true;
        Ok(())
    }

    /// What is due now, within the lanes' windows. Tenants take turns, so that one with many routes and a long backlog
    /// has no more of them than another; so do a tenant's lanes, and of a lane the longest waiting go first.
    pub(crate) fn choose(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        max: usize,
    ) -> rusqlite::Result<Choice> {
        let now = now.as_microsecond();
        let mut keys = Vec::new();
        // By how many turns the tenant and the lane have had, and since when something is due.
        let mut waiting: BinaryHeap<_> =
            self.lanes.due(now).map(|(due, lane)| Reverse((0, 0, due, lane))).collect();
        let (mut turns, mut chosen) = (HashMap::new(), HashMap::new());
        let mut select = connection.prepare_cached(
            "SELECT event_seq, route FROM deliveries WHERE lane = ? AND due <= ? ORDER BY due LIMIT ? OFFSET ?",
        )?;
        while keys.len() < max
            && let Some(Reverse((of_tenant, of_lane, due, lane))) = waiting.pop()
        {
            let Some(tenant) = self.lanes.tenant(lane) else { continue };
            let had: &mut usize = turns.entry(tenant).or_default();
            if *had != of_tenant {
                // Another lane of the tenant had its turn meanwhile.
                waiting.push(Reverse((*had, of_lane, due, lane)));
                continue;
            }
            let already: &mut usize = chosen.entry(lane).or_default();
            let room = self.lanes.room(lane, now).saturating_sub(*already);
            let turn = room.min(TURN).min(max - keys.len());
            if turn == 0 {
                continue;
            }
            let rows = select
                .query_map((lane, now, limit(turn), limit(*already)), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<Key> = rows.collect::<Result<_, _>>()?;
            if rows.is_empty() && *already == 0 {
                self.lanes.look(connection, lane)?;
            }
            if rows.len() == turn {
                waiting.push(Reverse((of_tenant + 1, of_lane + 1, due, lane)));
            }
            *had += usize::from(!rows.is_empty());
            *already += rows.len();
            keys.extend(rows);
        }
        let next_due = self.lanes.next_due();
        Ok(Choice { keys, next_due: Timestamp::from_microsecond(next_due).unwrap_or(Timestamp::MAX) })
    }

    /// Holds a row if it is due, or if it is to be held early and nobody holds it.
    pub(crate) fn hold(
        &mut self,
        connection: &Connection,
        lease: Lease,
        now: Timestamp,
        early: bool,
    ) -> rusqlite::Result<Option<Taken>> {
        let select = "SELECT lane, lease IS NOT NULL, task FROM deliveries
                      WHERE event_seq = ? AND route = ? AND (due <= ? OR (? AND lease IS NULL))";
        let row = connection
            .prepare_cached(select)?
            .query_row((lease.event_seq, lease.route, now.as_microsecond(), early), |row| {
                Ok((row.get(0)?, Taken { lease, term: 0, interrupted: row.get(1)?, task: row.get(2)? }))
            })
            .optional()?;
        let Some((lane, taken)) = row else { return Ok(None) };
        let end = lease_end(now).as_microsecond();
        connection
            .prepare_cached("UPDATE deliveries SET due = ?, lease = ? WHERE event_seq = ? AND route = ?")?
            .execute((end, lease.token, lease.event_seq, lease.route))?;
        self.lanes.went_out(lane, (lease.event_seq, lease.route), end);
        Ok(Some(Taken { term: self.lanes.term(lane), ..taken }))
    }

    /// Makes due at once what is held by leases of which `is_over` says so. What is left of them says that somebody had it.
    pub(crate) fn interrupt(
        &mut self,
        connection: &Connection,
        is_over: impl Fn(i64) -> bool,
    ) -> rusqlite::Result<()> {
        let mut lease_of = connection.prepare_cached(
            "SELECT lease FROM deliveries WHERE event_seq = ? AND route = ? AND lease IS NOT NULL",
        )?;
        let mut make_due =
            connection.prepare_cached("UPDATE deliveries SET due = 0 WHERE event_seq = ? AND route = ?")?;
        for (lane, key) in self.lanes.out() {
            if lease_of.query_row(key, |row| row.get(0)).optional()?.is_some_and(&is_over) {
                make_due.execute(key)?;
                self.lanes.came_back(lane, key);
                self.lanes.expect(lane, 0);
                self.changed = true;
            }
        }
        Ok(())
    }

    /// After rows were held: reads anew what is due first in their lanes.
    pub(crate) fn look_again(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for lane in self.lanes.take_touched() {
            self.lanes.look(connection, lane)?;
        }
        Ok(())
    }

    /// Ends a delivery, if the lease is valid.
    pub(crate) fn remove(&mut self, connection: &Connection, lease: Lease) -> rusqlite::Result<()> {
        let delete = "DELETE FROM deliveries WHERE event_seq = ? AND route = ? AND lease = ? RETURNING lane";
        let lane = connection
            .prepare_cached(delete)?
            .query_row((lease.event_seq, lease.route, lease.token), |row| row.get(0))
            .optional()?;
        if let Some(lane) = lane {
            self.came_back(lane, lease);
        }
        Ok(())
    }

    /// Lets a delivery go until it is due, if the lease is valid.
    pub(crate) fn put_back(
        &mut self,
        connection: &Connection,
        lease: Lease,
        due: i64,
        task: Option<&DeliveryTask>,
    ) -> rusqlite::Result<()> {
        let update = "UPDATE deliveries SET due = ?, lease = NULL, task = coalesce(?, task)
                      WHERE event_seq = ? AND route = ? AND lease = ? RETURNING lane";
        let task = task.map(prost::Message::encode_to_vec);
        let lane = connection
            .prepare_cached(update)?
            .query_row((due, task, lease.event_seq, lease.route, lease.token), |row| row.get(0))
            .optional()?;
        if let Some(lane) = lane {
            self.came_back(lane, lease);
            self.lanes.expect(lane, due);
        }
        Ok(())
    }

    fn came_back(&mut self, lane: i64, lease: Lease) {
        self.lanes.came_back(lane, (lease.event_seq, lease.route));
        self.changed = true;
    }
}

/// What is found in a lane's rows that nobody holds, and how many of them others hold.
pub(crate) fn survey<T>(
    connection: &Connection,
    lane: &Lane,
    is_ours: impl Fn(i64) -> bool,
    find: impl Fn(&DeliveryTask) -> Option<T>,
) -> rusqlite::Result<Survey<T>> {
    let mut survey = Survey { found: Vec::new(), held_elsewhere: 0 };
    let select = "SELECT task, lease, due FROM deliveries
                  WHERE lane = (SELECT lane FROM lanes WHERE tenant = ? AND route = ?) ORDER BY due";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query((&*lane.tenant, &*lane.route))?;
    while let Some(row) = rows.next()? {
        match row.get::<_, Option<i64>>(1)? {
            None => survey.found.extend(find(&message(row, 0)?)),
            // What was interrupted is due at once and says so itself.
            Some(token) => {
                survey.held_elsewhere += usize::from(row.get::<_, i64>(2)? != 0 && !is_ours(token));
            }
        }
    }
    Ok(survey)
}
