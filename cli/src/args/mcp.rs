//! The arguments of `talaria mcp`.

use super::Ask;
use clap::{Args, ValueEnum};

/// `talaria mcp`
#[derive(Args, Debug)]
// Its answers are the protocol's.
#[command(mut_arg("json", |json| json.hide(true)), after_help = "\
Examples:
  talaria mcp
  talaria mcp --relay https://relay.example.com:50051 --token-file ~/.talaria-token
  talaria mcp --allow read           no jobs, which cost money
  talaria mcp --allow control        also replays, cancels, pauses, resumes and probes

A client starts it: it reads requests from standard input and answers on standard output, and ends with its input. Logs and \
warnings go to standard error. Each intervention has to be confirmed by a code. docs/mcp.md shows how Hermes is told of it.")]
pub struct Mcp {
    /// The tools that clients get; the token may allow less
    #[arg(long, value_name = "SCOPE", default_value = "submit")]
    pub allow: Allow,
    #[command(flatten)]
    pub ask: Ask,
}

/// What clients may do, as the scopes of tokens. Each contains those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Allow {
    /// Look at models, jobs and deliveries
    Read,
    /// Submit jobs too
    Submit,
    /// Intervene too
    Control,
}

impl Allow {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Control => "control",
        }
    }
}
