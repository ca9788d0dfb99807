//! The arguments of `talaria send`.

use super::{Ask, control::duration, path::path, status::http_url};
use clap::Args as ClapArgs;
use std::{path::PathBuf, time::Duration};

/// `talaria send`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria send
  talaria send --tenant acme --type video.generation.failed --job job_7
  talaria send --wait             sends it, waits, and shows its deliveries
  talaria send --list
  talaria send --payload callback.json
  echo '{\"type\":\"image.done\",\"data\":{\"id\":\"j\"}}' | talaria send --payload -

With --wait the exit code is 0 once it is delivered to every route that takes it, 5 if that is not known in time, and \
otherwise 1.")]
pub struct Send {
    /// The tenant; needed where the configuration has more than one
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The event's type
    #[arg(
        long = "type",
        default_value = "video.generation.completed",
        value_name = "TYPE",
        conflicts_with = "payload"
    )]
    pub event_type: String,
    /// The job's id; with the same type it is the same callback each time. A new one where it is left out
    #[arg(long, value_name = "ID", conflicts_with = "payload")]
    pub job: Option<String>,
    /// Send these bytes instead: a file, or - for standard input
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub payload: Option<PathBuf>,
    /// Where to send it; the configured ingress where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub url: Option<url::Url>,
    /// Wait for its deliveries at most this long, and show them; a minute where no time is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1m", value_parser = duration)]
    pub wait: Option<Duration>,
    /// List the event types that OpenRouter documents; any other can be sent, too
    #[arg(long, conflicts_with_all = ["tenant", "job", "payload", "url", "wait"])]
    pub list: bool,
    #[command(flatten)]
    pub ask: Ask,
}
