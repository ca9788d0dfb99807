//! Invariant 15.

use super::Backend;
use crate::{Bus, Files};
use bytes::Bytes;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

const RETENTION: Duration = Duration::from_secs(3_600);

/// More than a buffer and a chunk of any backend, and no multiple of them.
const SIZE: usize = 1_500_001;

fn files(bus: &Bus) -> Files {
    bus.publisher().files(RETENTION)
}

fn bytes(seed: u8) -> Bytes {
    (0..=250).cycle().take(SIZE).map(|byte: u8| byte ^ seed).collect()
}

async fn write(files: &Files, name: &str, bytes: &Bytes) {
    let mut file = files.create(name).await.unwrap();
    for at in (0..SIZE).step_by(100_000) {
        file.write(bytes.slice(at..SIZE.min(at + 100_000))).await.unwrap();
    }
    file.finish().await.unwrap();
}

/// The bytes from a position, after the size was compared.
async fn read(files: &Files, name: &str, from: usize) -> Option<Vec<u8>> {
    let mut file = files.open(name, from as u64).await.unwrap()?;
    assert_eq!(file.size, SIZE as u64);
    let mut found = Vec::new();
    file.bytes.read_to_end(&mut found).await.unwrap();
    Some(found)
}

pub async fn i15_a_finished_file_is_there_whole_until_it_is_removed(backend: &impl Backend) {
    let bus = backend.open().await;
    assert!(read(&files(&bus), "a-0", 0).await.is_none());
    write(&files(&bus), "a-0", &bytes(1)).await;
    write(&files(&bus), "a-1", &bytes(2)).await;
    drop(bus);
    let bus = backend.open().await;
    let files = files(&bus);
    assert!(read(&files, "a-0", 0).await.is_some_and(|found| found == bytes(1)));
    for from in [1, 131_071, 131_072, 131_073, SIZE - 1, SIZE] {
        assert!(read(&files, "a-1", from).await.is_some_and(|found| found == bytes(2)[from..]), "{from}");
    }
    files.remove("a-0").await.unwrap();
    assert!(read(&files, "a-0", 0).await.is_none() && read(&files, "a-1", 0).await.is_some());
    files.remove("a-0").await.unwrap();
    files.remove("never-there").await.unwrap();
}

pub async fn i15_a_file_that_is_not_finished_is_under_no_name(backend: &impl Backend) {
    let bus = backend.open().await;
    let files = files(&bus);
    let mut file = files.create("a-0").await.unwrap();
    file.write(bytes(1)).await.unwrap();
    assert!(files.open("a-0", 0).await.unwrap().is_none());
    drop(file);
    assert!(files.open("a-0", 0).await.unwrap().is_none());
    write(&files, "a-0", &bytes(2)).await;
    assert!(read(&files, "a-0", 0).await.is_some_and(|found| found == bytes(2)));
}

pub async fn i15_of_two_files_of_one_name_one_is_there(backend: &impl Backend) {
    let bus = backend.open().await;
    let files = files(&bus);
    let both = [bytes(1), bytes(2)];
    tokio::join!(write(&files, "a-0", &both[0]), write(&files, "a-0", &both[1]));
    let found = read(&files, "a-0", 0).await.unwrap();
    assert!(both.iter().any(|bytes| found == *bytes), "it is mixed");
}

pub async fn i15_a_file_of_one_process_is_there_for_the_other(backend: &impl Backend) {
    let bus = backend.open().await;
    let Some(second) = backend.open_second().await else { return };
    write(&files(&bus), "a-0", &bytes(1)).await;
    assert!(read(&files(&second), "a-0", 0).await.is_some_and(|found| found == bytes(1)));
}
