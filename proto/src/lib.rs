//! What machines agree on: the `.proto` files beside this crate and the code generated from them. No logic but the names of states.
//!
//! - `talaria/v1/event.proto`: the normalized event, and what was not one.
//! - `talaria/v1/delivery.proto`: an event on its way to a route, its attempts, what waits.
//! - `talaria/v1/journal.proto`: the records and commits of a partition's journal.
//! - `talaria/v1/relay.proto`: what relays announce to each other.
//! - `talaria/v1/ingress.proto`: what ingresses tell relays of what they refused.
//! - `talaria/v1/action.proto`: what operators ask for: pauses, replays.
//! - `talaria/v1/status.proto`: `StatusService`, which answers what became of everything.
//! - `talaria/v1/control.proto`: `ControlService`, by which an operator intervenes, and which explains.
//! - `talaria/v1/cluster.proto`: what relays ask each other, so that any of them answers for all.

mod delivery_state;

/// Version 1 of the contracts.
#[allow(clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("talaria.v1");
}

/// Every contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
