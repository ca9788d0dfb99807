//! Handing deliveries out and taking them back ([`crate::queue`]), each in a transaction.

use super::{Embedded, store::Store};
use crate::{
    Error, Lane, Lease, Leased, Survey, Windows,
    queue::{Taken, due, survey},
};
use jiff::Timestamp;
use talaria_proto::v1::{DeliveryTask, Fact};
use tokio_util::sync::CancellationToken;

impl Embedded {
    pub(crate) async fn set_windows(&self, windows: Windows) -> Result<(), Error> {
        self.write(move |store| {
            store.queue.lanes.set_windows(windows);
            store.queue.changed = true;
            Ok(())
        })
        .await
    }

    pub(crate) async fn set_gate(&self, lane: Lane, until: i64, window: usize) -> Result<(), Error> {
        self.write(move |store| {
            store.queue.lanes.set_gate(&lane, until, window);
            store.queue.changed = true;
            Ok(())
        })
        .await
    }

    pub(crate) async fn survey<T: Send + 'static>(
        &self,
        lane: Lane,
        find: impl Fn(&DeliveryTask) -> Option<T> + Send + 'static,
    ) -> Result<Survey<T>, Error> {
        // One process has all there is.
        self.read(move |connection| survey(connection, &lane, |_| true, &find)).await
    }

    pub(crate) async fn take(&self, max: usize, stop: &CancellationToken) -> Result<Vec<Leased>, Error> {
        let clock = &self.inner.clock;
        while !stop.is_cancelled() {
            // Registered before the look, so that nothing that comes in between is missed.
            let mut changed = std::pin::pin!(self.inner.signals.deliveries.notified());
            changed.as_mut().enable();
            let now = clock.now();
            let (taken, next_due) = self.write(move |store| store.take(now, max)).await?;
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
            store.queue.remove(&store.connection, lease)
        })
        .await
    }

    pub(crate) async fn later(
        &self,
        lease: Lease,
        task: DeliveryTask,
        facts: Vec<Fact>,
    ) -> Result<(), Error> {
        self.write_patiently(move |store| {
            store.append(facts)?;
            store.queue.put_back(&store.connection, lease, due(&task), Some(&task))
        })
        .await
    }

    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let now = self.inner.clock.now().as_microsecond();
        self.write(move |store| store.queue.put_back(&store.connection, lease, now, None)).await
    }
}

impl Store {
    /// At the start: whoever held a delivery is gone, so it is due at once.
    pub(super) fn recover_leases(&mut self) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE deliveries SET due = 0 WHERE lease IS NOT NULL", ())?;
        self.queue.lanes.load(&self.connection)
    }

    /// Takes what is due, and tells when to look again.
    fn take(&mut self, now: Timestamp, max: usize) -> rusqlite::Result<(Vec<Taken>, Timestamp)> {
        let choice = self.queue.choose(&self.connection, now, max)?;
        let mut taken = Vec::with_capacity(choice.keys.len());
        for (event_seq, route) in choice.keys {
            self.last_lease += 1;
            let lease = Lease { event_seq, route, token: self.last_lease };
            taken.extend(self.queue.hold(&self.connection, lease, now, false)?);
        }
        self.queue.look_again(&self.connection)?;
        Ok((taken, choice.next_due))
    }
}
