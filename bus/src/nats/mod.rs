//! The bus over NATS JetStream, for separate services and many of them.
//!
//! ```text
//! ingress ── publish ──▶ PREFIX.events.PP.…  ── follow ──▶ owner of partition PP ── append ──▶ PREFIX.journal.PP
//!                        PREFIX.quarantine.PP.…              ▲                                      │
//!                                                            └────── read (start, takeover) ◀───────┤
//!                                                                     watches ◀── follow ───────────┘
//! ```
//!
//! Two streams: `PREFIX-events` and `PREFIX-journal`. One stream for all journals and not one for each partition, because
//! servers are made for thousands of subjects and not for thousands of streams with replicas, because one stream gives
//! all commits one order, which a watch follows with one consumer, and because it is trimmed as a whole.
//!
//! - [`names`]: all names on NATS.
//! - [`connection`], [`credentials`]: connecting, and the texts of errors. [`permissions`]: users, and what each may do.
//! - [`streams`]: the streams and their settings.
//! - [`store`]: storing one message, and the meaning of the answer.
//! - [`cloudevent`], [`publish`] with [`cost`]: publishing callbacks.
//! - [`append`] with the decisions of [`resolve`]: appending commits.
//! - [`read`], [`follow`]: reading events and commits.
//! - [`relays`]: announcements and questions; [`openrouter`]: questions to ingresses. [`files`]: files of completed jobs.
//! - [`backup`] and [`restore`]: both streams as a directory, which [`manifest`] describes, by [`snapshot`]s of the server.
//! - [`move_in`]: moving an embedded bus into new streams.

mod append;
pub(crate) mod backup;
mod cloudevent;
mod connection;
mod cost;
mod credentials;
mod files;
mod follow;
mod manifest;
pub(crate) mod move_in;
mod names;
mod openrouter;
pub(crate) mod permissions;
mod publish;
mod read;
mod relays;
mod resolve;
pub(crate) mod restore;
mod snapshot;
mod store;
mod streams;

pub(crate) use append::Journal;
pub(crate) use files::{Files, NewFile};
pub(crate) use follow::{Commits, Events};
pub(crate) use publish::Publisher;
pub(crate) use relays::{Announcements, Questions, Reply};

use crate::{AskError, Bounds, Committed, Error, Floors, Identity, Partition, StreamSize, identity};
use async_nats::jetstream::{message::StreamMessage, stream::ClusterInfo};
use bytes::Bytes;
use connection::Connection;
use jiff::Timestamp;
use names::Names;
use std::{fmt::Display, fs::File, ops::Deref, path::Path, sync::Arc};
use store::Store;
use streams::Wanted;
use talaria_core::config::Nats as Config;
use talaria_proto::v1::{Commit, Event};

/// The bus of a relay. Clones share it.
#[derive(Clone)]
pub struct Nats(Arc<Shared>);

/// The state that clones of [`Nats`] share.
pub struct Shared {
    connection: Connection,
    publisher: Arc<Publisher>,
    journal: Store,
    journal_wanted: Wanted,
    replicas: usize,
    identity: Identity,
    /// Locks a second process out of the data directory.
    _lock: File,
}

impl Deref for Nats {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Publisher {
    pub(crate) async fn open(config: &Config) -> Result<Self, Error> {
        let names = Names::new(&config.prefix);
        let inbox = names.ingress_inbox();
        set_up_events(&Connection::open(config, names, inbox).await?, config).await
    }
}

/// Fails if the NATS server cannot be reached, or if its streams do not have the required settings. `with_journal` is for a
/// relay; an ingress may not access the journal. Creates nothing.
pub async fn look_at_nats(config: &Config, with_journal: bool) -> Result<(), Error> {
    let names = Names::new(&config.prefix);
    let inbox = if with_journal { names.relay_inbox() } else { names.ingress_inbox() };
    let connection = Connection::open(config, names, inbox).await?;
    Wanted::events(&connection, config).check(&connection).await?;
    if with_journal {
        Wanted::journal(&connection, config).check(&connection).await?;
    }
    Ok(())
}

async fn set_up_events(connection: &Connection, config: &Config) -> Result<Publisher, Error> {
    let wanted = Wanted::events(connection, config);
    wanted.set_up(connection).await?;
    Ok(Publisher::new(connection, wanted))
}

impl Nats {
    pub(crate) async fn open(config: &Config, directory: &Path) -> Result<Self, Error> {
        let (identity, lock) = identity::open(directory)?;
        let names = Names::new(&config.prefix);
        let inbox = names.relay_inbox();
        let connection = Connection::open(config, names, inbox).await?;
        let publisher = Arc::new(set_up_events(&connection, config).await?);
        let journal_wanted = Wanted::journal(&connection, config);
        journal_wanted.set_up(&connection).await?;
        let journal = Store::new(&connection, connection.names.journal());
        tracing::info!(relay = identity.relay, run = identity.run, "this relay's id among the others");
        Ok(Self(Arc::new(Shared {
            connection,
            publisher,
            journal,
            journal_wanted,
            replicas: config.replicas,
            identity,
            _lock: lock,
        })))
    }

