use super::*;
use crate::{
    AppendError, Bus, Journal as BusJournal, Partition, backup,
    conformance::{Backend, TIMEOUT},
};
use rusqlite::Connection;
use std::{
    fs,
    sync::{
        atomic::{AtomicBool, AtomicUsize},
        mpsc,
    },
};
use talaria_proto::v1::{EventRepeated, Record, record::What};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A task for the writer's connection.
pub(super) type Look = Box<dyn FnOnce(&mut Connection) -> rusqlite::Result<()> + Send>;

/// A directory that outlives the buses in it, on a disk that can be broken.
struct Directory {
    files: TempDir,
    broken: Arc<AtomicBool>,
    /// Commits since the disk was broken, and since `count_commits`.
    commits: Arc<AtomicUsize>,
}

impl Directory {
    fn new() -> Self {
        Self { files: tempfile::tempdir().unwrap(), broken: Arc::default(), commits: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.files.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join(FILE)
    }

    /// The error of opening the bus.
    async fn refusal(&self) -> String {
        Bus::embedded(self.path()).await.err().unwrap().to_string()
    }

    /// Counts each further commit, and makes it fail while the disk is broken.
    async fn watch_commits(&self, bus: &Bus) {
        let (broken, commits) = (Arc::clone(&self.broken), Arc::clone(&self.commits));
        let hook = move || {
            commits.fetch_add(1, Ordering::SeqCst);
            broken.load(Ordering::SeqCst)
        };
        inspect(bus, move |connection| connection.commit_hook(Some(hook))).await.unwrap();
        self.commits.store(0, Ordering::SeqCst);
    }

    fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// Waits until `count` commits were tried.
    async fn tried(&self, count: usize) {
        until(|| self.commits() >= count).await;
    }
}

impl Backend for Directory {
    async fn open(&self) -> Bus {
        Bus::embedded(self.path()).await.unwrap()
    }

    async fn break_writes(&self, bus: &Bus) -> bool {
        self.watch_commits(bus).await;
        self.broken.store(true, Ordering::SeqCst);
        true
    }

    async fn mend(&self, _: &Bus) {
        self.broken.store(false, Ordering::SeqCst);
    }
}

crate::conformance_suite!(Directory::new());

fn embedded(bus: &Bus) -> &Embedded {
    let Bus::Embedded(embedded) = bus else { panic!() };
    embedded
}

async fn inspect(
    bus: &Bus,
    look: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static,
) -> Result<(), Error> {
    embedded(bus).write(|reply| Write::Inspect { look: Some(Box::new(look)), reply }).await
}

/// Keeps the writer busy until the sender is used.
async fn hold_writer(bus: &Bus) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (release, held) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let bus = bus.clone();
    let holding = tokio::spawn(async move {
        let look = move |_: &mut Connection| {
            let _ = begin.send(());
            let _ = held.recv();
            Ok(())
        };
        inspect(&bus, look).await
    });
    begun.await.unwrap();
    (release, holding)
}

/// Waits until `count` writes are queued.
async fn waiting(bus: &Bus, count: usize) {
    until(|| embedded(bus).inner.writer.waiting() >= count).await;
}

async fn until(condition: impl Fn() -> bool) {
    let check = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, check).await.expect("it never happened");
}

fn event(job: &str) -> Event {
    Event { job_id: job.into(), ..Event::default() }
}

fn commit(name: &str) -> Commit {
    let what = What::EventRepeated(EventRepeated { event_id: name.into(), ..EventRepeated::default() });
    Commit { records: vec![Record { what: Some(what), ..Record::default() }] }
}

fn journal(bus: &Bus, last: u64) -> BusJournal {
    bus.journal(Partition::ONLY, last)
}

async fn publish(bus: &Bus, event: Event) -> Result<(), Error> {
    bus.publisher().publish(event).await
}

