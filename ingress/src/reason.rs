//! Reasons of refusals, for logs, metrics and the status, never for the client.

use crate::{accept::Why, limits::Limit};
use talaria_core::openrouter::signature::SignatureFault;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not a callback's path.
    WrongPath,
    /// A callback's path, and not a POST.
    WrongMethod,
    /// An unknown tenant, or an invalid signature.
    Unauthorized(Why),
    /// Signed with a tenant's secret, and not POSTed to that tenant's path.
    Misdirected,
    /// None of the tenant's secrets can be read, so its callbacks cannot be verified.
    NoSecret,
    /// The body is longer than allowed.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The body broke off.
    Broken,
    /// Not HTTP.
    BadRequest,
    /// HTTP/2, which is not supported.
    Http2,
    /// TLS, which is not supported.
    Tls,
    /// The head is longer, or has more headers, than allowed.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTooSlow,
    /// The bus did not store it.
    NotStored,
    /// A limit was reached.
    Limit(Limit),
}

impl Reason {
    /// One word, for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::WrongPath => "wrong_path",
            Self::WrongMethod => "wrong_method",
            Self::Unauthorized(Why::UnknownTenant) => "unknown_tenant",
            Self::Unauthorized(Why::OnlyPolls) => "only_polls",
            Self::Unauthorized(Why::Signature(fault)) => fault.label(),
            Self::Misdirected => "misdirected",
            Self::NoSecret => "no_secret",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Broken => "broken",
            Self::BadRequest => "bad_request",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTooSlow => "head_too_slow",
            Self::NotStored => "not_stored",
            Self::Limit(limit) => limit.key(),
        }
    }

    /// A few words for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::WrongPath => "the path is no callback's",
            Self::WrongMethod => "it was not a POST",
            Self::Unauthorized(Why::UnknownTenant) => "there is no tenant of that name",
            Self::Unauthorized(Why::OnlyPolls) => "the tenant only polls: it has no openrouter.secrets",
            Self::Unauthorized(Why::Signature(fault)) => match fault {
                SignatureFault::Missing => "it is not signed",
                SignatureFault::Malformed => "the signature header cannot be read",
                SignatureFault::Stale => "the signature is too old, or from the future",
                SignatureFault::Mismatch => "the signature does not match",
            },
            Self::Misdirected => "it is signed rightly, and was not POSTed to the tenant's path",
            Self::NoSecret => "none of the tenant's OpenRouter secrets can be read",
            Self::TooLarge => "the body is longer than ingress.max_body_bytes",
            Self::TooSlow => "the body did not arrive within ingress.body_timeout",
            Self::Broken => "the body broke off",
            Self::BadRequest => "it was not HTTP/1.1",
            Self::Http2 => "HTTP/2 was spoken, and only HTTP/1.1 is understood here",
            Self::Tls => "TLS was spoken, and only plain HTTP is understood here",
            Self::HeadTooLarge => {
                "the head is longer than ingress.max_head_bytes, or has more than ingress.max_headers"
            }
            Self::HeadTooSlow => "the head did not arrive within ingress.head_timeout",
            Self::NotStored => "the bus did not store it",
            Self::Limit(Limit::Connections) => "ingress.limits.connections was reached",
            Self::Limit(Limit::ConnectionsPerAddress) => "ingress.limits.connections_per_address was reached",
            Self::Limit(Limit::PerAddress) => "ingress.limits.per_address was reached",
            Self::Limit(Limit::RefusedPerAddress) => "ingress.limits.refused_per_address was reached",
            Self::Limit(Limit::PerTenant) => "ingress.limits.per_tenant was reached",
            Self::Limit(Limit::Bodies) => "ingress.limits.bodies was reached",
            Self::Limit(Limit::Storing) => "ingress.limits.storing was reached",
        }
    }
}
