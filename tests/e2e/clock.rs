//! A wall clock that is set while a process runs, and between two runs. libfaketime moves the clock of one process.

use std::fs;
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

/// libfaketime, which the tests are ignored without.
pub(crate) const LIBFAKETIME: Option<&str> = option_env!("LIBFAKETIME");

/// The clock of the processes that have its environment.
pub(crate) struct Clock(tempfile::NamedTempFile);

impl Clock {
    /// The right time.
    pub(crate) fn new() -> Self {
        let clock = Self(tempfile::NamedTempFile::new().unwrap());
        clock.set("+0s");
        clock
    }

    /// The environment of a process with this clock.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", LIBFAKETIME.unwrap().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.path().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// `by` in the form of libfaketime, such as `+10d`.
    pub(crate) fn set(&self, by: &str) {
        // Atomically, because the process may read it at any time.
        let next = self.0.path().with_extension("next");
        fs::write(&next, by).unwrap();
        fs::rename(next, self.0.path()).unwrap();
    }
}

/// A Talaria with a failing route and retries every two seconds.
async fn failing(sink: &Sink) -> (Clock, Stack) {
    let clock = Clock::new();
    sink.set("r", Does::Answer(503, serde_json::json!({})));
    let environment = clock.environment();
    let stack = environment
        .iter()
        .fold(stack(), |stack, (name, value)| stack.environment(name, value))
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

/// Sets the clock ahead, and waits for an attempt by the wrong time.
async fn jumps_ahead(clock: &Clock, by: &str, stack: &Stack, sink: &Sink) {
    clock.set(by);
    stack.logged("the wall clock was set forward").await;
    let before = sink.requests_to("r").len();
    let tried = async || (sink.requests_to("r").len() > before + 1).then_some(());
    until("it to be tried by the wrong clock", tried).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_faketime),
    ignore = "needs Debian's package libfaketime; after installing it, `touch tests/build.rs`"
)]
async fn a_clock_that_jumps_days_ahead_and_back_erases_nothing_and_parks_nothing() {
    let sink = Sink::start().await;
    let (clock, stack) = failing(&sink).await;
    let event = stack.openrouter("acme").send("waits", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts >= 1).await;
    // Beyond the retention and the maximum age.
    jumps_ahead(&clock, "+10d", &stack, &sink).await;
    clock.set("+0s");
    stack.logged("the wall clock was set back").await;
    sink.set("r", Does::Accept);
    // A delivery that waited for the wrong time would wait for hours.
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_faketime),
    ignore = "needs Debian's package libfaketime; after installing it, `touch tests/build.rs`"
)]
async fn a_clock_that_is_set_back_between_two_runs_lets_nothing_wait_for_it() {
    let sink = Sink::start().await;
    let (clock, mut stack) = failing(&sink).await;
    let event = stack.openrouter("acme").send("waits", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts >= 1).await;
    jumps_ahead(&clock, "+2h", &stack, &sink).await;
    clock.set("+0s");
    sink.set("r", Does::Accept);
    stack.kill_and_restart().await;
    // A delivery that waited for the wrong time would wait for hours.
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
}