async fn events(bus: &Bus, count: usize) -> Vec<(u64, String)> {
    let mut events = bus.events(Partition::ONLY, 0).await.unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(events.next(count).await.unwrap());
    }
    found
        .into_iter()
        .map(|stored| match stored.what {
            Incoming::Event(event) => (stored.seq, event.job_id.clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_kept_out() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let error = directory.refusal().await;
    assert!(error.contains("another Talaria is running in this data directory"), "{error}");
    drop(bus);
    directory.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_ours_are_refused() {
    for (version, says) in [
        (
            1,
            "a layout from before the first release (schema 1, this Talaria knows 2), which cannot be converted: move",
        ),
        (99, "written by a newer Talaria (schema 99, this one knows 2): start that version, or move"),
    ] {
        let directory = Directory::new();
        Connection::open(directory.file()).unwrap().pragma_update(None, "user_version", version).unwrap();
        let error = directory.refusal().await;
        assert!(error.contains(says), "{error}");
    }
    let other = Directory::new();
    Connection::open(other.file()).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = other.refusal().await;
    assert!(error.contains("some other program's database"), "{error}");
    let damaged = Directory::new();
    fs::write(damaged.file(), [b'x'; 8192]).unwrap();
    let error = damaged.refusal().await;
    assert!(
        error.contains("restore bus.db from a backup, or move it away to begin with an empty one"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_damage() {
    let directory = Directory::new();
    let bus = directory.open().await;
    publish(&bus, event("a")).await.unwrap();
    let last = journal(&bus, 0).append(commit("a")).await.unwrap();
    drop(bus);
    let damage = "UPDATE events SET bytes = x'ff'; UPDATE commits SET bytes = x'ff'";
    Connection::open(directory.file()).unwrap().execute_batch(damage).unwrap();
    let bus = directory.open().await;
    let mut events = bus.events(Partition::ONLY, 0).await.unwrap();
    for error in [
        events.next(1).await.err().unwrap(),
        bus.event_at(1).await.err().unwrap(),
        bus.read(Partition::ONLY, 0, 1).await.err().unwrap(),
        bus.commit_at(last).await.err().unwrap(),
        bus.commits(0).await.unwrap().next(1).await.err().unwrap(),
    ] {
        let error = error.to_string();
        assert!(error.contains(" 1 cannot be read") && error.contains("restore bus.db"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_stored_events_are_in_the_files_before_the_bus_is_closed() {
    let directory = Directory::new();
    let bus = directory.open().await;
    publish(&bus, event("a")).await.unwrap();
    journal(&bus, 0).append(commit("b")).await.unwrap();
    // The files as after a power failure.
    let copy = Directory::new();
    for name in [FILE, "bus.db-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let bus = copy.open().await;
    assert_eq!(events(&bus, 1).await, [(1, "a".to_owned())]);
    assert_eq!(bus.commit_at(1).await.unwrap(), Some(commit("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_synchronous_and_one_commit_serves_many() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let is_full = |connection: &mut Connection| {
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", (), |row| row.get(0))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0))?;
        assert_eq!((synchronous, mode.as_str()), (2, "wal"), "FULL");
        Ok(())
    };
    inspect(&bus, is_full).await.unwrap();

    // While one write keeps the writer busy, the others gather and are committed together.
    directory.watch_commits(&bus).await;
    let (release, holding) = hold_writer(&bus).await;
    let publishing: Vec<_> = (0..100)
        .map(|index| {
            let bus = bus.clone();
            tokio::spawn(async move { publish(&bus, event(&index.to_string())).await.unwrap() })
        })
        .collect();
    let mut appending = journal(&bus, 0);
    let appending = tokio::spawn(async move { appending.append(commit("a")).await.unwrap() });
    waiting(&bus, 101).await;
    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    for publishing in publishing {
        publishing.await.unwrap();
    }
    appending.await.unwrap();
    assert_eq!(directory.commits(), 1, "all of them waited for the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn i02_a_failed_group_is_an_error_for_all_and_uses_no_sequence() {
    let directory = Directory::new();
    let bus = directory.open().await;
    publish(&bus, event("a")).await.unwrap();
    directory.watch_commits(&bus).await;
    let (release, holding) = hold_writer(&bus).await;
    let publishing = ["b", "c"].map(|job| {
        let bus = bus.clone();
        tokio::spawn(async move { publish(&bus, event(job)).await })
    });
    waiting(&bus, 2).await;
    directory.broken.store(true, Ordering::SeqCst);
    release.send(()).unwrap();
    assert!(holding.await.unwrap().is_err());
    for publishing in publishing {
        assert!(publishing.await.unwrap().is_err());
    }
    assert_eq!(directory.commits(), 1, "they were one group");
    assert_eq!(bus.bounds().await.unwrap().last_event, 1);
    directory.broken.store(false, Ordering::SeqCst);
    publish(&bus, event("d")).await.unwrap();
    assert_eq!(events(&bus, 2).await, [(1, "a".to_owned()), (2, "d".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn i07_an_append_is_repeated_while_the_disk_is_broken_and_is_fenced_then_too() {
    let directory = Directory::new();
    let bus = directory.open().await;
    directory.break_writes(&bus).await;
    let appending = ["a", "b"].map(|name| {
        let mut journal = journal(&bus, 0);
        tokio::spawn(async move { journal.append(commit(name)).await.map(|seq| (seq, name)) })
    });
    directory.tried(5).await;
    assert!(appending.iter().all(|appending| !appending.is_finished()));
    assert_eq!(bus.bounds().await.unwrap().last_commit, 0);
    directory.mend(&bus).await;
    let mut outcomes = Vec::new();
    for appending in appending {
        outcomes.push(appending.await.unwrap());
    }
    outcomes.sort_by_key(Result::is_err);
    let Ok((1, name)) = outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[1], Err(AppendError::Overtaken));
    assert_eq!(bus.commit_at(1).await.unwrap(), Some(commit(name)));
    assert_eq!(bus.commit_at(2).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_overtaken_journal_stays_overtaken_when_all_commits_were_trimmed() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let mut first = journal(&bus, 0);
    let last = first.append(commit("a")).await.unwrap();
    let mut unused = journal(&bus, 0);
    let last = journal(&bus, last).append(commit("b")).await.unwrap();
    assert_eq!(bus.trim(Floors { events: 0, journal: u64::MAX }).await.unwrap(), (0, 2));
    assert_eq!(first.append(commit("refused")).await, Err(AppendError::Overtaken));
    assert_eq!(unused.append(commit("refused")).await, Err(AppendError::Overtaken));
    assert_eq!(
        journal(&bus, 0).append(commit("c")).await,
        Ok(last + 1),
        "a floor above the end moves no sequence"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_trimming_takes_turns_with_other_writes() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let large = Event { payload: vec![0; 300_000].into(), ..event("large") };
    for _ in 0..20 {
        publish(&bus, large.clone()).await.unwrap();
    }
    directory.watch_commits(&bus).await;
    assert_eq!(bus.trim(Floors { events: 21, journal: 0 }).await.unwrap(), (20, 0));
    assert_eq!(directory.commits(), 5, "4 MB in steps of about 1 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_locked_file_and_a_full_disk_are_errors_until_they_are_gone() {
    let directory = Directory::new();
    let bus = directory.open().await;
    publish(&bus, event("before")).await.unwrap();

    // Another program has the file's write lock, such as a backup tool that hangs.
    let intruder = Connection::open(directory.file()).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = publish(&bus, event("during")).await.unwrap_err();
    assert_eq!(error.to_string(), "the bus is unavailable: database is locked");
    assert!(bus.check().await.is_err());
    intruder.execute_batch("ROLLBACK").unwrap();
    bus.check().await.unwrap();
    publish(&bus, event("during")).await.unwrap();

    let limit =
        |pages| inspect(&bus, move |connection| connection.pragma_update(None, "max_page_count", pages));
    limit(1).await.unwrap();
    let large = Event { payload: vec![0; 1 << 20].into(), ..event("large") };
    assert!(publish(&bus, large.clone()).await.unwrap_err().to_string().contains("full"));
    let failures = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&failures);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    inspect(&bus, move |connection| connection.rollback_hook(Some(count))).await.unwrap();
    let mut journal = journal(&bus, 0);
    let appending = tokio::spawn(async move { journal.append(commit(&"x".repeat(1 << 20))).await });
    until(|| failures.load(Ordering::SeqCst) >= 2).await;
    limit(1_000_000).await.unwrap();
    publish(&bus, large).await.unwrap();
    assert_eq!(appending.await.unwrap(), Ok(1));
    let expected = [(1, "before"), (2, "during"), (3, "large")].map(|(seq, job)| (seq, job.to_owned()));
    assert_eq!(events(&bus, 3).await, expected, "no gap, nothing is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_bus_has_all_acknowledged_entries_and_its_own_source() {
    let directory = Directory::new();
    let bus = directory.open().await;
    for index in 0..20 {
        publish(&bus, event(&index.to_string())).await.unwrap();
    }
    let mut appending = journal(&bus, 0);
    for _ in 0..3 {
        appending.append(commit("a")).await.unwrap();
    }
    bus.trim(Floors { events: 6, journal: 4 }).await.unwrap();
    let (stop, worker) = (Arc::<AtomicBool>::default(), bus.clone());
    let is_over = Arc::clone(&stop);
    let working = tokio::spawn(async move {
        while !is_over.load(Ordering::SeqCst) {
            publish(&worker, event("during")).await.unwrap();
        }
    });
    let restored = Directory::new();
    let (from, to) = (directory.path().to_path_buf(), restored.file());
    let saved = tokio::task::spawn_blocking(move || backup(&from, &to)).await.unwrap().unwrap();
    stop.store(true, Ordering::SeqCst);
    working.await.unwrap();
    assert!(saved.events >= 15 && saved.commits == 0, "{saved:?}");
    assert_eq!(saved.bytes, fs::metadata(restored.file()).unwrap().len());

    let copy = restored.open().await;
    let (bounds, original) = (copy.bounds().await.unwrap(), bus.bounds().await.unwrap());
    assert_ne!(bounds.source, original.source);
    let reach = (bounds.first_event, bounds.last_event, bounds.first_commit, bounds.last_commit);
    assert_eq!(reach, (6, 5 + saved.events, 4, 3));
    assert_eq!(events(&copy, 15).await[..15], events(&bus, 15).await[..15]);
    assert_eq!(journal(&copy, 0).append(commit("b")).await, Ok(4));
}
