//! Lines about strangers, who must not fill the log: so many of each sender, and so many of all.

use crate::{address::Sender, rate, recent::Recent};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use talaria_core::config::Pace;
use tokio::time::Instant;

const OF_EACH: Pace = Pace { count: 10, window: Duration::from_secs(60) };
const OF_ALL: Pace = Pace { count: 100, window: Duration::from_secs(60) };

pub(crate) struct Quiet {
    each: Recent<Sender>,
    all: Mutex<Instant>,
    left_out: AtomicU64,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { each: Recent::default(), all: Mutex::new(Instant::now()), left_out: AtomicU64::new(0) }
    }
}

impl Quiet {
    /// Whether a line about this sender is written, and then how many were left out before it.
    pub(crate) fn writes(&self, sender: Sender, now: Instant) -> Option<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let room = rate::wait(*all, now, OF_ALL).is_none();
        let writes = room
            && self.each.change(sender, now, |until| match rate::wait(until, now, OF_EACH) {
                Some(_) => (until, false),
                None => (rate::take(until, now, OF_EACH), true),
            });
        if writes {
            *all = rate::take(*all, now, OF_ALL);
            Some(self.left_out.swap(0, Relaxed))
        } else {
            self.left_out.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test(start_paused = true)]
    async fn nobody_fills_the_log_alone_or_with_others() {
        let quiet = Quiet::default();
        let sender = |number: u32| Sender::from(IpAddr::from(Ipv4Addr::from_bits(number)));
        let lines = |number: u32, times: u32| {
            (0..times).filter(|_| quiet.writes(sender(number), Instant::now()).is_some()).count()
        };
        assert_eq!(lines(1, 1000), 10);
        assert_eq!(quiet.writes(sender(2), Instant::now()), Some(990));
        assert_eq!((3..1000).map(|number| lines(number, 20)).sum::<usize>(), 100 - 11);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(lines(1, 20), 1);
    }
}
