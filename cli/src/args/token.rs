//! `talaria token`

use super::path::path;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `talaria token`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria token --name grafana
  talaria token --name ops --scope control --out ops.token
  talaria token --name agent --scope submit --tenant acme
  talaria token --name acme --tenant acme --json

Prints a fresh token once, and its entry for relay.tokens, which has the hash alone. The token itself is not stored. It has \
256 random bits, so it cannot be found from its SHA-256.

Commands take the file with --token-file or TALARIA_TOKEN_FILE, or the token itself in TALARIA_TOKEN; other programs send it \
as gRPC metadata, authorization: Bearer TOKEN.")]
pub struct Token {
    /// Its name, which is recorded with each action
    #[arg(long, default_value = "ops", value_name = "NAME")]
    pub name: String,
    /// The requests that it permits
    #[arg(long, default_value = "read", value_name = "SCOPE")]
    pub scope: Scope,
    /// The one tenant that it is for; all where it is left out
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Write the token into this new file, readable by this user alone, and do not print it
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// The requests that a token permits.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// Requests that only read
    Read,
    /// Also those that submit, track and stop jobs
    Submit,
    /// All requests
    Control,
}

impl From<Scope> for talaria_core::config::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Submit => Self::Submit,
            Scope::Control => Self::Control,
        }
    }
}
