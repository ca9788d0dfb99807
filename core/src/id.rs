//! Ids that are hashes of their contents, so that every process computes the same one.
//!
//! An id is a truncated SHA-256 in lower-case base32 (RFC 4648) after a prefix for its kind:
//!
//! ```text
//! evt_ <6 bytes of the job> <14 bytes of tenant, job and type>        32 characters
//! dlv_ <the event's 20 bytes> <5 bytes of the route's name>           40 characters
//! qrt_ <20 bytes of tenant and body>                                  32 characters
//! job_ <20 bytes of tenant and request id>                            32 characters
//! ```
//!
//! The job comes first so that an index has all events of a job together, and a delivery's id begins with its event's so that one
//! index finds both. No other information may be read from an id.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

const JOB_BYTES: usize = 6;
const EVENT_BYTES: usize = 20;
const ROUTE_BYTES: usize = 5;
const DELIVERY_BYTES: usize = EVENT_BYTES + ROUTE_BYTES;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not {expected}")]
pub struct InvalidId {
    pub(crate) expected: &'static str,
}

/// The id of an event: a hash of tenant, job and type, all from the signed body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; EVENT_BYTES]);

impl EventId {
    /// The id of a tenant's event.
    pub fn new(tenant: &str, job_id: &str, event_type: &str) -> Self {
        let mut bytes = [0; EVENT_BYTES];
        let (job, rest) = bytes.split_at_mut(JOB_BYTES);
        job.copy_from_slice(&Self::job_prefix(job_id));
        fill(rest, &hash("event", &[tenant.as_bytes(), job_id.as_bytes(), event_type.as_bytes()]));
        Self(bytes)
    }

    /// The prefix of the ids of all events of a job. Other jobs may have the same one: compare the job as well.
    pub fn job_prefix(job_id: &str) -> [u8; JOB_BYTES] {
        let mut prefix = [0; JOB_BYTES];
        fill(&mut prefix, &hash("job", &[job_id.as_bytes()]));
        prefix
    }

    /// The bytes, to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
        bytes.try_into().map(Self).map_err(|_| InvalidId { expected: "the bytes of an event id" })
    }
}

/// The id of a delivery: the event and the route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The event.
    pub event: EventId,
    /// The route.
    pub route: RouteKey,
}

impl DeliveryId {
    /// The id of an event's delivery to a route of its tenant.
    pub fn new(event: EventId, route: &str) -> Self {
        Self { event, route: RouteKey::new(route) }
    }

    /// The delivery's id for Hermes. It changes with the generation, because Hermes reports a repeated id as a duplicate, even if
    /// the first one had no effect.
    pub fn idempotency_key(&self, generation: u32) -> String {
        format!("{self}.{generation}")
    }
}

/// The hash of a route's name in five bytes, which distinguishes an event's deliveries. [`crate::config`] refuses routes of one
/// tenant with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey([u8; ROUTE_BYTES]);

impl RouteKey {
    /// The key of a route's name.
    pub fn new(route: &str) -> Self {
        let mut key = [0; ROUTE_BYTES];
        fill(&mut key, &hash("route", &[route.as_bytes()]));
        Self(key)
    }

    /// The key as a number below 2^40, to store.
    pub fn to_i64(self) -> i64 {
        self.0.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
    }
}

/// The id of a quarantined callback: a hash of tenant and body, so that a repeated one is kept once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuarantineId([u8; EVENT_BYTES]);

impl QuarantineId {
    /// The id of a tenant's signed callback that is not an event.
    pub fn new(tenant: &str, body: &[u8]) -> Self {
        let mut bytes = [0; EVENT_BYTES];
        fill(&mut bytes, &hash("quarantine", &[tenant.as_bytes(), body]));
        Self(bytes)
    }
}

/// The id of a job: a hash of tenant and request id, so that a repeated request is the same job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId([u8; EVENT_BYTES]);

