//! The arguments of `talaria backup` and `talaria restore`.

use super::path::path;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `talaria backup`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria backup /backups/talaria-$(date +%F).db
  talaria backup --into /backups --keep 7           names the copy by the time, and keeps seven
  talaria backup - | age --recipient age1… > talaria.db.age
  talaria backup /backups/talaria-$(date +%F)       over NATS: a directory

The copy has every callback that was answered 204 before it began, and can be taken at any time. It has payloads, so it is \
readable by you alone. `talaria restore` goes back to it.

With -, it is completed in data_dir, which needs the space, and then written to standard output, with its size on standard \
error. Over NATS it is a directory with both streams, as `nats stream backup` writes each of them, and not for standard output.")]
pub struct Backup {
    /// The file, or over NATS the directory, to write, which must not exist; or - for standard output
    #[arg(value_name = "FILE|DIRECTORY", value_parser = path(), required_unless_present = "into", conflicts_with = "into")]
    pub to: Option<PathBuf>,
    /// Write it into this directory, under a name with the time
    #[arg(long, value_name = "DIRECTORY", value_parser = path())]
    pub into: Option<PathBuf>,
    /// Remove the oldest copies with such names beyond so many
    #[arg(long, value_name = "N", requires = "into", value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: Option<u16>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `talaria restore`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria restore /backups/talaria-2026-04-24.db
  talaria restore talaria.db --force                keeps the present bus beside the new one
  talaria restore /backups/talaria-2026-04-24       over NATS: a directory
  talaria restore bus.db                            over NATS: moves an embedded bus there

Stop Talaria first: it refuses while a process uses data_dir, and over NATS while a relay runs. Everything is checked before \
anything is changed. Deliveries that were made since the backup are made again, under the same ids; callbacks since then are lost, \
unless OpenRouter sends them again.

Over NATS it needs a user who may create and delete streams. With --force it backs the present streams up beside DIRECTORY first. \
A file of an embedded bus moves into new streams, before the first relay has run.")]
pub struct Restore {
    /// A file or a directory that `talaria backup` wrote, or the bus.db of a stopped Talaria that moves to NATS; it stays as it is
    #[arg(value_name = "FILE|DIRECTORY", value_parser = path())]
    pub from: PathBuf,
    /// Replace the present bus, and keep it under another name
    #[arg(long)]
    pub force: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
