//! Where ingress and relay meet: events, deliveries and the journal.
//!
//! ```text
//! ingress ── publish ──▶ [events] ── unplanned ──▶ fan-out ── plan ──▶ [deliveries] ── take ──▶ dispatch
//!    │                                                │                     ▲              │
//!    └── record ──▶ [journal] ◀───────── facts ───────┘                     └─── later ────┤
//!                       │   ▲                                                              │
//!                       ▼   └────────────────────────── settle ────────────────────────────┘
//!                     status
//! ```
//!
//! # The contract
//!
//! Every backend keeps these, and `conformance` shows that it does. "Durable" means that neither the death of a
//! process nor of the machine undoes it.
//!
//! Events:
//!
//!  1. `publish` returns after the event is durable.
//!  2. An event id is planned once for as long as the event is kept. Publishing it again stores nothing, and
//!     tells the place and the digest of the one that is stored. (NATS remembers ids for two minutes; a later
//!     repeat is stored, found before it is planned, and journalled if it says something else.)
//!  3. Places in the stream rise in the order of storing and are never given twice.
//!  4. `event` gives back what was published, byte for byte.
//!
//! Fan-out:
//!
//!  5. `unplanned` gives events in the order of their places, and gives them again until they are planned.
//!  6. `plan` makes an event's facts and deliveries durable, all of them, before the event counts as planned.
//!     Planning an event a second time changes nothing. Where several relays plan, the first one's plan counts.
//!
//! Deliveries:
//!
//!  7. A delivery is handed out when it is due and not before, to one holder at a time.
//!  8. Of one lane (a tenant's route) no more than its window are out at once, and none while its gate is closed. A
//!     lane that is held up so holds up no other. Tenants that have something due take turns, and so do a tenant's
//!     lanes.
//!  9. `settle` and `later` make their facts durable before they let the delivery go; `later` keeps it, due again
//!     at its new time.
//! 10. A delivery whose holder vanished is handed out again, and is marked as interrupted. `release` gives one
//!     back without that mark.
//! 11. A lease that is no longer valid moves nothing. The facts that came with it are kept all the same: what
//!     happened has happened.
//!
//! Journal:
//!
//! 12. `record` returns after the facts are durable.
//! 13. `journal` gives facts in one order that never changes, each with its place, and waits for the first.
//!
//! Keeping:
//!
//! 14. `expire` removes events and facts that are older than asked for; never an event that is not planned, and
//!     never an event or fact of a delivery that waits. It may keep what is newer than something that waits.
//!
//! Faults:
//!
//! 15. What cannot be made durable is an [`Error`], has changed nothing, and succeeds when it is tried again
//!     after the cause is gone, without a restart.
//!
//! Control:
//!
//! 16. `decide` makes its facts and deliveries durable, all of them, if nothing else was decided since the `turn` that
//!     it was decided in; otherwise it does nothing. Whoever knows the journal up to the turn's place knows every
//!     decision before it. A delivery that is in the queue already stays as it is.
//! 17. `claim` hands out a delivery that waits though it is not due, and though its lane's window is full, unless
//!     somebody holds it. It is a lease like every other.

pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod delivery;
pub mod derived;
mod embedded;
mod error;
mod nats;
mod observe;
mod partition;
mod queue;
#[cfg(feature = "conformance")]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]
pub mod simulation;
pub mod sqlite;
mod tail;
pub mod time;
pub mod trace;

pub use clock::Clock;
pub use delivery::{LEASE, Lane, Lease, Leased, Survey, Windows};
pub use embedded::backup::{Backup, BackupError, backup};
pub use error::Error;
pub use observe::Owned;

use bytes::Bytes;
use jiff::Timestamp;
use std::{collections::HashSet, path::Path, sync::Arc};
use talaria_core::{config, id::DeliveryId};
use talaria_proto::v1::{DeliveryTask, Event, Fact};
use tokio_util::sync::CancellationToken;

/// What became of a published event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored at this place.
    New {
        /// The place.
        seq: u64,
    },
    /// An event of this id was stored before.
    Duplicate {
        /// The place of the stored one.
        seq: u64,
        /// The digest of its payload.
        payload_sha256: Bytes,
    },
}

/// An event and its place.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The place.
    pub seq: u64,
    /// The event, with its payload.
    pub event: Arc<Event>,
}

/// What fan-out decided about an event.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The event's place.
    pub seq: u64,
    /// What is journalled about it.
    pub facts: Vec<Fact>,
    /// What is to be delivered.
    pub deliveries: Vec<DeliveryTask>,
}

/// A piece of the journal.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Each fact with its place.
    pub facts: Vec<(u64, Arc<Fact>)>,
    /// Up to this place there are no others: where to read on. Some places have no facts, so this may rise though
    /// there are none.
    pub through: u64,
}

