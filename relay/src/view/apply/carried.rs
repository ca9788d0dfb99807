//! Carried events, whose earlier records may be gone.

use super::{Batch, LaneKey, Row};
use crate::delivery_key::DeliveryKey;
use jiff::Timestamp;
use talaria_proto::{time::from_proto, v1::EventCarried};

impl<'a> Batch<'a> {
    /// This commit is the event's base from here on. Rows that are missing, because the journal was trimmed, are added.
    pub(super) fn carried(
        &mut self,
        seq: u64,
        carried: &'a EventCarried,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(event) = &carried.event else { return Ok(()) };
        let update = "UPDATE events SET base = ? WHERE seq = ?";
        let is_known = self.connection.prepare_cached(update)?.execute((self.seq, seq))? > 0;
        let matched = !carried.waiting.is_empty() || !carried.done.is_empty();
        if !is_known {
            if self.event(seq, event, matched)?.is_none() {
                return Ok(());
            }
            let waiting = carried.waiting.iter().filter_map(|waiting| waiting.task.as_ref());
            let waiting = waiting.map(|task| task.route.clone());
            let routes: Vec<String> =
                waiting.chain(carried.done.iter().map(|done| done.route.clone())).collect();
            self.counts.cost(self.partition, event, &routes);
        }
        let received_at = from_proto(event.received_at.as_ref());
        for waiting in &carried.waiting {
            let Some(task) = &waiting.task else { continue };
            let lane = self.lane(&task.tenant, &task.route)?;
            if !self.is_known(seq, lane)? {
                let of = (self.partition, task.tenant.as_str(), task.route.as_str());
                self.series.took(of, received_at);
                self.series.carried_attempts(of, &waiting.attempts);
                self.insert(seq, lane, Row::waiting(lane, waiting, event, at));
            }
        }
        for done in &carried.done {
            let lane = self.lane(&done.tenant, &done.route)?;
            if !self.is_known(seq, lane)? {
                let (of, row) = (
                    (self.partition, done.tenant.as_str(), done.route.as_str()),
                    Row::done(lane, done, event),
                );
                self.series.took(of, received_at);
                let at = from_proto(done.updated_at.as_ref());
                self.series.moved(of, at, done.state(), row.latency());
                self.insert(seq, lane, row);
            }
        }
        Ok(())
    }

    fn is_known(&mut self, seq: u64, lane: LaneKey) -> rusqlite::Result<bool> {
        let key = DeliveryKey { event_seq: seq, route: lane.key.to_i64() };
        Ok(self.deliveries.contains_key(&key) || self.select_delivery.exists((seq, key.route))?)
    }
}
