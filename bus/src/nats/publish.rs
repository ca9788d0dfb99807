//! Publishing callbacks: as single messages while these are fast, and otherwise in atomic batches.
//!
//! A caller sends its own message as long as the singles in flight cost the server less than a batch, which needs no lock and no
//! other task. Further callers wait in a queue. A server that syncs each write (`sync_interval: always`) is slow for every
//! message and syncs a batch once; but for a batch it creates and removes files, which takes some 10 ms for a batch of any size.
//! So the queue is sent as a batch if its messages would cost clearly more as singles, by the recent times of both ([`Cost`]).
//! While a batch is in flight no single begins, so the next batch grows meanwhile. A server with the default settings is so
//! fast that the queue stays empty.
//!
//! A batch is stored as a whole or not at all. If the server refuses one, for example because it remembers one of the ids,
//! its messages are sent one by one, and each gets its own answer.

use super::{
    cloudevent,
    connection::Connection,
    cost::Cost,
    files::Files,
    names::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE},
    openrouter, relays,
    store::{Message, NotStored, Store},
    streams::Wanted,
};
use crate::Error;
use async_nats::HeaderName;
use bytes::Bytes;
use futures_util::future::join_all;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use talaria_proto::v1::{Event, QuarantinedCallback};
use tokio::sync::oneshot;

/// The most messages in a batch; the server takes no more than 1000.
const LARGEST_BATCH: usize = 512;

/// The most bytes in a batch.
const LARGEST_BATCH_BYTES: usize = 4 << 20;

/// Stores callbacks in the events stream.
pub struct Publisher {
    connection: Connection,
    /// Identifies this ingress in its announcements.
    id: String,
    wanted: Wanted,
    shared: Arc<Shared>,
}

impl Publisher {
    /// Needs a connection whose events stream is set up.
    pub(super) fn new(connection: &Connection, wanted: Wanted) -> Self {
        let store = Store::new(connection, connection.names.events());
        let shared = Arc::new(Shared {
            store,
            cost: Cost::default(),
            singles: AtomicUsize::new(0),
            has_queue: AtomicBool::new(false),
            queue: Mutex::default(),
        });
        let id = format!("{:016x}", rand::random::<u64>());
        Self { connection: connection.clone(), id, wanted, shared }
    }

    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<(), Error> {
        self.store(cloudevent::event(&self.connection.names, &event)).await
    }

    pub(crate) async fn quarantine(&self, callback: QuarantinedCallback) -> Result<(), Error> {
        self.store(cloudevent::quarantined(&self.connection.names, &callback)).await
    }

    pub(crate) async fn announce_refusals(&self, announcement: Bytes) -> Result<(), Error> {
        relays::announce_refusals(&self.connection, &self.id, announcement).await
    }

    pub(crate) fn files(&self, retention: Duration) -> Files {
        Files::new(&self.connection, self.wanted.replicas(), retention)
    }

    pub(crate) async fn openrouter_questions(&self) -> Result<relays::Questions, Error> {
        openrouter::questions(&self.connection).await
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
        if let Some(permit) = self.shared.try_permit() {
            return self.shared.store_single(message, permit).await;
        }
        match self.shared.wait(message).await {
            Ok(Turn::Alone(message, permit)) => self.shared.store_single(message, permit).await,
            Ok(Turn::Done(done)) => done,
            Err(_) => Err(Error::new("the bus has stopped")),
        }
    }
}

struct Shared {
    store: Store,
    cost: Cost,
    /// The number of singles in flight.
    singles: AtomicUsize,
    /// Whether there is a queue, or a batch is in flight.
    has_queue: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether a batch is in flight.
    batching: bool,
}

struct Waiting {
    message: Message,
    turn: oneshot::Sender<Turn>,
}

/// The end of a message's wait in the queue.
enum Turn {
    /// Its caller sends it as a single.
    Alone(Message, Permit),
    /// It was sent in a batch.
    Done(Result<(), Error>),
}

/// A single in flight, until it is dropped.
struct Permit {
    shared: Option<Arc<Shared>>,
    /// The number of singles in flight when it began, including itself.
    crowd: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.singles.fetch_sub(1, SeqCst);
            // Either this sees the queue, or the task that began the queue saw this decrement.
            if shared.has_queue.load(SeqCst) {
                shared.advance(&mut shared.lock());
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for a single, unless there is a queue or too many singles are in flight.
    fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let has_room = !self.has_queue.load(SeqCst) && self.singles.load(SeqCst) < self.cost.most_singles();
        has_room.then(|| self.begin_single())
    }

    fn begin_single(self: &Arc<Self>) -> Permit {
        let crowd = self.singles.fetch_add(1, SeqCst) + 1;
        Permit { shared: Some(Arc::clone(self)), crowd }
    }

    fn wait(self: &Arc<Self>, message: Message) -> oneshot::Receiver<Turn> {
        let (turn, waits) = oneshot::channel();
        let mut queue = self.lock();
        queue.waiting.push_back(Waiting { message, turn });
        self.has_queue.store(true, SeqCst);
        self.advance(&mut queue);
        waits
    }

    /// Starts a batch or singles from the queue, as far as possible.
    fn advance(self: &Arc<Self>, queue: &mut Queue) {
        if queue.batching {
            return;
        }
        if self.cost.is_worth_a_batch(queue.waiting.len()) {
            let group = next_group(&mut queue.waiting);
            queue.batching = true;
            tokio::spawn(Arc::clone(self).store_group(group));
            return;
        }
        while self.singles.load(SeqCst) < self.cost.most_singles() {
            let Some(Waiting { message, turn }) = queue.waiting.pop_front() else {
                self.has_queue.store(false, SeqCst);
                return;
            };
            // The caller dropped its future, so the message was never acknowledged to it.
            if let Err(Turn::Alone(_, mut permit)) = turn.send(Turn::Alone(message, self.begin_single())) {
                permit.shared = None;
                self.singles.fetch_sub(1, SeqCst);
            }
        }
    }

    async fn store_single(&self, message: Message, permit: Permit) -> Result<(), Error> {
        let start = Instant::now();
        let sent = self.store.send(message).await;
        if sent.is_ok() {
            self.cost.single_took(start.elapsed(), permit.crowd);
        }
        sent.map(drop).map_err(NotStored::into_error)
    }

    async fn store_group(self: Arc<Self>, group: Vec<Waiting>) {
        // Advances the queue however this ends.
        let _batching = Batching(Arc::clone(&self));
        let start = Instant::now();
        let stored = self.store_batch(&group).await;
        self.cost.batch_took(start.elapsed());
        match stored {
            Ok(()) => Waiting::all_done(group, &Ok(())),
            Err(NotStored::Unknown(error)) => Waiting::all_done(group, &Err(error)),
            Err(NotStored::Refused(_, error)) => {
                tracing::debug!(%error, "batch refused; sending its messages one by one");
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
                // The answer to the last message is the answer to all.
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

/// A batch in flight, until it is dropped.
struct Batching(Arc<Shared>);

impl Drop for Batching {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.batching = false;
        self.0.advance(&mut queue);
    }
}

impl Waiting {
    fn all_done(group: Vec<Self>, done: &Result<(), Error>) {
        for waiting in group {
            waiting.done(done.clone());
        }
    }

    fn done(self, done: Result<(), Error>) {
        // The caller may have dropped its future.
        let _ = self.turn.send(Turn::Done(done));
    }
}

/// Takes the messages at the head of the queue whose callers still wait.
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
