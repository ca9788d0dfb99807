//! Appending to the journal.
//!
//!  1. A commit gets the sequence after the one that its `Journal` expects to be the last, or it is refused ([`super::store`]).
//!  2. A failed append is retried after a pause, until it is committed or refused. A failed transaction has changed nothing, so
//!     the commit is in the journal once.

use super::{Embedded, writer::Write};
use crate::AppendError;
use bytes::Bytes;
use prost::Message as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_proto::v1::Commit;

/// The most bytes of a commit: bounds the memory of a reader's page and the time of one write.
pub(crate) const LARGEST_COMMIT: usize = 4 << 20;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// One in this many failures is logged, beginning with the first: about every 5 minutes.
const LOGGED_EVERY: u64 = 60;

/// Appends commits.
pub struct Journal {
    bus: Embedded,
    /// The last commit that this writer knows.
    last: u64,
}

impl Journal {
    pub(crate) fn new(bus: &Embedded, last: u64) -> Self {
        // If a reader found no commits, they may have been trimmed; the next commit follows the last trimmed one.
        let trimmed = bus.inner.streams.commits.first().saturating_sub(1);
        Self { bus: bus.clone(), last: if last == 0 { trimmed } else { last } }
    }

    pub(crate) async fn append(&mut self, commit: Arc<Commit>) -> Result<u64, AppendError> {
        let size = commit.encoded_len();
        if size > LARGEST_COMMIT {
            return Err(AppendError::TooLarge { size, limit: LARGEST_COMMIT });
        }
        let bytes = Bytes::from(commit.encode_to_vec());
        let mut failures = Failures::default();
        let appended = loop {
            let (bytes, commit, expected) = (bytes.clone(), Arc::clone(&commit), self.last);
            let append = |reply| Write::Append { bytes, commit, expected, outcome: None, reply };
            match self.bus.inner.writer.write(append).await {
                None => return Err(AppendError::Stopped),
                Some(Ok(outcome)) => break outcome,
                Some(Err(error)) => {
                    if failures.add() {
                        let Failures { count, .. } = failures;
                        let seconds = failures.since.map_or(0, |since| since.elapsed().as_secs());
                        tracing::error!(%error, count, seconds, "journal append failed; retrying");
                    }
                    tokio::time::sleep(failures.pause()).await;
                }
            }
        };
        if let Some(since) = failures.since {
            let seconds = since.elapsed().as_secs();
            tracing::info!(count = failures.count, seconds, "journal append works again");
        }
        self.last = appended?;
        Ok(self.last)
    }
}

/// Consecutive failures.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    since: Option<Instant>,
}

impl Failures {
    /// Counts a failure. Returns whether it is logged.
    fn add(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.count += 1;
        self.count % LOGGED_EVERY == 1
    }

    /// The pause before the next try.
    fn pause(&self) -> Duration {
        let doublings = u32::try_from(self.count.saturating_sub(1)).unwrap_or(u32::MAX);
        FIRST_RETRY.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds_and_few_failures_are_logged() {
        let mut failures = Failures::default();
        let (mut logged, mut pauses) = (Vec::new(), Vec::new());
        for number in 1..=200 {
            if failures.add() {
                logged.push(number);
            }
            pauses.push(failures.pause().as_millis());
        }
        assert_eq!(logged, [1, 61, 121, 181]);
        assert_eq!(pauses[..7], [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses[199], 5000);
    }
}
