//! Authenticates a client by its credentials, and decides which methods it may call.

use super::Caller;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use talaria_core::{
    config::{Relay, RelayTls, Scope, Token},
    token::TokenHash,
};
use talaria_proto::v1::{control_service_server, job_service_server, status_service_server};
use tonic::Code;

const STATUS: &str = status_service_server::SERVICE_NAME;
const CONTROL: &str = control_service_server::SERVICE_NAME;
const JOBS: &str = job_service_server::SERVICE_NAME;
const HEALTH: &str = tonic_health::pb::health_server::SERVICE_NAME;
const REFLECTION: &str = tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME;
const OLDER_REFLECTION: &str = tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME;

/// The access that a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It shows nothing of tenants.
    Nothing,
    /// An authenticated client with at least this scope.
    Scope(Scope),
}

/// All methods. Any other is refused.
const METHODS: [(&str, &[&str], Access); 8] = [
    (HEALTH, &["Check", "List", "Watch"], Access::Nothing),
    (REFLECTION, &["ServerReflectionInfo"], Access::Scope(Scope::Read)),
    (OLDER_REFLECTION, &["ServerReflectionInfo"], Access::Scope(Scope::Read)),
    (
        STATUS,
        &[
            "GetEvent",
            "ListEvents",
            "ListUnmatched",
            "GetDelivery",
            "GetEvidence",
            "ListDeliveries",
            "WatchDeliveries",
            "GetSummary",
            "GetSeries",
            "ListQuarantined",
            "ListRefusals",
            "ListRelays",
            "ListIds",
        ],
        Access::Scope(Scope::Read),
    ),
    (
        CONTROL,
        &["Explain", "GetReplayJob", "ListReplayJobs", "ListControlActions"],
        Access::Scope(Scope::Read),
    ),
    (
        CONTROL,
        &[
            "Pause",
            "Resume",
            "ProbeRoute",
            "CancelDelivery",
            "ReplayDelivery",
            "ReplayDeliveries",
            "CancelReplayJob",
        ],
        Access::Scope(Scope::Control),
    ),
    (
        JOBS,
        &["ListModels", "GetJob", "ListJobs", "WatchJob", "ListCosts", "GetMedia"],
        Access::Scope(Scope::Read),
    ),
    (JOBS, &["SubmitJob", "TrackJob", "StopJob"], Access::Scope(Scope::Submit)),
];

/// The access that the method at a path needs, if it exists: `/package.Service/Method`.
pub(super) fn access_of(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (.., needs) = METHODS.iter().find(|(of, methods, _)| *of == service && methods.contains(&method))?;
    Some(*needs)
}

/// The connection of a request.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    /// Whether it came to a loopback address.
    pub loopback: bool,
    /// The TLS configuration when the connection was made.
    pub tls: Option<Arc<RelayTls>>,
}

/// The reason to refuse a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    NoToken,
    UnknownToken,
    /// The token's scope is too small.
    Scope {
        token: String,
        has: Scope,
        needs: Scope,
    },
    /// The connection was made under another configuration of client certificates.
    OldConnection,
    /// No authentication is configured, and the address is not loopback.
    Unguarded,
    NoSuchMethod,
}

impl Denial {
    /// The metric's label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::UnknownToken => "unknown_token",
            Self::Scope { .. } => "scope",
            Self::OldConnection => "old_connection",
            Self::Unguarded => "unguarded",
            Self::NoSuchMethod => "no_such_method",
        }
    }

    pub(super) fn answer(&self) -> (Code, String) {
        match self {
            Self::NoToken => (
                Code::Unauthenticated,
                "this relay answers those who show a token: authorization: Bearer tlr_…".into(),
            ),
            Self::UnknownToken => {
                (Code::Unauthenticated, "the token is none of this relay's relay.tokens".into())
            }
            Self::Scope { token, has, needs } => (
                Code::PermissionDenied,
                format!("the token {token} has scope {}, and this takes scope {}", has.name(), needs.name()),
            ),
            Self::OldConnection => (
                Code::Unauthenticated,
                "relay.tls was changed since this connection was made: connect again".into(),
            ),
            Self::Unguarded => (
                Code::Unauthenticated,
                "no relay.tokens are configured, and without any only loopback addresses are answered".into(),
            ),
            Self::NoSuchMethod => (Code::Unimplemented, "this relay has no such method".into()),
        }
    }
}

/// The caller, by the current configuration.
pub(super) fn identify(
    relay: &Relay,
    transport: &Transport,
    token: Option<TokenHash>,
) -> Result<Caller, Denial> {
    // Made before TLS was configured, or verified by other authorities.
    if let Some(tls) = &relay.tls
        && transport.tls.as_ref().is_none_or(|then| then.client_ca != tls.client_ca)
    {
        return Err(Denial::OldConnection);
    }
    if relay.tokens.is_empty() {
        return if relay.is_guarded() || transport.loopback {
            Ok(Caller::unrestricted())
        } else {
            Err(Denial::Unguarded)
        };
    }
    let token = token.ok_or(Denial::NoToken)?;
    let token = find(&relay.tokens, token).ok_or(Denial::UnknownToken)?;
    Ok(Caller { token: token.name.clone(), scope: token.scope, tenant: token.tenant.clone() })
}

/// Compares with every hash, so that the time does not depend on the token.
fn find(tokens: &[Token], presented: TokenHash) -> Option<&Token> {
    let mut found = None;
    for token in tokens {
        for hash in &token.hashes {
            if bool::from(hash.ct_eq(&presented)) {
                found = Some(token);
            }
        }
    }
    found
}

pub(super) fn permit(caller: &Caller, needs: Scope) -> Result<(), Denial> {
    if caller.scope >= needs {
        return Ok(());
    }
    Err(Denial::Scope { token: caller.token.clone(), has: caller.scope, needs })
}

#[cfg(test)]
mod tests;
