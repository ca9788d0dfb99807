//! How much memory a backlog takes, and how long its replay.
//!
//! The memory of the process tells, because nothing here may be `unsafe`, as an allocator that counts would be. So a process
//! of its own measures, in which no other test runs.

use super::{super::*, driver::start};
use crate::partition::state::tests::planned;
use std::{
    env, fs,
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};
use talaria_bus::time::to_proto;
use talaria_proto::v1::Record;

/// The most bytes that a waiting delivery may take, with its event and all that finds it.
const MOST_BYTES: usize = 300;

const COUNT: &str = "TALARIA_TEST_DELIVERIES";

/// The memory of this process in bytes, without the programs and libraries in it.
fn memory() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: Vec<usize> = statm.split_whitespace().map(|pages| pages.parse().unwrap()).collect();
    (pages[1] - pages[2]) * 4_096
}

fn plan(number: u64) -> Record {
    let at = after(start(), Duration::from_micros(number * 100));
    let job = u32::try_from(number).unwrap();
    let tenant = ["acme", "bravo"][usize::from(number.is_multiple_of(2))];
    let route = ["a", "b", "c", "d"][usize::try_from(number / 2 % 4).unwrap()];
    Record { at: Some(to_proto(at)), event_seq: number, what: Some(planned(tenant, job, &[route])) }
}

#[test]
#[ignore = "a measurement"]
fn bytes_and_times_of_a_backlog() {
    let count: u64 = env::var(COUNT).map_or(1_000_000, |count| count.parse().unwrap());
    let mut state = State::new();
    let mut took = Duration::ZERO;
    // What an allocator has for records is not the state's.
    let warm: Vec<Record> = (0..1_000).map(plan).collect();
    drop(black_box(warm));
    let before = memory();
    for first in (1..=count).step_by(100) {
        let records: Vec<Record> = (first..first + 100).map(plan).collect();
        let start = Instant::now();
        records.iter().for_each(|record| state.apply(record));
        state.close();
        state.committed(first);
        took += start.elapsed();
    }
    let bytes = (memory() - before) / usize::try_from(count).unwrap();
    println!("{count} deliveries: {bytes} bytes each, applied in {took:?}");
    let timed = |what: &str, run: &dyn Fn(&State)| {
        let start = Instant::now();
        run(&state);
        println!("{what}: {:?}", start.elapsed());
    };
    let now = after(start(), Duration::from_secs(1_000_000));
    timed("oldest of all lanes", &|state| {
        state.lanes().for_each(|lane| assert!(black_box(state.oldest(lane)).is_some()));
    });
    timed("due of all lanes", &|state| {
        let due: usize = state.lanes().map(|lane| state.due_count(lane, now, usize::MAX)).sum();
        assert_eq!(u64::try_from(due).unwrap(), count);
    });
    timed("to carry, all", &|state| {
        assert_eq!(black_box(state.to_carry(now, usize::MAX)).len(), usize::try_from(count).unwrap());
    });
    timed("to carry, none", &|state| assert!(black_box(state.to_carry(start(), 1)).is_empty()));
    let mut clamped = state.clone();
    let clock = Instant::now();
    clamped.clamp(start(), |_| Duration::from_secs(1));
    println!("clamp: {:?}", clock.elapsed());
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

#[test]
fn a_waiting_delivery_takes_less_than_it_may() {
    let test = "partition::state::tests::size::bytes_and_times_of_a_backlog";
    let mut measure = Command::new(env::current_exe().unwrap());
    measure.args(["--exact", test, "--ignored", "--nocapture"]).env(COUNT, "100000");
    let output = measure.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("bytes each"), "{text}");
}
