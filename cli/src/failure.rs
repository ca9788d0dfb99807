//! Errors of commands, and their exit codes.
//!
//! 0 done; 1 failed; 2 wrong command line; 3 wrong configuration; 4 unknown; 5 no answer; 6 not allowed. The codes are part of the
//! interface: `talaria --help` lists them.

use crate::{
    client::tls,
    print::{Screen, wrapped},
};
use std::{error::Error, io, iter, process::ExitCode};
use talaria_core::config;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// Any other error.
    #[error("{0:#}")]
    Other(anyhow::Error),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A tenant, a route, a delivery or the like is unknown.
    #[error("{0}")]
    Unknown(String),
    /// No answer.
    #[error("{0}")]
    Unreachable(String),
    /// The token is missing, unknown or insufficient.
    #[error("{0}")]
    NotAllowed(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 3,
            Self::Unknown(_) => 4,
            Self::Unreachable(_) => 5,
            Self::NotAllowed(_) => 6,
        }
    }

    /// Prints the error, unless it is a closed pipe.
    pub fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
        let text = wrapped(&format!("{style}error:{style:#} {self}\n"), Screen::stderr());
        // Standard error may be closed.
        let _ = io::Write::write_all(&mut anstream::stderr(), text.as_bytes());
        ExitCode::from(self.code())
    }

    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Other(error) if error.chain().any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        }))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Whether neither an answer nor a keep-alive ping arrived in time.
fn is_timeout(status: &tonic::Status) -> bool {
    let first: Option<&(dyn Error + 'static)> = status.source();
    iter::successors(first, |error| (*error).source())
        .any(|error| error.is::<tonic::TimeoutExpired>() || error.to_string().contains("timed out"))
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if let Some(failure) = tls::failure(&status) {
            return failure;
        }
        if is_timeout(&status) {
            return Self::Unreachable(
                "the relay takes connections and does not answer\n  help: it hangs, or something else listens there: look \
                 at its log and at /readyz of its admin port; the relay's address is relay.grpc, http://127.0.0.1:50051 by \
                 default"
                    .to_owned(),
            );
        }
        match status.code() {
            tonic::Code::Unauthenticated => Self::NotAllowed(format!(
                "the relay says: {}\n  help: name a file with a token with --token-file, or set TALARIA_TOKEN_FILE or \
                 TALARIA_TOKEN; `talaria token` makes one",
                status.message()
            )),
            tonic::Code::PermissionDenied => Self::NotAllowed(format!(
                "the relay says: {}\n  help: ask with another token",
                status.message()
            )),
            tonic::Code::FailedPrecondition if status.message().contains("openrouter.api_key") => {
                Self::Other(anyhow::anyhow!(
                    "the relay says: {}\n  help: write api_key: {{file: PATH}} under openrouter of the tenant, and the key into that \
                     file; docs/jobs.md begins with it",
                    status.message()
                ))
            }
            tonic::Code::NotFound => Self::Unknown(status.message().to_owned()),
            tonic::Code::InvalidArgument => Self::Usage(status.message().to_owned()),
            // A status that the relay sent has no source; a broken connection has. With TLS 1.3 a missing client certificate also
            // breaks the connection after the handshake.
            tonic::Code::Cancelled
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::Unknown
                if status.source().is_some() =>
            {
                Self::Unreachable(format!(
                    "what listens there hung up, or is no relay: {}\n  help: the relay's address is relay.grpc, \
                 http://127.0.0.1:50051 by default; with relay.tls it is https://, and with its client_ca it takes a \
                 certificate: --cert and --key",
                    status.message()
                ))
            }
            tonic::Code::Unavailable => Self::Unreachable(status.message().to_owned()),
            _ => Self::Other(anyhow::anyhow!("the relay says: {}", status.message())),
        }
    }
}
