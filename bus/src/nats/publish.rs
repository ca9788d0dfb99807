//! Storing callbacks: each on its own while that is quick, and in atomic batches while it is not.
//!
//! A publisher sends its own message while fewer than [`SINGLES`] are under way, which needs no other task. Later ones wait
//! in a queue. A server that syncs each write (`sync_interval: always`) is slow for every message and syncs a batch once;
//! but a batch costs it files that it creates and removes, some 10 ms whatever is in it. So the queue is sent as a batch
//! when it is so long that its messages would take clearly longer one by one, by what singles took lately; and else as
//! singles. While a batch is under way no single begins, so the next batch grows meanwhile.
//!
//! A batch is stored as a whole or not at all. If the server refuses one, for example because it remembers one of the ids,
//! its messages are sent one by one, and each gets its own answer.

use super::{
    cloudevent,
    connection::Connection,
    names::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE},
    store::{Message, NotStored, Store},
    streams::Wanted,
};
use crate::Error;
use async_nats::HeaderName;
use futures_util::future::join_all;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use talaria_proto::v1::{Event, QuarantinedCallback};
use tokio::sync::oneshot;

/// Messages under way one by one. More do not make a server faster.
const SINGLES: usize = 128;

/// A shorter queue is never a batch.
const SMALLEST_BATCH: usize = 16;

/// The most messages in a batch; the server takes no more than 1000.
const LARGEST_BATCH: usize = 512;

/// The most bytes in a batch.
const LARGEST_BATCH_BYTES: usize = 4 << 20;

/// A queue is a batch when its messages would take longer than this one by one: twice what a batch costs.
const WORTH_A_BATCH: Duration = Duration::from_millis(20);

/// With fewer singles under way their time says how far away the server is, and not how much work they are for it.
const CROWD: usize = 16;

/// The weight of the newest time in the average.
const NEWEST: f64 = 0.1;

/// Each batch makes singles look cheaper by this factor, so that they are tried again: the disk may be faster now.
const FADE: f64 = 0.99;

/// Stores callbacks in the events stream.
pub struct Publisher {
    connection: Connection,
    wanted: Wanted,
    shared: Arc<Shared>,
}

impl Publisher {
    /// For a connection whose events stream is set up.
    pub(super) fn new(connection: &Connection, wanted: Wanted) -> Self {
        let store = Store::new(connection, connection.names.events());
        let shared = Arc::new(Shared { store, state: Mutex::default() });
        Self { connection: connection.clone(), wanted, shared }
    }

    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<(), Error> {
        self.store(cloudevent::event(&self.connection.names, &event)).await
    }

    pub(crate) async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> {
        self.store(cloudevent::quarantined(&self.connection.names, &callback)).await
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.shared.store.check()?;
        self.wanted.check(&self.connection).await
    }

    async fn store(&self, message: Message) -> Result<(), Error> {
        let limit = self.connection.largest_data();
        if message.data.len() > limit {
            return Err(Error::too_large(message.data.len(), limit));
        }
        self.connection.is_connected()?;
        match self.shared.enter(message) {
            Entered::Now(message, permit) => self.shared.store_single(message, permit).await,
            Entered::Waits(turn) => match turn.await {
                Ok(Turn::Alone(message, permit)) => self.shared.store_single(message, permit).await,
                Ok(Turn::Done(done)) => done,
                Err(_) => Err(Error::new("the bus has stopped")),
            },
        }
    }
}

struct Shared {
    store: Store,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Singles under way.
    singles: usize,
    /// Whether a batch is under way.
    batching: bool,
    waiting: VecDeque<Waiting>,
    cost: Cost,
}

struct Waiting {
    message: Message,
    turn: oneshot::Sender<Turn>,
}

/// What becomes of a message that waited.
enum Turn {
    /// Its publisher sends it.
    Alone(Message, Permit),
    /// It was in a batch.
    Done(Result<(), Error>),
}

enum Entered {
    Now(Message, Permit),
    Waits(oneshot::Receiver<Turn>),
}

