//! Delays before cloudflared is restarted.

use std::time::Duration;

/// The first delay, which doubles with each failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest. Cloudflare refuses frequent requests for quick tunnels for minutes.
const LONGEST: Duration = Duration::from_secs(300);
/// After a run of this length the next delay is the first.
const STEADY: Duration = Duration::from_secs(60);

/// Consecutive short runs.
#[derive(Debug, Default)]
pub(super) struct Restarts(u32);

impl Restarts {
    /// The delay after a run.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.0 = 0;
        }
        let pause = FIRST.saturating_mul(1_u32.checked_shl(self.0).unwrap_or(u32::MAX)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_five_minutes_until_a_run_of_a_minute() {
        let (soon, steady) = (Duration::from_millis(10), Duration::from_secs(60));
        let mut restarts = Restarts::default();
        let mut pauses =
            |ran, count: usize| -> Vec<u64> { (0..count).map(|_| restarts.after(ran).as_secs()).collect() };
        assert_eq!(pauses(soon, 11), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pauses(steady, 3), [1, 1, 1]);
        assert_eq!(pauses(soon, 2), [2, 4]);
        assert!(pauses(soon, 100).into_iter().skip(7).all(|pause| pause == 300), "never an overflow");
    }
}
