//! What Talaria means: ids, events, configuration and signatures. No network, no clock.
//!
//! Everything here is a value or a decision about values; callers bring the bytes and the time.
//!
//! - [`openrouter`]: the way in. Verifies a callback's signature and reads the event out of its payload.
//! - [`id`]: the names of events, deliveries and quarantined callbacks, made from what they are.
//! - [`short_id`]: ids as people read and type them.
//! - [`hermes`]: the way out. Hermes' templates, filters and signature, exactly.
//! - [`json`]: payloads as Python reads them, which is what "exactly" rests on.
//! - [`network`]: whose an IP address is, and which of them requests may go to.
//! - [`token`]: by which programs and people show a relay who they are, and what is kept of it.
//! - [`files`]: what the configuration names, read within bounds. [`invisible`]: characters that are not seen.
//! - [`config`]: the operator's file, what it says and what it means.

pub mod config;
pub mod files;
pub mod hermes;
pub mod id;
pub mod invisible;
pub mod json;
mod mac;
pub mod network;
pub mod openrouter;
pub mod short_id;
pub mod token;
