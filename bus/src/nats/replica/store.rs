//! The rows, and what commits do to them.

use crate::{
    Lease,
    derived::{self, Schema},
    nats::membership::InForce,
    queue::{self, DeliveryRow, Queue, Taken, due},
    sqlite, time,
};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};
use std::{collections::HashMap, path::Path, sync::Arc};
use talaria_core::id::EventId;
use talaria_proto::v1::{
    Commit, Decided, DeliveryTask, LeaseRef, Membership, Operation, Planned, Taken as TakenOperation,
    operation::What,
};

/// Written into the file; a file of another version is made anew.
const VERSION: i64 = 2;

const TABLES: &str = "
-- Where this copy is in the journal, and what is in force there.
CREATE TABLE state (
    name TEXT NOT NULL,             -- the relay's own, the same as long as the file lasts
    position INTEGER NOT NULL,      -- the last commit that was applied
    planned INTEGER NOT NULL,       -- the place of the last planned event
    planning INTEGER NOT NULL,      -- the last commit on the planning subject
    control INTEGER NOT NULL,       -- the last commit on the control subject
    membership INTEGER NOT NULL,    -- the last commit on the membership subject
    members BLOB NOT NULL           -- and what it says
);
-- One row an event that was planned, for as long as the event is kept.
CREATE TABLE planned (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    journal INTEGER NOT NULL        -- the commit that planned it
);
CREATE INDEX planned_ids ON planned (id);
";

pub(super) struct Store {
    pub connection: Connection,
    pub queue: Queue,
    pub state: State,
    /// What this run was granted and has not fetched yet, by the lease's token.
    pub granted: HashMap<i64, Taken>,
    /// The same for what it took early.
    pub claimed: HashMap<i64, Taken>,
    /// The number of this run's last decision that was applied.
    pub decided: u32,
    /// Whether a membership left this run out, even if a later one took it in again.
    pub was_left_out: bool,
    run: u32,
    /// What is above was changed by a transaction that was rolled back.
    stale: bool,
}

/// The row of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub position: u64,
    pub planned: u64,
    pub planning: u64,
    pub control: u64,
    pub in_force: Arc<InForce>,
}

/// What a lease's holder and his number make.
pub(super) fn token(run: u32, number: u32) -> i64 {
    i64::from(run) << 32 | i64::from(number)
}

pub(super) fn run_of(token: i64) -> u32 {
    u32::try_from(token >> 32).unwrap_or_default()
}

pub(super) fn number_of(token: i64) -> u32 {
    u32::try_from(token & i64::from(u32::MAX)).unwrap_or_default()
}

fn lease(lease: &LeaseRef) -> Lease {
    Lease { event_seq: lease.event_seq, route: lease.route, token: lease.token }
}

impl State {
    fn read(connection: &Connection) -> rusqlite::Result<Option<(String, Self)>> {
        let select = "SELECT name, position, planned, planning, membership, members, control FROM state";
        let read = |row: &rusqlite::Row<'_>| {
            let in_force = InForce { seq: row.get(4)?, membership: sqlite::message(row, 5)? };
            let state = Self {
                position: row.get(1)?,
                planned: row.get(2)?,
                planning: row.get(3)?,
                control: row.get(6)?,
                in_force: Arc::new(in_force),
            };
            Ok((row.get(0)?, state))
        };
        connection.query_row(select, (), read).optional()
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let update = "UPDATE state SET position = ?, planned = ?, planning = ?, control = ?";
        let row = (self.position, self.planned, self.planning, self.control);
        connection.prepare_cached(update)?.execute(row).map(drop)
    }
}

impl Store {
    /// Opens the file for this run, and tells the relay's name.
    pub(super) fn open(
        file: &Path,
        journal: &str,
        oldest: u64,
        newest: u64,
        run: u32,
    ) -> rusqlite::Result<(Self, String)> {
        let tables = [queue::TABLES, TABLES].concat();
        let schema = Schema { version: VERSION, tables: &tables, source: journal };
        let connection = derived::open(file, schema, |connection| {
            let position = State::read(connection)?.map_or(0, |(_, state)| state.position);
            // Neither ahead of the journal nor so far behind that what comes next is gone.
            Ok(position <= newest && oldest <= position + 1)
        })?;
        let (name, state) = match State::read(&connection)? {
            Some(known) => known,
            None => {
                let name = format!("{:016x}", rand::random::<u64>());
                connection.execute("INSERT INTO state VALUES (?, 0, 0, 0, 0, 0, x'')", [&name])?;
                (name, State::default())
            }
        };
        let mut store = Self {
            connection,
            queue: Queue::default(),
            state,
            granted: HashMap::new(),
            claimed: HashMap::new(),
            decided: 0,
            was_left_out: false,
            run,
            stale: true,
        };
        store.refresh()?;
        Ok((store, name))
    }

    /// Forgets all, and begins behind a place.
    pub(super) fn begin_anew(&mut self, behind: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch("DELETE FROM deliveries; DELETE FROM planned;")?;
        let update = "UPDATE state SET position = ?, planned = 0, planning = 0, control = 0, membership = 0, members = x''";
        transaction.execute(update, [behind])?;
        transaction.commit()?;
        self.roll_back();
        self.refresh()
    }

