//! What this relay can answer by itself: for the partitions that it owns, out of its view.

use super::error::Error;
use crate::{
    clock::Clock,
    partition::{
        handle::{Owner, Owners},
        share::Share,
    },
    view::View,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use talaria_bus::{Bus, Partition};
use talaria_core::config::Config;
use talaria_telemetry::LogLimiter;
use tokio::{sync::watch, time::timeout};

/// See [`Local::settled`].
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the view may take to show what is in the journal already. Shorter than another relay waits for an answer, so that
/// it is told.
pub(super) const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(4);

/// How many commits are read at once to find a partition's last one.
const READ_AT_ONCE: usize = 64;

/// Answers for the partitions that this relay owns. Clones share it.
#[derive(Clone)]
pub(crate) struct Local {
    config: watch::Receiver<Arc<Config>>,
    pub(crate) bus: Bus,
    pub(super) view: View,
    pub(crate) clock: Clock,
    pub(crate) owners: Owners,
    shown: Arc<Mutex<BTreeMap<Partition, Shown>>>,
}

/// What the view is known to show of a partition.
#[derive(Clone, Copy)]
struct Shown {
    /// All commits up to this one of the journal, as long as …
    through: u64,
    /// … the partition's commits up to this one are in the view.
    last: u64,
}

impl Local {
    pub(super) fn new(
        config: watch::Receiver<Arc<Config>>,
        bus: Bus,
        view: View,
        clock: Clock,
        owners: Owners,
    ) -> Self {
        Self { config, bus, view, clock, owners, shown: Arc::default() }
    }

    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// What this relay owns now. Rows of what it owned a moment ago may still be in the view.
    pub(crate) fn own(&self) -> Share {
        Share::new(self.owners.all().into_iter().map(|owner| owner.partition), self.bus.partitions())
    }

    pub(super) fn partition_of(&self, tenant: &str) -> Partition {
        Partition::of(tenant, self.bus.partitions())
    }

    /// The owner of a tenant's partition, if that is owned here.
    pub(super) fn owner_of(&self, tenant: &str) -> Result<Owner, Error> {
        self.owners.of(self.partition_of(tenant)).ok_or(Error::NotOwned)
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.view.read(question).await.map_err(|error| {
            static FAILED: LogLimiter = LogLimiter::new();
            if let Some(left_out) = FAILED.admit() {
                tracing::error!(%error, left_out, "cannot read the status view");
            }
            Error::View
        })
    }

    /// How many commits the view is behind the own partition that it is furthest behind of: a distance in the journal, which
    /// all partitions share.
    pub(crate) fn behind(&self) -> u64 {
        self.view.behind()
    }

    /// The last event that was planned in any of the own partitions.
    pub(crate) async fn planned_through(&self) -> u64 {
        let mut last = 0;
        for owner in self.owners.all() {
            last = last.max(owner.gauges().await.map_or(0, |gauges| gauges.planned_through));
        }
        last
    }

    /// Returns once the view shows all that these partitions' owners know to be durable.
    pub(super) async fn caught_up(&self, share: &Share) -> Result<(), Error> {
        let all = async {
            for owner in share.partitions.iter().filter_map(|partition| self.owners.of(*partition)) {
                self.view.caught_up(owner.partition, owner.committed()).await;
            }
        };
        timeout(CATCH_UP_TIMEOUT, all).await.map_err(|_| Error::FarBehind)
    }

    /// Gives the view a moment to show what is durable by now: who asks for something by its id has seen it somewhere.
    pub(super) async fn settled(&self) {
        // A view that is far behind says so in the answer.
        let _ = timeout(SETTLE_TIMEOUT, self.caught_up(&self.own())).await;
    }

    /// Returns once the view shows every commit of the own partitions up to this one of the journal.
    pub(super) async fn shows(&self, share: &Share, min_commit: u64) -> Result<(), Error> {
        let all = async {
            for owner in share.partitions.iter().filter_map(|partition| self.owners.of(*partition)) {
                self.partition_shows(&owner, min_commit).await?;
            }
            Ok(())
        };
        timeout(CATCH_UP_TIMEOUT, all).await.map_err(|_| Error::FarBehind)?
    }

    async fn partition_shows(&self, owner: &Owner, min_commit: u64) -> Result<(), Error> {
        let partition = owner.partition;
        let position = self.view.position(partition);
        let is_known = |known: &Shown| known.through >= min_commit && Some(known.last) <= position;
        if self.lock().get(&partition).is_some_and(is_known) {
            return Ok(());
        }
        // A commit may be in the journal whose acknowledgement is under way: the owner does not know of it yet.
        let mut last = owner.committed();
        while last < min_commit {
            match self.bus.read(partition, last, READ_AT_ONCE).await?.last() {
                Some(committed) => last = committed.seq,
                None => break,
            }
        }
        self.view.caught_up(partition, last).await;
        let through = min_commit.max(last);
        let mut shown = self.lock();
        shown.retain(|partition, _| self.owners.of(*partition).is_some());
        shown.insert(partition, Shown { through, last });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
