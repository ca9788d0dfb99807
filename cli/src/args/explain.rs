//! `talaria explain`

use super::Ask;
use clap::Args;

/// `talaria explain`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria explain job_7                   why each event of a job arrived or did not
  talaria explain evt_…                   one event: every route of its tenant
  talaria explain dlv_… --json            one delivery: its route alone

Says of each route whether it takes the event and why, by the configuration that the relay has now, and where that \
differs from what was planned when the event came; of each delivery where it stands and every attempt; and what \
happens next. Of an id as much is enough as tells it from others. Times are in UTC.")]
pub struct Explain {
    /// An event, a delivery, or a job at OpenRouter
    pub id: String,
    /// With a job: only this tenant's events
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub ask: Ask,
}
