//! The writer's state: the connection, and what is known without asking it.

use super::{ids::Ids, schema};
use crate::{Error, queue::Queue};
use rusqlite::{Connection, OptionalExtension as _, Row, types::Type};
use std::{path::Path, sync::Arc};
use talaria_core::id::EventId;
use talaria_proto::v1::{Event, Fact};

pub(super) struct Store {
    pub connection: Connection,
    /// Which events there are.
    pub ids: Ids,
    /// The place of the newest event.
    pub last_event: u64,
    /// The place of the last planned event.
    pub last_planned: u64,
    /// The place of the newest fact.
    pub last_fact: u64,
    /// The number of the newest lease. Leases die with the process, so it starts anew.
    pub last_lease: i64,
    /// How many decisions were made since the start. Whoever has a turn is gone with the process, too.
    pub decisions: u64,
    pub queue: Queue,
    /// Events of this transaction, with their places and sizes.
    pub new_events: Vec<(u64, Arc<Event>, usize)>,
    /// Facts of this transaction, with their places and sizes.
    pub new_facts: Vec<(u64, Arc<Fact>, usize)>,
    /// What is above was changed by a transaction that was rolled back.
    stale: bool,
}

impl Store {
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let mut store = Self {
            connection: schema::open(file)?,
            ids: Ids::default(),
            last_event: 0,
            last_planned: 0,
            last_fact: 0,
            last_lease: 0,
            decisions: 0,
            queue: Queue::default(),
            new_events: Vec::new(),
            new_facts: Vec::new(),
            stale: true,
        };
        store.refresh()?;
        store.read_ids()?;
        Ok(store)
    }

    fn read_ids(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT id, seq FROM event_ids")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            self.ids.insert(event_id(row)?, row.get(1)?);
        }
        self.ids.commit();
        Ok(())
    }

    /// Reads what is known without asking.
    fn refresh(&mut self) -> rusqlite::Result<()> {
        if !self.stale {
            return Ok(());
        }
        self.last_planned = self.mark("planned")?;
        // The newest event may have expired, but not before it was planned.
        self.last_event = self.newest("SELECT max(seq) FROM events")?.max(self.last_planned);
        // The newest fact never expires.
        self.last_fact = self.newest("SELECT max(seq) FROM journal")?;
        self.queue.lanes.load(&self.connection)?;
        self.stale = false;
        Ok(())
    }

    fn newest(&self, query: &str) -> rusqlite::Result<u64> {
        self.connection
            .query_row(query, (), |row| row.get::<_, Option<u64>>(0))
            .map(Option::unwrap_or_default)
    }

    fn mark(&self, name: &str) -> rusqlite::Result<u64> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM marks WHERE name = ?")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    pub(super) fn set_mark(&self, name: &str, value: u64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE marks SET value = ?2 WHERE name = ?1")?
            .execute((name, value))
            .map(drop)
    }

    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        self.refresh()
    }

    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        self.ids.commit();
        Ok(())
    }

    /// After a failure: the file is as it was, and what is known is read anew before the next group.
    pub(super) fn roll_back(&mut self) {
        self.stale = true;
        self.ids.roll_back();
        self.new_events.clear();
        self.new_facts.clear();
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "could not roll back");
        }
    }

    /// Writes something that changes nothing, to see whether writing works.
    pub(super) fn touch(&mut self) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE marks SET value = value + 1 WHERE name = 'touched'", ()).map(drop)
    }
}

/// The id in a row's first column.
pub(super) fn event_id(row: &Row<'_>) -> rusqlite::Result<EventId> {
    EventId::from_bytes(row.get_ref(0)?.as_blob()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error)))
}
