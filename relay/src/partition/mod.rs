//! A partition and its owner.
//!
//! ```text
//! supervisor ── opens ──▶ owner: events, ended attempts, commands, time ──▶ machine ──▶ records ──▶ journal
//!     │ announces                                                             │ state, agenda        │ durable
//!     ▼                                                                       └──── actions ◀────────┘
//! other relays                                                                  attempts, replies
//! ```
//!
//! - [`machine`]: what the owner decides; pure, over [`state`] (what waits; computed from the journal) and [`agenda`] (which
//!   of it goes next).
//! - [`owner`]: the task that feeds the machine and does what it decides; [`clock_guard`]: whether the wall clock
//!   is believed; [`recent`]: events that need not be read back.
//! - [`assignment`]: which relay should own which partition; [`supervisor`]: acts on it; [`housekeeping`]: trims the streams.
//! - [`handle`]: by which the rest of the relay talks to owners; [`share`]: a set of partitions.

mod agenda;
mod assignment;
mod clock_guard;
pub(crate) mod handle;
mod housekeeping;
mod machine;
pub(crate) mod owner;
mod recent;
pub(crate) mod share;
mod state;
pub(crate) mod supervisor;

pub(crate) use machine::{Attempt, Outcome};
pub(crate) use recent::RecentEvents;
pub(crate) use state::Payload;

/// What the simulation plays with.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::{
        clock_guard::{ClockGuard, Look},
        machine::{Action, Keeping, Machine},
        state::State,
    };
}
