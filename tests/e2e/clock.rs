//! A wall clock that is set while a process runs, and between two runs. libfaketime moves the clock of that process alone.

use std::{fs, time::Duration};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    clock::faketime,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

/// Who waits for longer than this did not keep its distance to the present.
const SOON: Duration = Duration::from_secs(20);

/// The clock of a process.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    /// `by` as libfaketime reads it, such as `+10d`.
    fn set(&self, by: &str) {
        // It may be read at any time.
        let next = self.0.path().with_extension("next");
        fs::write(&next, by).unwrap();
        fs::rename(next, self.0.path()).unwrap();
    }
}

/// A Talaria whose route fails at first, and that tries again every two seconds.
async fn failing(library: &str, sink: &Sink) -> (Clock, Stack) {
    let clock = Clock(tempfile::NamedTempFile::new().unwrap());
    clock.set("+0s");
    sink.set("r", Does::Answer(503, serde_json::json!({})));
    let stack = stack()
        .environment("LD_PRELOAD", library)
        .environment("FAKETIME_TIMESTAMP_FILE", &clock.0.path().display().to_string())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with("retention: 2d")
        .tenant("acme", |tenant| {
            tenant.route(
                "r",
                &sink.url("r"),
                "breaker: off\nretry: {schedule: [2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s]}",
            )
        })
        .start()
        .await;
    (clock, stack)
}

/// Lets the clock jump ahead, and waits until an attempt was made by the wrong time.
async fn jumps_ahead(clock: &Clock, by: &str, stack: &Stack, sink: &Sink) {
    clock.set(by);
    stack.logged("the wall clock was set forward").await;
    let before = sink.requests_to("r").len();
    let tried = async || (sink.requests_to("r").len() > before + 1).then_some(());
    until("it to be tried by the wrong clock", tried).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_days_ahead_and_back_erases_nothing_and_parks_nothing() {
    let Some(library) = faketime() else { return };
    let sink = Sink::start().await;
    let (clock, stack) = failing(&library, &sink).await;
    let event = stack.openrouter("acme").send("waits", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts >= 1).await;
    // Longer than anything is kept, and older than anything may become.
    jumps_ahead(&clock, "+10d", &stack, &sink).await;
    clock.set("+0s");
    stack.logged("the wall clock was set back").await;
    sink.set("r", Does::Accept);
    let found = tokio::time::timeout(SOON, stack.finished(&event, "r")).await;
    assert_eq!(found.expect("its next attempt comes soon").delivery.unwrap().state(), State::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_between_two_runs_lets_nothing_wait_for_it() {
    let Some(library) = faketime() else { return };
    let sink = Sink::start().await;
    let (clock, mut stack) = failing(&library, &sink).await;
    let event = stack.openrouter("acme").send("waits", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts >= 1).await;
    jumps_ahead(&clock, "+2h", &stack, &sink).await;
    clock.set("+0s");
    sink.set("r", Does::Accept);
    stack.kill_and_restart().await;
    let found = tokio::time::timeout(SOON, stack.finished(&event, "r")).await;
    assert_eq!(found.expect("its next attempt comes soon").delivery.unwrap().state(), State::Delivered);
}
