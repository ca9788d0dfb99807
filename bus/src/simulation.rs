//! The queue by itself, in memory and without threads: for simulations that turn the clock themselves.

use crate::{
    Lane, Lease, Leased, Survey, Windows,
    queue::{self, DeliveryRow, Queue, Taken, due, survey},
    time,
};
use jiff::Timestamp;
use rusqlite::Connection;
use talaria_proto::v1::DeliveryTask;

/// The rows and the code of both backends, without what makes them durable.
pub struct SimulatedQueue {
    connection: Connection,
    queue: Queue,
    last_lease: i64,
    term: u64,
}

impl Default for SimulatedQueue {
    fn default() -> Self {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(queue::TABLES).unwrap();
        connection.set_prepared_statement_cache_capacity(64);
        Self { connection, queue: Queue::default(), last_lease: 0, term: 1 }
    }
}

impl SimulatedQueue {
    /// As [`crate::Bus::plan`] does.
    pub fn enqueue(&mut self, task: DeliveryTask) {
        self.queue.enqueue(&self.connection, &DeliveryRow::try_from(task).unwrap()).unwrap();
    }

    /// As [`crate::Bus::set_windows`].
    pub fn set_windows(&mut self, windows: Windows) {
        self.queue.lanes.set_windows(windows);
    }

    /// As [`crate::Bus::set_gate`].
    pub fn set_gate(&mut self, lane: &Lane, until: Timestamp, window: usize) {
        self.queue.lanes.set_gate(lane, time::micros(until), window);
    }

    /// As [`crate::Bus::survey`].
    pub fn survey<T>(&self, lane: &Lane, find: impl Fn(&DeliveryTask) -> Option<T>) -> Survey<T> {
        survey(&self.connection, lane, |_| true, find).unwrap()
    }

    /// As [`crate::Bus::take`]; when there is nothing, the time to look again.
    pub fn take(&mut self, now: Timestamp, max: usize) -> Result<Vec<Leased>, Timestamp> {
        let choice = self.queue.choose(&self.connection, now, max).unwrap();
        let mut taken: Vec<Taken> = Vec::new();
        for (event_seq, route) in choice.keys {
            self.last_lease += 1;
            let lease = Lease { event_seq, route, token: self.last_lease };
            taken.extend(self.queue.hold(&self.connection, lease, now, false).unwrap());
        }
        self.queue.look_again(&self.connection).unwrap();
        let leased = taken.into_iter().filter_map(Taken::read);
        let leased: Vec<_> = leased.map(|leased| Leased { term: self.term, ..leased }).collect();
        if leased.is_empty() { Err(choice.next_due) } else { Ok(leased) }
    }

    /// As [`crate::Bus::settle`].
    pub fn settle(&mut self, lease: Lease) {
        self.queue.remove(&self.connection, lease).unwrap();
    }

    /// As [`crate::Bus::later`].
    pub fn later(&mut self, lease: Lease, task: &DeliveryTask) {
        self.queue.put_back(&self.connection, lease, due(task), Some(task)).unwrap();
    }

    /// As [`crate::Bus::release`].
    pub fn release(&mut self, lease: Lease, now: Timestamp) {
        self.queue.put_back(&self.connection, lease, now.as_microsecond(), None).unwrap();
    }

    /// The process dies, and another one has the same rows.
    pub fn restart(&mut self) {
        let interrupt = "UPDATE deliveries SET due = 0 WHERE lease IS NOT NULL";
        self.connection.execute(interrupt, ()).unwrap();
        let windows = self.queue.lanes.windows().clone();
        self.queue = Queue::default();
        self.queue.lanes.set_windows(windows);
        self.queue.lanes.load(&self.connection).unwrap();
        self.term += 1;
    }

    /// How many deliveries there are.
    pub fn len(&self) -> usize {
        self.connection.query_row("SELECT count(*) FROM deliveries", (), |row| row.get(0)).unwrap()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
