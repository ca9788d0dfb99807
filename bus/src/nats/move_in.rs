//! Moving an embedded bus into the two streams, which must never have had a message.
//!
//!  1. From the first change to the last one, the streams take messages under subjects that nothing else uses, and store them under
//!     their own ones. So what an ingress publishes meanwhile is not stored, and OpenRouter sends it again.
//!  2. Meanwhile the streams have a mark, by which relays and ingresses refuse to start, and another move knows what one left that
//!     was killed.
//!  3. Each message expects the one before it to be the stream's last. So its sequence is known before it is sent, many are in
//!     flight, and a lost one fails all behind it. Tried with server 2.15.1, alone and three with replicas: 20,000 messages with 256 in
//!     flight had the expected sequences.
//!  4. An event keeps its sequence, because records name it. The stream begins with the sequence of the first event.
//!  5. Messages have no id: the server would not store a repeated callback, which has the id of the first one.
//!  6. The journal gets its settings before the events do: a process begins with the events.

use super::{
    cloudevent,
    connection::{Connection, START_DEADLINE, START_RETRY_DELAY},
    names::{COMMIT, EXPECTED_LAST_SEQUENCE, Names},
    relays,
    store::Message,
    streams::{self, Wanted, is_moving, while_moving},
};
use crate::{Error, Incoming, Partition, Stored};
use async_nats::{
    HeaderMap, HeaderName,
    jetstream::{
        context::{CreateStreamError, PublishAckFuture},
        stream::{Config as Settings, Info},
    },
};
use prost::Message as _;
use std::{collections::VecDeque, fmt::Display, time::Instant};
use talaria_core::config::Nats as Config;
use talaria_proto::v1::Commit;

/// The most messages in flight, and their bytes.
const IN_FLIGHT: usize = 256;
const IN_FLIGHT_BYTES: usize = 8 << 20;

/// A bus that moves in.
pub struct MoveIn {
    connection: Connection,
    events: Target,
    journal: Target,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
}

/// One of the two streams.
struct Target {
    name: String,
    /// Its settings after the move.
    settings: Settings,
    present: Present,
    /// The sequence of the last message that was sent, or the one before the first.
    last: u64,
}

/// The stream that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Present {
    Missing,
    /// It never had a message.
    Empty,
    /// A move that was killed left it.
    Left,
}

struct InFlight {
    stream: String,
    seq: u64,
    size: usize,
    ack: PublishAckFuture,
}

