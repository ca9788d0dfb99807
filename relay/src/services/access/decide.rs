//! Authenticates a client by its credentials, and decides what it may ask.

use super::Caller;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use talaria_core::{
    config::{Relay, RelayTls, Scope, Token},
    token::TokenHash,
};
use talaria_proto::v1::{control_service_server, status_service_server};
use tonic::Code;

const STATUS: &str = status_service_server::SERVICE_NAME;
const CONTROL: &str = control_service_server::SERVICE_NAME;
const HEALTH: &str = tonic_health::pb::health_server::SERVICE_NAME;
const REFLECTION: &str = tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME;
const OLDER_REFLECTION: &str = tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME;

/// What a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing: it tells of no tenant.
    Nothing,
    /// An authenticated client with at least this scope.
    Scope(Scope),
}

/// Every method that is answered.
const METHODS: [(&str, &[&str], Takes); 6] = [
    (HEALTH, &["Check", "List", "Watch"], Takes::Nothing),
    (REFLECTION, &["ServerReflectionInfo"], Takes::Scope(Scope::Read)),
    (OLDER_REFLECTION, &["ServerReflectionInfo"], Takes::Scope(Scope::Read)),
    (
        STATUS,
        &[
            "GetEvent",
            "ListEvents",
            "ListUnmatched",
            "GetDelivery",
            "ListDeliveries",
            "WatchDeliveries",
            "GetSummary",
            "ListQuarantined",
            "ListRefusals",
            "ListIds",
        ],
        Takes::Scope(Scope::Read),
    ),
    (
        CONTROL,
        &["Explain", "GetReplayJob", "ListReplayJobs", "ListControlActions"],
        Takes::Scope(Scope::Read),
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
        Takes::Scope(Scope::Control),
    ),
];

/// What the method at this path takes, if there is one: `/package.Service/Method`.
pub(super) fn takes(path: &str) -> Option<Takes> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (.., takes) = METHODS.iter().find(|(of, methods, _)| *of == service && methods.contains(&method))?;
    Some(*takes)
}

/// The connection that a request comes on.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// Whether it came to a loopback address.
    pub loopback: bool,
    /// The TLS that it is under, as it was when the connection was made.
    pub tls: Option<Arc<RelayTls>>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token was shown.
    NoToken,
    /// It is not one of those that are configured.
    UnknownToken,
    /// The token is not for this.
    Scope(String),
    /// The connection was made when other certificates were asked for, or none.
    OldConnection,
    /// No authentication is configured, and the address is not loopback.
    Unguarded,
    /// There is no such method.
    NoSuchMethod,
}

impl Refusal {
    /// The metric's label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::UnknownToken => "unknown_token",
            Self::Scope(_) => "scope",
            Self::OldConnection => "old_connection",
            Self::Unguarded => "unguarded",
            Self::NoSuchMethod => "no_such_method",
        }
    }

    /// The answer.
    pub(super) fn told(&self) -> (Code, String) {
        match self {
            Self::NoToken => (
                Code::Unauthenticated,
                "this relay answers those who show a token: authorization: Bearer tlr_…".into(),
            ),
            Self::UnknownToken => {
                (Code::Unauthenticated, "the token is none of this relay's relay.tokens".into())
            }
            Self::Scope(token) => (
                Code::PermissionDenied,
                format!("the token {token} has scope read, and this takes scope control"),
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

/// Who asks, by the configuration as it is now.
pub(super) fn identify(relay: &Relay, wire: &Wire, shown: Option<TokenHash>) -> Result<Caller, Refusal> {
    // Made before TLS was configured, or verified by other authorities.
    if let Some(tls) = &relay.tls
        && wire.tls.as_ref().is_none_or(|then| then.client_ca != tls.client_ca)
    {
        return Err(Refusal::OldConnection);
    }
    if relay.tokens.is_empty() {
        return if relay.is_guarded() || wire.loopback {
            Ok(Caller::anybody())
        } else {
            Err(Refusal::Unguarded)
        };
    }
    let shown = shown.ok_or(Refusal::NoToken)?;
    let token = find(&relay.tokens, shown).ok_or(Refusal::UnknownToken)?;
    Ok(Caller { token: token.name.clone(), scope: token.scope, tenant: token.tenant.clone() })
}

/// Compares with every hash, so that the time tells nothing of any.
fn find(tokens: &[Token], shown: TokenHash) -> Option<&Token> {
    let mut found = None;
    for token in tokens {
        for hash in &token.hashes {
            if bool::from(hash.ct_eq(&shown)) {
                found = Some(token);
            }
        }
    }
    found
}

/// Whether they may ask that.
pub(super) fn permit(caller: &Caller, scope: Scope) -> Result<(), Refusal> {
    if caller.scope >= scope { Ok(()) } else { Err(Refusal::Scope(caller.token.clone())) }
}

#[cfg(test)]
mod tests;
