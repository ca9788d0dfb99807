//! Handing a partition over while its owner works: the next owner reads the journal before, so that only the last commits are
//! left to read when the partition is given up.

use super::owner::Replay;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use talaria_bus::{Bus, Partition};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The most journals at once that are read while their owners work: nothing waits for them.
const AT_ONCE: usize = 2;

/// How long a partition is not given up because its next owner still reads its journal.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The partitions of other relays that are to be owned here.
pub(super) struct Preparations {
    bus: Bus,
    turns: Arc<Semaphore>,
    readings: BTreeMap<Partition, Preparation>,
    done: BTreeSet<Partition>,
    finishing: mpsc::UnboundedSender<Partition>,
    finished: mpsc::UnboundedReceiver<Partition>,
}

/// The reading of one journal. It ends when this is dropped.
pub(super) struct Preparation {
    /// One task.
    reading: JoinSet<Option<Replay>>,
    is_urgent: CancellationToken,
}

impl Preparation {
    /// The journal as it was read; `None` if it could not be read. Waits for no turn.
    pub(super) async fn finish(mut self) -> Option<Replay> {
        self.is_urgent.cancel();
        self.reading.join_next().await.and_then(Result::ok).flatten()
    }
}

impl Preparations {
    pub(super) fn new(bus: Bus) -> Self {
        let (finishing, finished) = mpsc::unbounded_channel();
        let (readings, done) = (BTreeMap::new(), BTreeSet::new());
        Self { bus, turns: Arc::new(Semaphore::new(AT_ONCE)), readings, done, finishing, finished }
    }

    /// Reads the journals of these partitions and of no others.
    pub(super) fn prepare(&mut self, partitions: BTreeSet<Partition>) {
        self.readings.retain(|partition, _| partitions.contains(partition));
        self.done.retain(|partition| partitions.contains(partition));
        for partition in partitions {
            if !self.readings.contains_key(&partition) {
                let reading = self.begin(partition);
                self.readings.insert(partition, reading);
            }
        }
    }

    fn begin(&self, partition: Partition) -> Preparation {
        let (mut reading, is_urgent) = (JoinSet::new(), CancellationToken::new());
        let (bus, turns, at_once) = (self.bus.clone(), Arc::clone(&self.turns), is_urgent.clone());
        let finishing = self.finishing.clone();
        reading.spawn(async move {
            // Never closed.
            let _turn = at_once.run_until_cancelled(turns.acquire()).await;
            match Replay::read(&bus, partition).await {
                Ok(replay) => {
                    // The relay may be ending.
                    let _ = finishing.send(partition);
                    Some(replay)
                }
                Err(error) => {
                    // The takeover reads it from its start.
                    tracing::debug!(%error, %partition, "journal read before a takeover failed");
                    None
                }
            }
        });
        Preparation { reading, is_urgent }
    }

    /// Waits until one more journal was read.
    pub(super) async fn read(&mut self) {
        // This has a sender, too.
        while let Some(partition) = self.finished.recv().await {
            if self.readings.contains_key(&partition) {
                self.done.insert(partition);
                return;
            }
        }
    }

    /// The partitions whose journals were read.
    pub(super) fn done(&self) -> impl Iterator<Item = Partition> {
        self.done.iter().copied()
    }

    /// The reading of a partition that is taken over now.
    pub(super) fn take(&mut self, partition: Partition) -> Option<Preparation> {
        self.done.remove(&partition);
        self.readings.remove(&partition)
    }
}

/// Since when partitions are to be given to other relays.
#[derive(Default)]
pub(super) struct Giving(BTreeMap<Partition, Instant>);

impl Giving {
    /// Those of the partitions to give whose next owner is ready, or was not in time.
    pub(super) fn due(
        &mut self,
        give: &BTreeSet<Partition>,
        ready: &BTreeSet<Partition>,
        now: Instant,
    ) -> Vec<Partition> {
        self.0.retain(|partition, _| give.contains(partition));
        let mut is_due = |partition: &Partition| {
            let since = *self.0.entry(*partition).or_insert(now);
            ready.contains(partition) || now.saturating_duration_since(since) >= TIMEOUT
        };
        give.iter().copied().filter(|partition| is_due(partition)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_given_when_its_next_owner_is_ready_or_after_a_while() {
        let [one, two]: [Partition; 2] = Partition::all(2).collect::<Vec<_>>().try_into().unwrap();
        let (both, none) = (BTreeSet::from([one, two]), BTreeSet::new());
        let (mut giving, start) = (Giving::default(), Instant::now());
        assert_eq!(giving.due(&both, &none, start), []);
        assert_eq!(giving.due(&both, &BTreeSet::from([two]), start), [two]);
        let almost = start + TIMEOUT - Duration::from_millis(1);
        assert_eq!(giving.due(&BTreeSet::from([one]), &none, almost), []);
        assert_eq!(giving.due(&both, &none, start + TIMEOUT), [one], "the other one was kept meanwhile");
    }
}