/// Which journal there is, and how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tells it from every other journal.
    pub source: String,
    /// No fact that is kept has a place before this one. 0 while there are none.
    pub oldest: u64,
    /// No fact has a place behind this one yet. 0 while there are none.
    pub newest: u64,
}

/// The right to decide something, until somebody else decides.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The decision that came before.
    after: u64,
    /// Up to which place the journal has to be known to decide.
    pub place: u64,
}

/// What `expire` removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Events.
    pub events: u64,
    /// Facts.
    pub facts: u64,
}

/// One of the backends. The set is closed, so it is an enum and not a trait object.
#[derive(Clone)]
pub enum Bus {
    /// SQLite in a directory, for one process.
    Embedded(embedded::Embedded),
    /// NATS JetStream, for many.
    Nats(Box<nats::Nats>),
}

impl Bus {
    /// Opens the embedded bus in a directory, which is created if need be.
    pub async fn embedded(directory: &Path, clock: Clock) -> Result<Self, Error> {
        embedded::Embedded::open(directory, clock).await.map(Self::Embedded)
    }

    /// Connects to NATS for an ingress alone, which publishes, records and checks, and can do nothing else.
    pub async fn nats_publisher(config: &config::Nats) -> Result<Self, Error> {
        nats::Nats::publisher(config).await.map(|bus| Self::Nats(Box::new(bus)))
    }

    /// Connects to NATS for a relay, or for both, with its files in a directory, which is created if need be.
    pub async fn nats(config: &config::Nats, directory: &Path, clock: Clock) -> Result<Self, Error> {
        nats::Nats::open(config, directory, clock).await.map(|bus| Self::Nats(Box::new(bus)))
    }

    /// Stores an event, unless one of its id is stored. See invariants 1 to 3.
    pub async fn publish(&self, event: impl Into<Arc<Event>>) -> Result<Published, Error> {
        match self {
            Self::Embedded(bus) => bus.publish(event.into()).await,
            Self::Nats(bus) => bus.publish(event.into()).await,
        }
    }

    /// The event at a place; `None` when it is not kept any more. See invariant 4.
    pub async fn event(&self, seq: u64) -> Result<Option<Arc<Event>>, Error> {
        match self {
            Self::Embedded(bus) => bus.event(seq).await,
            Self::Nats(bus) => bus.event(seq).await,
        }
    }

    /// The next events to plan, at least one and at most `max`. Waits for the first. See invariant 5.
    pub async fn unplanned(&self, max: usize) -> Result<Vec<Stored>, Error> {
        match self {
            Self::Embedded(bus) => bus.unplanned(max).await,
            Self::Nats(bus) => bus.relay()?.unplanned(max).await,
        }
    }

