//! What the owners of partitions tell the view.
//!
//! An owner never waits for the view: it hands its commits over, and what the view cannot take because it is behind is
//! left out. The view then sees that something is missing and reads it from the journal.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use talaria_bus::{Committed, Partition};
use talaria_proto::v1::Commit;
use tokio::sync::Notify;

/// Records that may wait to be folded. More are read from the journal when their time comes.
const MOST_WAITING: usize = 20_000;

/// What happened to a partition.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// It is owned here from now on.
    Owned {
        partition: Partition,
        /// Its last commit, 0 for none.
        last: u64,
    },
    /// A commit of a partition that is owned here is durable.
    Committed {
        partition: Partition,
        /// The partition's commit before it, 0 for none.
        previous: u64,
        seq: u64,
        commit: Arc<Commit>,
    },
    /// It is not owned here any more.
    Lost { partition: Partition },
}

/// Takes what owners tell. Clones share it.
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

    /// Returns once something was sent since the last time.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// The partitions that are owned, with the commits that wait to be folded, and those whose rows are to be removed.
#[derive(Default)]
pub(super) struct Inbox {
    partitions: BTreeMap<Partition, Followed>,
    /// Records that wait to be folded.
    waiting: usize,
    /// Whose turn it was last, to be read and to be folded.
    last_read: Option<Partition>,
    last_folded: Option<Partition>,
}

#[derive(Default)]
struct Followed {
    is_owned: bool,
    /// The last commit that is known of.
    last: u64,
    /// Everything up to this commit is folded or waits here; `None` before that was looked up.
    reached: Option<u64>,
    waiting: VecDeque<Committed>,
    /// Whether its rows are to be removed before anything is folded.
    is_stale: bool,
    /// Rises when it is owned and when it is lost, so that what was read before counts no more.
    epoch: u64,
}

/// What of a partition has to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub partition: Partition,
    /// Behind this commit; `None` where the cursor says it.
    pub after: Option<u64>,
    /// The last commit that was known of.
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

    /// A partition of which commits have to be read, each in its turn.
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

    /// What was missing was read; `None` where the partition's rows are no base for what is there.
    pub(super) fn read(&mut self, missing: Missing, commits: Option<Vec<Committed>>) {
        let known = self.partitions.get_mut(&missing.partition);
        let Some(followed) = known.filter(|it| it.epoch == missing.epoch) else { return };
        let Some(mut commits) = commits else {
            followed.is_stale = true;
            return;
        };
        if commits.is_empty() {
            // There was nothing up to there that is not folded.
            let seq = missing.last.max(missing.after.unwrap_or(0));
            commits.push(Committed { seq, partition: missing.partition, commit: Arc::default() });
        }
        followed.reached = commits.last().map(|last| last.seq);
        followed.last = followed.last.max(followed.reached.unwrap_or(0));
        self.waiting += records(&commits);
        followed.waiting.extend(commits);
    }

    /// Commits to fold, with about so many records: one of each partition in turn.
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
