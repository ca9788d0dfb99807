//! The work queue.
//!
//! A delivery is a row with a time at which it is due. Taking it moves that time to the end of the lease, so a
//! holder that vanishes is nothing special: the row comes due again.
//!
//! Which lane is due is known without asking ([`Lanes`]): for each lane a time before which nothing of it can be
//! due. It may be too early, never too late; whoever looks in vain corrects it.

use super::{Embedded, store::Store};
use crate::{Error, LEASE, Lane, Lease, Leased, Windows, sqlite::limit, time};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::Connection;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use talaria_core::id::DeliveryId;
use talaria_proto::v1::{DeliveryTask, Fact};
use tokio_util::sync::CancellationToken;

/// So many of one lane are taken before the next lane has its turn.
const TURN: usize = 16;

impl Embedded {
    pub(crate) async fn set_windows(&self, windows: Windows) -> Result<(), Error> {
        self.write(move |store| {
            store.lanes.windows = windows;
            store.deliveries_changed = true;
            Ok(())
        })
        .await
    }

    pub(crate) async fn take(&self, max: usize, stop: &CancellationToken) -> Result<Vec<Leased>, Error> {
        let clock = &self.inner.clock;
        while !stop.is_cancelled() {
            // Registered before the look, so that nothing that comes in between is missed.
            let mut changed = std::pin::pin!(self.inner.signals.deliveries.notified());
            changed.as_mut().enable();
            let now = clock.now();
            let (taken, next_due) = self.write(move |store| store.take(now, max)).await?;
            // A row that cannot be read stays held, so that it stands in nobody's way.
            let taken: Vec<Leased> = taken.into_iter().filter_map(Taken::read).collect();
            if !taken.is_empty() {
                return Ok(taken);
            }
            tokio::select! {
                () = changed => {}
                () = clock.sleep_towards(next_due) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(Vec::new())
    }

    pub(crate) async fn settle(&self, lease: Lease, facts: Vec<Fact>) -> Result<(), Error> {
        self.write(move |store| {
            store.append(facts)?;
            store.remove(lease)
        })
        .await
    }

    pub(crate) async fn later(
        &self,
        lease: Lease,
        task: DeliveryTask,
        facts: Vec<Fact>,
    ) -> Result<(), Error> {
        self.write(move |store| {
            store.append(facts)?;
            store.put_back(lease, due(&task), Some(&task))
        })
        .await
    }

    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let now = self.inner.clock.now().as_microsecond();
        self.write(move |store| store.put_back(lease, now, None)).await
    }
}

/// A delivery, ready to be written.
pub(super) struct DeliveryRow {
    lane: Lane,
    event_seq: u64,
    route: i64,
    due: i64,
    task: Vec<u8>,
}

impl TryFrom<DeliveryTask> for DeliveryRow {
    type Error = Error;