    pub(crate) fn publisher(&self) -> Arc<Publisher> {
        Arc::clone(&self.publisher)
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn largest_commit(&self) -> usize {
        self.connection.largest_data()
    }

    pub(crate) async fn read(
        &self,
        partition: Partition,
        after: u64,
        max: usize,
    ) -> Result<Vec<Committed>, Error> {
        read::commits(&self.connection, partition, after, max).await
    }

    pub(crate) async fn event_at(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        let names = &self.connection.names;
        let found = read::at(&self.connection, &names.events(), seq).await?;
        let is_event = |message: &StreamMessage| !names.is_quarantine(&message.subject);
        Ok(found.filter(is_event).and_then(|message| read::decode_at(seq, message.payload)).map(Arc::new))
    }

    pub(crate) async fn commit_at(&self, seq: u64) -> Result<Option<Commit>, Error> {
        let found = read::at(&self.connection, &self.journal.stream, seq).await?;
        Ok(found.and_then(|message| read::decode_at(seq, message.payload)))
    }

    pub(crate) async fn empty_through(&self, partition: Partition, after: u64) -> Result<u64, Error> {
        let names = &self.connection.names;
        let name = names.events();
        // First, because later messages have higher sequences.
        let last = streams::info(&self.connection, &name).await?.state.last_sequence;
        let is_there =
            read::is_between(&self.connection, &name, &names.incoming(partition), after, last).await?;
        Ok(if is_there { after } else { after.max(last) })
    }

    pub(crate) async fn bounds(&self) -> Result<Bounds, Error> {
        let events = streams::info(&self.connection, &self.connection.names.events()).await?;
        let journal = streams::info(&self.connection, &self.journal.stream).await?;
        let [events_created, journal_created] =
            [&events, &journal].map(|info| info.created.unix_timestamp_nanos());
        Ok(Bounds {
            source: format!("{} {events_created} {journal_created}", self.journal.stream),
            first_event: events.state.first_sequence,
            last_event: events.state.last_sequence,
            first_commit: journal.state.first_sequence,
            last_commit: journal.state.last_sequence,
        })
    }

    pub(crate) async fn sizes(&self) -> Result<[StreamSize; 2], Error> {
        let size = async |stream, name: &str| {
            let info = streams::info(&self.connection, name).await?;
            let behind = |cluster: &ClusterInfo| {
                cluster.replicas.iter().filter(|replica| replica.offline || !replica.current).count() as u64
            };
            Ok::<_, Error>(StreamSize {
                stream,
                entries: info.state.messages,
                bytes: info.state.bytes,
                // A negative one is none.
                max_bytes: u64::try_from(info.config.max_bytes).unwrap_or_default(),
                replicas_behind: info.cluster.as_ref().map_or(0, behind),
            })
        };
        let events = size("events", &self.connection.names.events()).await?;
        Ok([events, size("journal", &self.journal.stream).await?])
    }

    pub(crate) async fn last_backup(&self) -> Result<Option<Timestamp>, Error> {
        let journal = streams::info(&self.connection, &self.journal.stream).await?;
        Ok(backup::last_backup(&journal.config.metadata))
    }

    pub(crate) async fn trim(&self, floors: Floors) -> Result<(u64, u64), Error> {
        let events = self.purge(&self.connection.names.events(), floors.events).await?;
        let commits = self.purge(&self.journal.stream, floors.journal).await?;
        Ok((events, commits))
    }

    /// Removes the messages before a sequence. Returns their number.
    async fn purge(&self, name: &str, before: u64) -> Result<u64, Error> {
        let failed = |why: &dyn Display| {
            self.connection.error(&format_args!("cannot remove what is old from the stream {name}"), why)
        };
        let state = streams::info(&self.connection, name).await?.state;
        // A purge beyond the end would change the next sequence.
        let before = before.min(state.last_sequence + 1);
        // A request without a sequence, or with 0, would remove everything.
        if before <= state.first_sequence || before < 2 {
            return Ok(0);
        }
        let stream = self.connection.jetstream.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| failed(&error))?;
        let purged = stream.purge().sequence(before).await.map_err(|error| failed(&error))?;
        Ok(purged.purged)
    }

    pub(crate) async fn announce(&self, announcement: Bytes) -> Result<(), Error> {
        relays::announce(&self.connection, &self.identity.relay, announcement).await
    }

    pub(crate) async fn announcements(&self) -> Result<crate::Announcements, Error> {
        relays::announcements(&self.connection).await
    }

    pub(crate) async fn refusals(&self) -> Result<Announcements, Error> {
        relays::refusals(&self.connection).await
    }

    pub(crate) async fn ask(&self, relay: &str, question: Bytes) -> Result<Bytes, Error> {
        relays::ask(&self.connection, relay, question).await
    }

    pub(crate) async fn questions(&self) -> Result<crate::Questions, Error> {
        relays::questions(&self.connection, &self.identity.relay).await
    }

    pub(crate) async fn ask_openrouter(&self, question: Bytes) -> Result<Bytes, AskError> {
        openrouter::ask(&self.connection, question).await
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.publisher.check().await?;
        self.journal.check()?;
        self.journal_wanted.check(&self.connection).await
    }
}
