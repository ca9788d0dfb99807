//! Access to the gRPC services.
//!
//! - [`ask`]: clients that show a token.
//! - [`every_method`]: each method that there is, asked with every kind of token.
//! - [`replaced`]: tokens and certificates that are replaced while a relay runs.
//! - [`strangers`]: connections of those who never show who they are.
//! - [`commands`]: the same from the command line, over TLS and without.

mod ask;
mod commands;
mod every_method;
mod replaced;
mod strangers;

use talaria_core::token::TokenHash;

/// An entry of `relay.tokens` for these tokens.
pub(crate) fn entry(name: &str, scope: &str, tenant: Option<&str>, tokens: &[&str]) -> String {
    let hashes: Vec<_> = tokens.iter().map(|token| TokenHash::of(token.as_bytes()).to_string()).collect();
    let tenant = tenant.map(|tenant| format!("tenant: {tenant}, ")).unwrap_or_default();
    format!("{{name: {name}, scope: {scope}, {tenant}hashes: {hashes:?}}}")
}