    fn try_from(task: DeliveryTask) -> Result<Self, Error> {
        let id: DeliveryId = task.delivery_id.parse().map_err(Error::new)?;
        Ok(Self {
            lane: Lane { tenant: task.tenant.as_str().into(), route: task.route.as_str().into() },
            event_seq: task.event_seq,
            route: id.route.to_i64(),
            due: due(&task),
            task: task.encode_to_vec(),
        })
    }
}

/// A row that was taken.
struct Taken {
    lease: Lease,
    interrupted: bool,
    task: Vec<u8>,
}

impl Taken {
    fn read(self) -> Option<Leased> {
        match DeliveryTask::decode(self.task.as_slice()) {
            Ok(task) => Some(Leased { lease: self.lease, interrupted: self.interrupted, task }),
            Err(error) => {
                tracing::error!(%error, event_seq = self.lease.event_seq, "a delivery cannot be read");
                None
            }
        }
    }
}

fn due(task: &DeliveryTask) -> i64 {
    time::from_proto(task.due_at.as_ref()).as_microsecond()
}

/// What is known of the lanes without asking the file.
#[derive(Default)]
pub(super) struct Lanes {
    numbers: HashMap<Lane, i64>,
    states: HashMap<i64, LaneState>,
    /// Every lane that has deliveries, by the time before which none is due.
    by_due: BTreeSet<(i64, i64)>,
    windows: Windows,
}

struct LaneState {
    lane: Lane,
    /// As in `by_due`; `None` while the lane is empty.
    due: Option<i64>,
    /// What is out, and until when.
    out: HashMap<(u64, i64), i64>,
}

impl Lanes {
    /// Reads the lanes and their times. What is out stays known.
    pub(super) fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.numbers.clear();
        self.by_due.clear();
        let mut out: HashMap<_, _> = self.states.drain().map(|(number, state)| (number, state.out)).collect();
        let mut statement = connection.prepare("SELECT lane, tenant, route FROM lanes")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            let lane = Lane { tenant: row.get::<_, Arc<str>>(1)?, route: row.get::<_, Arc<str>>(2)? };
            self.numbers.insert(lane.clone(), number);
            let out = out.remove(&number).unwrap_or_default();
            self.states.insert(number, LaneState { lane, due: None, out });
            self.set_due(number, first_due(connection, number)?);
        }
        Ok(())
    }

    fn set_due(&mut self, number: i64, due: Option<i64>) {
        let Some(state) = self.states.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut state.due, due) {
            self.by_due.remove(&(old, number));
        }
        if let Some(due) = due {
            self.by_due.insert((due, number));
        }
    }

    /// A delivery of the lane is due at this time.
    fn expect(&mut self, number: i64, due: i64) {
        let known = self.states.get(&number).and_then(|state| state.due);
        if known.is_none_or(|known| due < known) {
            self.set_due(number, Some(due));
        }
    }

    /// How many more of the lane may go out. What was not brought back in time is not out any more.
    fn room(&mut self, number: i64, now: i64) -> usize {
        let Some(state) = self.states.get_mut(&number) else { return 0 };
        let window = self.windows.of(&state.lane);
        if state.out.len() >= window {
            state.out.retain(|_, end| *end > now);
        }
        window.saturating_sub(state.out.len())
    }
}

fn first_due(connection: &Connection, lane: i64) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT min(due) FROM deliveries WHERE lane = ?")?;
    statement.query_row([lane], |row| row.get(0))
}

