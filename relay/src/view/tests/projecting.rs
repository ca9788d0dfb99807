//! The projector.

use super::*;
use crate::decisions::classify::Next;
use projector::{Source, follow};
use std::{
    sync::{Mutex, atomic::AtomicU64},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// A journal in memory.
#[derive(Clone, Default)]
struct TestJournal(Arc<JournalState>);

#[derive(Default)]
struct JournalState {
    commits: Mutex<Vec<Committed>>,
    first: AtomicU64,
    reads: AtomicU64,
    /// The number of next reads that fail.
    failures: AtomicU64,
}

impl Source for TestJournal {
    async fn bounds(&self) -> Result<Bounds, talaria_bus::Error> {
        Ok(Bounds { first_commit: self.0.first.load(Ordering::Relaxed), ..journal(u64::MAX >> 1) })
    }

    async fn read(
        &self,
        partition: Partition,
        after: u64,
        max: usize,
    ) -> Result<Vec<Committed>, talaria_bus::Error> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        if self.0.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            return Err(rusqlite::Error::InvalidQuery.into());
        }
        let first = self.0.first.load(Ordering::Relaxed);
        let commits = self.0.commits.lock().unwrap();
        let read = commits.iter().filter(|it| it.partition == partition && it.seq > after && it.seq >= first);
        // Pages are small.
        Ok(read.take(max.min(7)).cloned().collect())
    }
}

impl TestJournal {
    fn of(history: &TestHistory) -> Self {
        let journal = Self::default();
        journal.0.commits.lock().unwrap().clone_from(&history.commits);
        journal
    }

    fn last(&self, partition: Partition) -> u64 {
        self.0.commits.lock().unwrap().iter().rfind(|it| it.partition == partition).map_or(0, |it| it.seq)
    }

    /// A partition is taken over.
    fn own(&self, view: &View, partition: Partition) {
        view.feed().send(Fed::Owned { partition, last: self.last(partition) });
    }

    /// Appends commits, and sends them to the feed.
    fn append(&self, view: &View, commits: &[Committed]) {
        for committed in commits {
            let Committed { seq, partition, commit } = committed.clone();
            let previous = self.last(partition);
            self.0.commits.lock().unwrap().push(committed.clone());
            view.feed().send(Fed::Committed { partition, previous, seq, commit });
        }
    }

    fn start(&self, view: &View) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(follow(self.clone(), 2, view.clone(), stop)))
    }
}

/// Two partitions with a few hundred commits.
fn two() -> TestHistory {
    let mut history = crowd();
    for commit in &mut history.commits {
        commit.partition = partition(u16::from(format!("{commit:?}").contains("\"other\"")));
    }
    history
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work).await.unwrap()
}

async fn caught_up(view: &View, journal: &TestJournal) {
    for number in [0, 1] {
        within(view.caught_up(partition(number), journal.last(partition(number)))).await;
    }
    assert_eq!(view.behind(), 0);
}

#[tokio::test]
async fn old_and_new_commits_are_folded() {
    let history = two();
    let (there, comes) = history.commits.split_at(150);
    let (_kept, expected) = view_of(&history).await;
    let (_kept, view) = view_in(&[], 1).await;
    let journal = TestJournal::of(&TestHistory { commits: there.to_vec(), ..TestHistory::default() });
    journal.own(&view, partition(0));
    journal.own(&view, partition(1));
    assert!(view.behind() > 100);
    let (stop, projector) = journal.start(&view);
    // While it still catches up.
    journal.append(&view, &comes[..20]);
    caught_up(&view, &journal).await;
    let reads = journal.0.reads.load(Ordering::Relaxed);
    journal.append(&view, &comes[20..]);
    caught_up(&view, &journal).await;
    assert_eq!(journal.0.reads.load(Ordering::Relaxed), reads, "nothing has to be read that was handed over");
    assert_eq!(dump(&view).await, dump(&expected).await);
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test]
async fn commits_beyond_the_limit_are_left_out_and_read_later() {
    let (_kept, view) = view_in(&[], 1).await;
    let journal = TestJournal::default();
    journal.own(&view, partition(0));
    let (stop, projector) = journal.start(&view);
    within(view.caught_up(partition(0), 0)).await;
    let mut history = TestHistory::default();
    for _ in 0..2_500 {
        for _ in 0..9 {
            history.event("acme", &[]);
        }
        history.join(9);
    }
    for (commit, seq) in history.commits.iter_mut().zip(1..) {
        commit.seq = seq;
    }
    // Faster than the projector, which does not run meanwhile.
    journal.append(&view, &history.commits);
    within(view.caught_up(partition(0), 2_500)).await;
    assert!(journal.0.reads.load(Ordering::Relaxed) > 1);
    assert_eq!(rows(&view, "events").await, 2_500 * 9);
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test]
async fn it_goes_on_where_it_was_or_from_the_start_where_the_journal_was_trimmed() {
    let history = two();
    for (trimmed, expected) in [(250, 300), (251, 300), (252, 49)] {
        let (_kept, view) = view_in(&history.commits[..250], 50).await;
        let journal = TestJournal::of(&TestHistory {
            commits: history.commits[..300].to_vec(),
            ..TestHistory::default()
        });
        journal.0.first.store(trimmed, Ordering::Relaxed);
        // Both partitions are one here, so that every commit counts.
        for commit in journal.0.commits.lock().unwrap().iter_mut() {
            commit.partition = partition(0);
        }
        view.write(|c| c.execute_batch("UPDATE events SET partition = 0; UPDATE lanes SET partition = 0; DELETE FROM cursors WHERE partition = 1; UPDATE cursors SET seq = 250"))
            .await
            .unwrap();
        view.cursors.send_replace([(0, 250)].into());
        journal.own(&view, partition(0));
        let (stop, projector) = journal.start(&view);
        within(view.caught_up(partition(0), 300)).await;
        let events = |commits: &[Committed]| {
            commits.iter().filter(|it| format!("{it:?}").contains("EventPlanned")).count() as u64
        };
        assert_eq!(rows(&view, "events").await, events(&history.commits[300 - expected..300]), "{trimmed}");
        stop.cancel();
        within(projector).await.unwrap();
    }
}

