//! The contracts between programs: the `.proto` files beside this crate and the code generated from them. No logic but names of
//! states and outcomes, and times in messages.
//!
//! - `talaria/v1/event.proto`: the normalized event, and the quarantined callback.
//! - `talaria/v1/delivery.proto`: a delivery, its attempts, its waiting task.
//! - `talaria/v1/journal.proto`: the records and commits of a partition's journal.
//! - `talaria/v1/relay.proto`: announcements among relays.
//! - `talaria/v1/ingress.proto`: announcements of refusals by ingresses.
//! - `talaria/v1/action.proto`: operators' actions: pauses, replays.
//! - `talaria/v1/status.proto`: `StatusService`, which reads the state of deliveries and routes.
//! - `talaria/v1/control.proto`: `ControlService`, with which an operator intervenes, and which explains.
//! - `talaria/v1/job.proto`: jobs at OpenRouter, and `JobService`, which submits and follows them.
//! - `talaria/v1/openrouter.proto`: questions of relays to ingresses, which alone have OpenRouter's keys.
//! - `talaria/v1/cluster.proto`: questions among relays, so that any of them answers for all.

mod attempt_outcome;
mod delivery_state;
mod job_state;
mod run_outcome;
pub mod time;

/// Version 1 of the contracts.
#[allow(clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("talaria.v1");
}

/// Every contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
