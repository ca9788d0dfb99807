//! OpenRouter's callbacks: who sent them, and what they say.
//!
//! - [`signature`]: `X-OpenRouter-Signature`, made and verified.
//! - [`diagnosis`]: why a signature may not match, for the operator.
//! - [`event`]: the payload, normalized.
//! - [`documented`]: the callbacks that OpenRouter documents, as examples.

pub mod diagnosis;
pub mod documented;
pub mod event;
pub mod signature;

/// The header that OpenRouter sets to `<job id>-<status>`. The signature does not cover it.
pub const IDEMPOTENCY_KEY_HEADER: &str = "X-OpenRouter-Idempotency-Key";
