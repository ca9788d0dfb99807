//! The clock of a partition. Its owners may have different clocks, and the clock of one may be set back; only `Opened`
//! changes the clock.

use super::State;

/// A difference that counts, in nanoseconds. A smaller one is usual between machines that a time server keeps.
const DIFFERENCE: i64 = 1_000_000_000;

impl State {
    /// The nanoseconds that a clock which reads `now` is behind the last record; 0 for a difference that does not count.
    pub(super) fn behind(&self, now: i64) -> i64 {
        let behind = self.last_at.saturating_sub(now);
        if behind < DIFFERENCE { 0 } else { behind }
    }

    /// Makes all waiting deliveries due earlier by `by` nanoseconds, so that they wait as long as by the clock of the last
    /// record. The times in [`super::Memory`] are for the caller.
    pub(super) fn set_back(&mut self, by: i64) {
        self.jobs.set_back(by);
        self.waiting.iter_mut().for_each(|waiting| waiting.due = waiting.due.saturating_sub(by));
        for id in self.lanes.ids().collect::<Vec<_>>() {
            if let Some(lane) = self.lanes.change(id) {
                let due = std::mem::take(&mut lane.due);
                lane.due =
                    due.into_iter().map(|(due, event_seq)| (due.saturating_sub(by), event_seq)).collect();
            }
        }
    }
}
