//! The refusals of the last hour, for the operator: one row for each tenant and reason, in bounded memory.
//!
//! A row has a count and the latest request. Its key is a configured tenant, or none, and a reason, so clients cannot add
//! rows, and no tenant's rows are displaced. The rows are announced over the bus, in one small message after a change and at
//! intervals, and relays show them in the status. They are not stored: a process' rows end with it. A tenant that is down has a
//! row before its first refusal.

use crate::reason::Reason;
use jiff::Timestamp;
use prost::Message as _;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use talaria_bus::Publisher;
use talaria_core::config::{Config, Tenant};
use talaria_proto::{
    time::to_proto,
    v1::{IngressRefusals, Refusal},
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

/// Counts cover an hour, in steps of five minutes.
const STEP: Duration = Duration::from_secs(300);
const STEPS: usize = 12;

/// The most rows in an announcement: those of tenants first, and the latest of them.
const MOST: usize = 100;

/// The longest path in a row, in characters.
pub(crate) const LONGEST_PATH: usize = 128;

/// The shortest pause between two announcements.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The interval of announcements without changes. Relays forget an ingress after several intervals without an announcement.
const REPEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A request that was refused.
pub(crate) struct Refused<'a> {
    pub reason: Reason,
    /// A configured tenant, or empty.
    pub tenant: &'a str,
    pub client: IpAddr,
    /// The path of the request; empty if it had none.
    pub path: &'a str,
    /// The status of the answer; 0 for no answer.
    pub status: u16,
}

impl Refused<'_> {
    /// A row without a request.
    fn row(reason: Reason, tenant: &str) -> Refusal {
        let (reason, text) = (reason.label().to_owned(), reason.text().to_owned());
        Refusal { tenant: tenant.to_owned(), reason, text, ..Refusal::default() }
    }
}

pub(crate) struct Refusals {
    rows: Mutex<HashMap<(String, &'static str), Row>>,
    changed: Notify,
    start: Instant,
}

struct Row {
    /// The count of each step, the current one first.
    counts: [u64; STEPS],
    /// The number of the current step, from the start.
    step: u64,
    /// The latest request.
    latest: Refusal,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { rows: Mutex::default(), changed: Notify::new(), start: Instant::now() }
    }
}

impl Refusals {
    /// Counts a request that was refused now.
    pub(crate) fn record(&self, refused: &Refused<'_>) {
        let step = self.step(Instant::now());
        let at = to_proto(Timestamp::now());
        let mut rows = self.lock();
        let row = rows.entry((refused.tenant.to_owned(), refused.reason.label())).or_insert_with(|| Row {
            counts: [0; STEPS],
            step,
            latest: Refused::row(refused.reason, refused.tenant),
        });
        row.advance(step);
        if let Some(count) = row.counts.first_mut() {
            *count += 1;
        }
        row.latest.last_at = Some(at);
        row.latest.client = refused.client.to_string();
        row.latest.path = refused.path.chars().take(LONGEST_PATH).collect();
        row.latest.answered = refused.status.into();
        drop(rows);
        self.changed.notify_one();
    }

    /// Sets the hint for a tenant's latest refusal with this reason; empty for none.
    pub(crate) fn explain(&self, tenant: &str, reason: Reason, hint: &str) {
        if let Some(row) = self.lock().get_mut(&(tenant.to_owned(), reason.label())) {
            hint.clone_into(&mut row.latest.hint);
            self.changed.notify_one();
        }
    }

