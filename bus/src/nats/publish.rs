//! Callbacks in: events to the stream, each on its own while that is quick, and in atomic batches when it is not.
//!
//! A server that syncs each write (`sync_interval: always`) syncs every single message, and a batch once; but a batch costs
//! it files that it makes and removes again, some 10 ms whatever is in it. So the two are timed as they go, and a batch is
//! made when so many events wait that one by one they would take longer ([`super::cost`]). Nobody is kept waiting for a
//! batch to fill, and while nobody waits at all, whoever publishes sends his event himself.
//!
//! A batch is stored as a whole or not at all, and the server refuses all of one in which a single event is a repeat
//! without saying which; then its events go one by one, and the repeat costs its neighbours that and nothing else.

use super::{
    cloudevent::{self, Message},
    connection::{ANSWER_DEADLINE, Connection},
    cost::Cost,
    names::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE, MESSAGE_ID},
};
use crate::{Error, Published};
use async_nats::jetstream::{ErrorCode, publish::PublishAck, response::Response};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use talaria_proto::v1::Event;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The most events in a batch; the server takes no more than 1000.
const LARGEST_BATCH: usize = 512;

/// The most bytes in a batch.
const LARGEST_BATCH_BYTES: usize = 4 << 20;

/// Single events on their way at once; more do not make the server quicker, and those that wait may go in a batch.
const SINGLES: usize = 128;

/// Events that may wait; who comes after that waits outside.
const QUEUE: usize = 4096;

/// What a server says that has no room: the stream's own limit, the server's, the account's.
const NO_ROOM: [ErrorCode; 3] = [
    ErrorCode::STREAM_STORE_FAILED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
];

type Reply = oneshot::Sender<Result<Stored, Error>>;

/// Where an event is, and whether it was there before.
#[derive(Clone, Copy, Debug)]
struct Stored {
    seq: u64,
    repeated: bool,
}

/// An event, and everybody who waits for it to be stored.
struct Waiting {
    id: String,
    message: Message,
    replies: Vec<Reply>,
}

pub(super) struct Publisher {
    inbox: mpsc::Sender<Waiting>,
    shared: Arc<Shared>,
}

/// What those who publish share with the task that gathers events.
struct Shared {
    connection: Connection,
    cost: Mutex<Cost>,
    /// For single events.
    places: Arc<Semaphore>,
    /// Whether the task is busy with events that had gathered: who comes now may go with the next. Off by a moment, it
    /// costs a detour or a smaller batch and nothing else.
    gathered: AtomicBool,
}

impl Publisher {
    pub(super) fn start(connection: &Connection) -> Self {
        let shared = Arc::new(Shared {
            connection: connection.clone(),
            cost: Mutex::default(),
            places: Arc::new(Semaphore::new(SINGLES)),
            gathered: AtomicBool::new(false),
        });
        let (inbox, waiting) = mpsc::channel(QUEUE);
        // Ends when the publisher is gone.
        tokio::spawn(work(Arc::clone(&shared), waiting));
        Self { inbox, shared }
    }

    /// Stores an event, unless one of its id is remembered.
    pub(super) async fn publish(&self, event: Arc<Event>) -> Result<Published, Error> {
        let connection = &self.shared.connection;
        let limit = connection.largest_data();
        let mut expired = None;
        loop {
            let mut message = cloudevent::encode(&connection.names, &event);
            if message.data.len() > limit {
                return Err(Error::too_large(message.data.len(), limit));
            }
            if let Some(seq) = expired {
                // The same id for all who find that.
                message.headers.insert(MESSAGE_ID, format!("{} after {seq}", event.id));
            }
            let stored = self.store(&event.id, message).await?;
            if !stored.repeated {
                return Ok(Published::New { seq: stored.seq });
            }
            if let Some(first) = super::events::read(connection, stored.seq).await? {
                return Ok(Published::Duplicate { seq: stored.seq, payload_sha256: first.payload_sha256 });
            }
            // The server remembers an event that has expired.
            expired = Some(stored.seq);
        }
    }

    async fn store(&self, id: &str, message: Message) -> Result<Stored, Error> {
        self.shared.connection.is_connected()?;
        // While nobody waits there is nothing to gather, and another task would be a detour.
        if self.inbox.capacity() == QUEUE
            && !self.shared.gathered.load(Ordering::Relaxed)
            && let Ok(_place) = self.shared.places.try_acquire()
        {
            return self.shared.store_single(message).await;
        }
        let stopped = || Error::new("the bus has stopped");
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { id: id.to_owned(), message, replies: vec![reply] };
        self.inbox.send(waiting).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

async fn work(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Waiting>) {
    while let Some(group) = next_group(&mut inbox).await {
        shared.gathered.store(true, Ordering::Relaxed);
        let left = if locked(&shared.cost).is_a_batch_worth_it(group.len()) {
            shared.store_batch(group).await
        } else {
            group
        };
        for waiting in left {
            // Never closed.
            let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else { return };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                answer(waiting.replies, &shared.store_single(waiting.message).await);
                drop(place);
            });
        }
        shared.gathered.store(false, Ordering::Relaxed);
    }
}

