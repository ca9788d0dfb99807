//! Callbacks in: events to the stream, each on its own while that is quick, and in atomic batches when it is not.
//!
//! A server that syncs each write (`sync_interval: always`) syncs every single message, and a batch once; but a batch costs
//! it files that it makes and removes again, some 10 ms whatever is in it. So the two are timed as they go, and a batch is
//! made when so many events wait that one by one they would take longer ([`super::cost`]). Nobody is kept waiting for a
//! batch to fill.
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use talaria_proto::v1::Event;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

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
    connection: Connection,
}

impl Publisher {
    pub(super) fn start(connection: &Connection) -> Self {
        let (inbox, waiting) = mpsc::channel(QUEUE);
        // Ends when the publisher is gone.
        tokio::spawn(work(connection.clone(), waiting));
        Self { inbox, connection: connection.clone() }
    }

    /// Stores an event, unless one of its id is remembered.
    pub(super) async fn publish(&self, event: Arc<Event>) -> Result<Published, Error> {
        let mut message = cloudevent::encode(&self.connection.names, &event);
        let limit = self.connection.largest_data();
        if message.data.len() > limit {
            return Err(Error::too_large(message.data.len(), limit));
        }
        loop {
            let stored = self.store(&event.id, message.clone()).await?;
            if !stored.repeated {
                return Ok(Published::New { seq: stored.seq });
            }
            if let Some(first) = super::events::read(&self.connection, stored.seq).await? {
                return Ok(Published::Duplicate { seq: stored.seq, payload_sha256: first.payload_sha256 });
            }
            // The server remembers an event that has expired. The same id for all who find that.
            message.headers.insert(MESSAGE_ID, format!("{} after {}", event.id, stored.seq));
        }
    }

    async fn store(&self, id: &str, message: Message) -> Result<Stored, Error> {
        self.connection.is_connected()?;
        let stopped = || Error::new("the bus has stopped");
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { id: id.to_owned(), message, replies: vec![reply] };
        self.inbox.send(waiting).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

async fn work(connection: Connection, mut inbox: mpsc::Receiver<Waiting>) {
    let (places, cost) = (Arc::new(Semaphore::new(SINGLES)), Arc::<Mutex<Cost>>::default());
    while let Some(group) = next_group(&mut inbox).await {
        let left = if locked(&cost).is_a_batch_worth_it(group.len()) {
            store_batch(&connection, &cost, group).await
        } else {
            group
        };
        for waiting in left {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let on_their_way = SINGLES - places.available_permits();
            tokio::spawn(store_single(connection.clone(), Arc::clone(&cost), waiting, on_their_way, place));
        }
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

async fn store_single(
    connection: Connection,
    cost: Arc<Mutex<Cost>>,
    waiting: Waiting,
    on_their_way: usize,
    _place: OwnedSemaphorePermit,
) {
    let start = Instant::now();
    let stored = publish(&connection, &waiting.message, None).await;
    if stored.is_ok() {
        locked(&cost).single_took(start.elapsed(), on_their_way);
    }
    let stored = stored.map(|ack| Stored { seq: ack.sequence, repeated: ack.duplicate });
    waiting.answer(&stored.map_err(Refused::into_error));
}

/// Stores events as a batch, and gives them back if one of them is a repeat.
async fn store_batch(connection: &Connection, cost: &Mutex<Cost>, group: Vec<Waiting>) -> Vec<Waiting> {
    let start = Instant::now();
    let messages: Vec<&Message> = group.iter().map(|waiting| &waiting.message).collect();
    match publish_batch(connection, &messages).await {
        Ok(ack) => {
            locked(cost).batch_took(start.elapsed());
            // A batch is stored in one piece, and the answer has the place of its last message.
            let first = ack.sequence + 1 - group.len() as u64;
            for (seq, waiting) in (first..).zip(group) {
                waiting.answer(&Ok(Stored { seq, repeated: false }));
            }
            Vec::new()
        }
        Err(Refused::Repeat) => group,
        Err(Refused::Failed(error)) => {
            for waiting in group {
                waiting.answer(&Err(error.clone()));
            }
            Vec::new()
        }
    }
}

impl Waiting {
    fn answer(self, stored: &Result<Stored, Error>) {
        // Of those who brought the same event at the same time one was first.
        let mut repeated = false;
        for reply in self.replies {
            let stored =
                stored.clone().map(|stored| Stored { repeated: stored.repeated || repeated, ..stored });
            // Whoever asked may have gone; what was stored stays stored.
            let _ = reply.send(stored);
            repeated = true;
        }
    }
}

async fn publish_batch(connection: &Connection, messages: &[&Message]) -> Result<PublishAck, Refused> {
    let id = connection.client.new_inbox();
    let id = id.rsplit('.').next().unwrap_or(&id);
    let last = messages.len();
    for (sequence, message) in (1..).zip(messages) {
        let mark = Mark { id, sequence, commit: sequence == last };
        if mark.commit {
            return publish(connection, message, Some(mark)).await;
        }
        let headers = mark.on(message);
        let sent =
            connection.client.publish_with_headers(message.subject.clone(), headers, message.data.clone());
        sent.await.map_err(|error| Refused::failed(connection, &error))?;
    }
    Err(Refused::Failed(Error::new("an empty batch")))
}

/// A message's place in a batch.
struct Mark<'a> {
    id: &'a str,
    sequence: usize,
    commit: bool,
}

impl Mark<'_> {
    fn on(&self, message: &Message) -> async_nats::HeaderMap {
        let mut headers = message.headers.clone();
        headers.insert(BATCH_ID, self.id);
        headers.insert(BATCH_SEQUENCE, self.sequence.to_string());
        if self.commit {
            headers.insert(BATCH_COMMIT, "1");
        }
        headers
    }
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
async fn publish(
    connection: &Connection,
    message: &Message,
    mark: Option<Mark<'_>>,
) -> Result<PublishAck, Refused> {
    let headers = mark.map_or_else(|| message.headers.clone(), |mark| mark.on(message));
    let request = async_nats::Request::new()
        .headers(headers)
        .payload(message.data.clone())
        .timeout(Some(ANSWER_DEADLINE));
    let answer = connection.client.send_request(message.subject.clone(), request).await;
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