    /// Announces the rows after changes and at intervals; never returns.
    pub(crate) async fn announce(&self, publisher: &Publisher, mut config: watch::Receiver<Arc<Config>>) {
        let mut is_repeated = false;
        config.mark_changed();
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = config.changed() => {}
                () = sleep(REPEAT_INTERVAL), if is_repeated => {}
            }
            let tenants = Arc::clone(&config.borrow_and_update());
            let refusals = self.rows(&tenants.tenants, Instant::now());
            if refusals.is_empty() && !is_repeated {
                continue;
            }
            // The end of all rows is announced once.
            is_repeated = !refusals.is_empty();
            let announcement = IngressRefusals { refusals }.encode_to_vec();
            if let Err(error) = publisher.announce_refusals(announcement.into()).await {
                // The next announcement has them, too, and so has the log.
                tracing::debug!(%error, "announcement of refusals failed");
            }
            sleep(MIN_INTERVAL).await;
        }
    }

    /// The rows of the last hour and of tenants that are down: those of tenants first, and the latest first. Drops older ones.
    fn rows(&self, tenants: &BTreeMap<String, Arc<Tenant>>, now: Instant) -> Vec<Refusal> {
        let step = self.step(now);
        let mut rows = self.lock();
        let mut refusals = Vec::new();
        rows.retain(|_, row| {
            row.advance(step);
            let count = row.counts.iter().sum();
            if count > 0 {
                refusals.push(Refusal { count, ..row.latest.clone() });
            }
            count > 0
        });
        drop(rows);
        for tenant in tenants.values() {
            let Some(problem) = tenant.down() else { continue };
            let hint = format!("{}: {}", problem.what, problem.help);
            let is_same =
                |row: &&mut Refusal| row.tenant == tenant.name && row.reason == Reason::NoSecret.label();
            match refusals.iter_mut().find(is_same) {
                Some(row) => row.hint = hint,
                None => refusals.push(Refusal { hint, ..Refused::row(Reason::NoSecret, &tenant.name) }),
            }
        }
        let latest = |refusal: &Refusal| refusal.last_at.map_or((0, 0), |at| (at.seconds, at.nanos));
        refusals.sort_by_key(|refusal| (refusal.tenant.is_empty(), std::cmp::Reverse(latest(refusal))));
        refusals.truncate(MOST);
        refusals
    }

    fn step(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / STEP.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, &'static str), Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn advance(&mut self, step: u64) {
        let by = usize::try_from(step.saturating_sub(self.step)).unwrap_or(STEPS).min(STEPS);
        self.step = self.step.max(step);
        self.counts.rotate_right(by % STEPS);
        self.counts.iter_mut().take(by).for_each(|count| *count = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::Why;
    use talaria_core::{
        config::{Problem, SecretOrigin},
        openrouter::signature::SignatureFault,
    };

    const MISMATCH: Reason = Reason::Unauthorized(Why::Signature(SignatureFault::Mismatch));

    fn refused<'a>(reason: Reason, tenant: &'a str, path: &'a str) -> Refused<'a> {
        Refused { reason, tenant, client: [192, 0, 2, 1].into(), path, status: 401 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_counts_the_last_hour_and_has_the_latest_request() {
        let refusals = Refusals::default();
        for _ in 0..3 {
            refusals.record(&refused(MISMATCH, "acme", "/callbacks/acme"));
            tokio::time::advance(Duration::from_secs(25 * 60)).await;
        }
        refusals.record(&refused(MISMATCH, "acme", "/callbacks/acme/"));
        refusals.explain("acme", MISMATCH, "a hint");
        refusals.explain("acme", Reason::TooLarge, "without a row");
        let rows = refusals.rows(&BTreeMap::new(), Instant::now());
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row.count, 3, "the first one is older than an hour");
        assert_eq!((row.reason.as_str(), row.text.as_str()), ("mismatch", "the signature does not match"));
        assert_eq!((row.path.as_str(), row.client.as_str()), ("/callbacks/acme/", "192.0.2.1"));
        assert_eq!((row.answered, row.hint.as_str()), (401, "a hint"));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(refusals.rows(&BTreeMap::new(), Instant::now()).is_empty() && refusals.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_is_down_has_a_row_at_once() {
        let refusals = Refusals::default();
        let problem = Problem { line: 3, column: 1, what: "cannot read it".into(), help: "write it".into() };
        let tenant = Tenant {
            name: "acme".into(),
            secrets: Vec::new(),
            unread: vec![problem],
            secret_origin: Some(SecretOrigin::Env("X".into())),
            tolerance: Duration::from_secs(60),
            jobs: None,
            media: None,
            routes: BTreeMap::new(),
        };
        let tenants = [("acme".to_owned(), Arc::new(tenant))].into();
        for count in 0..3 {
            let rows = refusals.rows(&tenants, Instant::now());
            let [row] = rows.as_slice() else { panic!("{rows:?}") };
            assert_eq!((row.reason.as_str(), row.count), ("no_secret", count));
            assert_eq!(row.hint, "cannot read it: write it");
            refusals.record(&refused(Reason::NoSecret, "acme", "/callbacks/acme"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_neither_add_rows_nor_displace_a_tenants() {
        let refusals = Refusals::default();
        for tenant in 0..MOST * 2 {
            refusals.record(&refused(MISMATCH, &format!("tenant-{tenant}"), "/"));
        }
        for number in 0..10_000 {
            refusals.record(&refused(Reason::WrongPath, "", &format!("/{number}{}", "x".repeat(10_000))));
        }
        assert_eq!(refusals.lock().len(), MOST * 2 + 1);
        let rows = refusals.rows(&BTreeMap::new(), Instant::now());
        assert!(rows.len() == MOST && rows.iter().all(|row| !row.tenant.is_empty()));
        let message = IngressRefusals { refusals: rows }.encode_to_vec();
        assert!(message.len() < 100_000, "{}", message.len());
        let unassigned = &refusals.lock()[&(String::new(), "wrong_path")];
        assert_eq!((unassigned.counts[0], unassigned.latest.path.len()), (10_000, LONGEST_PATH));
    }
}
