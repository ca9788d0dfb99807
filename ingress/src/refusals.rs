//! What was refused in the last hour, for the operator: one row for each tenant and reason, in bounded memory.
//!
//! A row counts, and shows the latest request. Its key is a tenant of the configuration, or none, and a reason, so strangers
//! make no more rows, whatever they send, and nobody pushes another tenant's refusals out. The rows are announced over the
//! bus, in one small message after a change and now and then, and relays show them in the status. They are kept nowhere: a
//! process that ends takes its own with it. A tenant that is down has a row before anything of it was refused.

use crate::reason::Reason;
use prost::Message as _;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use talaria_bus::{Clock, Publisher, time::to_proto};
use talaria_core::config::{Config, Tenant};
use talaria_proto::v1::{IngressRefusals, Refusal};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

/// Counts are kept for an hour, in steps of five minutes.
const STEP: Duration = Duration::from_secs(300);
const STEPS: usize = 12;

/// Rows that are announced at most: those of tenants first, and the latest of them.
const MOST: usize = 100;

/// How much of a path, in characters, is shown.
pub(crate) const LONGEST_PATH: usize = 128;

/// The shortest pause between two announcements.
const PAUSE: Duration = Duration::from_secs(1);

/// How often rows are announced again that did not change. Relays forget an ingress of which they hear nothing for some
/// times as long.
const REPEATED: Duration = Duration::from_secs(15);

/// A request that was refused.
pub(crate) struct Refused<'a> {
    pub reason: Reason,
    /// A tenant of the configuration, or empty.
    pub tenant: &'a str,
    pub client: IpAddr,
    /// As it came; empty where there was none.
    pub path: &'a str,
    /// What was answered; 0 for nothing.
    pub status: u16,
}

impl Refused<'_> {
    /// A row that shows no request.
    fn none(reason: Reason, tenant: &str) -> Refusal {
        let (reason, text) = (reason.label().to_owned(), reason.text().to_owned());
        Refusal { tenant: tenant.to_owned(), reason, text, ..Refusal::default() }
    }
}

pub(crate) struct Refusals {
    rows: Mutex<HashMap<(String, &'static str), Row>>,
    changed: Notify,
    start: Instant,
    clock: Clock,
}

struct Row {
    /// How many in each step, the current one first.
    counts: [u64; STEPS],
    /// Which step the first of them is, from the start.
    step: u64,
    /// The latest.
    shown: Refusal,
}

impl Refusals {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { rows: Mutex::default(), changed: Notify::new(), start: Instant::now(), clock }
    }

    /// Counts a request that was refused now.
    pub(crate) fn record(&self, refused: &Refused<'_>) {
        let step = self.step(Instant::now());
        let at = to_proto(self.clock.now());
        let mut rows = self.lock();
        let row = rows.entry((refused.tenant.to_owned(), refused.reason.label())).or_insert_with(|| Row {
            counts: [0; STEPS],
            step,
            shown: Refused::none(refused.reason, refused.tenant),
        });
        row.go_on_to(step);
        if let Some(count) = row.counts.first_mut() {
            *count += 1;
        }
        row.shown.last_at = Some(at);
        row.shown.client = refused.client.to_string();
        row.shown.path = refused.path.chars().take(LONGEST_PATH).collect();
        row.shown.answered = refused.status.into();
        drop(rows);
        self.changed.notify_one();
    }

    /// What was found out about a tenant's latest refusal for this reason; empty for nothing.
    pub(crate) fn explain(&self, tenant: &str, reason: Reason, hint: &str) {
        if let Some(row) = self.lock().get_mut(&(tenant.to_owned(), reason.label())) {
            hint.clone_into(&mut row.shown.hint);
            self.changed.notify_one();
        }
    }

