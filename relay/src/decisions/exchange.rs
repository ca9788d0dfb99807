//! One exchange with Hermes: a request, its answer, and the time that each step took.

use jiff::Timestamp;
use std::{fmt, time::Duration};
use talaria_proto::time::duration_to_proto;
use talaria_proto::v1;

/// A request that was sent, or could not be.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub started_at: Timestamp,
    pub took: Duration,
    pub exchange: Exchange,
    pub timings: Timings,
    /// The index of the route's secret that signed it.
    pub secret: usize,
    /// The guard's changes to the prompt.
    pub guarded: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Nothing was sent: no address, no connection, no TLS.
    NotSent(String),
    /// Nothing was sent, because the tenant does not allow the address.
    NotAllowed(String),
    /// The request may have been sent, and no answer came back.
    Lost(String),
    Answered(Answer),
}

impl Exchange {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::NotSent(_) | Self::NotAllowed(_) | Self::Lost(_) => None,
        }
    }
}

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    /// Retry-After, from now.
    pub retry_after: Option<Duration>,
    pub location: Option<String>,
    /// The body without its content coding, up to a cap.
    pub body: Vec<u8>,
    /// Why the body is not complete.
    pub cut_short: Option<CutShort>,
}

/// Why an answer's body is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// It is longer than this cap, in bytes.
    TooLong(usize),
    /// The connection broke off.
    BrokenOff(String),
    /// Its content coding could not be undone.
    Unreadable(String),
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it is longer than {bytes} bytes"),
            Self::BrokenOff(why) | Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// The time that each step of an exchange took. A step that was not reached is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timings {
    /// Empty on a reused connection.
    pub connecting: ConnectTimings,
    /// From the start to the answer's head.
    pub first_byte: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
    /// Whether the connection is of an earlier exchange.
    pub reused: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectTimings {
    /// `None` where the URL names an address.
    pub dns: Option<Duration>,
    /// To the address that answered.
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
}

impl From<Timings> for v1::Timings {
    fn from(timings: Timings) -> Self {
        Self {
            dns: timings.connecting.dns.map(duration_to_proto),
            connect: timings.connecting.connect.map(duration_to_proto),
            tls: timings.connecting.tls.map(duration_to_proto),
            first_byte: timings.first_byte.map(duration_to_proto),
            total: Some(duration_to_proto(timings.total)),
            reused_connection: timings.reused,
        }
    }
}
