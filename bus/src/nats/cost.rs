//! Whether a batch is worth it: what single events and what batches took lately.

use std::time::Duration;

/// Fewer events than this are never a batch.
const SMALLEST_BATCH: usize = 16;

/// With fewer singles on their way their time says how far away the server is, and not how much work they are for it.
const CROWD: usize = 16;

/// What a batch is taken to cost before one was made.
const FIRST_BATCH: Duration = Duration::from_millis(10);

/// So often singles are tried again where batches are worth it: a disk may have become quicker.
const TRY_SINGLES: u32 = 64;

/// How much of an average the newest value is.
const NEWEST: f64 = 0.1;

/// Times as they were measured, in seconds.
#[derive(Debug)]
pub(super) struct Cost {
    /// What the server needs for one event among many.
    single: f64,
    /// What a batch takes.
    batch: f64,
    batches: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { single: 0.0, batch: FIRST_BATCH.as_secs_f64(), batches: 0 }
    }
}

impl Cost {
    /// An event took so long, with so many on their way. By Little's law the server finished one each time / many.
    pub(super) fn single_took(&mut self, time: Duration, on_their_way: usize) {
        if on_their_way >= CROWD {
            let each = time.as_secs_f64() / f64::from(u32::try_from(on_their_way).unwrap_or(u32::MAX));
            self.single += NEWEST * (each - self.single);
        }
    }

    /// A batch took so long.
    pub(super) fn batch_took(&mut self, time: Duration) {
        self.batch += NEWEST * (time.as_secs_f64() - self.batch);
    }

    /// Whether so many events should go together.
    pub(super) fn is_a_batch_worth_it(&mut self, events: usize) -> bool {
        let one_by_one = self.single * f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        if events < SMALLEST_BATCH || one_by_one < self.batch {
            return false;
        }
        self.batches += 1;
        !self.batches.is_multiple_of(TRY_SINGLES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_singles(each: Duration) -> Cost {
        let mut cost = Cost::default();
        (0..100).for_each(|_| cost.single_took(each * 64, 64));
        cost
    }

    #[test]
    fn a_server_that_is_quick_with_singles_gets_singles() {
        let mut cost = after_singles(Duration::from_micros(30));
        assert!((1..300).all(|events| !cost.is_a_batch_worth_it(events)));
        assert!(!Cost::default().is_a_batch_worth_it(500), "nothing is known yet");
    }

    #[test]
    fn a_server_that_syncs_each_gets_batches_once_enough_wait() {
        let mut cost = after_singles(Duration::from_micros(200));
        assert!(!cost.is_a_batch_worth_it(40));
        assert!(cost.is_a_batch_worth_it(60));
        (0..100).for_each(|_| cost.batch_took(Duration::from_millis(40)));
        assert!(!cost.is_a_batch_worth_it(150), "batches turned out to be slow");
        assert!(cost.is_a_batch_worth_it(300));
    }

    #[test]
    fn singles_are_tried_again_now_and_then_and_a_lone_one_says_nothing() {
        let mut cost = after_singles(Duration::from_millis(5));
        let singles = (0..640).filter(|_| !cost.is_a_batch_worth_it(100)).count();
        assert_eq!(singles, 10);
        let mut cost = Cost::default();
        cost.single_took(Duration::from_secs(1), 1);
        assert!(!cost.is_a_batch_worth_it(500));
    }
}
