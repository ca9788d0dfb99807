//! Places for connections, and who has to leave when there are none.
//!
//! A connection waits for its client (for a head, for a body, or idle between requests) or works for it. Who means well
//! lets us wait for milliseconds, so when a client comes and every place is taken, the connection that has waited for its
//! client the longest is closed: an idle one, or one that drips. Thus it takes many connections a second to keep
//! others out, and not just a thousand that do nothing. An address that has used up its share gives one of its own.
//! Where all of them work, who comes waits in front of the listener.

use crate::{address::Sender, limits::Limit};
use metrics::Gauge;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) struct Places {
    open: Mutex<Open>,
    /// A place may have become free.
    changed: Notify,
    /// How many are taken.
    gauge: Gauge,
    /// Called when a limit was reached.
    reached: fn(Limit),
}

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Of all.
    pub all: usize,
    /// Of one address.
    pub each: usize,
}

#[derive(Default)]
struct Open {
    /// The next connection's number, and the next turn.
    next: u64,
    connections: HashMap<u64, Connection>,
    /// Which connections wait for their clients, since when, the longest first.
    waiting: BTreeMap<u64, u64>,
    of: HashMap<Sender, usize>,
}

struct Connection {
    /// Whose share it is of; none of a trusted proxy's.
    sender: Option<Sender>,
    /// Since when it waits for its client, if it does.
    since: Option<u64>,
    let_go: CancellationToken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken by connections that work.
    All,
    /// So is this address' share.
    Share,
}

impl Places {
    pub(crate) fn new(gauge: Gauge, reached: fn(Limit)) -> Self {
        Self { open: Mutex::default(), changed: Notify::new(), gauge, reached }
    }

    /// A place for a connection that begins to wait for its client, if need be one that another has to leave.
    pub(crate) fn enter(self: &Arc<Self>, sender: Option<Sender>, most: Most) -> Result<Place, Full> {
        let mut open = self.lock();
        if let Some(sender) = sender {
            while open.of.get(&sender).is_some_and(|count| *count >= most.each) {
                (self.reached)(Limit::ConnectionsPerAddress);
                if !open.let_go(|connection| connection.sender == Some(sender)) {
                    return Err(Full::Share);
                }
            }
        }
        while open.connections.len() >= most.all {
            if !open.let_go(|_| true) {
                return Err(Full::All);
            }
            (self.reached)(Limit::Connections);
        }
        let let_go = CancellationToken::new();
        let number = open.number();
        open.connections.insert(number, Connection { sender, since: None, let_go: let_go.clone() });
        if let Some(sender) = sender {
            *open.of.entry(sender).or_default() += 1;
        }
        open.waits(number);
        self.gauge.increment(1);
        Ok(Place { places: Arc::clone(self), number, let_go })
    }

    /// Waits until it is worth asking again.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn waits(&mut self, number: u64) {
        let since = self.number();
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

    /// Closes the connection that has waited the longest for its client, of those that are meant.
    fn let_go(&mut self, is_meant: impl Fn(&Connection) -> bool) -> bool {
        let found = self.waiting.values().find(|number| self.connections.get(number).is_some_and(&is_meant));
        let Some(number) = found.copied() else { return false };
        if let Some(connection) = self.remove(number) {
            connection.let_go.cancel();
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        self.works(number);
        let connection = self.connections.remove(&number)?;
        if let Some(sender) = connection.sender
            && let Some(count) = self.of.get_mut(&sender)
        {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&sender);
            }
        }
        Some(connection)
    }
}

/// A connection's place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    let_go: CancellationToken,
}

impl Place {
    /// It waits for its client.
    pub fn waits(&self) {
        let mut open = self.places.lock();
        open.works(self.number);
        open.waits(self.number);
        drop(open);
        self.places.changed.notify_one();
    }

    /// It has a request to answer, so it is not evicted.
    pub fn works(&self) {
        self.places.lock().works(self.number);
    }

    /// When it has to leave.
    pub(crate) async fn let_go(&self) {
        self.let_go.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.number);
        self.places.gauge.decrement(1);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn limits(all: usize, each: usize) -> Most {
        Most { all, each }
    }

    fn places() -> Arc<Places> {
        Arc::new(Places::new(Gauge::noop(), |_| {}))
    }

    fn sender(number: u32) -> Sender {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn who_has_waited_longest_has_to_leave() {
        let (places, limits) = (places(), limits(3, 3));
        let [first, second, third] =
            [1, 2, 3].map(|number| places.enter(Some(sender(number)), limits).unwrap());
        // The first one's request came, was worked for and answered; the second one's is worked for.
        first.works();
        first.waits();
        second.works();
        let gone = |place: &Place| place.let_go.is_cancelled();
        let fourth = places.enter(Some(sender(4)), limits).unwrap();
        assert!(gone(&third) && !gone(&first));
        let fifth = places.enter(Some(sender(5)), limits).unwrap();
        assert!(gone(&first) && !gone(&fourth));
        // What has left counts no more, and leaves only once.
        drop((first, third));
        fourth.works();
        fifth.works();
        assert_eq!(places.enter(Some(sender(6)), limits).err(), Some(Full::All));
        drop(fourth);
        assert!(places.enter(Some(sender(6)), limits).is_ok());
        drop((second, fifth));
        let open = places.lock();
        assert!(open.connections.is_empty() && open.waiting.is_empty() && open.of.is_empty());
    }

    #[test]
    fn an_address_that_has_its_share_gives_one_of_its_own() {
        let (places, limits) = (places(), limits(10, 2));
        let other = places.enter(Some(sender(9)), limits).unwrap();
        let first = places.enter(Some(sender(1)), limits).unwrap();
        let second = places.enter(Some(sender(1)), limits).unwrap();
        let third = places.enter(Some(sender(1)), limits).unwrap();
        assert!(first.let_go.is_cancelled() && !other.let_go.is_cancelled());
        second.works();
        third.works();
        assert_eq!(places.enter(Some(sender(1)), limits).err(), Some(Full::Share));
        let proxys: Vec<_> = (0..6).map(|_| places.enter(None, limits).unwrap()).collect();
        assert!(!other.let_go.is_cancelled());
        drop(proxys);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_who_comes_next() {
        let places = places();
        let all: Vec<_> =
            (0..8).map(|number| places.enter(Some(sender(number)), limits(8, 8)).unwrap()).collect();
        let next = places.enter(Some(sender(9)), limits(3, 3)).unwrap();
        assert_eq!(all.iter().filter(|place| place.let_go.is_cancelled()).count(), 6);
        assert_eq!(places.lock().connections.len(), 3);
        drop((all, next));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_place_learns_that_there_is_one() {
        let (places, limits) = (places(), limits(1, 1));
        let place = places.enter(Some(sender(1)), limits).unwrap();
        place.works();
        assert_eq!(places.enter(Some(sender(2)), limits).err(), Some(Full::All));
        place.waits();
        places.changed().await;
        let next = places.enter(Some(sender(2)), limits).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), place.let_go()).await.unwrap();
        drop(next);
    }
}
