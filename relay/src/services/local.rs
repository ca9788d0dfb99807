//! This relay's own part of every answer: the partitions that it owns, and its view.

use super::error::Error;
use crate::{clock::Clock, evidence::Evidence};
use crate::{
    partition::handle::{Owner, Owners},
    partition_set::PartitionSet,
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

/// See [`Local::wait_briefly`].
const BRIEF_WAIT: Duration = Duration::from_secs(1);

/// For the view to show the journal's commits. Shorter than the deadline of other relays, so that they get the error.
pub(super) const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(4);

/// The most commits in one read, to find a partition's last one.
const READ_AT_ONCE: usize = 64;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Local {
    config: watch::Receiver<Arc<Config>>,
    pub(crate) bus: Bus,
    pub(super) view: View,
    pub(crate) clock: Clock,
    pub(crate) owners: Owners,
    pub(super) evidence: Evidence,
    progress: Arc<Mutex<BTreeMap<Partition, ViewProgress>>>,
}

/// While the view has the partition's commits up to `last`, it has all of them up to `through` in the journal.
#[derive(Clone, Copy)]
struct ViewProgress {
    through: u64,
    last: u64,
}

impl Local {
    pub(super) fn new(
        config: watch::Receiver<Arc<Config>>,
        bus: Bus,
        view: View,
        clock: Clock,
        owners: Owners,
        evidence: Evidence,
    ) -> Self {
        Self { config, bus, view, clock, owners, evidence, progress: Arc::default() }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The partitions that this relay owns now. The view may still have rows of others.
    pub(crate) fn own(&self) -> PartitionSet {
        PartitionSet::new(self.owners.all().into_iter().map(|owner| owner.partition), self.bus.partitions())
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
                tracing::error!(%error, left_out, "status view read failed");
            }
            Error::View
        })
    }

    /// The most commits that the view is behind one of the own partitions: a distance in the journal, which all partitions share.
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

    /// Returns once the view has all durable commits of these partitions.
    pub(super) async fn caught_up(&self, set: &PartitionSet) -> Result<(), Error> {
        let all = async {
            for owner in set.partitions.iter().filter_map(|partition| self.owners.of(*partition)) {
                self.view.caught_up(owner.partition, owner.committed()).await;
            }
        };
        timeout(CATCH_UP_TIMEOUT, all).await.map_err(|_| Error::FarBehind)
    }

    /// Gives the view a moment to catch up: an id in a request has usually been seen somewhere.
    pub(super) async fn wait_briefly(&self) {
        // The answer tells how far the view is behind.
        let _ = timeout(BRIEF_WAIT, self.caught_up(&self.own())).await;
    }

    /// Returns once the view has every commit of these partitions up to `min_commit` in the journal.
    pub(super) async fn shows(&self, set: &PartitionSet, min_commit: u64) -> Result<(), Error> {
        let all = async {
            for owner in set.partitions.iter().filter_map(|partition| self.owners.of(*partition)) {
                self.partition_shows(&owner, min_commit).await?;
            }
            Ok(())
        };
        timeout(CATCH_UP_TIMEOUT, all).await.map_err(|_| Error::FarBehind)?
    }

    async fn partition_shows(&self, owner: &Owner, min_commit: u64) -> Result<(), Error> {
        let partition = owner.partition;
        let cursor = self.view.cursor(partition);
        let is_known = |known: &ViewProgress| known.through >= min_commit && Some(known.last) <= cursor;
        if self.lock().get(&partition).is_some_and(is_known) {
            return Ok(());
        }
        // A commit may be in the journal before its acknowledgement reaches the owner.
        let mut last = owner.committed();
        while last < min_commit {
            match self.bus.read(partition, last, READ_AT_ONCE).await?.last() {
                Some(committed) => last = committed.seq,
                None => break,
            }
        }
        self.view.caught_up(partition, last).await;
        let through = min_commit.max(last);
        let mut progress = self.lock();
        progress.retain(|partition, _| self.owners.of(*partition).is_some());
        progress.insert(partition, ViewProgress { through, last });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, ViewProgress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
