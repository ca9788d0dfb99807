//! Limits log lines that a lasting fault or a stranger would repeat: the excess is counted, and the next line says how many were
//! left out.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Limits one log statement, usually as a `static` beside it.
#[derive(Debug)]
pub struct LogLimiter {
    /// Lines in a window, all of which may come at once.
    burst: u32,
    window: Duration,
    /// When the whole burst is available again, as in the generic cell rate algorithm.
    whole_at: Mutex<Option<Instant>>,
    left_out: AtomicU64,
}

impl LogLimiter {
    /// One line a second, the first at once.
    #[expect(clippy::new_without_default, reason = "it is made as a static, which needs a const function")]
    pub const fn new() -> Self {
        Self::bursts(1, Duration::from_secs(1))
    }

    /// At most `burst` lines in a window.
    pub const fn bursts(burst: u32, window: Duration) -> Self {
        Self { burst, window, whole_at: Mutex::new(None), left_out: AtomicU64::new(0) }
    }

    /// The number of lines that were left out before this one, if it may be written now.
    pub fn admit(&self) -> Option<u64> {
        self.admit_if(Instant::now(), || true)
    }

    /// The same for a line that a second limit concerns, which is asked only where this one admits it.
    pub fn admit_if(&self, now: Instant, is_admitted: impl FnOnce() -> bool) -> Option<u64> {
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = whole_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let after = missing + self.window / self.burst;
        if after > self.window || !is_admitted() {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        *whole_at = Some(now + after);
        Some(self.left_out.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_admitted_with_the_count_of_those_left_out() {
        let (limit, start) = (LogLimiter::new(), Instant::now());
        let at = |millis: u64| limit.admit_if(start + Duration::from_millis(millis), || true);
        assert_eq!(at(0), Some(0), "the first one at once");
        let admitted: Vec<_> = (1..=3_500).filter_map(at).collect();
        assert_eq!(admitted, [999; 3]);
        assert_eq!(at(10_000), Some(500), "the last ones are counted, too");
        assert_eq!(at(20_000), Some(0));
    }

    #[test]
    fn a_second_limit_takes_nothing_from_the_first() {
        let (limit, now) = (LogLimiter::bursts(2, Duration::from_secs(2)), Instant::now());
        assert_eq!(limit.admit_if(now, || false), None);
        assert_eq!([(); 3].map(|()| limit.admit_if(now, || true)), [Some(1), Some(0), None]);
        assert_eq!(limit.admit_if(now + Duration::from_secs(1), || true), Some(1));
    }
}
