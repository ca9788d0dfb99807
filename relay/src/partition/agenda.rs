//! Which waiting deliveries go next.
//!
//! A lane has a **window**, how many of its deliveries may be under way at once, and a **gate**, before which none goes out and
//! behind which only so many do. Tenants take turns, so that one with many routes and a long backlog has no more of them than
//! another; so do a tenant's lanes, and of a lane the longest due go first. A lane that has nothing due, no room or a closed gate
//! costs nothing: it is not among those that are looked at.

use super::{
    handle::Key,
    state::{
        LaneId, State,
        time::{nanos, timestamp},
    },
};
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

/// How many of one lane are chosen before the next lane has its turn.
const TURN: usize = 16;

/// The window of a lane for which none was set.
const DEFAULT_WINDOW: usize = 16;

/// The lanes with their windows and gates.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    lanes: Vec<LaneTurn>,
    /// The lanes of which something may go out, by when.
    by_due: BTreeSet<(i64, LaneId)>,
}

/// What is known of a lane.
#[derive(Debug)]
struct LaneTurn {
    /// Missing while the state has told nothing of the lane.
    tenant: Option<Arc<str>>,
    /// When its first delivery is due that is not under way.
    first_due: Option<i64>,
    under_way: usize,
    window: usize,
    gate_until: i64,
    gate_window: usize,
    /// Where it stands in `by_due`.
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

    /// When something of it may go out.
    fn next_turn(&self) -> Option<i64> {
        let due = self.first_due.filter(|_| self.room() > 0)?;
        Some(due.max(self.gate_until))
    }
}

impl Agenda {
    /// No more than `window` deliveries of the lane may be under way at once; none with 0, as while it is paused.
    pub(crate) fn set_window(&mut self, lane: LaneId, window: usize) {
        self.change(lane, |turn| turn.window = window);
    }

    /// Nothing of the lane goes out before `until`, and then no more than `window` at once.
    pub(crate) fn set_gate(&mut self, lane: LaneId, until: Timestamp, window: usize) {
        self.change(lane, |turn| (turn.gate_until, turn.gate_window) = (nanos(until), window));
    }

    /// Takes over what changed in the state.
    pub(crate) fn refresh(&mut self, state: &mut State) {
        for lane in state.take_changed() {
            let (first_due, under_way) = (state.first_due(lane).map(nanos), state.under_way_in(lane));
            self.change(lane, |turn| {
                turn.tenant.get_or_insert_with(|| state.lane(lane).tenant);
                (turn.first_due, turn.under_way) = (first_due, under_way);
            });
        }
    }

    /// At most `max` deliveries that are due, within the lanes' windows and gates, in the order in which they should go out.
    /// The state is the one that `refresh` saw last.
    pub(crate) fn choose(&mut self, state: &State, now: Timestamp, max: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        let due = self.by_due.range(..=(nanos(now), LaneId::LAST));
        // By how many turns the tenant and the lane have had, and since when something is due.
        let mut waiting: BinaryHeap<_> = due.map(|(due, lane)| Reverse((0, 0, *due, *lane))).collect();
        let mut turns: HashMap<&str, usize> = HashMap::new();
        let mut begun = HashMap::new();
        while keys.len() < max
            && let Some(Reverse((of_tenant, of_lane, due, lane))) = waiting.pop()
        {
            let Some(turn) = self.lanes.get(lane.index()) else { continue };
            let had = turns.entry(turn.tenant.as_deref().unwrap_or_default()).or_default();
            if *had != of_tenant {
                // Another lane of the tenant had its turn meanwhile.
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

    /// When `choose` may give something, if nothing changes until then. It may be in the past.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| timestamp(*due))
    }

    /// Changes a lane, and puts it where it belongs then.
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
