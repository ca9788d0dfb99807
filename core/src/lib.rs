//! The domain: ids, events, configuration and signatures. No network, no clock.
//!
//! All items are values or decisions about values; callers pass the bytes and the time.
//!
//! - [`openrouter`]: the signatures, payloads and paths of callbacks.
//! - [`id`]: the ids of events, deliveries and quarantined callbacks. [`short_id`]: their short forms for people.
//! - [`hermes`]: Hermes' templates, filters and signatures, exactly.
//! - [`json`]: JSON with Python's semantics, for the exactness of [`hermes`].
//! - [`network`]: classes of IP addresses, and the allowed targets of requests.
//! - [`media`]: links to the files of jobs. [`money`]: amounts of money. [`token`]: access tokens of a relay's clients.
//! - [`notice`]: the types of notices. [`report`]: the signatures of reports about runs.
//! - [`files`]: bounded reading of files. [`invisible`]: invisible characters. [`time`]: arithmetic and text of times.
//! - [`config`]: the configuration file.

pub mod config;
pub mod files;
pub mod hermes;
pub mod id;
pub mod invisible;
pub mod json;
mod mac;
pub mod media;
pub mod money;
pub mod network;
pub mod notice;
pub mod openrouter;
pub mod report;
pub mod short_id;
pub mod time;
pub mod token;
