//! The command line.

mod backup;
mod control;
mod doctor;
mod explain;
mod hermes;
mod jobs;
mod list;
mod manual;
mod mcp;
mod of_job;
mod path;
mod send;
mod service;
mod stats;
mod status;
mod submit;
mod token;

pub(crate) use backup::{Backup, Restore};
pub(crate) use control::{Actions, Cancel, Pause, Probe, Replay, Replays, Resume, Target};
pub(crate) use doctor::Doctor;
pub(crate) use explain::Explain;
pub(crate) use hermes::Hermes;
pub(crate) use jobs::{Costs, Fetch, Jobs, Models, StopJob, Track};
pub(crate) use list::List;
pub(crate) use manual::{Completions, Help, Man};
pub(crate) use mcp::{Allow, Mcp};
use path::path;
pub(crate) use send::Send;
pub(crate) use service::{Ingress, Relay, Up};
pub(crate) use stats::Stats;
use status::http_url;
pub(crate) use status::moment;
pub(crate) use status::{Ask, Filter, LastAttempt, Status, Watch};
pub(crate) use submit::{Reference, Submit};
pub(crate) use token::Token;

use crate::logging::Logs;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use talaria_core::config;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 it did not work, 2 wrong command line, 3 wrong configuration, 4 not known, 5 no answer, \
6 not allowed.

A page about each error, with its cause and its remedy: talaria help error.

Start here:
  talaria demo      shows callbacks on their way to a stand-in Hermes
  talaria init      writes a configuration with fresh secrets, and prints the next steps";

/// The version, and the commit that it was built from where that is known.
const VERSION: &str = match option_env!("TALARIA_BUILT_FROM") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Carries OpenRouter's asynchronous callbacks to Hermes agents.
#[derive(Debug, Parser)]
#[command(version = VERSION, disable_help_subcommand = true, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Args {
    /// The configuration file; where it is left out ./talaria.yaml, ~/.config/talaria/talaria.yaml or /etc/talaria/talaria.yaml,
    /// the first that is there
    #[arg(long, global = true, env = "TALARIA_CONFIG", value_name = "FILE", value_parser = path())]
    pub config: Option<PathBuf>,
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// The path of the configuration.
    pub fn configuration(&self) -> PathBuf {
        match (&self.config, &self.command) {
            (Some(named), _) => named.clone(),
            // `init` never writes into a system directory.
            (None, Command::Init(_)) => PathBuf::from("./talaria.yaml"),
            (None, _) => path::configuration(),
        }
    }

    /// The logs of the command.
    pub fn logs(&self) -> Logs {
        match self.command {
            Command::Up(_) | Command::Relay(_) => Logs::Deliveries,
            Command::Ingress(_) => Logs::Callbacks,
            _ => Logs::Warnings,
        }
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration with fresh secrets, and print the next steps
    Init(Init),
    /// Validate a configuration, and show each fault with its line
    Check(Check),
    /// Check everything that a callback needs on its way, with advice on faults
    Doctor(Doctor),
    /// Create the missing signing secrets that a configuration names, and keys of NATS' users
    Secrets(Secrets),
    /// Run ingress and relay in this process, until Ctrl-C or SIGTERM
    #[command(after_help = "\
Examples:
  talaria up
  talaria up --tunnel       prints the callback URL to paste into OpenRouter

Logs go to standard error: on a terminal a line for each delivery and each problem, with times in UTC; \
elsewhere JSON lines. RUST_LOG sets their level, for \
example RUST_LOG=debug or RUST_LOG=info,talaria_ingress=debug.")]
    Up(Up),
    /// Run an ingress alone, which takes callbacks for a relay; needs NATS
    #[command(after_help = "\
Examples:
  talaria check --role ingress      is the file valid, and can an ingress' secrets be read?
  talaria ingress

Takes callbacks and answers once they are on the bus, which has to be NATS. Needs neither the data directory \
nor the routes' secrets, so it is given none. Run as many as you like, until Ctrl-C or SIGTERM.

Logs go to standard error, as with `talaria up`.")]
    Ingress(Ingress),
    /// Run a relay alone, which sends the deliveries and answers `talaria status`; needs NATS
    #[command(after_help = "\
Examples:
  talaria check --role relay        is the file valid, and can a relay's secrets be read?
  talaria relay
  talaria relay --data-dir two --grpc 127.0.0.1:50052 --admin 127.0.0.1:9092

The last one is a second relay beside it. Takes events from the bus, which has to be NATS, forwards them to Hermes \
and answers `talaria status`. Does not need OpenRouter's secrets, so it is given none. Keeps its status in data_dir. \
Run as many as you like, each with a data directory of its own, until Ctrl-C or SIGTERM.

Logs go to standard error, as with `talaria up`.")]
    Relay(Relay),
    /// Check whether the process on this machine is ready
    Healthcheck(Healthcheck),
    /// Show callbacks on their way to a stand-in Hermes
    Demo(Demo),
    /// Send a signed callback to a running ingress, as OpenRouter would
    Send(Send),
    /// Show callbacks, their deliveries and routes
    Status(Status),
    /// Show counts and latencies by hour, by minute or by route
    Stats(Stats),
    /// Explain why an event was delivered or not, and the next step
    Explain(Explain),
    /// Show changes of deliveries as they happen
    Watch(Watch),
    /// Stop a route or a tenant until it is resumed
    Pause(Pause),
    /// End a pause
    Resume(Resume),
    /// Try a shut route at once
    Probe(Probe),
    /// Cancel a waiting delivery
    Cancel(Cancel),
    /// Send a delivery again, or all that match
    Replay(Replay),
    /// Show replay jobs, or cancel one
    Replays(Replays),
    /// List the models that make videos
    Models(Models),
    /// Submit a job to OpenRouter
    Submit(Box<Submit>),
    /// List jobs at OpenRouter
    Jobs(Jobs),
    /// Follow a job that another program submitted
    Track(Track),
    /// Stop waiting for a job
    StopJob(StopJob),
    /// Fetch the file of a completed job
    Fetch(Fetch),
    /// Show the costs of jobs, by day
    Costs(Costs),
    /// List operators' actions
    Actions(Actions),
    /// Serve tools to an agent, as an MCP server on standard input and output
    Mcp(Mcp),
    /// Copy the bus, while it runs
    Backup(Backup),
    /// Replace the bus by a backup, or move the embedded one to NATS
    Restore(Restore),
    /// Create a token for requests to a relay
    Token(Token),
    /// Render the prompt of a route for a payload
    Render(Render),
    /// Show how to subscribe a route at Hermes, or do it
    Hermes(Hermes),
    /// Print a shell's completion script
    Completions(Completions),
    /// Write the manual pages into a directory
    Man(Man),
    /// Show the help of a command, or the page about an error
    Help(Help),
}