impl JobId {
    /// The id of the job of a tenant's request.
    pub fn new(tenant: &str, request_id: &str) -> Self {
        let mut bytes = [0; EVENT_BYTES];
        fill(&mut bytes, &hash("submit", &[tenant.as_bytes(), request_id.as_bytes()]));
        Self(bytes)
    }
}

/// SHA-256 over a purpose and parts, each after its length, so that different lists of parts differ.
fn hash(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix("talaria.v1/");
    for part in [purpose.as_bytes()].iter().chain(parts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn fill(target: &mut [u8], source: &[u8]) {
    target.iter_mut().zip(source).for_each(|(target, source)| *target = *source);
}

fn write(f: &mut fmt::Formatter<'_>, prefix: &str, bytes: &[u8]) -> fmt::Result {
    write!(f, "{prefix}{}", BASE32_NOPAD.encode(bytes).to_ascii_lowercase())
}

fn read<const N: usize>(text: &str, prefix: &str, expected: &'static str) -> Result<[u8; N], InvalidId> {
    text.strip_prefix(prefix)
        .filter(|body| !body.bytes().any(|byte| byte.is_ascii_uppercase()))
        .and_then(|body| BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(InvalidId { expected })
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, "evt_", &self.0)
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        read(text, "evt_", "an event id: evt_ and 32 characters of a-z and 2-7").map(Self)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = self.event.0.iter().chain(&self.route.0).copied().collect();
        write(f, "dlv_", &bytes)
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let expected = "a delivery id: dlv_ and 40 characters of a-z and 2-7";
        let bytes: [u8; DELIVERY_BYTES] = read(text, "dlv_", expected)?;
        let mut event = [0; EVENT_BYTES];
        let mut route = [0; ROUTE_BYTES];
        fill(&mut event, &bytes);
        fill(&mut route, bytes.get(EVENT_BYTES..).unwrap_or_default());
        Ok(Self { event: EventId(event), route: RouteKey(route) })
    }
}

impl fmt::Display for QuarantineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, "qrt_", &self.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, "job_", &self.0)
    }
}

macro_rules! debug_as_display {
    ($($id:ty)*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(EventId DeliveryId QuarantineId JobId);

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are stored and sent to Hermes: a change of the scheme would run agents twice.
    #[test]
    fn ids_never_change() {
        let event = EventId::new("acme", "job_test", "video.generation.completed");
        assert_eq!(event.to_string(), "evt_25m74olgq62heqt2gyhnio2unzditsxs");
        let delivery = DeliveryId::new(event, "video");
        assert_eq!(delivery.to_string(), "dlv_25m74olgq62heqt2gyhnio2unzditsxszovlkmaj");
        assert_eq!(delivery.idempotency_key(2), format!("{delivery}.2"));
        assert_eq!(QuarantineId::new("acme", b"[]").to_string(), "qrt_5l5pm3resmk5srjpm65we2cnudnibw4t");
        assert_eq!(JobId::new("acme", "r1").to_string(), "job_bbqgw2lzpmhuau6rtqiryhzcc373xp5e");
    }

    #[test]
    fn each_part_counts_and_parts_do_not_run_together() {
        let id = EventId::new("a", "b", "c");
        for (tenant, job, kind) in
            [("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c"), ("", "ab", "c")]
        {
            assert_ne!(id, EventId::new(tenant, job, kind));
        }
        assert!(id.as_bytes().starts_with(&EventId::job_prefix("b")));
    }

    #[test]
    fn ids_read_back_and_nothing_else_does() {
        let event = EventId::new("a", "b", "c");
        let delivery = DeliveryId::new(event, "r");
        assert_eq!(event.to_string().parse(), Ok(event));
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        assert_eq!(EventId::from_bytes(event.as_bytes()), Ok(event));
        assert!(event.to_string().to_uppercase().replace("EVT", "evt").parse::<EventId>().is_err());
        assert!(event.to_string().parse::<DeliveryId>().is_err());
        assert!("evt_".parse::<EventId>().is_err() && "".parse::<DeliveryId>().is_err());
    }
}
