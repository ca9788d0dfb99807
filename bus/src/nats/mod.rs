//! The bus over NATS JetStream, for separate services and many of them.
//!
//! ```text
//! ingress ── publish ──▶ (events) ── feed ──▶ planning ──┐
//!                                                        ├─▶ (journal) ── follow ──▶ replica: the queue, in SQLite
//!               take, settle, later ── append ───────────┘                              of every relay
//! ```
//!
//! There are two streams. `events` holds what OpenRouter said. `journal` holds **commits**: whatever a relay does to
//! the queue (plan, take, settle, put off) is an operation in a commit, and counts once the journal has it. The journal
//! gives all commits one order, every relay applies them in that order to a queue of its own ([`replica`]), and whatever
//! could be contested is decided there, alike for all: whether a lease is valid, who belongs, who owns what. Nothing is
//! decided by who holds a message, by an acknowledgement that a server may forget, or by anybody's clock. ADR 3 says
//! why the queue is not a stream of its own.
//!
//! - [`names`]: every name on NATS.
//! - [`connection`]: connecting, and what errors mean; [`credentials`]: who we are.
//! - [`streams`]: what has to be there.
//! - [`cloudevent`], [`publish`] with [`cost`], [`events`]: events in, and read back.
//! - [`append`], [`follow`]: commits in and out.
//! - [`place`], [`replica`]: places in the journal, and what commits do.
//! - [`membership`], [`relays`]: who works, and on what: decided, and kept.
//! - [`planning`], [`journal`], [`retention`], [`control`]: the contract's other parts.

mod append;
mod cloudevent;
mod connection;
mod control;
mod cost;
mod credentials;
mod events;
mod follow;
mod journal;
mod membership;
mod names;
mod place;
mod planning;
mod publish;
mod relays;
mod replica;
mod retention;
mod streams;
#[cfg(test)]
mod tests;

use crate::{
    Clock, Error, Lane, Lease, Leased, Published, Survey, Windows, partition::Partition, tail::Tail, time,
};
use append::{Appender, TRIES_A_LINE};
use connection::Connection;
use follow::Following;
use relays::{Pulse, Wish};
use replica::Replica;
use std::{collections::HashSet, fs, fs::File, mem, path::Path, sync::Arc, time::Duration};
use talaria_core::config::Nats as Config;
use talaria_proto::v1::{
    Commit, DeliveryTask, Event, Fact, GivenBack, LeaseRef, PutOff, Recorded, Settled, operation::What,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The replica's file in the data directory.
const FILE: &str = "replica.db";

/// Commits that are applied in one transaction.
const COMMITS: usize = 512;

/// The pause after something failed that is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the journal may take to give back what was appended to it, before it counts as unavailable.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// The bus over NATS. Clones share it.
#[derive(Clone)]
pub struct Nats {
    connection: Connection,
    publisher: Arc<publish::Publisher>,
    /// For facts of an ingress.
    ingress: Arc<Appender>,
    relay: Option<Arc<Running>>,
}

/// A relay and what works for it; the work ends when the last clone of the bus is gone.
struct Running {
    relay: Arc<Relay>,
    _work: JoinSet<()>,
}

/// What a relay has beyond an ingress.
pub(crate) struct Relay {
    connection: Connection,
    replica: Replica,
    appender: Appender,
    newest_events: Tail<Event>,
    feed: tokio::sync::Mutex<planning::Feed>,
    reader: tokio::sync::Mutex<journal::Reader>,
    deciding: tokio::sync::Mutex<()>,
    pulse: Pulse,
    wish: watch::Sender<Wish>,
    clock: Clock,
    /// Keeps a second process out.
    _lock: File,
}

impl Nats {
    /// Connects for an ingress.
    pub(crate) async fn publisher(config: &Config) -> Result<Self, Error> {
        let connection = Connection::open(config).await?;
        streams::set_up(&connection, config).await?;
        let publisher = Arc::new(publish::Publisher::start(&connection));
        let ingress = Arc::new(Appender::start(&connection, connection.names.journal_ingress()));
        Ok(Self { connection, publisher, ingress, relay: None })
    }

    /// Connects for a relay, with its files in a directory.
    pub(crate) async fn open(config: &Config, directory: &Path, clock: Clock) -> Result<Self, Error> {
        let lock = lock(directory)?;
        let mut bus = Self::publisher(config).await?;
        let connection = bus.connection.clone();
        let (oldest, newest, source) = connection.extent(&connection.names.journal()).await?;
        let file = directory.join(FILE);
        let open = move || {
            let open = || Replica::open(&file, &source, oldest, newest);
            open().or_else(|error| {
                tracing::error!(%error, "{FILE} is damaged and is made anew from the journal");
                fs::remove_file(&file).ok();
                open()
            })
        };
        let replica = tokio::task::spawn_blocking(open).await.map_err(Error::new)?;
        let replica = replica.map_err(|error| Error::new(format_args!("cannot open {FILE}: {error}")))?;
        tracing::info!(relay = replica.me().name, "this relay's name among the others");
        let appender = Appender::start(&connection, connection.names.journal_relay(&replica.me().name));
        let relay = Arc::new(Relay {
            connection,
            replica,
            appender,
            newest_events: Tail::behind(0),
            feed: tokio::sync::Mutex::default(),
            reader: tokio::sync::Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
            pulse: Pulse::default(),
            wish: watch::Sender::new(Wish::Waiting),
            clock,
            _lock: lock,
        });
        let mut work = JoinSet::new();
        work.spawn(follow(Arc::clone(&relay)));
        work.spawn(relays::announce(Arc::clone(&relay)));
        work.spawn(relays::keep(Arc::clone(&relay)));
        bus.relay = Some(Arc::new(Running { relay, _work: work }));
        Ok(bus)
    }

    /// What only a relay's bus can do.
    pub(crate) fn relay(&self) -> Result<&Relay, Error> {
        let running = self.relay.as_ref().ok_or_else(|| Error::new("this process has no relay"))?;
        Ok(&running.relay)
    }

    pub(crate) async fn publish(&self, event: Arc<Event>) -> Result<Published, Error> {
        self.publisher.publish(event).await
    }

    pub(crate) async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        if let Some(event) = self.relay.as_ref().and_then(|running| running.relay.newest_events.get(seq)) {
            return Ok(Some(event));
        }
        Ok(events::read(&self.connection, seq).await?.map(Arc::new))
    }

    pub(crate) async fn record(&self, facts: Vec<Fact>) -> Result<(), Error> {
        let what = What::Recorded(Recorded { facts });
        match &self.relay {
            Some(running) => running.relay.commit(what).await,
            None => {
                self.connection.is_connected()?;
                self.ingress.append(what).await.map(drop)
            }
        }
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.connection.is_connected()?;
        streams::check(&self.connection).await?;
        let Ok(relay) = self.relay() else { return Ok(()) };
        if *relay.wish.borrow() == Wish::Displaced {
            return Err(Error::new(relays::COPIED));
        }
        relay.events_are_all_there().await?;
        let late = |_| Error::new("the journal takes long to give back what was appended to it");
        tokio::time::timeout(CHECK_DEADLINE, relay.barrier()).await.map_err(late)?
    }
}