/// `talaria init`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria init
  talaria init --tenant acme --public-url https://hooks.example.com --hermes http://127.0.0.1:8644

It shows the secret to paste into OpenRouter. `talaria secrets --show` shows it again.")]
pub struct Init {
    /// The tenant's name, as in /callbacks/NAME
    #[arg(long, default_value = "me", value_name = "NAME")]
    pub tenant: String,
    /// Where Hermes' gateway listens for webhooks
    #[arg(long, default_value = "http://127.0.0.1:8644", value_name = "URL", value_parser = http_url)]
    pub hermes: url::Url,
    /// The URL by which OpenRouter will reach this machine
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub public_url: Option<url::Url>,
    /// Replace an existing configuration; existing secrets are kept
    #[arg(long)]
    pub force: bool,
}

/// `talaria check`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria check
  talaria check --config /etc/talaria/talaria.yaml --json
  talaria check --role relay        where only a relay's secrets are
  talaria check --running           does the running process have these settings?
  talaria check --running --admin http://127.0.0.1:9092
  talaria check --hermes ~/.hermes  does that Hermes listen where the routes lead?

Routes that lead to this machine are compared with the config.yaml of the Hermes here, if there is one: whether webhooks are enabled, the port, and routes of the same name. A difference is a warning.

With --running it exits with 0 if the process has the settings of the file, and otherwise with 1 and a list of the keys that \
differ. Values are not requested and not shown.")]
pub struct Check {
    /// Check it for a process with this role alone, which reads no other secrets and needs NATS
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Role>,
    /// Compare it with the settings of the running process
    #[arg(long)]
    pub running: bool,
    /// The process' admin port; the configured one where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url, requires = "running")]
    pub admin: Option<url::Url>,
    /// The Hermes home whose config.yaml is compared; HERMES_HOME or ~/.hermes where it is left out
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub hermes: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// One of the two roles.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// As `talaria ingress` would read it
    Ingress,
    /// As `talaria relay` would read it
    Relay,
}

