//! What is old goes; what waits stays.
//!
//! A stream is cut off from its beginning, so one delivery that waits keeps everything behind it, for as long as it
//! waits. What is left is always enough to make a replica from: it holds the planning of all that waits, the last
//! planning, the last decision, and a membership.

use super::{Relay, relays};
use crate::{Error, Expired, partition::Partition};
use jiff::Timestamp;
use rusqlite::Connection;
use std::sync::Arc;

/// Before which places nothing is needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Floors {
    event: u64,
    commit: u64,
}

impl Relay {
    /// The relay that plans does it for all.
    pub(crate) async fn expire(&self, before: Timestamp) -> Result<Expired, Error> {
        self.work();
        let run = self.replica.me().run;
        let mut membership = self.replica.membership();
        // The sender lives as long as the replica.
        let Ok(in_force) =
            membership.wait_for(|in_force| in_force.has(run)).await.map(|found| Arc::clone(&found))
        else {
            return Ok(Expired::default());
        };
        let names = &self.connection.names;
        if !in_force.owned_by(run).contains(&Partition::PLANNING) {
            let (oldest, ..) = self.connection.extent(&names.events()).await?;
            self.forget(oldest).await?;
            return Ok(Expired::default());
        }
        let floors = self.replica.read(move |connection| floors(connection, before.as_microsecond())).await?;
        let Some(floors) = floors else { return Ok(Expired::default()) };
        self.events_are_all_there().await?;
        // Events first: a planned event whose planning is gone would be planned again. And forgotten before they go, so
        // that one that comes again is none that was planned.
        self.forget(floors.event).await?;
        let events = self.purge(&names.events(), floors.event).await?;
        if in_force.seq < floors.commit {
            // The same again, where it stays.
            let members = in_force.membership.members.clone();
            relays::write(self, in_force.seq, members).await.map_err(Error::new)?;
        }
        self.keep_last_decision(floors.commit).await?;
        let facts = self.purge(&names.journal(), floors.commit).await?;
        Ok(Expired { events, facts })
    }

    /// Forgets what is known by heart of events before a place.
    async fn forget(&self, before: u64) -> Result<(), Error> {
        self.newest_events.clear();
        self.replica.newest_facts().clear();
        Ok(self.replica.forget(before).await?)
    }

    /// Removes what is before a place, and tells how much it was.
    async fn purge(&self, stream: &str, before: u64) -> Result<u64, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            self.connection.error(&format!("cannot remove what is old from the stream {stream}"), error)
        };
        let found = self.connection.jetstream.get_stream(stream).await.map_err(|error| failed(&error))?;
        if found.cached_info().state.first_sequence >= before {
            return Ok(0);
        }
        let purged = found.purge().sequence(before).await.map_err(|error| failed(&error))?;
        Ok(purged.purged)
    }
}

/// Everything before the first planned event that is young or waits, and never the last planning. `None` before there
/// is one.
fn floors(connection: &Connection, before: i64) -> rusqlite::Result<Option<Floors>> {
    let (planned, planning): (u64, u64) =
        connection
            .query_row("SELECT planned, planning FROM state", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    if planning == 0 {
        return Ok(None);
    }
    let waits: Option<u64> =
        connection.query_row("SELECT min(event_seq) FROM deliveries", (), |row| row.get(0))?;
    // Events are planned in their order, which is nearly that of their times: the first that is young ends the walk.
    let mut walk = connection.prepare("SELECT seq, received_at, journal FROM planned ORDER BY seq")?;
    let mut rows = walk.query(())?;
    while let Some(row) = rows.next()? {
        let (event, received_at, commit): (u64, i64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if received_at >= before || waits.is_some_and(|waits| event >= waits) {
            return Ok(Some(Floors { event, commit }));
        }
    }
    Ok(Some(Floors { event: planned + 1, commit: planning }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors_of(planned: &[(u64, i64, u64)], waiting: &[u64], before: i64) -> Option<(u64, u64)> {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE planned (seq INTEGER, received_at INTEGER, journal INTEGER);
                 CREATE TABLE deliveries (event_seq INTEGER);
                 CREATE TABLE state (planned INTEGER, planning INTEGER);",
            )
            .unwrap();
        let (last, _, planning) = planned.last().copied().unwrap_or_default();
        connection.execute("INSERT INTO state VALUES (?, ?)", (last, planning)).unwrap();
        for row in planned {
            connection.execute("INSERT INTO planned VALUES (?, ?, ?)", *row).unwrap();
        }
        for row in waiting {
            connection.execute("INSERT INTO deliveries VALUES (?)", [row]).unwrap();
        }
        floors(&connection, before).unwrap().map(|floors| (floors.event, floors.commit))
    }

    #[test]
    fn what_is_young_or_waits_and_all_behind_it_stays() {
        let planned = [(1, 10, 100), (2, 20, 100), (5, 30, 103), (6, 40, 110)];
        assert_eq!(floors_of(&[], &[], 99), None);
        assert_eq!(floors_of(&planned, &[], 10), Some((1, 100)), "nothing is old");
        assert_eq!(floors_of(&planned, &[], 11), Some((2, 100)), "the commit planned the second one too");
        assert_eq!(floors_of(&planned, &[], 30), Some((5, 103)));
        assert_eq!(floors_of(&planned, &[2], 99), Some((2, 100)));
        assert_eq!(floors_of(&planned, &[1], 99), Some((1, 100)));
        assert_eq!(floors_of(&planned, &[], 99), Some((7, 110)), "the last planning stays");
    }
}
