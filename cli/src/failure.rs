//! What goes wrong, and the exit code that says so.
//!
//! 0 done; 1 it did not work; 2 the command line is wrong; 3 the configuration is wrong; 4 not known; 5 nobody
//! answers; 6 not allowed. They are part of the interface: `talaria --help` lists them.

use crate::tls;
use std::{error::Error, io, iter, process::ExitCode};
use talaria_core::config;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// It did not work.
    #[error("{0:#}")]
    Other(anyhow::Error),
    /// The command line asks for something that there is not.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// What was asked for is not known.
    #[error("{0}")]
    Unknown(String),
    /// No answer.
    #[error("{0}")]
    Unreachable(String),
    /// The relay does not know who asks, or they may not.
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

    /// Tells the user, unless it was he who stopped listening.
    pub fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
        // When standard error is gone the error cannot be shown.
        let _ =
            io::Write::write_fmt(&mut anstream::stderr(), format_args!("{style}error:{style:#} {self}\n"));
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

/// Whether nothing came back in time: neither the beginning of an answer nor the answer to a ping.
fn is_silent(status: &tonic::Status) -> bool {
    let first: Option<&(dyn Error + 'static)> = status.source();
    iter::successors(first, |error| (*error).source())
        .any(|error| error.is::<tonic::TimeoutExpired>() || error.to_string().contains("timed out"))
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if let Some(failure) = tls::failure(&status) {
            return failure;
        }
        if is_silent(&status) {
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
            tonic::Code::NotFound => Self::Unknown(status.message().to_owned()),
            tonic::Code::InvalidArgument => Self::Usage(status.message().to_owned()),
            // What a relay says itself has no source; a connection that breaks has. With TLS 1.3 that is also how a client
            // hears that its certificate is missing: after the handshake.
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
