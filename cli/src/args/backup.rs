//! The arguments of `talaria backup` and `talaria restore`.

use super::path::path;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `talaria backup`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria backup /backups/talaria-$(date +%F).db
  talaria --config /etc/talaria/talaria.yaml backup talaria.db --json
  talaria backup - | age --recipient age1… > talaria.db.age

The copy has every callback that was answered 204 before it began, and can be taken at any time. It has payloads, so it is \
readable by you alone. With -, it is completed in data_dir, which needs the space, and then written to standard output, with \
its size on standard error. `talaria restore` goes back to it. Over NATS, back up the streams instead.")]
pub struct Backup {
    /// The file to write, which must not exist; or - for standard output
    #[arg(value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `talaria restore`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria restore /backups/talaria-2026-04-24.db
  talaria restore talaria.db --force        keeps the present bus beside the new one
  talaria restore bus.db                    with bus.nats configured: moves an embedded bus to NATS

Stop Talaria first: it refuses while a process uses data_dir. The file is checked before anything is moved. Deliveries that \
were made since the backup are made again, under the same ids; callbacks since then are lost, unless OpenRouter sends them \
again. With NATS configured, a file of an embedded bus moves there, into new streams, before the first relay has run; backups of \
NATS itself are restored by its own tools.")]
pub struct Restore {
    /// A file that `talaria backup` wrote, or the bus.db of a stopped Talaria that moves to NATS; it stays as it is
    #[arg(value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// Keep the present bus under another name
    #[arg(long)]
    pub force: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
