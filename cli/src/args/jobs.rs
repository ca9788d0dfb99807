//! The arguments of the commands for jobs at OpenRouter, but for `talaria submit`: models, jobs, track, stop-job, fetch and costs.

use super::{
    Ask, List,
    control::Who,
    of_job::OfJob,
    path::path,
    status::{http_url, moment},
};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use jiff::Timestamp;
use std::path::PathBuf;
use talaria_proto::v1::JobState;
use url::Url;

/// `talaria models`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria models
  talaria models google/veo-3.1           every value of one model
  talaria models veo --json

Lists OpenRouter's models that make videos, as an ingress read them at most 10 minutes ago. The price is that of a second, by \
OpenRouter's list; what a job cost is known when it has ended: talaria costs.")]
pub struct Models {
    /// A model's id, or a part of it
    pub model: Option<String>,
    /// The tenant whose settings are used; needed where the configuration has more than one
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Show every column, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria jobs`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria jobs
  talaria jobs --tenant acme --state running --state unknown
  talaria status job_…                    all that is known of one job

Newest first. A cost with ~ in front of it is an estimate. Replay jobs are listed by talaria replays. Times are in UTC.")]
pub struct Jobs {
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only in this state; may be repeated
    #[arg(long, value_name = "STATE", value_parser = state())]
    pub state: Vec<JobState>,
    #[command(flatten)]
    pub list: List,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria track`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria track gen-vid-1767225600-Ab3dEf6hIj9kLm2nOp5q
  talaria track gen-vid-… --context chat_id=-100123 --route video

Follows a job that another program submitted with a key of the same account at OpenRouter: Talaria asks for its state until it has \
ended, and sends the result as for a job of its own. A job that is known already is shown, and nothing changes; it may be named by \
its id here, job_…, too.")]
pub struct Track {
    /// The job's id at OpenRouter
    #[arg(value_name = "OPENROUTER_ID")]
    pub id: String,
    #[command(flatten)]
    pub of: OfJob,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria stop-job`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria stop-job job_… --reason 'the wrong prompt'

Stops waiting for a job. OpenRouter cannot cancel a job: it goes on there, and its cost stays. A callback that comes all the same \
still ends it, and is delivered. A unique beginning of the id is sufficient.")]
pub struct StopJob {
    /// The job, job_…, or its id at OpenRouter
    #[arg(value_name = "JOB")]
    pub id: String,
    /// Only a job of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria fetch`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria fetch job_…                     into a file in this directory
  talaria fetch job_… --out lighthouse.mp4
  talaria fetch job_… --json              the links alone; nothing is fetched

Fetches a file of a completed job by its media link, from the ingress at the public URL. The tenant gives links with media: {mode: \
link}. OpenRouter's key is not needed here. A unique beginning of the id is sufficient.")]
pub struct Fetch {
    /// The job, job_…, or its id at OpenRouter
    #[arg(value_name = "JOB")]
    pub id: String,
    /// The number of the file, where the job made several
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub index: u32,
    /// Write it here; into this directory, under the name that the ingress gives it, where it is left out
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
    /// Ask this ingress instead of the public URL, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub ingress: Option<Url>,
    /// Only a job of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria costs`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria costs
  talaria costs --tenant acme --since 7d
  talaria costs --since '2026-11-01 00:00:00Z' --until '2026-12-01 00:00:00Z' --json

The costs that OpenRouter reported with the ends of jobs, by day in UTC, tenant, model and routes, newest first, for as long as \
events are kept. Events that reported no cost are counted, and are not in the sum.")]
pub struct Costs {
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only received since: a time such as '2026-04-24 12:00:00Z', or how long ago, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only received before
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Show every column whole, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    pub ask: Ask,
}

/// A state by its name.
fn state() -> impl TypedValueParser<Value = JobState> {
    let named = |text: String| JobState::ALL.into_iter().find(|state| state.name() == text);
    PossibleValuesParser::new(JobState::ALL.map(JobState::name))
        .try_map(move |text| named(text).ok_or("expected a state"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    #[test]
    fn states_are_named_as_everywhere() {
        let parse = |state: &str| Args::try_parse_from(["talaria", "jobs", "--state", state]);
        let Command::Jobs(jobs) = parse("abandoned").unwrap().command else { panic!() };
        assert_eq!(jobs.state, [JobState::Abandoned]);
        assert!(parse("waiting").unwrap_err().to_string().contains("submitting, running, unknown"));
    }
}
