//! Counters by tenant.
//!
//! A recorder of metrics keeps a series until the process ends. The series of these counters end with their tenant, and their
//! number is bounded by the tenants that are counted by name. Counting allocates nothing.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The label's value for all tenants that are not counted by name, such as removed ones. No tenant's name begins with `_`.
pub const OTHER: &str = "_other";

/// The label's value for requests whose tenant is not configured.
pub const UNKNOWN: &str = "_unknown";

/// A counter with the label `tenant` and another one.
#[derive(Debug)]
pub struct TenantCounter {
    /// Its name.
    pub name: &'static str,
    /// The name of the other label.
    pub label: &'static str,
    /// The tenants that are no names.
    always: &'static [&'static str],
    counts: RwLock<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// The values of the other label.
    values: Vec<&'static str>,
    /// A count for each value.
    by_tenant: BTreeMap<String, Vec<AtomicU64>>,
}

impl TenantCounter {
    /// Counts nothing until [`Self::keep`].
    pub const fn new(name: &'static str, label: &'static str, always: &'static [&'static str]) -> Self {
        let counts = Counts { values: Vec::new(), by_tenant: BTreeMap::new() };
        Self { name, label, always, counts: RwLock::new(counts) }
    }

    /// Counts these tenants by name, and ends the series of all others. A new one begins with 0 for each of the values.
    pub fn keep<'a>(
        &self,
        values: impl Iterator<Item = &'static str>,
        tenants: impl Iterator<Item = &'a str>,
    ) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<&str> = values.collect();
        let mut before = mem::take(&mut counts.by_tenant);
        if counts.values != values {
            before.clear();
        }
        let zeros = || values.iter().map(|_| AtomicU64::new(0)).collect();
        counts.by_tenant = tenants
            .chain(self.always.iter().copied())
            .map(|tenant| (tenant.to_owned(), before.remove(tenant).unwrap_or_else(zeros)))
            .collect();
        counts.values = values;
    }

    /// Counts one, for [`OTHER`] if the tenant is not counted by name.
    pub fn increment(&self, tenant: &str, value: &str) {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        let index = counts.values.iter().position(|known| *known == value);
        debug_assert!(index.is_some() || counts.values.is_empty(), "{}: {value}", self.name);
        let of_tenant = counts.by_tenant.get(tenant).or_else(|| counts.by_tenant.get(OTHER));
        if let (Some(of_tenant), Some(index)) = (of_tenant, index)
            && let Some(count) = of_tenant.get(index)
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Each series: the tenant, the value of the other label, and the count.
    pub fn series(&self) -> Vec<(String, &'static str, u64)> {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = |(tenant, of_tenant): (&String, &Vec<AtomicU64>)| {
            let values = counts.values.iter().zip(of_tenant);
            values.map(|(value, count)| (tenant.clone(), *value, count.load(Relaxed))).collect::<Vec<_>>()
        };
        counts.by_tenant.iter().flat_map(of_tenant).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counter: &TenantCounter) -> String {
        let series = counter.series();
        series.iter().map(|(tenant, value, count)| format!("{tenant}/{value} {count}, ")).collect()
    }

    #[test]
    fn series_begin_with_0_end_with_their_tenant_and_begin_with_0_again() {
        let counter = TenantCounter::new("talaria_things_total", "result", &[OTHER]);
        let keep = |tenants: &[&str]| counter.keep(["good", "bad"].into_iter(), tenants.iter().copied());
        counter.increment("acme", "good");
        assert_eq!(shown(&counter), "", "nothing is shown yet");
        keep(&["acme", "films"]);
        assert_eq!(
            shown(&counter),
            "_other/good 0, _other/bad 0, acme/good 0, acme/bad 0, films/good 0, films/bad 0, "
        );
        counter.increment("acme", "good");
        counter.increment("acme", "good");
        counter.increment("films", "bad");
        counter.increment("strange", "bad");
        keep(&["acme"]);
        counter.increment("films", "bad");
        assert_eq!(shown(&counter), "_other/good 0, _other/bad 2, acme/good 2, acme/bad 0, ");
        keep(&["films"]);
        assert_eq!(shown(&counter), "_other/good 0, _other/bad 2, films/good 0, films/bad 0, ");
        keep(&[]);
        counter.increment("films", "good");
        assert_eq!(shown(&counter), "_other/good 1, _other/bad 2, ");
    }
}
