//! What a bus shows of itself, for metrics and for whoever decides how many relays there should be.

use crate::{Bus, Error, Lane, partition::Partition, time};
use jiff::Timestamp;
use rusqlite::Connection;
use std::{collections::HashSet, sync::Arc};

/// Which shares of the work this process has.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    partitions: HashSet<Partition>,
}

impl Owned {
    /// All shares, as a process that works alone has them.
    pub fn everything() -> Self {
        Self { partitions: Partition::all().collect() }
    }

    /// Of the 256 shares that all lanes are divided into, how many.
    pub fn shares(&self) -> usize {
        self.partitions.len() - usize::from(self.plans())
    }

    /// Whether a lane is in one of them.
    pub fn has(&self, lane: &Lane) -> bool {
        self.partitions.contains(&Partition::of(lane))
    }

    /// Whether this process plans events.
    pub fn plans(&self) -> bool {
        self.partitions.contains(&Partition::PLANNING)
    }
}

impl Bus {
    /// Which shares of the work this process has now; none where it has no relay.
    pub fn owned(&self) -> Owned {
        match self {
            Self::Embedded(_) => Owned::everything(),
            Self::Nats(bus) => {
                Owned { partitions: bus.relay().map(crate::nats::Relay::owned).unwrap_or_default() }
            }
        }
    }

    /// How many deliveries of each lane are due and in nobody's hands, counted up to `most` in each.
    pub async fn due(&self, now: Timestamp, most: u32) -> Result<Vec<(Lane, u64)>, Error> {
        let count = move |connection: &Connection| due(connection, now, most);
        match self {
            Self::Embedded(bus) => bus.read(count).await,
            Self::Nats(bus) => bus.relay()?.read(count).await,
        }
    }

    /// How many events are stored and not planned yet.
    pub async fn unplanned_events(&self) -> Result<u64, Error> {
        match self {
            Self::Embedded(bus) => Ok(bus.unplanned_events()),
            Self::Nats(bus) => bus.relay()?.unplanned_events().await,
        }
    }
}

fn due(connection: &Connection, now: Timestamp, most: u32) -> rusqlite::Result<Vec<(Lane, u64)>> {
    let mut select = connection.prepare_cached(
        "SELECT tenant, route, (
             SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE lane = lanes.lane AND due <= ?1 LIMIT ?2)
         ) FROM lanes",
    )?;
    let rows = select.query_map((time::micros(now), most), |row| {
        Ok((Lane { tenant: row.get::<_, Arc<str>>(0)?, route: row.get::<_, Arc<str>>(1)? }, row.get(2)?))
    })?;
    rows.collect()
}
