//! When requests of a route with a pace went out in the last two hours.

use super::time::timestamp;
use jiff::Timestamp;
use std::collections::VecDeque;

/// In nanoseconds; longer than the longest window of a pace, which is an hour.
const KEPT: i64 = 2 * 3_600 * 1_000_000_000;

/// The start of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub at: i64,
    pub event_seq: u64,
    pub number: u32,
}

/// The starts of a lane, in the order of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Starts {
    times: VecDeque<i64>,
    /// The last one, to ignore it when its record is applied twice.
    last: Option<Start>,
}

impl Starts {
    pub(super) fn push(&mut self, start: Start) {
        if self.last == Some(start) {
            return;
        }
        self.last = Some(start);
        self.times.push_back(start.at);
        // The order of the journal counts: after a step of the clock, the last start has the right time.
        let is_old = |time: &i64| time.abs_diff(start.at) > KEPT.cast_unsigned();
        while self.times.front().is_some_and(is_old) {
            self.times.pop_front();
        }
    }

    pub(super) fn replace(&mut self, times: impl Iterator<Item = i64>) {
        self.times = times.collect();
        self.last = None;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn all(&self) -> Vec<Timestamp> {
        self.times.iter().copied().map(timestamp).collect()
    }

    /// The starts of the last two hours, oldest first.
    pub(super) fn recent(&self, now: i64) -> Vec<i64> {
        let since = now.saturating_sub(KEPT);
        let mut times: Vec<i64> = self.times.iter().copied().filter(|time| *time >= since).collect();
        times.sort_unstable();
        times
    }
}
