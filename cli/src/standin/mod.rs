//! Stand-ins for `talaria demo`: one for Hermes, one for OpenRouter.

pub(crate) mod hermes;
pub(crate) mod openrouter;
