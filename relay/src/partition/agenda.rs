//! The agenda: the order of waiting deliveries.
//!
//! A lane has a **window**: the number of its deliveries that may be under way at once. And it has a **gate**: a time before
//! which none goes out, and the window after that time.
//!
//! Tenants take turns, so that a tenant with many routes and a long backlog gets no more turns than others. The lanes of a
//! tenant take turns too, and in a lane the longest due go first. A lane without due deliveries, without room or before its
//! gate costs nothing, because `choose` does not look at it.

use super::state::{
    LaneId, State,
    time::{nanos, timestamp},
};
use crate::delivery_key::DeliveryKey;
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

/// The most deliveries of a lane that are chosen in one turn.
const TURN: usize = 16;

/// The window of a lane before `set_window`.
const DEFAULT_WINDOW: usize = 16;

/// Windows, gates and turns of the lanes.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    lanes: Vec<LaneTurn>,
    /// The lanes with room and waiting deliveries, by the time when the first may go out.
    by_due: BTreeSet<(i64, LaneId)>,
}

/// A lane in the agenda.
#[derive(Debug)]
struct LaneTurn {
    /// `None` before `refresh` saw the lane.
    tenant: Option<Arc<str>>,
    /// Due time of the first delivery that is not under way.
    first_due: Option<i64>,
    under_way: usize,
    window: usize,
    gate_until: i64,
    gate_window: usize,
    /// Its time in `by_due`.
    turn: Option<i64>,
}

impl Default for LaneTurn {
    fn default() -> Self {
        Self {
            tenant: None,
            first_due: None,
            under_way: 0,
            window: DEFAULT_WINDOW,
            gate_until: i64::MIN,
            gate_window: usize::MAX,
            turn: None,
        }
    }
}

impl LaneTurn {
    fn room(&self) -> usize {
        self.window.min(self.gate_window).saturating_sub(self.under_way)
    }

    /// When its first delivery may go out.
    fn next_turn(&self) -> Option<i64> {
        let due = self.first_due.filter(|_| self.room() > 0)?;
        Some(due.max(self.gate_until))
    }
}

impl Agenda {
    /// Sets how many deliveries of the lane may be under way at once; 0 for a lane that is paused.
    pub(crate) fn set_window(&mut self, lane: LaneId, window: usize) {
        self.change(lane, |turn| turn.window = window);
    }

    /// Sets the time before which no delivery of the lane goes out, and how many may be under way at once after it.
    pub(crate) fn set_gate(&mut self, lane: LaneId, until: Timestamp, window: usize) {
        self.change(lane, |turn| (turn.gate_until, turn.gate_window) = (nanos(until), window));
    }

    /// Reads the lanes that changed in the state.
    pub(crate) fn refresh(&mut self, state: &mut State) {
        for lane in state.take_changed() {
            let (first_due, under_way) = (state.first_due(lane).map(nanos), state.under_way_in(lane));
            self.change(lane, |turn| {
                turn.tenant.get_or_insert_with(|| state.lane(lane).tenant);
                (turn.first_due, turn.under_way) = (first_due, under_way);
            });
        }
    }

    /// At most `max` due deliveries within the windows and gates of their lanes, in the order in which they should go out. Call
    /// `refresh` after each change of the state.
    pub(crate) fn choose(&mut self, state: &State, now: Timestamp, max: usize) -> Vec<DeliveryKey> {
        let mut keys = Vec::new();
        let due = self.by_due.range(..=(nanos(now), LaneId::LAST));
        // Ordered by the turns of the tenant, the turns of the lane, and the time when its first delivery could go out.
        let mut waiting: BinaryHeap<_> = due.map(|(due, lane)| Reverse((0, 0, *due, *lane))).collect();
        let mut turns: HashMap<&str, usize> = HashMap::new();
        let mut begun = HashMap::new();
        while keys.len() < max
            && let Some(Reverse((of_tenant, of_lane, due, lane))) = waiting.pop()
        {
            let Some(turn) = self.lanes.get(lane.index()) else { continue };
            let had = turns.entry(turn.tenant.as_deref().unwrap_or_default()).or_default();
            if *had != of_tenant {
                // Another lane of the tenant had a turn meanwhile.
                waiting.push(Reverse((*had, of_lane, due, lane)));
                continue;
            }
            let (room, of_state) = begun.entry(lane).or_insert_with(|| (turn.room(), state.due(lane, now)));
            let most = TURN.min(*room).min(max - keys.len());
            let before = keys.len();
            keys.extend(of_state.by_ref().take(most));
            let chosen = keys.len() - before;
            *room -= chosen;
            *had += usize::from(chosen > 0);
            if chosen == most && *room > 0 {
                waiting.push(Reverse((of_tenant + 1, of_lane + 1, due, lane)));
            }
        }
        keys
    }

    /// When `choose` gives something if nothing changes until then. It may be in the past.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| timestamp(*due))
    }

    /// Changes a lane and its time in `by_due`.
    fn change(&mut self, lane: LaneId, change: impl FnOnce(&mut LaneTurn)) {
        let index = lane.index();
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, LaneTurn::default);
        }
        let Some(state) = self.lanes.get_mut(index) else { return };
        change(state);
        let turn = state.next_turn();
        if turn == state.turn {
            return;
        }
        if let Some(old) = state.turn {
            self.by_due.remove(&(old, lane));
        }
        if let Some(turn) = turn {
            self.by_due.insert((turn, lane));
        }
        state.turn = turn;
    }
}

#[cfg(test)]
mod tests;
