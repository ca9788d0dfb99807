//! `talaria explain`

use super::Ask;
use clap::Args;

/// `talaria explain`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria explain job_…                   a job: what happened, and every event of it
  talaria explain evt_…                   one event: every route of its tenant
  talaria explain dlv_… --json            one delivery: its route alone

Of a job that was submitted or tracked here it first shows what happened so far, what it waits for and what changes that, also \
before an event of it came.

Shows for each route whether it takes the event and why, by the relay's present configuration, and any difference from the \
plan that was made when the event came; for each delivery its state, its attempts and the next step. A unique beginning of an \
id is sufficient. Times are in UTC.")]
pub struct Explain {
    /// An event, a delivery, or a job, by its id here or at OpenRouter
    pub id: String,
    /// With a job: only this tenant's events
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub ask: Ask,
}
