//! The command line and the services: the only crate that knows both ingress and relay.
//!
//! ```text
//! args ──▶ commands ──┬─▶ client: asks a running relay or its admin port ──▶ print
//!                     └─▶ service: reload, stack, admin, metrics, traces, tunnel
//! ```
//!
//! - `args`: the command line. `commands`: one file for each command. `print`: terminal output.
//! - `client`: requests to a running Talaria. `compare`: a file's settings and those of a process.
//! - `select`, `secret_file`, `callback`, `hermes`: parts that several commands share. `standin`: stand-ins for the demo.
//! - `service`: the boot of a service. `stack`: ingress, relay or both, with the admin port. `reload`: its configuration.
//! - `files`: the limit of open files. [`metrics`]: the catalogue. `traces`: export of spans. `tunnel`: cloudflared.
//! - [`logging`]: logs on standard error. `failure`: errors with exit codes.

mod admin;
mod args;
mod callback;
mod client;
mod commands;
mod compare;
mod failure;
mod files;
mod hermes;
pub mod logging;
pub mod metrics;
mod notices;
mod print;
mod reload;
mod secret_file;
mod select;
mod service;
mod stack;
mod standin;
mod traces;
mod tunnel;

pub use args::Args;
pub use failure::Failure;

use args::Command;

/// Runs a command to its end. Not async, so that the commands' futures are compiled in this crate and not again in `main.rs`.
pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command(args))
}

async fn command(args: Args) -> Result<(), Failure> {
    let config = args.configuration();
    match args.command {
        Command::Init(args) => commands::init::run(&config, &args),
        Command::Check(args) => commands::check::run(&config, args).await,
        // Boxed, because its future holds those of all checks.
        Command::Doctor(args) => Box::pin(commands::doctor::run(&config, args)).await,
        Command::Up(args) => commands::up::run(&config, args).await,
        Command::Ingress(args) => commands::ingress::run(&config, args).await,
        Command::Relay(args) => commands::relay::run(&config, args).await,
        Command::Secrets(args) => commands::secrets::run(&config, &args),
        Command::Healthcheck(args) => commands::healthcheck::run(&config, &args).await,
        Command::Demo(args) => commands::demo::run(&args).await,
        Command::Send(args) => commands::send::run(&config, &args).await,
        Command::Status(args) => commands::status::run(&config, args).await,
        Command::Stats(args) => commands::stats::run(&config, args).await,
        Command::Explain(args) => commands::explain::run(&config, args).await,
        Command::Watch(args) => commands::watch::run(&config, args).await,
        Command::Pause(args) => commands::pause::run(&config, args).await,
        Command::Resume(args) => commands::resume::run(&config, args).await,
        Command::Probe(args) => commands::probe::run(&config, args).await,
        Command::Cancel(args) => commands::cancel::run(&config, args).await,
        Command::Replay(args) => commands::replay::run(&config, args).await,
        Command::Replays(args) => commands::replays::run(&config, args).await,
        Command::Models(args) => commands::models::run(&config, &args).await,
        Command::Submit(args) => commands::submit::run(&config, &args).await,
        Command::Jobs(args) => commands::jobs::run(&config, args).await,
        Command::Track(args) => commands::track::run(&config, args).await,
        Command::StopJob(args) => commands::stop_job::run(&config, args).await,
        Command::Fetch(args) => commands::fetch::run(&config, &args).await,
        Command::Costs(args) => commands::costs::run(&config, args).await,
        Command::Actions(args) => commands::actions::run(&config, args).await,
        // Boxed, because its future holds those of all tools.
        Command::Mcp(args) => Box::pin(commands::mcp::run(&config, args)).await,
        // Boxed, because their futures hold a connection to NATS.
        Command::Backup(args) => Box::pin(commands::backup::run(&config, &args)).await,
        Command::Restore(args) => Box::pin(commands::restore::run(&config, &args)).await,
        Command::Token(args) => commands::token::run(&args),
        Command::Render(args) => commands::render::run(&config, &args),
        Command::Hermes(args) => commands::hermes::run(&config, &args),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
        Command::Help(args) => commands::help::run(&args),
    }
}
