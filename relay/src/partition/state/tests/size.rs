//! The memory of a backlog, and the time of its replay.
//!
//! An allocator that counts would be `unsafe`, so the memory of the process is measured, in a process without other tests.

use super::{
    super::*,
    driver::{ROUTES, moved, start},
    key, planned, record,
};
use std::{env, fs, hint::black_box, process::Command, time::Duration};
use talaria_bus::Identity;
use talaria_core::time::{self, after};
use talaria_proto::v1::{EventsForgotten, Record, record::What};

/// The most bytes of a waiting delivery, with its event and all indices.
const MOST_BYTES: usize = 300;

/// Has the number of waiting deliveries.
const COUNT: &str = "TALARIA_TEST_DELIVERIES";

/// The memory of this process in bytes, without the programs and libraries in it.
fn memory() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: Vec<usize> = statm.split_whitespace().map(|pages| pages.parse().unwrap()).collect();
    (pages[1] - pages[2]) * 4_096
}

/// The processor time of this thread in nanoseconds.
fn processor_time() -> u64 {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedule.split_whitespace().next().unwrap().parse().unwrap()
}

fn timed<T>(name: &str, run: impl FnOnce() -> T) -> T {
    let start = processor_time();
    let result = black_box(run());
    println!("{name}: {:?}", Duration::from_nanos(processor_time() - start));
    result
}

/// The same five times, because the first time may be the first use of the memory.
fn timed_often<T>(name: &str, run: impl Fn() -> T) -> T {
    (0..4).for_each(|_| drop(timed(name, &run)));
    timed(name, run)
}

fn route(number: u64) -> &'static str {
    ROUTES[usize::try_from(number / 2 % 4).unwrap()]
}

fn plan(number: u64) -> Record {
    let tenant = ["acme", "bravo"][usize::from(number.is_multiple_of(2))];
    let at = after(start(), Duration::from_micros(number * 100));
    record(at, number, planned(tenant, u32::try_from(number).unwrap(), &[route(number)]))
}

#[test]
#[ignore = "a measurement"]
fn bytes_and_times_of_a_backlog() {
    let count: u64 = env::var(COUNT).map_or(1_000_000, |count| count.parse().unwrap());
    let all = usize::try_from(count).unwrap();
    let mut state = State::default();
    let mut took = 0;
    // The allocator's reserve for records is not the state's.
    drop(black_box((0..1_000).map(plan).collect::<Vec<_>>()));
    let before = memory();
    for first in (1..=count).step_by(1_000) {
        let records: Vec<Record> = (first..first + 1_000).map(plan).collect();
        let start = processor_time();
        for record in &records {
            state.apply(record);
        }
        state.close();
        state.committed(first);
        took += processor_time() - start;
    }
    let bytes = (memory() - before) / all;
    println!("{count} deliveries: {bytes} bytes each, applied in {:?}", Duration::from_nanos(took));

    let now = after(start(), Duration::from_secs(1_000_000));
    let oldest = || state.lanes().filter_map(|lane| state.oldest(lane)).count();
    assert_eq!(timed("oldest of all lanes", oldest), 8);
    let due = || state.lanes().map(|lane| state.due_count(lane, now, usize::MAX)).sum();
    assert_eq!(timed_often::<usize>("due of all lanes", due), all);
    assert_eq!(timed("to carry, all", || state.to_carry(now, usize::MAX)).len(), all);
    assert!(timed_often("to carry, none", || state.to_carry(start(), 1)).is_empty());
    let mut set_back = state.clone();
    let earlier = time::before(start(), Duration::from_secs(100));
    let opened = set_back.opened(&Identity { relay: "relay".into(), run: 1 }, earlier);
    timed("set the clock back", || set_back.apply(&opened));
    drop(set_back);
    for number in 1..=count {
        let task = state.task(key(number, route(number))).unwrap();
        state.apply(&record(start(), number, moved(&task, false)));
    }
    let before = timed("forgettable, all", || state.forgettable(now)).unwrap();
    let forgotten = record(now, 0, What::EventsForgotten(EventsForgotten { before }));
    timed("forget all", || state.apply(&forgotten));
    assert_eq!((state.kept.len(), state.waiting.len()), (0, 0));
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
