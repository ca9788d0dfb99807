//! The feed: commits from the owners of partitions to the view.
//!
//! An owner never waits for the view. If the view is behind, commits are left out of the feed; the view notices the gap and reads
//! them from the journal.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use talaria_bus::{Committed, Partition};
use talaria_proto::v1::Commit;
use tokio::sync::Notify;

/// The most records that wait to be folded. Others are read from the journal later.
const MOST_WAITING: usize = 20_000;

/// A change of a partition.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// This relay owns it from now on.
    Owned {
        partition: Partition,
        /// Its last commit, 0 for none.
        last: u64,
    },
    /// A commit of an owned partition is durable.
    Committed {
        partition: Partition,
        /// The partition's commit before it, 0 for none.
        previous: u64,
        seq: u64,
        commit: Arc<Commit>,
    },
    /// This relay does not own it any more.
    Lost { partition: Partition },
}

/// Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Notify,
}

impl Feed {
    /// Never waits.
    pub(crate) fn send(&self, fed: Fed) {
        self.lock().take(fed);
        self.0.changed.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it holds the lock.
        self.0.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once something was sent since the last call.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// The owned partitions with their commits to fold, and the partitions whose rows are to be removed.
#[derive(Default)]
pub(super) struct Inbox {
    partitions: BTreeMap<Partition, Followed>,
    /// The number of records that wait to be folded.
    waiting: usize,
    /// The partitions that were read and folded last.
    last_read: Option<Partition>,
    last_folded: Option<Partition>,
}

#[derive(Default)]
struct Followed {
    is_owned: bool,
    /// The last known commit.
    last: u64,
    /// All commits up to this one are folded or wait here; `None` before the first read.
    reached: Option<u64>,
    waiting: VecDeque<Committed>,
    /// Whether its rows are to be removed before anything is folded.
    is_stale: bool,
    /// Rises when the partition is owned and when it is lost, so that earlier reads are discarded.
    epoch: u64,
}

/// The commits of a partition to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub partition: Partition,
    /// After this commit; `None` for the commits after the cursor.
    pub after: Option<u64>,
    /// The last known commit.
    pub last: u64,
    epoch: u64,
}

impl Inbox {
    fn take(&mut self, fed: Fed) {
        match fed {
            Fed::Owned { partition, last } => {
                self.reset(partition);
                let followed = self.partitions.entry(partition).or_default();
                (followed.is_owned, followed.last) = (true, last);
            }
            Fed::Lost { partition } => {
                self.reset(partition);
                let followed = self.partitions.entry(partition).or_default();
                (followed.is_owned, followed.is_stale) = (false, true);
            }
            Fed::Committed { partition, previous, seq, commit } => {
                let Some(followed) = self.partitions.get_mut(&partition).filter(|it| it.is_owned) else {
                    return;
                };
                followed.last = followed.last.max(seq);
                let follows = followed.reached.is_some_and(|reached| previous <= reached && reached < seq);
                if follows && self.waiting < MOST_WAITING {
                    followed.reached = Some(seq);
                    self.waiting += commit.records.len();
                    followed.waiting.push_back(Committed { seq, partition, commit });
                }
            }
        }
    }

    fn reset(&mut self, partition: Partition) {
        let followed = self.partitions.entry(partition).or_default();
        followed.epoch += 1;
        followed.reached = None;
        let dropped = std::mem::take(&mut followed.waiting);
        self.waiting -= records(&dropped);
    }

    /// A partition has rows in the file and is not owned yet.
    pub(super) fn found(&mut self, partition: Partition, is_stale: bool) {
        self.partitions.entry(partition).or_default().is_stale |= is_stale;
    }

    /// The rows of partitions that this relay does not own are to be removed.
    pub(super) fn disown(&mut self) {
        self.partitions.values_mut().filter(|it| !it.is_owned).for_each(|it| it.is_stale = true);
    }

    /// A partition whose rows are to be removed.
    pub(super) fn stale(&self) -> Option<Partition> {
        self.partitions.iter().find(|(_, it)| it.is_stale).map(|(partition, _)| *partition)
    }

    /// All rows of a partition were removed.
    pub(super) fn removed(&mut self, partition: Partition) {
        if let Some(followed) = self.partitions.get_mut(&partition) {
            followed.is_stale = false;
            if !followed.is_owned {
                self.partitions.remove(&partition);
            }
        }
    }

    /// The next partition with commits to read, in turn.
    pub(super) fn missing(&mut self) -> Option<Missing> {
        let lacks = |(partition, it): (&Partition, &Followed)| {
            let lacks = it.reached.is_none_or(|reached| reached < it.last);
            (it.is_owned && !it.is_stale && it.waiting.is_empty() && lacks).then_some(Missing {
                partition: *partition,
                after: it.reached,
                last: it.last,
                epoch: it.epoch,
            })
        };
        let mut behind = self.partitions.iter().filter(|(partition, _)| Some(**partition) > self.last_read);
        let missing = behind.find_map(lacks).or_else(|| self.partitions.iter().find_map(lacks))?;
        self.last_read = Some(missing.partition);
        Some(missing)
    }

    /// Adds the commits that were read; `None` if the partition's rows have to be rebuilt.
    pub(super) fn read(&mut self, missing: Missing, commits: Option<Vec<Committed>>) {
        let known = self.partitions.get_mut(&missing.partition);
        let Some(followed) = known.filter(|it| it.epoch == missing.epoch) else { return };
        let Some(mut commits) = commits else {
            followed.is_stale = true;
            return;
        };
        if commits.is_empty() {
            // All commits up to there are folded.
            let seq = missing.last.max(missing.after.unwrap_or(0));
            commits.push(Committed { seq, partition: missing.partition, commit: Arc::default() });
        }
        followed.reached = commits.last().map(|last| last.seq);
        followed.last = followed.last.max(followed.reached.unwrap_or(0));
        self.waiting += records(&commits);
        followed.waiting.extend(commits);
    }

    /// Commits to fold, with about `most` records, from the partitions in turn.
    pub(super) fn batch(&mut self, most: usize) -> Vec<Committed> {
        let (mut batch, mut count) = (Vec::new(), 0);
        while count < most
            && let Some(partition) = self.next_waiting()
            && let Some(followed) = self.partitions.get_mut(&partition)
            && let Some(commit) = followed.waiting.pop_front()
        {
            count += commit.commit.records.len();
            batch.push(commit);
            self.last_folded = Some(partition);
        }
        self.waiting -= count;
        batch
    }

    fn next_waiting(&self) -> Option<Partition> {
        let waits = |(partition, it): (&Partition, &Followed)| {
            (!it.is_stale && !it.waiting.is_empty()).then_some(*partition)
        };
        let mut behind = self.partitions.iter().filter(|(partition, _)| Some(**partition) > self.last_folded);
        behind.find_map(waits).or_else(|| self.partitions.iter().find_map(waits))
    }

    /// The last commit of each partition that is owned.
    pub(super) fn last(&self) -> impl Iterator<Item = (Partition, u64)> {
        self.partitions.iter().filter(|(_, it)| it.is_owned).map(|(partition, it)| (*partition, it.last))
    }
}

fn records<'a>(commits: impl IntoIterator<Item = &'a Committed>) -> usize {
    commits.into_iter().map(|commit| commit.commit.records.len()).sum()
}
