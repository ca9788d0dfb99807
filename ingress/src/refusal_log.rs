//! The limits of log lines about refusals: clients must not fill the log, alone or together.

use crate::{address::ClientAddress, rate, recent::Recent};
use std::time::Duration;
use talaria_core::config::Pace;
use talaria_telemetry::LogLimiter;
use tokio::time::Instant;

const PER_ADDRESS: Pace = Pace { count: 10, window: Duration::from_secs(60) };
const TOTAL: Pace = Pace { count: 100, window: Duration::from_secs(60) };

pub(crate) struct RefusalLog {
    addresses: Recent<ClientAddress>,
    total: LogLimiter,
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self { addresses: Recent::default(), total: LogLimiter::bursts(TOTAL.count, TOTAL.window) }
    }
}

impl RefusalLog {
    /// The number of lines that were left out before this one, if a line about this address may be written.
    pub(crate) fn admit(&self, address: ClientAddress, now: Instant) -> Option<u64> {
        let has_room = || {
            self.addresses.change(address, now, |until| match rate::wait(until, now, PER_ADDRESS) {
                Some(_) => (until, false),
                None => (rate::take(until, now, PER_ADDRESS), true),
            })
        };
        self.total.admit_if(now.into_std(), has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test(start_paused = true)]
    async fn no_sender_fills_the_log_alone_or_with_others() {
        let log = RefusalLog::default();
        let address = |number: u32| ClientAddress::from(IpAddr::from(Ipv4Addr::from_bits(number)));
        let lines = |number: u32, times: u32| {
            (0..times).filter(|_| log.admit(address(number), Instant::now()).is_some()).count()
        };
        assert_eq!(lines(1, 1000), 10);
        assert_eq!(log.admit(address(2), Instant::now()), Some(990));
        assert_eq!((3..1000).map(|number| lines(number, 20)).sum::<usize>(), 100 - 11);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(lines(1, 20), 1);
    }
}
