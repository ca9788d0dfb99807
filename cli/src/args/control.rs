//! The arguments of operators' commands: pause, resume, probe, cancel, replay, replays and actions.

use super::{Ask, Filter, List, moment};
use clap::Args as ClapArgs;
use jiff::Timestamp;
use std::{str::FromStr, time::Duration};
use talaria_core::time::parse_duration;

/// A tenant, or one of its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The tenant.
    pub tenant: String,
    /// The route's name; empty for the whole tenant.
    pub route: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tenant, route) = text.split_once('/').unwrap_or((text, ""));
        if tenant.is_empty() || text.ends_with('/') || route.contains('/') {
            return Err("expected TENANT or TENANT/ROUTE, such as acme or acme/video".to_owned());
        }
        Ok(Self { tenant: tenant.to_owned(), route: route.to_owned() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.tenant)?;
        if self.route.is_empty() { Ok(()) } else { write!(f, "/{}", self.route) }
    }
}

/// The operator and the reason.
#[derive(ClapArgs, Debug)]
pub struct Who {
    /// The reason, which is recorded with the action
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Your name; the user name where it is left out
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
}

/// `talaria pause`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria pause acme/video --reason 'Hermes is being moved'
  talaria pause acme                      every route of the tenant
  talaria pause acme/video --for 2h       ends by itself

No relay sends anything for it until it is resumed, also after restarts. Callbacks are accepted as always, and their \
deliveries wait; the time does not count towards retry.max_age. An attempt under way is completed.")]
pub struct Pause {
    /// A route as TENANT/ROUTE, or a whole tenant
    pub target: Target,
    /// How long, such as 30min, 2h or 1d; until it is resumed where it is left out
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria resume`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria resume acme/video
  talaria resume acme           ends the tenant's pause; a route that was paused by itself stays so

The waiting deliveries go out at the route's pace.")]
pub struct Resume {
    /// A route as TENANT/ROUTE, or a whole tenant
    pub target: Target,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria probe`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria probe acme/video --reason 'Hermes has the secret now'

A route whose Hermes failed or does not serve it is shut: its deliveries wait, and single ones probe it after growing \
delays. This sends one now. Hermes' answer opens the route, or shuts it again for the same delay (after the first delay: for \
the second). Fails with exit code 1 for a route that is open or paused, or that has no waiting delivery.")]
pub struct Probe {
    /// The route, as TENANT/ROUTE
    pub target: Target,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria cancel`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria cancel dlv_… --reason 'sent by hand'

Only a waiting delivery can be cancelled. While an attempt is under way this fails with exit code 1: try \
again after it. A cancelled delivery can be replayed. A unique beginning of the id is sufficient.")]
pub struct Cancel {
    /// The delivery, dlv_…
    pub id: String,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria replay`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria replay dlv_…                            in any state, also waiting
  talaria replay evt_… --route video              to a route that did not take it, or is new
  talaria replay --tenant acme --route video --dry-run
  talaria replay --tenant acme --route video      parked deliveries
  talaria replay --state parked --state ambiguous --since 24h --rate 60/min
  talaria replay --tenant acme --http 5xx         parked after such an answer
  talaria replay --run failed                     the agent's run failed, in any final state
  talaria replay --all --detach

Each is sent under a new id, so Hermes runs it again, even if it ran before. Options select parked deliveries, or those of \
--state, and never waiting ones; a waiting delivery is sent at once by its id. A job replays from the oldest event to the \
newest, and any relay continues it: Ctrl-C ends the command and not the job. `talaria replays` lists and cancels them. A unique \
beginning of an id is sufficient.")]
pub struct Replay {
    /// A delivery, dlv_…; or an event, evt_…, with --route. Options select several
    #[arg(conflicts_with_all = ["tenant", "job", "state", "since", "until", "event_type", "model", "LastAttempt", "all", "dry_run", "rate", "detach"])]
    pub id: Option<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// All deliveries in these states
    #[arg(long)]
    pub all: bool,
    /// Count them only
    #[arg(long)]
    pub dry_run: bool,
    /// The highest rate, such as 10/s or 600/min
    #[arg(long, default_value = "10/s", value_name = "RATE", value_parser = rate)]
    pub rate: u32,
    /// Do not wait for the end of the job
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria replays`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria replays
  talaria replays rpl_…
  talaria replays rpl_… --cancel          finished replays are not undone

A unique beginning of an id is sufficient. Times are in UTC.")]
pub struct Replays {
    /// One replay job, rpl_…
    #[arg(conflicts_with = "page")]
    pub id: Option<String>,
    /// Cancel it
    #[arg(long, requires = "id")]
    pub cancel: bool,
    #[command(flatten)]
    pub list: List,
    #[command(flatten)]
    pub who: Who,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria actions`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria actions
  talaria actions --tenant acme --since 24h

Lists actions on routes, deliveries and jobs at OpenRouter. They are kept for as long as events. Replays by a replay job are listed \
with each delivery: talaria status dlv_… Times are in UTC.")]
pub struct Actions {
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only since: a time such as '2026-04-24 12:00:00Z', or how long ago, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    #[command(flatten)]
    pub list: List,
    #[command(flatten)]
    pub ask: Ask,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30min, 2h or 1d".to_owned())
}

/// Per minute.
fn rate(text: &str) -> Result<u32, String> {
    let read = || {
        let (count, unit) = text.split_once('/')?;
        let count: u32 = count.parse().ok()?;
        let per_minute = match unit {
            "s" => count.checked_mul(60)?,
            "min" => count,
            _ => return None,
        };
        (1..=60_000).contains(&per_minute).then_some(per_minute)
    };
    read().ok_or_else(|| "expected a rate from 1/min to 1000/s, such as 10/s or 600/min".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    #[test]
    fn a_target_is_a_tenant_or_a_route() {
        let read = |text: &str| text.parse::<Target>().map(|target| (target.tenant, target.route));
        assert_eq!(read("acme"), Ok(("acme".into(), String::new())));
        assert_eq!(read("acme/video"), Ok(("acme".into(), "video".into())));
        for wrong in ["", "/video", "acme/", "a/b/c"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_per_second_or_minute() {
        assert_eq!((rate("10/s"), rate("600/min"), rate("1/min")), (Ok(600), Ok(600), Ok(1)));
        for wrong in ["10", "0/s", "1001/s", "5/h", "x/s", "-1/s", "99999999999/min"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pause_may_have_an_end() {
        let parse = |text: &str| Args::try_parse_from(["talaria", "pause", "acme", "--for", text]);
        let Command::Pause(pause) = parse("2h").unwrap().command else { panic!() };
        assert_eq!(pause.duration, Some(Duration::from_secs(7_200)));
        for wrong in ["", "2", "soon", "-1h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_replay_is_of_one_or_of_many() {
        let parse = |arguments: &[&str]| Args::try_parse_from([&["talaria", "replay"], arguments].concat());
        let Command::Replay(one) = parse(&["dlv_x", "--as", "ana"]).unwrap().command else { panic!() };
        assert_eq!((one.id.as_deref(), one.rate), (Some("dlv_x"), 600));
        assert!(parse(&["--tenant", "acme", "--state", "parked", "--rate", "1/s"]).is_ok());
        assert!(parse(&["dlv_x", "--tenant", "acme"]).is_err());
        assert!(parse(&["dlv_x", "--rate", "1/s"]).is_err());
    }
}
