//! What is asked with: where, which deliveries, and the commands that only look.

use super::path::path;
use crate::Failure;
use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;
use std::path::PathBuf;
use talaria_proto::v1::DeliveryState;

/// Where to ask, and as whom. The token itself is in TALARIA_TOKEN or in a file, and never on a command line, where others
/// on the machine could read it.
#[derive(ClapArgs, Debug)]
pub struct Ask {
    /// The relay's status service; the configured one where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url, env = "TALARIA_RELAY")]
    pub relay: Option<url::Url>,
    /// The token to show, in a file; TALARIA_TOKEN or the file in TALARIA_TOKEN_FILE where it is left out
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub token_file: Option<PathBuf>,
    /// Trust this authority instead of the system's, with https://
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_CA")]
    pub ca: Option<PathBuf>,
    /// The certificate to show, where the relay asks for one
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_CERT", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_KEY", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which deliveries.
#[derive(ClapArgs, Debug, Default)]
pub struct Filter {
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only to this route, as ROUTE or TENANT/ROUTE
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Only of this job
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// Only in this state; may be repeated
    #[arg(long, value_name = "STATE")]
    pub state: Vec<State>,
    /// Only received since: a time such as '2026-04-24 12:00:00Z', or how long ago, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only received before
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Takes a route's tenant out of its name, where that has it.
    pub(crate) fn with_tenant_of_route(mut self) -> Result<Self, Failure> {
        let Some((tenant, route)) = self.route.as_deref().and_then(|name| name.split_once('/')) else {
            return Ok(self);
        };
        if let Some(other) = self.tenant.as_deref().filter(|other| *other != tenant) {
            return Err(Failure::Usage(format!("--route {tenant}/{route} is no route of --tenant {other}")));
        }
        (self.tenant, self.route) = (Some(tenant.to_owned()), Some(route.to_owned()));
        Ok(self)
    }
}

/// A delivery's state.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(missing_docs, reason = "the proto says what they mean")]
pub enum State {
    Waiting,
    Delivered,
    Ignored,
    Parked,
    Cancelled,
    Ambiguous,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Delivered => Self::Delivered,
            State::Ignored => Self::Ignored,
            State::Parked => Self::Parked,
            State::Cancelled => Self::Cancelled,
            State::Ambiguous => Self::Ambiguous,
        }
    }
}

/// `talaria status`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria status                  every route that took something, and the latest deliveries
  talaria status job_7            what became of a job at OpenRouter
  talaria status evt_…            an event, with its deliveries
  talaria status dlv_…            a delivery, with its attempts
  talaria status --state parked --since 24h
  talaria status --routes         which routes let deliveries through, and why others do not
  talaria status --refused        what was refused in the last hour, why, and what to do
  talaria status --unmatched      events that no route took, and what to do
  talaria status --quarantined    signed callbacks that were not events

Of an id as much is enough as tells it from others; tables show ids so on a terminal. Times are in UTC.")]
pub struct Status {
    /// An event, a delivery, or a job at OpenRouter
    pub id: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub filter: Filter,
    /// List signed callbacks that were not events
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until"])]
    pub quarantined: bool,
    /// List what was refused at the ingress in the last hour, by tenant and reason
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until", "quarantined", "payload"])]
    pub refused: bool,
    /// List events that no route took, newest first
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "quarantined", "refused", "payload"])]
    pub unmatched: bool,
    /// List routes with their circuit breakers and pauses
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until", "quarantined", "refused", "unmatched", "payload"])]
    pub routes: bool,
    /// Show payloads too
    #[arg(long)]
    pub payload: bool,
    /// List so many
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Show whole ids and every column, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub ask: Ask,
}

/// `talaria watch`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria watch
  talaria watch --tenant acme --state parked --json

Goes on where it was when the relay is restarted. Ends with Ctrl-C. Times are in UTC.")]
pub struct Watch {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub filter: Filter,
    /// Begin with what is now, and not with the next change
    #[arg(long)]
    pub snapshot: bool,
    /// Show every column whole, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub ask: Ask,
}

/// Where something listens.
pub(super) fn http_url(text: &str) -> Result<url::Url, String> {
    let url: Option<url::Url> = text.parse().ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| "expected a URL that begins with http:// or https://".to_owned())
}

/// A time, or how long ago.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = talaria_core::time::parse_duration(text) {
        return Ok(talaria_core::time::before(Timestamp::now(), ago));
    }
    text.parse()
        .map_err(|_| "expected a time such as 2026-04-24T12:00:00Z, or how long ago, such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_url() {
        assert!(http_url("http://127.0.0.1:50051").is_ok());
        for wrong in ["127.0.0.1:50051", "localhost:50051", "ftp://x", ""] {
            assert!(http_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_route_may_be_named_with_its_tenant() {
        let named = |tenant: Option<&str>, route: &str| {
            let filter =
                Filter { tenant: tenant.map(Into::into), route: Some(route.into()), ..Filter::default() };
            filter.with_tenant_of_route().map(|it| (it.tenant, it.route)).ok()
        };
        let both = Some((Some("acme".to_owned()), Some("video".to_owned())));
        assert_eq!(named(None, "acme/video"), both);
        assert_eq!(named(Some("acme"), "acme/video"), both);
        assert_eq!(named(Some("acme"), "video"), both);
        assert_eq!(named(None, "video"), Some((None, Some("video".to_owned()))));
        assert_eq!(named(Some("other"), "acme/video"), None);
    }

    #[test]
    fn moments_are_times_or_ages() {
        for time in ["2026-04-24T12:00:00Z", "2026-04-24 12:00:00Z", "2026-04-24T14:00:00+02:00"] {
            assert_eq!(moment(time).unwrap().as_second(), 1_777_032_000, "{time}");
        }
        let ago = Timestamp::now().as_second() - moment("2h").unwrap().as_second();
        assert!((7_199..=7_201).contains(&ago));
        assert!(moment("yesterday").is_err());
    }
}
