//! Lines that a lasting fault would write again and again: at most one a second of each kind, with a count of the others.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const INTERVAL: Duration = Duration::from_secs(1);

/// The lines of one place in the code, which is meant to be a `static` beside it.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Mutex<Option<Instant>>,
    left_out: AtomicU64,
}

impl LogLimit {
    /// Admits the first line at once.
    pub const fn new() -> Self {
        Self { last: Mutex::new(None), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, and then how many were left out before it.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.left_out.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_admitted_and_says_how_many_were_left_out() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let at = |millis: u64| limit.admit_at(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0), "the first one at once");
        let admitted: Vec<_> = (1..=3_500).filter_map(at).collect();
        assert_eq!(admitted, [999; 3]);
        assert_eq!(at(10_000), Some(500), "the last ones are counted, too");
        assert_eq!(at(20_000), Some(0));
    }
}
