//! What is known of the lanes without asking the file: for each a time before which nothing of it can be due, and
//! what of it is out. The time may be too early, never too late; whoever looks in vain corrects it.

use super::Key;
use crate::{Lane, Windows, partition::Partition};
use rusqlite::Connection;
use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

#[derive(Default)]
pub(crate) struct Lanes {
    numbers: HashMap<Lane, i64>,
    states: HashMap<i64, LaneState>,
    /// Every lane of ours of which something may go out, by the time before which nothing does. What has no room is not
    /// here until it has: whoever looks for what is due passes by no lane that he cannot take from.
    by_due: BTreeSet<(i64, i64)>,
    /// Lanes of which rows were held since somebody looked.
    touched: Vec<i64>,
    ours: Ours,
    windows: Windows,
}

/// Whose deliveries are taken here.
#[derive(Default)]
enum Ours {
    #[default]
    All,
    /// Each with the membership since which it has been ours.
    These(HashMap<Partition, u64>),
}

struct LaneState {
    lane: Lane,
    partition: Partition,
    /// Before it nothing is due; `None` while the lane is empty.
    due: Option<i64>,
    /// Where the lane stands in `by_due`.
    turn: Option<i64>,
    /// What is out, and until when.
    out: HashMap<Key, i64>,
    /// How much may be out at once.
    window: usize,
    gate: Gate,
}

/// What holds a lane back, whatever is due in it.
#[derive(Clone, Copy)]
struct Gate {
    /// Nothing goes out before.
    until: i64,
    /// Then no more than this.
    window: usize,
}

impl Gate {
    const OPEN: Self = Self { until: i64::MIN, window: usize::MAX };
}

impl LaneState {
    fn new(lane: Lane, window: usize) -> Self {
        let (partition, out) = (Partition::of(&lane), HashMap::new());
        Self { partition, lane, due: None, turn: None, out, window, gate: Gate::OPEN }
    }

    /// How much may be out now.
    fn window(&self) -> usize {
        self.window.min(self.gate.window)
    }

    /// Before this nothing of the lane goes out.
    fn next_turn(&self) -> Option<i64> {
        let turn = self.due?.max(self.gate.until);
        if self.out.len() < self.window() {
            return Some(turn);
        }
        // If nothing comes back, there is room when the first lease is over.
        self.out.values().min().map(|end| turn.max(*end))
    }
}

