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

The copy holds everything that was answered 204 before it began; it can be taken at any time. It holds payloads, \
so it is readable by you alone. With -, it goes to standard output once it is whole, and what it has is said on standard \
error; until then it is in data_dir, which needs the room. `talaria restore` goes back to it. Over NATS there is nothing to \
copy here: back up the streams.")]
pub struct Backup {
    /// The file to write, which must not be there yet; or - for standard output
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
  talaria restore talaria.db --force        keeps the bus that is there beside the new one

Stop Talaria first: it refuses while a process uses data_dir. The file is checked before anything is moved. What was \
delivered since the backup was taken is delivered again, under the same ids; callbacks that came since are gone, unless \
OpenRouter sends them again. Over NATS there is nothing to restore here: restore the streams.")]
pub struct Restore {
    /// A file that `talaria backup` wrote; it stays as it is
    #[arg(value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// Put the bus that is there aside, under another name
    #[arg(long)]
    pub force: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