impl MoveIn {
    /// Connects. Fails while relays announce themselves, and if one of the streams has or had a message. Changes nothing.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let names = Names::new(&config.prefix);
        let inbox = names.relay_inbox();
        let connection = Connection::open(config, names, inbox).await?;
        let running = relays::running(&connection).await?;
        if !running.is_empty() {
            let relays = running.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::new(format_args!(
                "relays are running: {relays}; stop all relays first: a bus moves only into streams that no relay works with; see \
                 docs/errors/bus-move.md"
            )));
        }
        let [events, journal] = [Wanted::events(&connection, config), Wanted::journal(&connection, config)];
        let events_info = look(&connection, &events).await?;
        let journal_info = look(&connection, &journal).await?;
        // Nothing works with a journal beside such events.
        let is_left = events_info.as_ref().is_some_and(|info| is_moving(&info.config));
        let events = Target::new(&events, events_info.as_ref(), is_left)?;
        let journal = Target::new(&journal, journal_info.as_ref(), is_left)?;
        Ok(Self { connection, events, journal, in_flight: VecDeque::new(), in_flight_bytes: 0 })
    }

    /// The most bytes that an event or a commit may have.
    pub fn largest(&self) -> usize {
        self.connection.largest_data()
    }

    /// Makes both streams ready. `first_event` is the sequence of the first event that will come, or would.
    pub async fn begin(&mut self, first_event: u64) -> Result<(), Error> {
        self.events.last = first_event.saturating_sub(1);
        for target in [&self.events, &self.journal] {
            target.begin(&self.connection).await?;
        }
        Ok(())
    }

    /// Sends an event or a quarantined callback.
    pub async fn event(&mut self, stored: &Stored) -> Result<(), Error> {
        let names = &self.connection.names;
        let message = match &stored.what {
            Incoming::Event(event) => cloudevent::event_without_id(names, event),
            Incoming::Quarantined(callback) => cloudevent::quarantined_without_id(names, callback),
            Incoming::Unreadable => return Ok(()),
        };
        let seq = self.events.next();
        if seq != stored.seq {
            let why = format_args!("event {} comes where {seq} should", stored.seq);
            return Err(Error::new(why));
        }
        self.send(self.events.name.clone(), seq, message).await
    }

    /// Sends a commit. The first one has the sequence 1, and each other one the next.
    pub async fn commit(&mut self, partition: Partition, commit: &Commit) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        let number = format!("{:032x}", rand::random::<u128>());
        headers.insert(HeaderName::from_static(COMMIT), number);
        let subject = self.connection.names.commits(partition);
        let message = Message { subject, headers, data: commit.encode_to_vec().into() };
        let seq = self.journal.next();
        self.send(self.journal.name.clone(), seq, message).await
    }

    async fn send(&mut self, stream: String, seq: u64, message: Message) -> Result<(), Error> {
        let Message { subject, mut headers, data } = message;
        let (size, limit) = (data.len(), self.largest());
        if size > limit {
            return Err(Error::too_large(size, limit));
        }
        let has_room = |moving: &Self| {
            moving.in_flight.len() < IN_FLIGHT && moving.in_flight_bytes + size <= IN_FLIGHT_BYTES
        };
        while !has_room(self) && self.acknowledged().await? {}
        self.connection.is_connected()?;
        headers.insert(HeaderName::from_static(EXPECTED_LAST_SEQUENCE), (seq - 1).to_string());
        let subject = self.connection.names.moving_to(&subject);
        let sent = self.connection.jetstream.publish_with_headers(subject, headers, data).await;
        let ack = sent.map_err(|error| not_stored(&self.connection, &stream, seq, &error))?;
        self.in_flight_bytes += size;
        self.in_flight.push_back(InFlight { stream, seq, size, ack });
        Ok(())
    }

    /// Waits until the oldest message in flight is stored. Whether there was one.
    async fn acknowledged(&mut self) -> Result<bool, Error> {
        let Some(InFlight { stream, seq, size, ack }) = self.in_flight.pop_front() else { return Ok(false) };
        self.in_flight_bytes -= size;
        let failed = |why: &dyn Display| not_stored(&self.connection, &stream, seq, why);
        let ack = self.connection.unless_lost(ack.into_future()).await?.map_err(|error| failed(&error))?;
        if ack.sequence != seq {
            return Err(failed(&format_args!("it became number {}", ack.sequence)));
        }
        Ok(true)
    }

    /// Waits until all is stored.
    pub async fn store(&mut self) -> Result<(), Error> {
        while self.acknowledged().await? {}
        for target in [&self.events, &self.journal] {
            let last = streams::info(&self.connection, &target.name).await?.state.last_sequence;
            if last != target.last {
                let Target { name, last: expected, .. } = target;
                return Err(Error::new(format_args!(
                    "the stream {name} ends at {last} instead of {expected}"
                )));
            }
        }
        Ok(())
    }

    /// Gives the streams to relays and ingresses. All has to be stored. After a failure they may have been given; they must not be
    /// removed.
    pub async fn finish(self) -> Result<(), Error> {
        for Target { name, settings, .. } in [&self.journal, &self.events] {
            set(&self.connection, name, settings, Change::Update).await?;
        }
        Ok(())
    }

    /// Removes everything that came, so that the move can be tried again.
    pub async fn undo(self) -> Result<(), Error> {
        // The mark of the events holds for both.
        for Target { name, settings, present, .. } in [&self.journal, &self.events] {
            let found = info(&self.connection, name).await?;
            if found.is_some_and(|info| is_moving(&info.config)) {
                delete(&self.connection, name).await?;
                if *present == Present::Empty {
                    set(&self.connection, name, settings, Change::Create).await?;
                }
            }
        }
        Ok(())
    }
}

