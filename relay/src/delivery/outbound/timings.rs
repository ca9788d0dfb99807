//! Where the time of an exchange went.

use std::time::Duration;
use talaria_proto::{time::duration_to_proto, v1};

/// Where the time of an exchange went. What it did not come to is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timings {
    /// To make the connection; nothing of it on a reused one.
    pub made: Made,
    /// From the start to the answer's head.
    pub first_byte: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
    /// Whether an earlier exchange had left the connection open.
    pub reused: bool,
}

/// What making a connection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// To look the name up; `None` where the URL names an address.
    pub dns: Option<Duration>,
    /// To connect, to the address that answered.
    pub connect: Option<Duration>,
    /// To agree on TLS.
    pub tls: Option<Duration>,
}

impl From<Timings> for v1::Timings {
    fn from(timings: Timings) -> Self {
        Self {
            dns: timings.made.dns.map(duration_to_proto),
            connect: timings.made.connect.map(duration_to_proto),
            tls: timings.made.tls.map(duration_to_proto),
            first_byte: timings.first_byte.map(duration_to_proto),
            total: Some(duration_to_proto(timings.total)),
            reused_connection: timings.reused,
        }
    }
}
