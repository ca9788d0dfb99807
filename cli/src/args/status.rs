//! The arguments of requests to a relay, and of `talaria status` and `talaria watch`.

use super::{List, path::path};
use crate::Failure;
use clap::{
    Args as ClapArgs,
    builder::{PossibleValuesParser, TypedValueParser},
};
use jiff::Timestamp;
use std::path::PathBuf;
use talaria_proto::time::to_proto;
use talaria_proto::v1::{AttemptOutcome, DeliveryFilter, DeliveryState, RunOutcome};

/// The relay and the credentials. The token itself is never on a command line, which others on the machine can read.
#[derive(ClapArgs, Debug)]
pub struct Ask {
    /// The relay's status service; the configured one where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url, env = "TALARIA_RELAY")]
    pub relay: Option<url::Url>,
    /// A file with the token; TALARIA_TOKEN or the file in TALARIA_TOKEN_FILE where it is left out
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub token_file: Option<PathBuf>,
    /// The certificate authority for https:// instead of the system's
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_CA")]
    pub ca: Option<PathBuf>,
    /// The client certificate, if the relay requires one
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_CERT", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", value_parser = path(), env = "TALARIA_KEY", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// A selection of deliveries.
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
    #[arg(long, value_name = "STATE", value_parser = state())]
    pub state: Vec<DeliveryState>,
    /// Only received since: a time such as '2026-04-24 12:00:00Z', or how long ago, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only received before
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only events of this type, or of all types below it: 'video.generation.*'
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Only of this model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub last: LastAttempt,
}

/// The last attempt of deliveries, the reason of their state, and their runs.
#[derive(ClapArgs, Debug, Default)]
pub struct LastAttempt {
    /// Only if the last attempt had this outcome; may be repeated
    #[arg(long, value_name = "OUTCOME", value_parser = outcome())]
    pub outcome: Vec<AttemptOutcome>,
    /// Only if the last attempt was answered with this HTTP status, such as 503 or 5xx; may be repeated
    #[arg(long, value_name = "STATUS")]
    pub http: Vec<String>,
    /// Only with this text in the reason, the column WHY; upper and lower case are the same
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Only if the agent's run was reported with this outcome, or none: delivered, and no run reported; may be repeated
    #[arg(long, value_name = "OUTCOME", value_parser = run())]
    pub run: Vec<RunOutcome>,
}

impl Filter {
    /// Splits a route given as TENANT/ROUTE.
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

impl From<&Filter> for DeliveryFilter {
    fn from(filter: &Filter) -> Self {
        Self {
            tenant: filter.tenant.clone().unwrap_or_default(),
            route: filter.route.clone().unwrap_or_default(),
            job_id: filter.job.clone().unwrap_or_default(),
            states: filter.state.iter().map(|state| (*state).into()).collect(),
            since: filter.since.map(to_proto),
            until: filter.until.map(to_proto),
            event_type: filter.event_type.clone().unwrap_or_default(),
            model: filter.model.clone().unwrap_or_default(),
            outcomes: filter.last.outcome.iter().map(|outcome| (*outcome).into()).collect(),
            http_statuses: filter.last.http.clone(),
            reason: filter.last.why.clone().unwrap_or_default(),
            runs: filter.last.run.iter().map(|outcome| (*outcome).into()).collect(),
        }
    }
}

/// `talaria status`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria status                  sums of every route, and the latest deliveries
  talaria status job_7            a job at OpenRouter: its ledger, its events and their deliveries
  talaria status evt_…            an event, with its deliveries
  talaria status dlv_…            a delivery, with its attempts
  talaria status dlv_… --evidence each request as it went out, and its answer, without secrets
  talaria status --state parked --since 24h
  talaria status --http 5xx --type 'video.generation.*'
  talaria status --outcome failed --why 'refused' --model google/veo-3.1
  talaria status --run failed     delivered, and the agent's run failed
  talaria status --routes         the state of each route, and what stops it
  talaria status --refused        refusals of the last hour, with reasons and advice
  talaria status --unmatched      events that no route took, with reasons
  talaria status --quarantined    signed callbacks that were not events

A unique beginning of an id is sufficient; tables on a terminal show ids in this form. Times are in UTC.")]
pub struct Status {
    /// An event, a delivery, or a job, by its id here or at OpenRouter
    #[arg(conflicts_with = "page")]
    pub id: Option<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// List signed callbacks that were not events
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until", "event_type", "model", "LastAttempt"])]
    pub quarantined: bool,
    /// List the refusals of the last hour, by tenant and reason
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until", "event_type", "model", "LastAttempt", "quarantined", "payload", "page"])]
    pub refused: bool,
    /// List events that no route took, newest first
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "LastAttempt", "quarantined", "refused", "payload"])]
    pub unmatched: bool,
    /// List routes with their circuit breakers and pauses
    #[arg(long, conflicts_with_all = ["id", "route", "job", "state", "since", "until", "event_type", "model", "LastAttempt", "quarantined", "refused", "unmatched", "payload", "page"])]
    pub routes: bool,
    /// Show payloads too
    #[arg(long)]
    pub payload: bool,
    /// Show the requests and answers of a delivery's attempts, without secrets
    #[arg(long, requires = "id", conflicts_with_all = ["payload", "quarantined", "refused", "unmatched", "routes"])]
    pub evidence: bool,
    /// Only of the attempt with this number
    #[arg(long, value_name = "N", requires = "evidence", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    #[command(flatten)]
    pub list: List,
    #[command(flatten)]
    pub ask: Ask,
}

/// `talaria watch`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria watch
  talaria watch --tenant acme --state parked --json
  talaria watch --http 5xx        each attempt that is answered so
  talaria watch --run failed      each run of the agent that fails

Continues after a restart of the relay, without a gap. Ctrl-C ends it. Times are in UTC.")]
pub struct Watch {
    #[command(flatten)]
    pub filter: Filter,
    /// Begin with the present state of all deliveries
    #[arg(long)]
    pub snapshot: bool,
    /// Show every column whole, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
    #[command(flatten)]
    pub ask: Ask,
}

pub(super) fn http_url(text: &str) -> Result<url::Url, String> {
    let url: Option<url::Url> = text.parse().ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| "expected a URL that begins with http:// or https://".to_owned())
}

/// A state by its name.
fn state() -> impl TypedValueParser<Value = DeliveryState> {
    let named = |name: String| DeliveryState::ALL.into_iter().find(|state| state.name() == name);
    PossibleValuesParser::new(DeliveryState::ALL.map(DeliveryState::name))
        .try_map(move |name| named(name).ok_or("expected a state"))
}

/// An outcome by its name.
fn outcome() -> impl TypedValueParser<Value = AttemptOutcome> {
    let named = |name: String| AttemptOutcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    PossibleValuesParser::new(AttemptOutcome::ALL.map(AttemptOutcome::name))
        .try_map(move |name| named(name).ok_or("expected an outcome"))
}

/// The outcome of a run by its name.
fn run() -> impl TypedValueParser<Value = RunOutcome> {
    let named = |name: String| RunOutcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    PossibleValuesParser::new(RunOutcome::ALL.map(RunOutcome::name))
        .try_map(move |name| named(name).ok_or("expected an outcome"))
}

/// A time, or an age.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
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