impl Relay {
    /// Returns once the commit is durable and applied here.
    async fn commit(&self, what: What) -> Result<(), Error> {
        let position = *self.replica.position().borrow();
        let seq = self.appender.append(what).await?;
        self.applied(seq, position).await
    }

    /// Returns once a commit was applied that came to this place when the journal had been followed to that one.
    async fn applied(&self, seq: u64, position: u64) -> Result<(), Error> {
        if seq <= position {
            return Err(Error::new(
                "the journal is not the one that was followed so far (its end was lost, or it was restored): stop the \
                 relays, remove their data directories, and start them again",
            ));
        }
        self.replica.caught_up(seq).await;
        Ok(())
    }

    /// Fails when the events end before what was planned: what comes now would count as planned.
    async fn events_are_all_there(&self) -> Result<(), Error> {
        let planned = *self.replica.planned().borrow();
        let stream = self.connection.names.events();
        let (_, last, _) = self.connection.extent(&stream).await?;
        if last >= planned {
            return Ok(());
        }
        Err(Error::new(format_args!(
            "the stream {stream} ends at {last}, and {planned} events were planned: it lost its end, or was restored or \
             made anew. Nothing more is planned or removed; docs/nats.md says what to do"
        )))
    }

    /// Returns once everything is applied here that was in the journal when it was asked for.
    async fn barrier(&self) -> Result<(), Error> {
        self.commit(What::Recorded(Recorded::default())).await
    }

    /// Asks for a share of the work, from the first time that somebody wants to do some.
    fn work(&self) {
        self.wish(Wish::Waiting, Wish::Working);
    }

    fn wish(&self, from: Wish, to: Wish) {
        self.wish.send_if_modified(|wish| *wish == from && mem::replace(wish, to) == from);
    }

    pub(crate) async fn set_windows(&self, windows: Windows) -> Result<(), Error> {
        Ok(self.replica.set_windows(windows).await?)
    }

    pub(crate) async fn set_gate(&self, lane: Lane, until: i64, window: usize) -> Result<(), Error> {
        Ok(self.replica.set_gate(lane, until, window).await?)
    }

