//! Hermes' own languages and protocols, exactly.
//!
//! Measured against hermes-agent 0.19.0, whose `gateway/platforms/webhook.py` and `webhook_filters.py` are the source of every
//! rule here unless a module names newer ones. The end-to-end tests compare this code with the real one.
//!
//! - [`command`]: prompts that are commands.
//! - [`gateway`]: the webhook endpoint in a Hermes home.
//! - [`template`]: prompts with tokens such as `{data.id}`.
//! - [`filter`]: filters of payloads.
//! - [`pattern`]: the regular expressions in filters, with Python's meaning.
//! - [`signature`]: signing schemes of requests.

pub mod command;
pub mod filter;
pub mod gateway;
pub mod pattern;
pub mod signature;
pub mod template;