impl Store {
    /// At the start: whoever held a delivery is gone, so it is due at once.
    pub(super) fn recover_leases(&mut self) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE deliveries SET due = 0 WHERE lease IS NOT NULL", ())?;
        self.lanes.load(&self.connection)
    }

    pub(super) fn enqueue(&mut self, delivery: &DeliveryRow) -> rusqlite::Result<()> {
        let lane = self.lane(&delivery.lane)?;
        let insert = "INSERT INTO deliveries VALUES (?, ?, ?, ?, NULL, ?)";
        let row = (delivery.event_seq, delivery.route, lane, delivery.due, &delivery.task);
        self.connection.prepare_cached(insert)?.execute(row)?;
        self.lanes.expect(lane, delivery.due);
        self.deliveries_changed = true;
        Ok(())
    }

    /// The lane's number.
    fn lane(&mut self, lane: &Lane) -> rusqlite::Result<i64> {
        if let Some(number) = self.lanes.numbers.get(lane) {
            return Ok(*number);
        }
        let insert = "INSERT INTO lanes (tenant, route) VALUES (?, ?) RETURNING lane";
        let number = self.connection.query_row(insert, (&*lane.tenant, &*lane.route), |row| row.get(0))?;
        self.lanes.numbers.insert(lane.clone(), number);
        self.lanes.states.insert(number, LaneState { lane: lane.clone(), due: None, out: HashMap::new() });
        Ok(number)
    }

    /// Takes what is due, the longest waiting lanes first, and tells when to look again.
    fn take(&mut self, now: Timestamp, max: usize) -> rusqlite::Result<(Vec<Taken>, Timestamp)> {
        let lease_end = time::after(now, LEASE).as_microsecond();
        let now = now.as_microsecond();
        let mut taken = Vec::new();
        // Looked at again when one of its deliveries comes back.
        let mut full = HashSet::new();
        // Has had its turn, until every other lane that is due has had one.
        let mut served = HashSet::new();
        while taken.len() < max {
            let mut due = self.lanes.by_due.iter().take_while(|(due, _)| *due <= now).map(|(_, lane)| *lane);
            match due.find(|lane| !full.contains(lane) && !served.contains(lane)) {
                None if served.is_empty() => break,
                None => served.clear(),
                Some(lane) => {
                    let turn = self.lanes.room(lane, now).min(TURN).min(max - taken.len());
                    if turn == 0 {
                        full.insert(lane);
                    } else {
                        self.take_from(lane, now, lease_end, turn, &mut taken)?;
                        served.insert(lane);
                    }
                }
            }
        }
        let next = self.lanes.by_due.iter().find(|(_, lane)| !full.contains(lane));
        let next_due = next.map_or(i64::MAX, |(due, _)| *due);
        Ok((taken, Timestamp::from_microsecond(next_due).unwrap_or(Timestamp::MAX)))
    }

    fn take_from(
        &mut self,
        lane: i64,
        now: i64,
        lease_end: i64,
        turn: usize,
        taken: &mut Vec<Taken>,
    ) -> rusqlite::Result<()> {
        let select = "SELECT event_seq, route, lease IS NOT NULL, task FROM deliveries
                      WHERE lane = ? AND due <= ? ORDER BY due LIMIT ?";
        let mut statement = self.connection.prepare_cached(select)?;
        let due: Vec<Taken> = statement
            .query_map((lane, now, limit(turn)), |row| {
                self.last_lease += 1;
                let event_seq = row.get(0)?;
                let lease = Lease { event_seq, route: row.get(1)?, token: self.last_lease };
                Ok(Taken { lease, interrupted: row.get(2)?, task: row.get(3)? })
            })?
            .collect::<Result<_, _>>()?;
        let hold = "UPDATE deliveries SET due = ?, lease = ? WHERE event_seq = ? AND route = ?";
        let mut hold = self.connection.prepare_cached(hold)?;
        for Taken { lease, .. } in &due {
            hold.execute((lease_end, lease.token, lease.event_seq, lease.route))?;
            if let Some(state) = self.lanes.states.get_mut(&lane) {
                state.out.insert((lease.event_seq, lease.route), lease_end);
            }
        }
        taken.extend(due);
        let first = first_due(&self.connection, lane)?;
        self.lanes.set_due(lane, first);
        Ok(())
    }

    fn remove(&mut self, lease: Lease) -> rusqlite::Result<()> {
        let delete = "DELETE FROM deliveries WHERE event_seq = ? AND route = ? AND lease = ? RETURNING lane";
        let mut statement = self.connection.prepare_cached(delete)?;
        let mut rows = statement.query((lease.event_seq, lease.route, lease.token))?;
        let lane: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
        drop(rows);
        drop(statement);
        if let Some(lane) = lane {
            self.came_back(lane, lease);
        }
        Ok(())
    }

    fn put_back(&mut self, lease: Lease, due: i64, task: Option<&DeliveryTask>) -> rusqlite::Result<()> {
        let update = "UPDATE deliveries SET due = ?, lease = NULL, task = coalesce(?, task)
                      WHERE event_seq = ? AND route = ? AND lease = ? RETURNING lane";
        let mut statement = self.connection.prepare_cached(update)?;
        let task = task.map(prost::Message::encode_to_vec);
        let mut rows = statement.query((due, task, lease.event_seq, lease.route, lease.token))?;
        let lane: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
        drop(rows);
        drop(statement);
        if let Some(lane) = lane {
            self.came_back(lane, lease);
            self.lanes.expect(lane, due);
        }
        Ok(())
    }

    fn came_back(&mut self, lane: i64, lease: Lease) {
        if let Some(state) = self.lanes.states.get_mut(&lane) {
            state.out.remove(&(lease.event_seq, lease.route));
        }
        self.deliveries_changed = true;
    }
}
