//! What operators do: decisions, one after another, and deliveries that are taken before they are due.

use super::{Embedded, store::Store};
use crate::{
    Error, Lease, Leased, Turn,
    queue::{DeliveryRow, Key, Taken},
};
use std::collections::HashSet;
use talaria_proto::v1::{DeliveryTask, Fact};

impl Embedded {
    pub(crate) async fn turn(&self) -> Result<Turn, Error> {
        self.write(|store| Ok(Turn { after: store.decisions, place: store.last_fact })).await
    }

    pub(crate) async fn decide(
        &self,
        turn: Turn,
        facts: Vec<Fact>,
        deliveries: Vec<DeliveryTask>,
    ) -> Result<bool, Error> {
        let rows = deliveries.into_iter().map(DeliveryRow::try_from).collect::<Result<Vec<_>, Error>>()?;
        self.write(move |store| store.decide(turn, facts, &rows)).await
    }

    pub(crate) async fn claim(&self, (event_seq, route): Key) -> Result<Option<Leased>, Error> {
        let now = self.inner.clock.now();
        let taken = self.write(move |store| {
            store.last_lease += 1;
            let lease = Lease { event_seq, route, token: store.last_lease };
            let taken = store.queue.hold(&store.connection, lease, now, true)?;
            store.queue.look_again(&store.connection)?;
            Ok(taken)
        });
        Ok(taken.await?.and_then(Taken::read))
    }

    pub(crate) async fn kept(&self, events: HashSet<u64>) -> Result<HashSet<u64>, Error> {
        self.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT 1 FROM events WHERE seq = ?")?;
            let mut kept = HashSet::new();
            for seq in events {
                if select.exists([seq])? {
                    kept.insert(seq);
                }
            }
            Ok(kept)
        })
        .await
    }
}

impl Store {
    fn decide(&mut self, turn: Turn, facts: Vec<Fact>, rows: &[DeliveryRow]) -> rusqlite::Result<bool> {
        if turn.after != self.decisions {
            return Ok(false);
        }
        // Should the commit fail, nobody has this turn any more, and whoever tries again asks for another.
        self.decisions += 1;
        self.append(facts)?;
        rows.iter().try_for_each(|row| self.queue.enqueue(&self.connection, row))?;
        Ok(true)
    }
}