fn locked(cost: &Mutex<Cost>) -> MutexGuard<'_, Cost> {
    // Nothing panics while it holds the lock.
    cost.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for an event, and takes those that have gathered behind it.
async fn next_group(inbox: &mut mpsc::Receiver<Waiting>) -> Option<Vec<Waiting>> {
    let mut next = Some(inbox.recv().await?);
    let mut group: Vec<Waiting> = Vec::new();
    let (mut places, mut bytes) = (HashMap::new(), 0);
    while let Some(waiting) = next {
        // Who has gone was told that it was not stored, and comes again.
        if waiting.replies.iter().any(|reply| !reply.is_closed()) {
            bytes += waiting.message.data.len();
            let place = *places.entry(waiting.id.clone()).or_insert(group.len());
            match group.get_mut(place) {
                Some(first) => first.replies.extend(waiting.replies),
                None => group.push(waiting),
            }
        }
        let room = group.len() < LARGEST_BATCH && bytes < LARGEST_BATCH_BYTES;
        next = if room { inbox.try_recv().ok() } else { None };
    }
    Some(group)
}

impl Shared {
    /// Stores an event by itself. Whoever calls it has a place.
    async fn store_single(&self, message: Message) -> Result<Stored, Error> {
        let (start, on_their_way) = (Instant::now(), SINGLES - self.places.available_permits());
        let ack = publish(&self.connection, message).await.map_err(Refused::into_error)?;
        locked(&self.cost).single_took(start.elapsed(), on_their_way);
        Ok(Stored { seq: ack.sequence, repeated: ack.duplicate })
    }

    /// Stores events as a batch, and gives them back if one of them is a repeat.
    async fn store_batch(&self, group: Vec<Waiting>) -> Vec<Waiting> {
        let start = Instant::now();
        let messages: Vec<&Message> = group.iter().map(|waiting| &waiting.message).collect();
        match publish_batch(&self.connection, &messages).await {
            Ok(ack) => {
                locked(&self.cost).batch_took(start.elapsed());
                // A batch is stored in one piece, and the answer has the place of its last message.
                let first = ack.sequence + 1 - group.len() as u64;
                for (seq, waiting) in (first..).zip(group) {
                    answer(waiting.replies, &Ok(Stored { seq, repeated: false }));
                }
                Vec::new()
            }
            Err(Refused::Repeat) => group,
            Err(Refused::Failed(error)) => {
                for waiting in group {
                    answer(waiting.replies, &Err(error.clone()));
                }
                Vec::new()
            }
        }
    }
}

fn answer(replies: Vec<Reply>, stored: &Result<Stored, Error>) {
    // Of those who brought the same event at the same time one was first.
    let mut repeated = false;
    for reply in replies {
        let stored = stored.clone().map(|stored| Stored { repeated: stored.repeated || repeated, ..stored });
        // Whoever asked may have gone; what was stored stays stored.
        let _ = reply.send(stored);
        repeated = true;
    }
}

async fn publish_batch(connection: &Connection, messages: &[&Message]) -> Result<PublishAck, Refused> {
    let id = connection.client.new_inbox();
    let id = id.rsplit('.').next().unwrap_or(&id);
    let last = messages.len();
    for (sequence, message) in (1..).zip(messages) {
        let mut message = Message::clone(message);
        message.headers.insert(BATCH_ID, id);
        message.headers.insert(BATCH_SEQUENCE, sequence.to_string());
        if sequence == last {
            // The answer to this one is the answer to all.
            message.headers.insert(BATCH_COMMIT, "1");
            return publish(connection, message).await;
        }
        let sent = connection.client.publish_with_headers(message.subject, message.headers, message.data);
        sent.await.map_err(|error| Refused::failed(connection, &error))?;
    }
    Err(Refused::Failed(Error::new("an empty batch")))
}

/// Why nothing was stored.
enum Refused {
    /// A message of the batch is a repeat.
    Repeat,
    /// Something else; nothing is known of what became of it.
    Failed(Error),
}

impl Refused {
    fn failed(connection: &Connection, why: &dyn std::fmt::Display) -> Self {
        Self::Failed(connection.error("NATS did not store it", why))
    }

    fn into_error(self) -> Error {
        match self {
            Self::Repeat => Error::new("NATS calls a single event a repeat within its batch"),
            Self::Failed(error) => error,
        }
    }
}

/// Sends a message and waits for the server to have stored it, and the batch that it closes.
async fn publish(connection: &Connection, message: Message) -> Result<PublishAck, Refused> {
    let request = async_nats::Request::new()
        .headers(message.headers)
        .payload(message.data)
        .timeout(Some(ANSWER_DEADLINE));
    let answer = connection.client.send_request(message.subject, request).await;
    let answer = answer.map_err(|error| Refused::failed(connection, &error))?;
    match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
        Ok(Response::Ok(ack)) => {
            connection.had_room();
            Ok(ack)
        }
        Ok(Response::Err { error })
            if error.error_code() == ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE =>
        {
            Err(Refused::Repeat)
        }
        Ok(Response::Err { error }) => {
            if NO_ROOM.contains(&error.error_code()) {
                connection.had_no_room(&error);
            }
            Err(Refused::failed(connection, &error))
        }
        Err(error) => Err(Refused::failed(connection, &error)),
    }
}
