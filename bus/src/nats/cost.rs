//! The cost at a server of single messages and of batches, estimated from recent times.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The smallest batch.
const SMALLEST_BATCH: usize = 16;

/// With fewer singles in flight their time shows the distance of the server and not its work. This many may always be in
/// flight.
const CROWD: usize = 16;

/// A batch has to be better by half.
const ADVANTAGE: (u64, u64) = (3, 2);

/// The estimate for a batch before the first one.
const FIRST_BATCH: Duration = Duration::from_millis(10);

/// Of this many singles the fastest one counts. The others may have waited for a processor, here or at the server, which
/// they would have done in a batch too.
const SAMPLE: u32 = 64;

/// The weight of the newest batch in the average, as a divisor.
const NEWEST: u64 = 4;

/// Each batch makes singles look cheaper by a hundredth, so that they are tried again: the disk may be faster now.
const FADE: (u64, u64) = (99, 100);

/// Estimates in nanoseconds. Of two updates at the same moment one may be lost.
#[derive(Debug)]
pub(super) struct Cost {
    /// Of one of many singles.
    single: AtomicU64,
    /// Of a batch of any size.
    batch: AtomicU64,
    /// The fastest single of the sample, and the number of all singles.
    fastest: AtomicU64,
    count: AtomicU32,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            single: AtomicU64::new(0),
            batch: AtomicU64::new(nanoseconds(FIRST_BATCH)),
            fastest: AtomicU64::new(u64::MAX),
            count: AtomicU32::new(0),
        }
    }
}

impl Cost {
    /// Records the time of a single, with `crowd` in flight. By Little's law the server finished one each time / crowd.
    pub(super) fn single_took(&self, time: Duration, crowd: usize) {
        if crowd < CROWD {
            return;
        }
        self.fastest.fetch_min(nanoseconds(time) / crowd as u64, Relaxed);
        if self.count.fetch_add(1, Relaxed) % SAMPLE == SAMPLE - 1 {
            self.single.store(self.fastest.swap(u64::MAX, Relaxed), Relaxed);
        }
    }

    /// Records the time of a batch.
    pub(super) fn batch_took(&self, time: Duration) {
        let (average, newest) = (self.batch.load(Relaxed), nanoseconds(time));
        self.batch.store(average - average / NEWEST + newest / NEWEST, Relaxed);
        self.single.store(self.single.load(Relaxed) / FADE.1 * FADE.0, Relaxed);
    }

    /// Whether this many messages should be sent as a batch.
    pub(super) fn is_worth_a_batch(&self, messages: usize) -> bool {
        messages >= SMALLEST_BATCH && messages > self.most_singles()
    }

    /// The most singles in flight: more would be faster in a batch.
    pub(super) fn most_singles(&self) -> usize {
        let most = self.batch.load(Relaxed).saturating_mul(ADVANTAGE.0)
            / ADVANTAGE.1
            / self.single.load(Relaxed).max(1);
        usize::try_from(most).unwrap_or(usize::MAX).max(CROWD)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_singles(each: Duration) -> Cost {
        let cost = Cost::default();
        (0..SAMPLE).for_each(|_| cost.single_took(each * 64, 64));
        cost
    }

    #[test]
    fn a_fast_server_gets_no_batches() {
        let cost = after_singles(Duration::from_micros(30));
        assert!((1..500).all(|messages| !cost.is_worth_a_batch(messages)));
        assert!(!Cost::default().is_worth_a_batch(10_000), "nothing is known yet");
    }

    #[test]
    fn a_server_that_syncs_each_message_gets_batches_of_many_messages() {
        let cost = after_singles(Duration::from_micros(200));
        assert_eq!(cost.most_singles(), 75);
        assert!(!cost.is_worth_a_batch(75) && cost.is_worth_a_batch(76));
        (0..100).for_each(|_| cost.batch_took(Duration::from_millis(40)));
        assert!(!cost.is_worth_a_batch(250), "batches turned out to be slow");
        assert_eq!(after_singles(Duration::from_secs(1)).most_singles(), CROWD);
    }

    #[test]
    fn singles_that_waited_for_a_processor_do_not_count() {
        let cost = Cost::default();
        for number in 0..SAMPLE {
            let each = Duration::from_micros(if number % 8 == 0 { 30 } else { 900 });
            cost.single_took(each * 64, 64);
        }
        assert!(cost.most_singles() >= 500);
    }

    #[test]
    fn singles_are_tried_again_after_many_batches_and_a_lone_one_is_no_sample() {
        let cost = after_singles(Duration::from_micros(200));
        let batches = (0..).take_while(|_| {
            cost.batch_took(FIRST_BATCH);
            cost.is_worth_a_batch(150)
        });
        assert!((50..100).contains(&batches.count()));
        let cost = Cost::default();
        (0..SAMPLE).for_each(|_| cost.single_took(Duration::from_secs(1), 1));
        assert!(!cost.is_worth_a_batch(500));
    }
}