/// One of the singles under way, until it is dropped.
struct Permit {
    shared: Option<Arc<Shared>>,
    /// How many were under way when it began, with itself.
    crowd: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            state.singles -= 1;
            shared.go_on(&mut state);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, message: Message) -> Entered {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.batching && state.singles < SINGLES {
            return Entered::Now(message, self.permit(&mut state));
        }
        let (turn, waits) = oneshot::channel();
        state.waiting.push_back(Waiting { message, turn });
        self.go_on(&mut state);
        Entered::Waits(waits)
    }

    fn permit(self: &Arc<Self>, state: &mut State) -> Permit {
        state.singles += 1;
        Permit { shared: Some(Arc::clone(self)), crowd: state.singles }
    }

    /// Begins what can begin.
    fn go_on(self: &Arc<Self>, state: &mut State) {
        if state.batching {
            return;
        }
        if state.cost.is_worth_a_batch(state.waiting.len()) {
            let group = next_group(&mut state.waiting);
            state.batching = true;
            tokio::spawn(Arc::clone(self).store_group(group));
            return;
        }
        while state.singles < SINGLES
            && let Some(Waiting { message, turn }) = state.waiting.pop_front()
        {
            let permit = self.permit(state);
            // A publisher that has gone was never told that it was stored.
            if let Err(Turn::Alone(_, mut permit)) = turn.send(Turn::Alone(message, permit)) {
                permit.shared = None;
                state.singles -= 1;
            }
        }
    }

    async fn store_single(&self, message: Message, permit: Permit) -> Result<(), Error> {
        let start = Instant::now();
        let sent = self.store.send(message).await;
        if sent.is_ok() {
            self.lock().cost.single_took(start.elapsed(), permit.crowd);
        }
        sent.map(drop).map_err(NotStored::into_error)
    }

    async fn store_group(self: Arc<Self>, group: Vec<Waiting>) {
        // Goes on, whatever happens.
        let _batching = Batching(Arc::clone(&self));
        match self.store_batch(&group).await {
            Ok(()) => Waiting::all_done(group, &Ok(())),
            Err(NotStored::Unknown(error)) => Waiting::all_done(group, &Err(error)),
            Err(NotStored::Refused(_, error)) => {
                tracing::debug!(%error, "a batch was refused; its messages are sent one by one");
                let each = group.into_iter().map(|waiting| async {
                    let sent = self.store.send(waiting.message.clone()).await;
                    waiting.done(sent.map(drop).map_err(NotStored::into_error));
                });
                join_all(each).await;
            }
        }
    }

    async fn store_batch(&self, group: &[Waiting]) -> Result<(), NotStored> {
        let client = &self.store.connection.client;
        let id = client.new_inbox();
        let id = id.rsplit('.').next().unwrap_or(&id);
        let name = HeaderName::from_static;
        for (sequence, waiting) in (1..).zip(group) {
            let mut message = waiting.message.clone();
            message.headers.insert(name(BATCH_ID), id);
            message.headers.insert(name(BATCH_SEQUENCE), sequence.to_string());
            if sequence == group.len() {
                // The answer to this one is the answer to all.
                message.headers.insert(name(BATCH_COMMIT), "1");
                self.store.send(message).await?;
            } else {
                let sent = client.publish_with_headers(message.subject, message.headers, message.data);
                sent.await.map_err(|error| NotStored::Unknown(self.store.error(&error)))?;
            }
        }
        Ok(())
    }
}

/// A batch under way, until it is dropped.
struct Batching(Arc<Shared>);

impl Drop for Batching {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.batching = false;
        state.cost.made_a_batch();
        self.0.go_on(&mut state);
    }
}

impl Waiting {
    fn all_done(group: Vec<Self>, done: &Result<(), Error>) {
        for waiting in group {
            waiting.done(done.clone());
        }
    }

    fn done(self, done: Result<(), Error>) {
        // Its publisher may have gone; what was stored stays stored.
        let _ = self.turn.send(Turn::Done(done));
    }
}

/// The messages at the head of the queue whose publishers still wait.
fn next_group(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    while group.len() < LARGEST_BATCH
        && bytes < LARGEST_BATCH_BYTES
        && let Some(next) = waiting.pop_front()
    {
        if !next.turn.is_closed() {
            bytes += next.message.data.len();
            group.push(next);
        }
    }
    group
}

/// What singles cost the server lately.
#[derive(Debug, Default)]
struct Cost {
    /// Seconds for one of many.
    single: f64,
}

impl Cost {
    /// A single took so long, with so many under way. By Little's law the server finished one each time / crowd.
    fn single_took(&mut self, time: Duration, crowd: usize) {
        if crowd >= CROWD {
            self.single += NEWEST * (time.as_secs_f64() / count(crowd) - self.single);
        }
    }

    fn made_a_batch(&mut self) {
        self.single *= FADE;
    }

    fn is_worth_a_batch(&self, waiting: usize) -> bool {
        waiting >= SMALLEST_BATCH && self.single * count(waiting) > WORTH_A_BATCH.as_secs_f64()
    }
}

fn count(messages: usize) -> f64 {
    f64::from(u32::try_from(messages).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_singles(each: Duration) -> Cost {
        let mut cost = Cost::default();
        (0..100).for_each(|_| cost.single_took(each * 64, 64));
        cost
    }

    #[test]
    fn a_fast_server_gets_no_batches() {
        let cost = after_singles(Duration::from_micros(30));
        assert!((1..600).all(|waiting| !cost.is_worth_a_batch(waiting)));
        assert!(!Cost::default().is_worth_a_batch(10_000), "nothing is known yet");
    }

    #[test]
    fn a_server_that_syncs_each_message_gets_batches_once_enough_wait() {
        let cost = after_singles(Duration::from_micros(200));
        assert!(!cost.is_worth_a_batch(90));
        assert!(cost.is_worth_a_batch(110));
    }

    #[test]
    fn singles_are_tried_again_after_many_batches_and_a_lone_one_says_nothing() {
        let mut cost = after_singles(Duration::from_micros(200));
        let batches = (0..).take_while(|_| {
            cost.made_a_batch();
            cost.is_worth_a_batch(200)
        });
        assert!((50..100).contains(&batches.count()));
        let mut cost = Cost::default();
        cost.single_took(Duration::from_secs(1), 1);
        assert!(!cost.is_worth_a_batch(500));
    }
}
