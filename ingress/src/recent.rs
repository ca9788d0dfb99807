//! A bounded map from an address or a tenant to an expiry.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The most keys. A client may have more addresses; a client without room counts as unknown, and is admitted.
const MOST: usize = 65_536;

/// The interval of sweeps for expired keys when there is no room.
const SWEEP: Duration = Duration::from_secs(1);

pub(crate) struct Recent<K> {
    known: Mutex<Known<K>>,
    most: usize,
}

struct Known<K> {
    until: HashMap<K, Instant>,
    swept: Option<Instant>,
}

impl<K: Hash + Eq> Default for Recent<K> {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl<K: Hash + Eq> Recent<K> {
    fn new(most: usize) -> Self {
        Self { known: Mutex::new(Known { until: HashMap::new(), swept: None }), most }
    }

    /// Replaces a key's expiry, which is now for an unknown key, by the result of `change`.
    pub(crate) fn change<T>(&self, key: K, now: Instant, change: impl FnOnce(Instant) -> (Instant, T)) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.until.get(&key).copied().unwrap_or(now);
        let (until, answer) = change(before);
        if until > now && until != before && known.has_room(&key, now, self.most) {
            known.until.insert(key, until);
        }
        answer
    }

    /// A key's expiry; now for an unknown key.
    pub(crate) fn until(&self, key: K, now: Instant) -> Instant {
        self.change(key, now, |until| (until, until))
    }
}

impl<K: Hash + Eq> Known<K> {
    fn has_room(&mut self, key: &K, now: Instant, most: usize) -> bool {
        if self.until.len() < most || self.until.contains_key(key) {
            return true;
        }
        if self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return false;
        }
        self.swept = Some(now);
        self.until.retain(|_, until| *until > now);
        self.until.len() < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expired_keys_make_room_and_the_bound_holds() {
        let recent = Recent::new(3);
        let remember = |key: u32, seconds| {
            let now = Instant::now();
            recent.change(key, now, |_| (now + Duration::from_secs(seconds), ()));
        };
        let knows = |key| recent.until(key, Instant::now()) > Instant::now();
        for key in 0..10 {
            remember(key, u64::from(key) + 10);
        }
        assert_eq!((0..10).filter(|key| knows(*key)).collect::<Vec<_>>(), [0, 1, 2]);
        remember(2, 50);
        tokio::time::advance(Duration::from_secs(12)).await;
        assert_eq!((0..10).filter(|key| knows(*key)).collect::<Vec<_>>(), [2]);
        remember(7, 10);
        assert!(knows(7) && recent.known.lock().unwrap().until.len() == 2);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_stores_nothing() {
        let recent = Recent::new(3);
        assert_eq!(recent.until("a", Instant::now()), Instant::now());
        assert!(recent.known.lock().unwrap().until.is_empty());
    }
}