impl From<Role> for config::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Ingress => Self::Ingress,
            Role::Relay => Self::Relay,
        }
    }
}

/// `talaria secrets`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria secrets                   creates the missing ones and shows none
  talaria secrets --show acme       the secret to paste into OpenRouter
  talaria secrets --show acme/video the one to give to Hermes
  talaria secrets --nats-users nats keys of NATS' users, and the server's list of them

Writes secrets of 256 random bits, each into the file that the configuration names for it. Existing files and environment \
variables are unchanged.

--nats-users writes the missing keys DIRECTORY/USER/nkey of the users ingress, relay, backup and operator; for the NATS server, \
DIRECTORY/server/users.conf with their public keys and what each may do with the configured bus.nats.prefix; and for the routes of \
a cluster DIRECTORY/server/routes-password. Keys and password are never replaced; users.conf follows the keys and the prefix.")]
pub struct Secrets {
    /// Print the newest secret of a tenant or a route, and write nothing
    #[arg(long, value_name = "TENANT[/ROUTE]", conflicts_with = "json")]
    pub show: Option<String>,
    /// Also create the missing keys of NATS' users below this directory, and write the server's list of users
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "show")]
    pub nats_users: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `talaria healthcheck`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria healthcheck
  talaria healthcheck --url http://127.0.0.1:9091

Asks /readyz of the configured admin.listen and needs no secrets. Exits with 0 when it is ready, with 1 and the \
reason when it is not, and with 5 when there is no answer.")]
pub struct Healthcheck {
    /// The admin port; the configured one where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub url: Option<url::Url>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `talaria demo`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Starts everything on free loopback ports and in a temporary directory, sends one signed callback for each terminal status, \
and succeeds only if Hermes received all of them.")]
pub struct Demo {
    /// Give up after so many seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
}

/// `talaria render`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria render acme/video                           with OpenRouter's documented payload
  talaria render acme/video --payload callback.json
  talaria render --template 'Video {data.id}' --payload -
  talaria render --jsonl < cases.jsonl

A line of cases.jsonl is an object with template, body, event_type and route.")]
pub struct Render {
    /// The route, as TENANT/ROUTE; needed where the configuration has more than one
    #[arg(conflicts_with_all = ["template", "jsonl"])]
    pub route: Option<String>,
    /// A template instead of a route's
    #[arg(long, conflicts_with = "jsonl")]
    pub template: Option<String>,
    /// The payload: a file, or - for standard input
    #[arg(long, value_name = "FILE", value_parser = path(), conflicts_with = "jsonl")]
    pub payload: Option<PathBuf>,
    /// Show the prompt as it would be without the guard
    #[arg(long)]
    pub no_guard: bool,
    /// Read cases from standard input, a line each, and write {"prompt"} or {"error"} for each, without the guard
    #[arg(long)]
    pub jsonl: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn texts_wrap_where_the_terminal_ends_and_examples_fit_on_a_line() {
        let command = Args::command();
        for command in command.get_subcommands().chain([&command]) {
            let Some(text) = command.get_after_help() else { continue };
            let text = text.to_string();
            for (line, next) in text.lines().zip(text.lines().skip(1).chain([""])) {
                let (name, fits) = (command.get_name(), line.chars().count() <= 100);
                assert!(fits || !line.starts_with(' '), "{name}: too long for an example: {line}");
                let prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                assert!(!(prose(line) && prose(next)), "{name}: one paragraph in two lines: {line}");
            }
        }
    }

    #[test]
    fn the_services_log_and_everything_else_answers() {
        let logs = |command| Args::parse_from(["talaria", command]).logs();
        assert_eq!((logs("up"), logs("relay")), (Logs::Deliveries, Logs::Deliveries));
        assert_eq!(logs("ingress"), Logs::Callbacks);
        assert_eq!((logs("check"), logs("status")), (Logs::Warnings, Logs::Warnings));
    }
}