    pub(crate) async fn survey<T: Send + 'static>(
        &self,
        lane: Lane,
        find: impl Fn(&DeliveryTask) -> Option<T> + Send + 'static,
    ) -> Result<Survey<T>, Error> {
        Ok(self.replica.survey(lane, find).await?)
    }

    pub(crate) async fn take(&self, max: usize, stop: &CancellationToken) -> Result<Vec<Leased>, Error> {
        self.work();
        while !stop.is_cancelled() {
            // Registered before the look, so that nothing that comes in between is missed.
            let mut changed = std::pin::pin!(self.replica.deliveries().notified());
            changed.as_mut().enable();
            match self.replica.choose(self.clock.now(), max).await? {
                Ok(taken) => {
                    tokio::select! {
                        committed = self.commit(What::Taken(taken)) => committed?,
                        // Should it be committed all the same, it is interrupted when this relay leaves.
                        () = stop.cancelled() => break,
                    }
                    let granted = self.replica.granted().await?;
                    if !granted.is_empty() {
                        return Ok(granted);
                    }
                }
                Err(next_due) => tokio::select! {
                    () = changed => {}
                    () = self.clock.sleep_towards(next_due) => {}
                    () = stop.cancelled() => {}
                },
            }
        }
        Ok(Vec::new())
    }

    pub(crate) async fn settle(&self, lease: Lease, facts: Vec<Fact>) -> Result<(), Error> {
        self.commit(What::Settled(Settled { lease: Some(reference(lease)), facts })).await
    }

    pub(crate) async fn later(
        &self,
        lease: Lease,
        task: DeliveryTask,
        facts: Vec<Fact>,
    ) -> Result<(), Error> {
        self.commit(What::PutOff(PutOff { lease: Some(reference(lease)), task: Some(task), facts })).await
    }

    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let due_at = Some(time::to_proto(self.clock.now()));
        self.commit(What::GivenBack(GivenBack { lease: Some(reference(lease)), due_at })).await
    }

    /// Whether nobody else can have taken the delivery over. Waits while that cannot be known.
    pub(crate) async fn holds(&self, lease: Lease) -> Result<bool, Error> {
        if !self.pulse.beats() {
            // Nothing came back for a while: the others may have removed us, and then the journal says so.
            self.pulse.until_it_beats().await;
            self.barrier().await?;
        }
        Ok(!self.replica.is_void(lease))
    }

    /// What this relay owns.
    pub(crate) fn owned(&self) -> HashSet<Partition> {
        let run = self.replica.me().run;
        self.replica.membership().borrow().owned_by(run).into_iter().collect()
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.replica.read(query).await?)
    }

    pub(crate) async fn unplanned_events(&self) -> Result<u64, Error> {
        let (_, last, _) = self.connection.extent(&self.connection.names.events()).await?;
        Ok(last.saturating_sub(*self.replica.planned().borrow()))
    }

    /// Owns nothing from now on, and goes on with what it holds.
    pub(crate) fn retire(&self) {
        self.wish(Wish::Working, Wish::Leaving);
    }

    /// Leaves; what is held is interrupted.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.wish.send_replace(Wish::Gone);
        let run = self.replica.me().run;
        let gone = async {
            // The sender lives as long as the replica.
            let _ = self.replica.membership().wait_for(|in_force| !in_force.has(run)).await;
        };
        if tokio::time::timeout(CHECK_DEADLINE, gone).await.is_err() {
            tracing::warn!("could not tell the other relays; they will find out");
        }
        Ok(self.replica.close().await?)
    }
}

/// How many commits there are between two places.
pub(crate) fn entries_between(behind: u64, through: u64) -> u64 {
    place::commit_of(through).saturating_sub(place::commit_of(behind))
}

fn reference(lease: Lease) -> LeaseRef {
    LeaseRef { event_seq: lease.event_seq, route: lease.route, token: lease.token }
}

/// Applies the journal to the replica, as it comes.
async fn follow(relay: Arc<Relay>) {
    let names = &relay.connection.names;
    let mut applied = *relay.replica.position().borrow();
    let mut following = Following::new(&relay.connection, names.journal(), applied);
    let mut tries: u32 = 0;
    loop {
        let messages = match following.next(COMMITS).await {
            Ok(messages) => messages,
            Err(error) => {
                if tries.is_multiple_of(TRIES_A_LINE) {
                    tracing::warn!(%error, tries, "the journal cannot be followed; trying again");
                }
                tries = tries.saturating_add(1);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        tries = 0;
        if let Some((first, _)) = messages.first()
            && *first > applied + 1
            && applied > 0
            // A message that somebody deleted from the middle is no reason.
            && relay.connection.extent(&names.journal()).await.is_ok_and(|(oldest, ..)| oldest > applied + 1)
        {
            tracing::error!("the journal does not reach back to where this relay was; making its queue anew");
            if let Err(error) = relay.replica.begin_anew(first - 1).await {
                tracing::error!(%error, "cannot make the queue anew");
            }
        }
        let commits: Vec<(u64, Commit)> = messages
            .into_iter()
            .map(|(seq, message)| (seq, place::read(names, seq, &message.subject, message.payload.clone())))
            .collect();
        let Some((last, _)) = commits.last() else { continue };
        applied = *last;
        while let Err(error) = relay.replica.apply(commits.clone()).await {
            tracing::error!(%error, "cannot apply the journal; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Keeps a second process out of the directory.
fn lock(directory: &Path) -> Result<File, Error> {
    let at = |what: &str, error: &dyn std::fmt::Display| {
        Error::new(format_args!("cannot {what} {}: {error}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(|error| at("create", &error))?;
    let lock = File::create(directory.join("lock")).map_err(|error| at("write in", &error))?;
    if lock.try_lock().is_err() {
        return Err(at("use", &"another Talaria is running in this data directory; give this one its own"));
    }
    Ok(lock)
}
