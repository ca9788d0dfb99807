//! The refusals of the last hour that ingresses announce. They are kept in memory, until their ingress is silent for a while.

use prost::Message as _;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use talaria_bus::Bus;
use talaria_proto::v1::{IngressRefusals, Refusal};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// A silent ingress is forgotten after this time. One with refusals announces them every 15 seconds.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The most ingresses, and the most rows of each: far more than an installation has.
const MOST_INGRESSES: usize = 256;
const MOST_ROWS: usize = 100;

/// After a failed subscription.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The refusals by ingress. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<String, Announced>>>);

struct Announced {
    at: Instant,
    refusals: Vec<Refusal>,
}

impl Refusals {
    /// Listens to announcements until `stop`.
    pub(crate) async fn listen(self, bus: Bus, stop: CancellationToken) {
        let listen = async {
            loop {
                let error = match bus.refusals().await {
                    Ok(mut announcements) => loop {
                        match announcements.next().await {
                            Ok((ingress, announcement)) => self.hear(ingress, &announcement, Instant::now()),
                            Err(error) => break error,
                        }
                    },
                    Err(error) => error,
                };
                tracing::debug!(%error, "refusal subscription failed");
                sleep(RETRY_DELAY).await;
            }
        };
        stop.run_until_cancelled(listen).await;
    }

    fn hear(&self, ingress: String, announcement: &[u8], now: Instant) {
        let Ok(IngressRefusals { mut refusals }) = IngressRefusals::decode(announcement) else { return };
        refusals.truncate(MOST_ROWS);
        let mut known = self.lock();
        known.retain(|_, announced| now.saturating_duration_since(announced.at) < FORGET_AFTER);
        if refusals.is_empty() {
            known.remove(&ingress);
        } else if known.len() < MOST_INGRESSES || known.contains_key(&ingress) {
            known.insert(ingress, Announced { at: now, refusals });
        }
    }

    /// One refusal for each visible tenant and reason: those with a tenant first, and the latest first.
    pub(crate) fn list(&self, now: Instant, is_visible: impl Fn(&str) -> bool) -> Vec<Refusal> {
        let mut rows: BTreeMap<(String, String), Refusal> = BTreeMap::new();
        for announced in self.lock().values() {
            if now.saturating_duration_since(announced.at) >= FORGET_AFTER {
                continue;
            }
            for refusal in announced.refusals.iter().filter(|refusal| is_visible(&refusal.tenant)) {
                let row = rows.entry((refusal.tenant.clone(), refusal.reason.clone())).or_default();
                let count = row.count.saturating_add(refusal.count);
                if latest(refusal) >= latest(row) {
                    *row = refusal.clone();
                }
                row.count = count;
            }
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_key(|refusal| (refusal.tenant.is_empty(), std::cmp::Reverse(latest(refusal))));
        rows
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Announced>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of a row's latest refusal.
fn latest(refusal: &Refusal) -> (i64, i32) {
    refusal.last_at.map_or((0, 0), |at| (at.seconds, at.nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    fn refusal(tenant: &str, reason: &str, count: u64, seconds: i64) -> Refusal {
        let (tenant, reason, path) = (tenant.to_owned(), reason.to_owned(), format!("/{seconds}"));
        Refusal {
            tenant,
            reason,
            count,
            path,
            last_at: Some(Timestamp { seconds, nanos: 0 }),
            ..Refusal::default()
        }
    }

    fn announcement(refusals: &[Refusal]) -> Vec<u8> {
        IngressRefusals { refusals: refusals.to_vec() }.encode_to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusals_of_all_ingresses_are_merged() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        refusals.hear(
            "one".into(),
            &announcement(&[refusal("acme", "stale", 1, 5), refusal("", "wrong_path", 9, 90)]),
            now,
        );
        // A later announcement replaces an earlier one of the same ingress.
        for count in [1, 2] {
            let rows = [refusal("acme", "mismatch", count, 10), refusal("acme", "stale", 3, 20)];
            refusals.hear("two".into(), &announcement(&rows), now);
        }
        refusals.hear("three".into(), b"\xff no announcement", now);
        let rows = refusals.list(now, |_| true);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.tenant.as_str(), row.reason.as_str(), row.count, row.path.as_str()))
            .collect();
        assert_eq!(
            shown,
            [("acme", "stale", 4, "/20"), ("acme", "mismatch", 2, "/10"), ("", "wrong_path", 9, "/90")]
        );
        assert_eq!(refusals.list(now, |tenant| tenant == "acme").len(), 2);
        assert!(refusals.list(now, |tenant| tenant == "globex").is_empty());
        // One announces no refusals, and the other one is silent.
        refusals.hear("two".into(), &announcement(&[]), now);
        assert_eq!(refusals.list(now, |_| true).len(), 2);
        assert!(refusals.list(now + FORGET_AFTER, |_| true).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_for_ingresses_is_bounded() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let rows: Vec<_> =
            (0..MOST_ROWS * 2).map(|row| refusal(&format!("tenant-{row}"), "stale", 1, 0)).collect();
        for ingress in 0..MOST_INGRESSES * 2 {
            refusals.hear(ingress.to_string(), &announcement(&rows), now);
        }
        let known = refusals.lock();
        assert!(
            known.len() == MOST_INGRESSES
                && known.values().all(|announced| announced.refusals.len() == MOST_ROWS)
        );
    }
}