    /// Makes plans durable; they are in the order of their events. See invariant 6.
    pub async fn plan(&self, plans: Vec<Plan>) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.plan(plans).await,
            Self::Nats(bus) => bus.relay()?.plan(plans).await,
        }
    }

    /// Sets the lanes' windows; lanes over a new window drain down to it. See invariant 8.
    pub async fn set_windows(&self, windows: Windows) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.set_windows(windows).await,
            Self::Nats(bus) => bus.relay()?.set_windows(windows).await,
        }
    }

    /// From now on nothing of the lane is handed out before `until`, and then no more than `window` at once. Known to
    /// this process alone, until it ends. See invariant 8.
    pub async fn set_gate(&self, lane: Lane, until: Timestamp, window: usize) -> Result<(), Error> {
        let until = time::micros(until);
        match self {
            Self::Embedded(bus) => bus.set_gate(lane, until, window).await,
            Self::Nats(bus) => bus.relay()?.set_gate(lane, until, window).await,
        }
    }

    /// Looks at every delivery of a lane that waits, for whoever takes the lane over.
    pub async fn survey<T: Send + 'static>(
        &self,
        lane: Lane,
        find: impl Fn(&DeliveryTask) -> Option<T> + Send + 'static,
    ) -> Result<Survey<T>, Error> {
        match self {
            Self::Embedded(bus) => bus.survey(lane, find).await,
            Self::Nats(bus) => bus.relay()?.survey(lane, find).await,
        }
    }

    /// Deliveries that are due, at least one and at most `max`. Waits for the first, or for `stop`, and then there
    /// are none: a caller that dropped this future could lose what was just handed to it. See invariants 7, 8
    /// and 10.
    pub async fn take(&self, max: usize, stop: &CancellationToken) -> Result<Vec<Leased>, Error> {
        match self {
            Self::Embedded(bus) => bus.take(max, stop).await,
            Self::Nats(bus) => bus.relay()?.take(max, stop).await,
        }
    }

    /// Ends a delivery. See invariants 9 and 11.
    pub async fn settle(&self, lease: Lease, facts: Vec<Fact>) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.settle(lease, facts).await,
            Self::Nats(bus) => bus.relay()?.settle(lease, facts).await,
        }
    }

    /// Puts a delivery off until `task.due_at`. See invariants 9 and 11.
    pub async fn later(&self, lease: Lease, task: DeliveryTask, facts: Vec<Fact>) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.later(lease, task, facts).await,
            Self::Nats(bus) => bus.relay()?.later(lease, task, facts).await,
        }
    }

    /// Whether a delivery is still in the holder's hands, to be asked just before something is done that cannot be undone.
    /// Waits while it cannot be known. See invariant 11.
    pub async fn holds(&self, lease: Lease) -> Result<bool, Error> {
        match self {
            // One process has all leases, and they outlast every exchange.
            Self::Embedded(_) => Ok(true),
            Self::Nats(bus) => bus.relay()?.holds(lease).await,
        }
    }

    /// Takes no more deliveries here, and leaves them to others who share the work; what is held can be finished.
    pub fn retire(&self) {
        if let Self::Nats(bus) = self
            && let Ok(relay) = bus.relay()
        {
            relay.retire();
        }
    }

    /// Leaves. What is still held counts as interrupted.
    pub async fn close(&self) -> Result<(), Error> {
        match self {
            // Whatever was answered is durable, and what is held is found at the next start.
            Self::Embedded(_) => Ok(()),
            Self::Nats(bus) => bus.relay()?.close().await,
        }
    }

    /// Gives a delivery back that was not worked on. See invariant 10.
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.release(lease).await,
            Self::Nats(bus) => bus.relay()?.release(lease).await,
        }
    }

    /// A turn to decide something. See invariant 16.
    pub async fn turn(&self) -> Result<Turn, Error> {
        match self {
            Self::Embedded(bus) => bus.turn().await,
            Self::Nats(bus) => bus.relay()?.turn().await,
        }
    }

    /// Journals a decision and puts into the queue what it wants delivered. False when another decision came before it:
    /// then it is to be decided anew. See invariant 16.
    pub async fn decide(
        &self,
        turn: Turn,
        facts: Vec<Fact>,
        deliveries: Vec<DeliveryTask>,
    ) -> Result<bool, Error> {
        match self {
            Self::Embedded(bus) => bus.decide(turn, facts, deliveries).await,
            Self::Nats(bus) => bus.relay()?.decide(turn, facts, deliveries).await,
        }
    }

    /// Takes the delivery of the event at a place, due or not; `None` when it does not wait or somebody holds it. See
    /// invariant 17.
    pub async fn claim(&self, event_seq: u64, id: DeliveryId) -> Result<Option<Leased>, Error> {
        let key = (event_seq, id.route.to_i64());
        match self {
            Self::Embedded(bus) => bus.claim(key).await,
            Self::Nats(bus) => bus.relay()?.claim(key).await,
        }
    }

    /// Which of the events at these places are still kept.
    pub async fn kept(&self, events: HashSet<u64>) -> Result<HashSet<u64>, Error> {
        match self {
            Self::Embedded(bus) => bus.kept(events).await,
            Self::Nats(bus) => bus.relay()?.kept(events).await,
        }
    }

    /// Whether this process does what is done once for all, as planning is. Others may for a moment believe the same.
    pub fn leads(&self) -> bool {
        match self {
            Self::Embedded(_) => true,
            Self::Nats(bus) => bus.relay().is_ok_and(nats::Relay::leads),
        }
    }

    /// Journals facts. See invariant 12.
    pub async fn record(&self, facts: Vec<Fact>) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.record(facts).await,
            Self::Nats(bus) => bus.record(facts).await,
        }
    }

    /// At most `max` facts behind a place, oldest first. Waits for something to be there. See invariant 13.
    pub async fn journal(&self, after: u64, max: usize) -> Result<Facts, Error> {
        match self {
            Self::Embedded(bus) => bus.journal(after, max).await,
            Self::Nats(bus) => bus.relay()?.journal(after, max).await,
        }
    }

    /// Which journal it is, and how far it reaches.
    pub async fn journal_bounds(&self) -> Result<Bounds, Error> {
        match self {
            Self::Embedded(bus) => bus.journal_bounds().await,
            Self::Nats(bus) => bus.relay()?.journal_bounds().await,
        }
    }

    /// How many entries of the journal there are between two places.
    pub fn entries_between(&self, behind: u64, through: u64) -> u64 {
        match self {
            Self::Embedded(_) => through.saturating_sub(behind),
            Self::Nats(_) => nats::entries_between(behind, through),
        }
    }

    /// Removes what is older. See invariant 14.
    pub async fn expire(&self, before: Timestamp) -> Result<Expired, Error> {
        match self {
            Self::Embedded(bus) => bus.expire(before).await,
            Self::Nats(bus) => bus.relay()?.expire(before).await,
        }
    }

    /// Whether something could be made durable now.
    pub async fn check(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(bus) => bus.check().await,
            Self::Nats(bus) => bus.check().await,
        }
    }
}
