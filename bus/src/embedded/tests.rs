use super::*;
use crate::{Bus, conformance::Backend};
use jiff::Timestamp;
use rusqlite::Connection;
use std::sync::atomic::{AtomicUsize, Ordering};
use talaria_core::id::EventId;
use talaria_proto::v1::Event;
use tempfile::TempDir;

/// A directory that outlives the buses in it.
struct Directory {
    directory: TempDir,
    clock: Clock,
}

impl Directory {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_777_000_000).unwrap());
        Self { directory: tempfile::tempdir().unwrap(), clock }
    }
}

impl Backend for Directory {
    async fn open(&self) -> Bus {
        Bus::embedded(self.directory.path(), self.clock.clone()).await.unwrap()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

crate::conformance_suite!(Directory::new());

fn event(job: &str) -> Event {
    Event { id: EventId::new("acme", job, "t").to_string(), ..Event::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn i15_what_cannot_be_written_is_an_error_and_succeeds_once_the_cause_is_gone() {
    let directory = Directory::new();
    let bus = directory.open().await;
    bus.publish(event("before")).await.unwrap();

    // Somebody else holds the file's write lock, as a backup or a stuck tool might.
    let intruder = Connection::open(directory.directory.path().join(FILE)).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = bus.publish(event("during")).await.unwrap_err();
    assert_eq!(error.to_string(), "the bus is unavailable: database is locked");
    assert!(bus.check().await.is_err());
    intruder.execute_batch("ROLLBACK").unwrap();
    bus.check().await.unwrap();
    bus.publish(event("during")).await.unwrap();

    // The disk is full.
    let Bus::Embedded(embedded) = &bus else { panic!() };
    let limit = |pages: &'static str| async move {
        embedded
            .write(move |store| store.connection.pragma_update(None, "max_page_count", pages))
            .await
            .unwrap();
    };
    limit("1").await;
    let large = Event { payload: vec![0; 1 << 20].into(), ..event("large") };
    assert!(bus.publish(large.clone()).await.unwrap_err().to_string().contains("full"));
    limit("1000000").await;
    bus.publish(large.clone()).await.unwrap();
    let stored = bus.unplanned(10).await.unwrap();
    assert_eq!(stored.iter().map(|stored| stored.seq).collect::<Vec<_>>(), [1, 2, 3], "no gap, nothing lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_kept_out() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let error = Bus::embedded(directory.directory.path(), Clock::System).await.err().unwrap();
    assert!(error.to_string().contains("another Talaria is running in this data directory"), "{error}");
    drop(bus);
    directory.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_version_is_refused() {
    let directory = Directory::new();
    let file = directory.directory.path().join(FILE);
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Bus::embedded(directory.directory.path(), Clock::System).await.err().unwrap();
    assert!(error.to_string().contains("newer Talaria (schema 99"), "{error}");
    let other = Directory::new();
    Connection::open(other.directory.path().join(FILE)).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = Bus::embedded(other.directory.path(), Clock::System).await.err().unwrap();
    assert!(error.to_string().contains("some other program's database"), "{error}");
    let damaged = Directory::new();
    fs::write(damaged.directory.path().join(FILE), [b'x'; 8192]).unwrap();
    let error = Bus::embedded(damaged.directory.path(), Clock::System).await.err().unwrap();
    assert!(error.to_string().contains("restore bus.db from a backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_synchronous_and_one_commit_serves_many() {
    let directory = Directory::new();
    let bus = directory.open().await;
    let Bus::Embedded(embedded) = &bus else { panic!() };
    let synchronous: i64 = embedded
        .write(|store| store.connection.query_row("PRAGMA synchronous", (), |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(synchronous, 2, "FULL");

    // While one piece of work holds the writer, the others gather and are committed together.
    let commits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        false
    };
    embedded.write(move |store| store.connection.commit_hook(Some(count))).await.unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let blocker = bus.clone();
    let blocked = tokio::spawn(async move {
        let Bus::Embedded(embedded) = &blocker else { panic!() };
        embedded
            .write(move |_| {
                let _ = begin.send(());
                let _ = held.recv();
                Ok(())
            })
            .await
            .unwrap();
    });
    begun.await.unwrap();
    let publish = |index: usize| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish(event(&index.to_string())).await.unwrap() })
    };
    let writers: Vec<_> = (0..100).map(publish).collect();
    while embedded.inner.writer.free_places() > writer::QUEUE - 101 {
        tokio::task::yield_now().await;
    }
    let before = commits.load(Ordering::SeqCst);
    release.send(()).unwrap();
    blocked.await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let commits = commits.load(Ordering::SeqCst) - before;
    assert!((1..=3).contains(&commits), "{commits} commits for a hundred events");
}
