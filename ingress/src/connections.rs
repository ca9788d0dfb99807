//! Permits for connections, and eviction when there are none left.
//!
//! A connection waits for its client (for a head, for a body, or idle between requests) or works for it. A well-behaved client
//! sends within milliseconds, so when a new client finds no permit, the connection that has waited longest is closed: an idle
//! or a slow one. So an attacker needs many new connections a second to keep others out, and not just a thousand idle ones. An
//! address that has used up its share loses one of its own connections. If all connections work, the new client waits for the
//! listener to accept it.

use crate::{address::ClientAddress, limits::Limit};
use metrics::Gauge;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) struct Permits {
    open: Mutex<Open>,
    /// Notified when a permit may be available.
    changed: Notify,
    /// The number of permits in use.
    gauge: Gauge,
    /// Called when a limit was reached.
    reached: fn(Limit),
}

/// The most concurrent connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// In total.
    pub all: usize,
    /// From one address.
    pub each: usize,
}

#[derive(Default)]
struct Open {
    /// The last number of a connection or of a beginning wait.
    last: u64,
    connections: HashMap<u64, Connection>,
    /// The connections that wait for their clients, by the beginning of their wait.
    waiting: BTreeMap<u64, u64>,
    per_address: HashMap<ClientAddress, usize>,
}

struct Connection {
    /// The address in whose share it counts; `None` for a trusted proxy.
    address: Option<ClientAddress>,
    /// The beginning of its wait for the client, if it waits.
    since: Option<u64>,
    evicted: CancellationToken,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All connections work.
    All,
    /// All connections of this address work.
    Share,
}

impl Permits {
    pub(crate) fn new(gauge: Gauge, reached: fn(Limit)) -> Self {
        Self { open: Mutex::default(), changed: Notify::new(), gauge, reached }
    }

    /// A permit for a connection that begins to wait for its client. Evicts others if there is none left.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        address: Option<ClientAddress>,
        most: Most,
    ) -> Result<Permit, Full> {
        let mut open = self.lock();
        if let Some(address) = address {
            while open.per_address.get(&address).is_some_and(|count| *count >= most.each) {
                (self.reached)(Limit::ConnectionsPerAddress);
                if !open.evict(|connection| connection.address == Some(address)) {
                    return Err(Full::Share);
                }
            }
        }
        while open.connections.len() >= most.all {
            if !open.evict(|_| true) {
                return Err(Full::All);
            }
            (self.reached)(Limit::Connections);
        }
        let evicted = CancellationToken::new();
        let number = open.next_number();
        open.connections.insert(number, Connection { address, since: None, evicted: evicted.clone() });
        if let Some(address) = address {
            *open.per_address.entry(address).or_default() += 1;
        }
        open.waits(number);
        self.gauge.increment(1);
        Ok(Permit { permits: Arc::clone(self), number, evicted })
    }

    /// Waits until a permit may be available.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn waits(&mut self, number: u64) {
        let since = self.next_number();
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.since = Some(since);
            self.waiting.insert(since, number);
        }
    }

    fn works(&mut self, number: u64) {
        if let Some(since) = self.connections.get_mut(&number).and_then(|connection| connection.since.take())
        {
            self.waiting.remove(&since);
        }
    }

    /// Closes the matching connection that has waited longest for its client. Returns whether there was one.
    fn evict(&mut self, matches: impl Fn(&Connection) -> bool) -> bool {
        let found = self.waiting.values().find(|number| self.connections.get(number).is_some_and(&matches));
        let Some(number) = found.copied() else { return false };
        if let Some(connection) = self.remove(number) {
            connection.evicted.cancel();
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        self.works(number);
        let connection = self.connections.remove(&number)?;
        if let Some(address) = connection.address
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(connection)
    }
}

/// A connection's permit, until it is dropped.
pub struct Permit {
    permits: Arc<Permits>,
    number: u64,
    evicted: CancellationToken,
}

impl Permit {
    /// Marks the connection as waiting for its client.
    pub fn waits(&self) {
        let mut open = self.permits.lock();
        open.works(self.number);
        open.waits(self.number);
        drop(open);
        self.permits.changed.notify_one();
    }

    /// Marks the connection as working, so that it is not evicted.
    pub fn works(&self) {
        self.permits.lock().works(self.number);
    }

    /// Returns when the connection is evicted.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.lock().remove(self.number);
        self.permits.gauge.decrement(1);
        self.permits.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn limits(all: usize, each: usize) -> Most {
        Most { all, each }
    }

    fn permits() -> Arc<Permits> {
        Arc::new(Permits::new(Gauge::noop(), |_| {}))
    }

    fn address(number: u32) -> ClientAddress {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn the_connection_that_has_waited_longest_is_evicted() {
        let (permits, limits) = (permits(), limits(3, 3));
        let [first, second, third] =
            [1, 2, 3].map(|number| permits.acquire(Some(address(number)), limits).unwrap());
        // The first one's request was answered; the second one's is in work.
        first.works();
        first.waits();
        second.works();
        let gone = |permit: &Permit| permit.evicted.is_cancelled();
        let fourth = permits.acquire(Some(address(4)), limits).unwrap();
        assert!(gone(&third) && !gone(&first));
        let fifth = permits.acquire(Some(address(5)), limits).unwrap();
        assert!(gone(&first) && !gone(&fourth));
        // An evicted connection does not count, also not when it is dropped.
        drop((first, third));
        fourth.works();
        fifth.works();
        assert_eq!(permits.acquire(Some(address(6)), limits).err(), Some(Full::All));
        drop(fourth);
        assert!(permits.acquire(Some(address(6)), limits).is_ok());
        drop((second, fifth));
        let open = permits.lock();
        assert!(open.connections.is_empty() && open.waiting.is_empty() && open.per_address.is_empty());
    }

    #[test]
    fn an_address_with_its_share_loses_one_of_its_own() {
        let (permits, limits) = (permits(), limits(10, 2));
        let other = permits.acquire(Some(address(9)), limits).unwrap();
        let first = permits.acquire(Some(address(1)), limits).unwrap();
        let second = permits.acquire(Some(address(1)), limits).unwrap();
        let third = permits.acquire(Some(address(1)), limits).unwrap();
        assert!(first.evicted.is_cancelled() && !other.evicted.is_cancelled());
        second.works();
        third.works();
        assert_eq!(permits.acquire(Some(address(1)), limits).err(), Some(Full::Share));
        let proxys: Vec<_> = (0..6).map(|_| permits.acquire(None, limits).unwrap()).collect();
        assert!(!other.evicted.is_cancelled());
        drop(proxys);
    }

    #[test]
    fn a_lowered_limit_applies_to_the_next_connection() {
        let permits = permits();
        let all: Vec<_> =
            (0..8).map(|number| permits.acquire(Some(address(number)), limits(8, 8)).unwrap()).collect();
        let next = permits.acquire(Some(address(9)), limits(3, 3)).unwrap();
        assert_eq!(all.iter().filter(|permit| permit.evicted.is_cancelled()).count(), 6);
        assert_eq!(permits.lock().connections.len(), 3);
        drop((all, next));
    }

    #[tokio::test]
    async fn a_client_that_waits_for_a_permit_is_notified() {
        let (permits, limits) = (permits(), limits(1, 1));
        let permit = permits.acquire(Some(address(1)), limits).unwrap();
        permit.works();
        assert_eq!(permits.acquire(Some(address(2)), limits).err(), Some(Full::All));
        permit.waits();
        permits.changed().await;
        let next = permits.acquire(Some(address(2)), limits).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), permit.evicted()).await.unwrap();
        drop(next);
    }
}
