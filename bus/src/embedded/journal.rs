//! The journal.

use super::{Embedded, store::Store};
use crate::{
    Bounds, Error, Facts,
    sqlite::{limit, message},
    time,
};
use prost::Message as _;
use std::sync::Arc;
use talaria_proto::v1::Fact;

impl Embedded {
    pub(crate) async fn record(&self, facts: Vec<Fact>) -> Result<(), Error> {
        self.write_urgently(move |store| store.append(facts)).await
    }

    pub(crate) async fn journal(&self, after: u64, max: usize) -> Result<Facts, Error> {
        if self.inner.signals.journal.subscribe().wait_for(|newest| *newest > after).await.is_err() {
            return Err(Error::new("the bus has stopped"));
        }
        if let Some((facts, through)) = self.inner.signals.newest_facts.after(after, max) {
            return Ok(Facts { facts, through });
        }
        let facts = self.read(move |connection| {
            let query = "SELECT seq, fact FROM journal WHERE seq > ? ORDER BY seq LIMIT ?";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement
                .query_map((after, limit(max)), |row| Ok((row.get(0)?, Arc::new(message(row, 1)?))))?;
            rows.collect::<Result<Vec<(u64, Arc<Fact>)>, _>>()
        });
        let facts = facts.await?;
        let through = facts.last().map_or(after, |(place, _)| *place);
        Ok(Facts { facts, through })
    }

    pub(crate) async fn journal_bounds(&self) -> Result<Bounds, Error> {
        self.read(|connection| {
            connection.query_row(
                "SELECT (SELECT min(seq) FROM journal), (SELECT max(seq) FROM journal)",
                (),
                |row| {
                    let place = |column| row.get::<_, Option<u64>>(column).map(Option::unwrap_or_default);
                    Ok(Bounds { source: super::FILE.into(), oldest: place(0)?, newest: place(1)? })
                },
            )
        })
        .await
    }
}

impl Store {
    pub(super) fn append(&mut self, facts: Vec<Fact>) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("INSERT INTO journal VALUES (?, ?, ?, ?)")?;
        for fact in facts {
            self.last_fact += 1;
            let bytes = fact.encode_to_vec();
            let at = time::from_proto(fact.at.as_ref()).as_microsecond();
            let row = (self.last_fact, at, fact.event_seq, &bytes);
            statement.execute(row)?;
            self.new_facts.push((self.last_fact, Arc::new(fact), bytes.len()));
        }
        Ok(())
    }
}
