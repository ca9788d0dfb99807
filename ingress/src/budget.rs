//! A budget for a shared resource: bytes of bodies, or callbacks that wait for the bus.
//!
//! The limit is an argument of each call, so that it can change meanwhile.

use metrics::Gauge;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) struct Budget {
    used: AtomicUsize,
    gauge: Gauge,
}

impl Budget {
    /// An unused budget. The gauge shows its use.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { used: AtomicUsize::new(0), gauge }
    }

    /// The rest of the budget.
    pub(crate) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.used.load(Relaxed))
    }

    /// An empty share.
    pub(crate) fn share(&self) -> Share<'_> {
        Share { budget: self, amount: 0 }
    }
}

/// One user's share of the budget, until it is dropped.
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    amount: usize,
}

impl Share<'_> {
    /// The rest of the budget.
    pub(crate) fn room(&self, limit: usize) -> usize {
        self.budget.room(limit)
    }

    /// Grows to an amount. Returns whether the budget had room.
    pub(crate) fn grow_to(&mut self, amount: usize, limit: usize) -> bool {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return true;
        }
        let fits = |used: usize| used.checked_add(more).filter(|used| *used <= limit);
        if self.budget.used.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return false;
        }
        self.amount += more;
        self.budget.gauge.increment(in_float(more));
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Relaxed);
        self.budget.gauge.decrement(in_float(self.amount));
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge has no whole numbers, and this one stays far below 2^53"
)]
fn in_float(amount: usize) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget() {
        let budget = Budget::new(Gauge::noop());
        let mut first = budget.share();
        assert!(first.grow_to(60, 100) && first.grow_to(10, 100) && first.grow_to(60, 0));
        let mut second = budget.share();
        assert!(!second.grow_to(41, 100) && second.grow_to(40, 100));
        assert_eq!((budget.room(100), budget.room(50), budget.room(120)), (0, 0, 20));
        drop(first);
        assert_eq!(budget.room(100), 60);
        assert!(second.grow_to(100, 100));
        drop(second);
        assert_eq!(budget.room(100), 100);
    }
}
