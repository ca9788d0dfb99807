//! The only crate that knows both services: the command line, the process that runs them, and a stand-in Hermes.
//!
//! - [`args`]: the command line.
//! - `commands`: a file for each.
//! - [`mod@reload`]: the configuration, which may change while they run.
//! - [`stack`]: ingress, relay or both, and the admin port, in one process.
//! - `ids`: ids as people give them.
//! - `files`: how many files the process may have open.
//! - [`standin`]: a stand-in for Hermes, for `talaria demo` and for benchmarks.
//! - [`metrics`]: what it counts and measures.
//! - `tunnel`: cloudflared, which `--tunnel` runs.
//! - `traces`: spans, handed to a collector.
//! - [`failure`]: what goes wrong, and the exit code that says so.

mod admin;
pub mod args;
mod client;
mod commands;
pub mod failure;
mod files;
mod ids;
pub mod logging;
pub mod metrics;
mod print;
pub mod reload;
pub mod stack;
pub mod standin;
mod tls;
mod traces;
mod tunnel;

pub use args::Args;
pub use failure::Failure;

use args::Command;

/// Runs a command to its end.
pub async fn run(args: Args) -> Result<(), Failure> {
    let config = args.configuration();
    match args.command {
        Command::Init(args) => commands::init::run(&config, &args),
        Command::Check(args) => commands::check::run(&config, args).await,
        // In a box, because it holds all that it asks side by side.
        Command::Doctor(args) => Box::pin(commands::doctor::run(&config, args)).await,
        Command::Up(args) => commands::up::both(&config, args).await,
        Command::Ingress(args) => commands::up::ingress(&config, args).await,
        Command::Relay(args) => commands::up::relay(&config, args).await,
        Command::Secrets(args) => commands::secrets::run(&config, &args),
        Command::Healthcheck(args) => commands::healthcheck::run(&config, &args).await,
        Command::Demo(args) => commands::demo::run(&args).await,
        Command::Send(args) => commands::send::run(&config, &args).await,
        Command::Status(args) => commands::status::run(&config, args).await,
        Command::Explain(args) => commands::explain::run(&config, args).await,
        Command::Watch(args) => commands::watch::run(&config, args).await,
        Command::Pause(args) => commands::pause::pause(&config, args).await,
        Command::Resume(args) => commands::pause::resume(&config, args).await,
        Command::Probe(args) => commands::pause::probe(&config, args).await,
        Command::Cancel(args) => commands::replay::cancel(&config, args).await,
        Command::Replay(args) => commands::replay::run(&config, args).await,
        Command::Jobs(args) => commands::jobs::run(&config, args).await,
        Command::Actions(args) => commands::actions::run(&config, args).await,
        Command::Backup(args) => commands::backup::run(&config, &args),
        Command::Restore(args) => commands::restore::run(&config, &args),
        Command::Token(args) => commands::token::run(&args),
        Command::Render(args) => commands::render::run(&config, &args),
        Command::Hermes(args) => commands::hermes::run(&config, &args),
        Command::Completions(args) => commands::manual::completions(&args),
        Command::Man(args) => commands::manual::pages(&args),
        Command::Help(args) => commands::help::run(&args),
    }
}
