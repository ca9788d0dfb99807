//! A partition and its owner.
//!
//! ```text
//! supervisor ── opens ──▶ owner: events, ended attempts, commands, time ──▶ machine ──▶ records ──▶ journal
//!     │ announces                                                             │ state, agenda        │ durable
//!     ▼                                                                       └──── actions ◀────────┘
//! other relays                                                                  attempts, replies
//! ```
//!
//! - [`machine`]: the owner's decisions; pure, over [`state`] (waiting deliveries, computed from the journal) and [`agenda`]
//!   (the next of them).
//! - [`owner`]: the task that feeds the machine, appends its records and performs its actions; [`clock_guard`]: whether the
//!   wall clock is believed; [`recent`]: events that need not be read back.
//! - [`assignment`]: the partitions that each relay should own; [`supervisor`]: acts on it, and reports [`health`];
//!   [`handover`]: between relays that work; [`housekeeping`]: trims the streams.
//! - [`in_flight`]: the limit of deliveries in flight, over all partitions.
//! - [`handle`]: the interface of owners to the rest of the relay.

mod agenda;
mod assignment;
mod clock_guard;
pub(crate) mod handle;
mod handover;
pub(crate) mod health;
mod housekeeping;
pub(crate) mod in_flight;
mod machine;
pub(crate) mod owner;
mod recent;
mod state;
pub(crate) mod supervisor;

pub use machine::{DELIVERIES, RUNS};
pub(crate) use recent::RecentEvents;

/// The parts that the simulation drives.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::{
        clock_guard::{ClockGuard, Look},
        handle::Command,
        machine::{Action, Attempt, KeepFiles, Keeping, Machine, Outcome, PollJob, Submit},
        state::{Payload, State},
    };
}
