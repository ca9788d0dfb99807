//! One exchange with Hermes: a request, its answer, and the time that each step took.

use super::prepare::Remarks;
use jiff::Timestamp;
use std::time::Duration;
use talaria_proto::time::duration_to_proto;
use talaria_proto::v1;

pub(crate) use talaria_outbound::{Answer, CutShort, Exchange, Timings};

/// A request that was sent, or could not be.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub started_at: Timestamp,
    pub took: Duration,
    pub exchange: Exchange,
    pub timings: Timings,
    /// The index of the route's secret that signed it.
    pub secret: usize,
    pub remarks: Remarks,
}

pub(crate) fn timings_to_proto(timings: &Timings) -> v1::Timings {
    v1::Timings {
        dns: timings.connecting.dns.map(duration_to_proto),
        connect: timings.connecting.connect.map(duration_to_proto),
        tls: timings.connecting.tls.map(duration_to_proto),
        first_byte: timings.first_byte.map(duration_to_proto),
        total: Some(duration_to_proto(timings.total)),
        reused_connection: timings.reused,
    }
}
