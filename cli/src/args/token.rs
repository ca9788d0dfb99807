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
  talaria token --name acme --tenant acme --json

Prints a fresh token once, and what to write under relay.tokens: its hash, by which the relay knows it. The token itself \
is kept nowhere. It has 256 random bits, so its SHA-256 tells nothing of it.

Whoever asks names the file with --token-file, or sets TALARIA_TOKEN_FILE, or TALARIA_TOKEN to the token itself; other \
programs send it as gRPC metadata, authorization: Bearer TOKEN.")]
pub struct Token {
    /// What is recorded of whoever asks with it
    #[arg(long, default_value = "ops", value_name = "NAME")]
    pub name: String,
    /// What it may be used for
    #[arg(long, default_value = "read", value_name = "SCOPE")]
    pub scope: Scope,
    /// The one tenant that it is for; all where it is left out
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Write the token into this new file, which this user alone may read, and do not print it
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a token may be used for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// To look
    Read,
    /// To intervene, and to look
    Control,
}
