//! A number of things that may be in use at once: bytes of bodies, callbacks that wait for the bus.
//!
//! The limit is passed each time, so that it can change while things are in use.

use metrics::Gauge;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) struct Budget {
    used: AtomicUsize,
    gauge: Gauge,
}

impl Budget {
    /// Nothing is in use. The gauge shows how much is.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { used: AtomicUsize::new(0), gauge }
    }

    /// How much may still be taken.
    pub(crate) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.used.load(Relaxed))
    }

    /// Nothing yet, to be made more.
    pub(crate) fn nothing(&self) -> Held<'_> {
        Held { budget: self, amount: 0 }
    }
}

/// What is in use by one, until it is dropped.
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    amount: usize,
}

impl Held<'_> {
    /// How much more may be taken.
    pub(crate) fn room(&self, limit: usize) -> usize {
        self.budget.room(limit)
    }

    /// Makes it as much as this, if there is room; and says whether there was.
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

impl Drop for Held<'_> {
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
    fn no_more_is_held_than_there_is() {
        let budget = Budget::new(Gauge::noop());
        let mut first = budget.nothing();
        assert!(first.grow_to(60, 100) && first.grow_to(10, 100) && first.grow_to(60, 0));
        let mut second = budget.nothing();
        assert!(!second.grow_to(41, 100) && second.grow_to(40, 100));
        assert_eq!((budget.room(100), budget.room(50), budget.room(120)), (0, 0, 20));
        drop(first);
        assert_eq!(budget.room(100), 60);
        assert!(second.grow_to(100, 100));
        drop(second);
        assert_eq!(budget.room(100), 100);
    }
}
