//! How many files are under way, of all tenants together and of each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Files at once. Each has a connection to OpenRouter.
const MOST: usize = 64;

/// Files of one tenant at once.
const MOST_OF_TENANT: usize = 16;

/// The files under way by tenant.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, usize>>);

/// The right to one file, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    tenant: String,
}

impl Turns {
    /// `None` if there are too many files under way.
    pub(super) fn take(self: &Arc<Self>, tenant: &str) -> Option<Turn> {
        let mut open = self.lock();
        if open.values().sum::<usize>() >= MOST || open.get(tenant).is_some_and(|n| *n >= MOST_OF_TENANT) {
            return None;
        }
        *open.entry(tenant.to_owned()).or_default() += 1;
        Some(Turn { turns: Arc::clone(self), tenant: tenant.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut open = self.turns.lock();
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_limited_for_all_and_for_each_tenant() {
        let turns = Arc::<Turns>::default();
        let taken = |tenant: &str, most| (0..most + 5).filter_map(|_| turns.take(tenant)).collect::<Vec<_>>();
        let first = taken("a", MOST_OF_TENANT);
        assert_eq!(first.len(), MOST_OF_TENANT);
        let others: Vec<_> =
            ["b", "c", "d"].into_iter().flat_map(|tenant| taken(tenant, MOST_OF_TENANT)).collect();
        assert_eq!(others.len(), MOST - MOST_OF_TENANT);
        assert!(turns.take("e").is_none());
        drop(first);
        assert!(turns.take("e").is_some() && turns.take("b").is_none());
        drop(others);
        assert!(turns.lock().is_empty());
    }
}