impl Target {
    fn new(wanted: &Wanted, info: Option<&Info>, is_left: bool) -> Result<Self, Error> {
        let name = wanted.name().to_owned();
        let left = |info: &Info| is_left || is_moving(&info.config);
        let (present, settings) = match info {
            None => (Present::Missing, wanted.after_move(None)?),
            Some(info) if left(info) => (Present::Left, wanted.after_move(None)?),
            Some(info) => {
                let settings = wanted.after_move(Some(&info.config))?;
                never_used(&name, info)?;
                (Present::Empty, settings)
            }
        };
        Ok(Self { name, settings, present, last: 0 })
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    async fn begin(&self, connection: &Connection) -> Result<(), Error> {
        let Self { name, settings, present, last } = self;
        let moving = while_moving(&connection.names, settings);
        match present {
            Present::Missing => set(connection, name, &moving, Change::Create).await?,
            Present::Left => {
                tracing::info!(stream = name, "removing the stream, which a move left that was killed");
                delete(connection, name).await?;
                set(connection, name, &moving, Change::Create).await?;
            }
            Present::Empty => {
                set(connection, name, &moving, Change::Update).await?;
                // From here on an ingress stores nothing. It may have done so before.
                let found = streams::info(connection, name).await?;
                if let Err(error) = never_used(name, &found) {
                    set(connection, name, settings, Change::Update).await?;
                    return Err(error);
                }
            }
        }
        if *last == 0 {
            return Ok(());
        }
        let failed = |why: &dyn Display| {
            connection.error(&format_args!("cannot set the first sequence of the stream {name}"), why)
        };
        let stream = connection.jetstream.get_stream_no_info(name).await.map_err(|error| failed(&error))?;
        // Nothing is in it: this sets the next sequence.
        stream.purge().sequence(last + 1).await.map_err(|error| failed(&error))?;
        match streams::info(connection, name).await?.state.last_sequence {
            found if found == *last => Ok(()),
            found => Err(failed(&format_args!("its last one is {found}"))),
        }
    }
}

fn never_used(name: &str, info: &Info) -> Result<(), Error> {
    let (messages, last) = (info.state.messages, info.state.last_sequence);
    if last == 0 {
        return Ok(());
    }
    Err(Error::new(format_args!(
        "the stream {name} has {messages} messages, its last sequence is {last}, and a bus moves only into streams that never had a \
         message: remove both streams with `nats stream rm` if nothing in them is needed, or choose another bus.nats.prefix; see \
         docs/errors/bus-move.md"
    )))
}

fn not_stored(connection: &Connection, stream: &str, seq: u64, why: &dyn Display) -> Error {
    connection.error(&format_args!("message {seq} was not stored in {stream}"), why)
}

async fn look(connection: &Connection, wanted: &Wanted) -> Result<Option<Info>, Error> {
    info(connection, wanted.name()).await
}

/// A stream, or `None` if there is none.
async fn info(connection: &Connection, name: &str) -> Result<Option<Info>, Error> {
    match streams::info(connection, name).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn delete(connection: &Connection, name: &str) -> Result<(), Error> {
    let deleted = connection.jetstream.delete_stream(name).await;
    deleted
        .map(drop)
        .map_err(|error| connection.error(&format_args!("cannot remove the stream {name}"), &error))
}

#[derive(Clone, Copy)]
enum Change {
    Create,
    Update,
}

/// Creates or updates a stream. Retries for a while with a cluster that has no leader now.
async fn set(connection: &Connection, name: &str, settings: &Settings, change: Change) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let jetstream = &connection.jetstream;
        let done: Result<(), CreateStreamError> = match change {
            Change::Create => jetstream.create_stream(settings.clone()).await.map(drop),
            Change::Update => jetstream.update_stream(settings).await.map(drop),
        };
        match done {
            Ok(()) => return Ok(()),
            Err(error) if streams::is_transient(&error) && start.elapsed() < START_DEADLINE => {
                tokio::time::sleep(START_RETRY_DELAY).await;
            }
            Err(error) => {
                return Err(connection.error(&format_args!("cannot set up the stream {name}"), &error));
            }
        }
    }
}