impl Lanes {
    /// Reads the lanes and their times. What is out stays known, and so do gates.
    pub(crate) fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.numbers.clear();
        self.by_due.clear();
        let mut known: HashMap<i64, LaneState> = self.states.drain().collect();
        let mut statement = connection.prepare("SELECT lane, tenant, route FROM lanes")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            let lane = Lane { tenant: row.get::<_, Arc<str>>(1)?, route: row.get::<_, Arc<str>>(2)? };
            self.numbers.insert(lane.clone(), number);
            let state = match known.remove(&number) {
                // Places in the order went with `by_due`.
                Some(known) => LaneState { due: None, turn: None, ..known },
                None => {
                    let window = self.windows.of(&lane);
                    LaneState::new(lane, window)
                }
            };
            self.states.insert(number, state);
            self.look(connection, number)?;
        }
        Ok(())
    }

    /// Reads from the file what is out.
    pub(crate) fn load_out(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for state in self.states.values_mut() {
            state.out.clear();
        }
        let select = "SELECT lane, event_seq, route, due FROM deliveries WHERE lease IS NOT NULL";
        let mut statement = connection.prepare_cached(select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            if let Some(state) = self.states.get_mut(&row.get(0)?) {
                state.out.insert((row.get(1)?, row.get(2)?), row.get(3)?);
            }
        }
        self.place_all();
        Ok(())
    }

    /// By this membership only deliveries of these partitions are taken here.
    pub(crate) fn own(&mut self, partitions: &[Partition], membership: u64) {
        let known = match &self.ours {
            Ours::All => HashMap::new(),
            Ours::These(known) => known.clone(),
        };
        // What holds a lane back was learnt while it was ours, and others may have opened it since.
        for state in self.states.values_mut().filter(|state| !known.contains_key(&state.partition)) {
            state.gate = Gate::OPEN;
        }
        let since = |partition| (partition, known.get(&partition).copied().unwrap_or(membership));
        self.ours = Ours::These(partitions.iter().copied().map(since).collect());
        self.place_all();
    }

    /// How much of each lane may be out at once.
    pub(crate) fn set_windows(&mut self, windows: Windows) {
        self.windows = windows;
        for state in self.states.values_mut() {
            state.window = self.windows.of(&state.lane);
        }
        self.place_all();
    }

    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Since when the lane has been ours without a break, as the number of a membership.
    pub(crate) fn term(&self, number: i64) -> u64 {
        match (&self.ours, self.states.get(&number)) {
            (Ours::These(since), Some(state)) => since.get(&state.partition).copied().unwrap_or_default(),
            _ => 0,
        }
    }

    /// Nothing of the lane goes out before `until`, and then no more than `window` at once.
    pub(crate) fn set_gate(&mut self, lane: &Lane, until: i64, window: usize) {
        let Some(number) = self.numbers.get(lane).copied() else { return };
        if let Some(state) = self.states.get_mut(&number) {
            state.gate = Gate { until, window };
        }
        self.place(number);
    }

    pub(super) fn tenant(&self, number: i64) -> Option<Arc<str>> {
        self.states.get(&number).map(|state| Arc::clone(&state.lane.tenant))
    }

    /// The lane's number; a lane that was not known gets one.
    pub(super) fn number(&mut self, connection: &Connection, lane: &Lane) -> rusqlite::Result<i64> {
        if let Some(number) = self.numbers.get(lane) {
            return Ok(*number);
        }
        let insert = "INSERT INTO lanes (tenant, route) VALUES (?, ?) RETURNING lane";
        let number = connection.query_row(insert, (&*lane.tenant, &*lane.route), |row| row.get(0))?;
        self.numbers.insert(lane.clone(), number);
        self.states.insert(number, LaneState::new(lane.clone(), self.windows.of(lane)));
        Ok(number)
    }

    fn set_due(&mut self, number: i64, due: Option<i64>) {
        if let Some(state) = self.states.get_mut(&number) {
            state.due = due;
        }
        self.place(number);
    }

    /// Puts the lane where it belongs in `by_due`, after anything that this depends on has changed.
    fn place(&mut self, number: i64) {
        let Some(state) = self.states.get_mut(&number) else { return };
        let ours = match &self.ours {
            Ours::All => true,
            Ours::These(partitions) => partitions.contains_key(&state.partition),
        };
        let turn = state.next_turn().filter(|_| ours);
        if turn == state.turn {
            return;
        }
        if let Some(old) = state.turn {
            self.by_due.remove(&(old, number));
        }
        if let Some(turn) = turn {
            self.by_due.insert((turn, number));
        }
        state.turn = turn;
    }

    fn place_all(&mut self) {
        let numbers: Vec<i64> = self.states.keys().copied().collect();
        for number in numbers {
            self.place(number);
        }
    }

    /// Reads when the lane's first delivery is due.
    pub(super) fn look(&mut self, connection: &Connection, number: i64) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("SELECT min(due) FROM deliveries WHERE lane = ?")?;
        let due = statement.query_row([number], |row| row.get(0))?;
        self.set_due(number, due);
        Ok(())
    }

    /// A delivery of the lane is due at this time.
    pub(super) fn expect(&mut self, number: i64, due: i64) {
        let known = self.states.get(&number).and_then(|state| state.due);
        if known.is_none_or(|known| due < known) {
            self.set_due(number, Some(due));
        }
    }

    /// Lanes that may have something due, the longest waiting first, with the times since when.
    pub(super) fn due(&self, now: i64) -> impl Iterator<Item = (i64, i64)> {
        self.by_due.iter().take_while(move |(due, _)| *due <= now).copied()
    }

    /// When something may go out next.
    pub(super) fn next_due(&self) -> i64 {
        self.by_due.first().map_or(i64::MAX, |(due, _)| *due)
    }

    /// How many more of the lane may go out. What was not brought back in time is not out any more.
    pub(super) fn room(&mut self, number: i64, now: i64) -> usize {
        let Some(state) = self.states.get_mut(&number) else { return 0 };
        let window = state.window();
        if state.out.len() >= window {
            state.out.retain(|_, end| *end > now);
        }
        let room = window.saturating_sub(state.out.len());
        if room == 0 {
            self.place(number);
        }
        room
    }

    pub(super) fn went_out(&mut self, number: i64, key: Key, end: i64) {
        if let Some(state) = self.states.get_mut(&number) {
            state.out.insert(key, end);
            self.touched.push(number);
        }
    }

    /// What is out, with its lane.
    pub(super) fn out(&self) -> Vec<(i64, Key)> {
        let states = self.states.iter();
        states.flat_map(|(number, state)| state.out.keys().map(move |key| (*number, *key))).collect()
    }

    pub(super) fn came_back(&mut self, number: i64, key: Key) {
        if let Some(state) = self.states.get_mut(&number) {
            state.out.remove(&key);
        }
        self.place(number);
    }

    pub(super) fn take_touched(&mut self) -> Vec<i64> {
        self.touched.sort_unstable();
        self.touched.dedup();
        mem::take(&mut self.touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lasts_for_as_long_as_the_lane_is_ours_and_a_term_tells_each_time_apart() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(crate::queue::TABLES).unwrap();
        let lane = Lane { tenant: "acme".into(), route: "r".into() };
        let partition = Partition::of(&lane);
        let mut lanes = Lanes::default();
        lanes.own(&[partition], 1);
        let number = lanes.number(&connection, &lane).unwrap();
        lanes.expect(number, 5);
        lanes.set_gate(&lane, 100, 1);
        let turns = |lanes: &Lanes| lanes.due(1_000).collect::<Vec<_>>();
        // Another membership, and still ours.
        lanes.own(&[partition], 2);
        assert_eq!((lanes.term(number), turns(&lanes), lanes.room(number, 0)), (1, vec![(100, number)], 1));
        lanes.own(&[], 3);
        assert!(turns(&lanes).is_empty());
        lanes.own(&[partition], 4);
        assert_eq!((lanes.term(number), turns(&lanes)), (4, vec![(5, number)]));
        assert_eq!(lanes.room(number, 0), Windows::DEFAULT);
    }
}