    /// Reads what is known without asking.
    pub(super) fn refresh(&mut self) -> rusqlite::Result<()> {
        if !self.stale {
            return Ok(());
        }
        if let Some((_, state)) = State::read(&self.connection)? {
            self.state = state;
        }
        self.queue.lanes.load(&self.connection)?;
        self.queue.lanes.load_out(&self.connection)?;
        let in_force = &self.state.in_force;
        self.queue.lanes.own(&in_force.owned_by(self.run), in_force.seq);
        self.stale = false;
        Ok(())
    }

    pub(super) fn roll_back(&mut self) {
        self.stale = true;
        self.granted.clear();
        self.claimed.clear();
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "could not roll back");
        }
    }

    pub(super) fn apply(&mut self, commits: &[(u64, Commit)]) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        self.refresh()?;
        for (seq, commit) in commits {
            // One that comes again changes nothing.
            if *seq > self.state.position {
                for operation in &commit.operations {
                    self.operate(*seq, operation)?;
                }
                self.state.position = *seq;
            }
        }
        self.queue.look_again(&self.connection)?;
        self.state.write(&self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute(()).map(drop)
    }

    fn operate(&mut self, seq: u64, operation: &Operation) -> rusqlite::Result<()> {
        match &operation.what {
            None | Some(What::Recorded(_)) => Ok(()),
            Some(What::Planned(planned)) => self.planned(seq, planned),
            Some(What::Taken(taken)) => self.taken(taken),
            Some(What::Settled(settled)) => match &settled.lease {
                Some(held) => self.queue.remove(&self.connection, lease(held)),
                None => Ok(()),
            },
            Some(What::PutOff(put_off)) => match (&put_off.lease, &put_off.task) {
                (Some(held), Some(task)) => {
                    self.queue.put_back(&self.connection, lease(held), due(task), Some(task))
                }
                _ => Ok(()),
            },
            Some(What::GivenBack(given_back)) => match &given_back.lease {
                Some(held) => {
                    let due = time::from_proto(given_back.due_at.as_ref()).as_microsecond();
                    self.queue.put_back(&self.connection, lease(held), due, None)
                }
                None => Ok(()),
            },
            Some(What::Membership(membership)) => self.members(seq, membership),
            Some(What::Decided(decided)) => self.decided(seq, decided),
        }
    }

    fn planned(&mut self, seq: u64, planned: &Planned) -> rusqlite::Result<()> {
        self.state.planning = seq;
        // Once more, or nothing that could be read.
        if planned.event_seq <= self.state.planned {
            return Ok(());
        }
        self.state.planned = planned.event_seq;
        let received_at = time::from_proto(planned.received_at.as_ref()).as_microsecond();
        if let Ok(id) = planned.event_id.parse::<EventId>() {
            let row = (planned.event_seq, id.as_bytes(), received_at, seq);
            self.connection.prepare_cached("INSERT INTO planned VALUES (?, ?, ?, ?)")?.execute(row)?;
        }
        self.enqueue(seq, &planned.deliveries)
    }

    fn decided(&mut self, seq: u64, decided: &Decided) -> rusqlite::Result<()> {
        self.state.control = seq;
        if run_of(decided.token) == self.run {
            self.decided = number_of(decided.token);
        }
        self.enqueue(seq, &decided.deliveries)
    }

    fn enqueue(&mut self, seq: u64, deliveries: &[DeliveryTask]) -> rusqlite::Result<()> {
        for task in deliveries {
            match DeliveryRow::try_from(task.clone()) {
                Ok(row) => self.queue.enqueue(&self.connection, &row)?,
                Err(error) => tracing::error!(%error, seq, "a delivery without a valid id"),
            }
        }
        Ok(())
    }

    fn taken(&mut self, taken: &TakenOperation) -> rusqlite::Result<()> {
        // A copy that began in the middle of the journal believes whom it hears until it hears of a membership.
        let in_force = self.state.in_force.seq;
        if in_force != 0 && taken.membership != in_force {
            return Ok(());
        }
        let now = time::from_proto(taken.now.as_ref());
        for held in &taken.leases {
            let granted = self.queue.hold(&self.connection, lease(held), now, taken.early)?;
            if run_of(held.token) == self.run {
                let mine = if taken.early { &mut self.claimed } else { &mut self.granted };
                mine.extend(granted.map(|granted| (held.token, granted)));
            }
        }
        Ok(())
    }

    /// Whatever is held by a run that is not among the members any more is due at once, and interrupted.
    fn members(&mut self, seq: u64, membership: &Membership) -> rusqlite::Result<()> {
        let in_force = InForce { seq, membership: membership.clone() };
        self.queue.interrupt(&self.connection, |token| !in_force.has(run_of(token)))?;
        self.connection
            .execute("UPDATE state SET membership = ?, members = ?", (seq, membership.encode_to_vec()))?;
        self.was_left_out |= !in_force.has(self.run);
        self.state.in_force = Arc::new(in_force);
        let in_force = &self.state.in_force;
        self.queue.lanes.own(&in_force.owned_by(self.run), in_force.seq);
        Ok(())
    }
}