#[tokio::test]
async fn a_partition_that_is_lost_goes_and_comes_back_from_the_start() {
    let history = two();
    let (_kept, view) = view_in(&history.commits, 50).await;
    let expected = dump(&view).await;
    let journal = TestJournal::of(&history);
    journal.own(&view, partition(0));
    journal.own(&view, partition(1));
    let (stop, projector) = journal.start(&view);
    view.feed().send(Fed::Lost { partition: partition(1) });
    within(async {
        while rows(&view, "cursors").await == 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!((rows(&view, "events").await, view.cursor(partition(1))), (67, None));
    // Later commits are another relay's.
    let late = Committed { seq: 9_999, ..history.commits[1].clone() };
    view.feed().send(Fed::Committed {
        partition: partition(1),
        previous: 9,
        seq: 9_999,
        commit: late.commit,
    });
    journal.own(&view, partition(1));
    caught_up(&view, &journal).await;
    assert_eq!(dump(&view).await, expected);
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_partition_that_is_not_owned_again_go() {
    let history = two();
    let (_kept, view) = view_in(&history.commits, 50).await;
    let journal = TestJournal::of(&history);
    let (stop, projector) = journal.start(&view);
    journal.own(&view, partition(0));
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(rows(&view, "cursors").await, 2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The thread that writes is in real time.
    while rows(&view, "cursors").await == 2 {}
    assert_eq!(rows(&view, "events").await, 67);
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test]
async fn forgotten_events_are_removed_also_when_that_was_interrupted() {
    let mut history = crowd();
    history.forget("acme", 100);
    let (_kept, view) = view_of(&history).await;
    let all = rows(&view, "events").await;
    let journal = TestJournal::of(&history);
    let (stop, projector) = journal.start(&view);
    let fewer = async |than: u64| {
        within(async {
            while rows(&view, "events").await >= than {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        rows(&view, "events").await
    };
    let left = fewer(all).await;
    journal.own(&view, partition(0));
    let forgotten = history.commits.len();
    history.forget("acme", 200);
    journal.append(&view, &history.commits[forgotten..]);
    fewer(left).await;
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test]
async fn a_journal_and_a_disk_that_fail_for_a_while_are_tried_again() {
    let history = two();
    let (kept, view) = view_in(&[], 1).await;
    let journal = TestJournal::of(&history);
    journal.0.failures.store(2, Ordering::Relaxed);
    let locker = Connection::open(kept.path().join(FILE)).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.own(&view, partition(0));
    journal.own(&view, partition(1));
    let (stop, projector) = journal.start(&view);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(view.cursor(partition(0)), None);
    locker.execute_batch("ROLLBACK").unwrap();
    caught_up(&view, &journal).await;
    stop.cancel();
    within(projector).await.unwrap();
}

#[tokio::test]
async fn the_embedded_journal_is_followed() {
    let history = crowd();
    let (_kept, expected) = view_of(&history).await;
    let directory = tempfile::tempdir().unwrap();
    let bus = talaria_bus::Bus::embedded(directory.path()).await.unwrap();
    let view = View::open(directory.path(), &bus.bounds().await.unwrap()).unwrap();
    let stop = CancellationToken::new();
    let projector = tokio::spawn(projector::run(bus.clone(), view.clone(), stop.clone()));
    let (partition, mut last) = (Partition::ONLY, 0);
    let mut journal = bus.journal(partition, last);
    for (number, committed) in history.commits.iter().enumerate() {
        if number == 100 {
            view.feed().send(Fed::Owned { partition, last });
        }
        let previous = last;
        last = journal.append(Arc::clone(&committed.commit)).await.unwrap();
        let commit = Arc::clone(&committed.commit);
        view.feed().send(Fed::Committed { partition, previous, seq: last, commit });
    }
    within(view.caught_up(partition, last)).await;
    assert_eq!(states(&view).await, states(&expected).await);
    assert_eq!(rows(&view, "deliveries").await, rows(&expected, "deliveries").await);
    stop.cancel();
    within(projector).await.unwrap();
    view.close().await.unwrap();
    let again = View::open(directory.path(), &bus.bounds().await.unwrap()).unwrap();
    assert_eq!(again.cursor(partition), Some(last));
}

#[tokio::test]
async fn when_it_is_stopped_it_folds_the_commits_that_it_has() {
    let mut history = TestHistory::default();
    let (_kept, view) = view_in(&[], 1).await;
    let journal = TestJournal::default();
    journal.own(&view, partition(0));
    let (stop, projector) = journal.start(&view);
    within(view.caught_up(partition(0), 0)).await;
    let (_, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], Next::Delivered);
    stop.cancel();
    journal.append(&view, &history.commits);
    within(projector).await.unwrap();
    assert_eq!(view.cursor(partition(0)), Some(2));
}
