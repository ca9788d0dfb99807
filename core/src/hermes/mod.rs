//! Hermes' own languages, exactly: what a route's configuration and an answer of ours mean over there.
//!
//! Measured against hermes-agent 0.19.0, whose `gateway/platforms/webhook.py` and `webhook_filters.py` are the
//! source of every rule here but where a module names newer ones. The tests run the real code beside this one.
//!
//! - [`command`]: which prompts are commands.
//! - [`gateway`]: what a Hermes home says about the endpoint itself.
//! - [`template`]: prompts, `{data.id}` and the rest.
//! - [`filter`]: which payloads a route wants.
//! - [`pattern`]: the regular expressions in filters, with Python's meaning.
//! - [`signature`]: how Hermes knows that a request is ours.

pub mod command;
pub mod filter;
pub mod gateway;
pub mod pattern;
pub mod signature;
pub mod template;