    /// Announces the rows when they change, and now and then, and never returns.
    pub(crate) async fn announce(&self, publisher: &Publisher, mut config: watch::Receiver<Arc<Config>>) {
        let mut is_repeated = false;
        config.mark_changed();
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = config.changed() => {}
                () = sleep(REPEATED), if is_repeated => {}
            }
            let tenants = Arc::clone(&config.borrow_and_update());
            let refusals = self.rows(&tenants.tenants, Instant::now());
            if refusals.is_empty() && !is_repeated {
                continue;
            }
            // Once there are none any more, that is said once.
            is_repeated = !refusals.is_empty();
            let announcement = IngressRefusals { refusals }.encode_to_vec();
            if let Err(error) = publisher.announce_refusals(announcement.into()).await {
                // They are announced again, and the log has them.
                tracing::debug!(%error, "refusals are not announced");
            }
            sleep(PAUSE).await;
        }
    }

    /// What was refused in the last hour, those of tenants first and the latest first, and which tenants are down; forgets
    /// what is older.
    fn rows(&self, tenants: &BTreeMap<String, Arc<Tenant>>, now: Instant) -> Vec<Refusal> {
        let step = self.step(now);
        let mut rows = self.lock();
        let mut shown = Vec::new();
        rows.retain(|_, row| {
            row.go_on_to(step);
            let count = row.counts.iter().sum();
            if count > 0 {
                shown.push(Refusal { count, ..row.shown.clone() });
            }
            count > 0
        });
        drop(rows);
        for tenant in tenants.values() {
            let Some(problem) = tenant.down() else { continue };
            let hint = format!("{}: {}", problem.what, problem.help);
            let is_it =
                |row: &&mut Refusal| row.tenant == tenant.name && row.reason == Reason::NoSecret.label();
            match shown.iter_mut().find(is_it) {
                Some(row) => row.hint = hint,
                None => shown.push(Refusal { hint, ..Refused::none(Reason::NoSecret, &tenant.name) }),
            }
        }
        let latest = |refusal: &Refusal| refusal.last_at.map_or((0, 0), |at| (at.seconds, at.nanos));
        shown.sort_by_key(|refusal| (refusal.tenant.is_empty(), std::cmp::Reverse(latest(refusal))));
        shown.truncate(MOST);
        shown
    }

    fn step(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / STEP.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, &'static str), Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn go_on_to(&mut self, step: u64) {
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
        openrouter::signature::Rejected,
    };

    const MISMATCH: Reason = Reason::Stranger(Why::Signature(Rejected::Mismatch));

    fn refusals() -> Refusals {
        Refusals::new(Clock::System)
    }

    fn refused<'a>(reason: Reason, tenant: &'a str, path: &'a str) -> Refused<'a> {
        Refused { reason, tenant, client: [192, 0, 2, 1].into(), path, status: 401 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_counts_the_last_hour_and_shows_the_latest() {
        let refusals = refusals();
        for _ in 0..3 {
            refusals.record(&refused(MISMATCH, "acme", "/callbacks/acme"));
            tokio::time::advance(Duration::from_secs(25 * 60)).await;
        }
        refusals.record(&refused(MISMATCH, "acme", "/callbacks/acme/"));
        refusals.explain("acme", MISMATCH, "a hint");
        refusals.explain("acme", Reason::TooLarge, "of what there was not");
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
        let refusals = refusals();
        let problem = Problem { line: 3, column: 1, what: "cannot read it".into(), help: "write it".into() };
        let tenant = Tenant {
            name: "acme".into(),
            secrets: Vec::new(),
            unread: vec![problem],
            secret_origin: SecretOrigin::Env("X".into()),
            tolerance: Duration::from_secs(60),
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
    async fn strangers_neither_make_rows_without_end_nor_push_a_tenants_out() {
        let refusals = refusals();
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
        let of_nobody = &refusals.lock()[&(String::new(), "wrong_path")];
        assert_eq!((of_nobody.counts[0], of_nobody.shown.path.len()), (10_000, LONGEST_PATH));
    }
}
