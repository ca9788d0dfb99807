//! The ingress: its address, its trusted proxies and its limits.

use super::{
    Pace,
    compile::{Compiler, DEFAULT_MAX_BODY},
    outbound,
    problem::{Fault, Problems},
    raw,
    value::{LEAST_BYTES, MOST_BYTES, body_limit, length, pace, public_url, within},
};
use crate::{
    network::{Class, Network, Networks},
    time::{HOUR, MINUTE, SECOND},
};
use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

/// The ingress, which receives callbacks.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The public URL of that address, without a trailing slash.
    pub public_url: Option<String>,
    /// A longer body is refused.
    pub max_body_bytes: usize,
    /// The deadline for a whole body.
    pub body_timeout: Duration,
    /// How long callbacks are still accepted after the stop signal, so that load balancers see `/readyz` fail first.
    pub linger: Duration,
    /// A longer head is refused.
    pub max_head_bytes: usize,
    /// A head with more headers is refused; hyper's default if it is `None`.
    pub max_headers: Option<usize>,
    /// The deadline for a whole head, from the start of the connection, or from the head's first byte on a connection that had a
    /// request before. Also the deadline for progress of an answer's write.
    pub head_timeout: Duration,
    /// How long a connection may be idle between an answer and the next request.
    pub idle_timeout: Duration,
    /// The proxies that are trusted to name a client's address.
    pub trusted_proxies: Networks,
    /// The header with the client's address, in lower case.
    pub client_address: String,
    /// The limits of senders.
    pub limits: Limits,
}

/// The limits of all senders together and of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one address at once; trusted proxies have no such limit.
    pub connections_per_address: usize,
    /// Bytes of all bodies that are in memory, from the first byte to the answer.
    pub bodies: usize,
    /// Callbacks that wait for the bus at once.
    pub storing: usize,
    /// Requests of one address.
    pub per_address: Option<Pace>,
    /// Refused requests of one address, after which it is limited.
    pub refused_per_address: Option<Pace>,
    /// Verified callbacks of one tenant.
    pub per_tenant: Option<Pace>,
}

/// The header of most proxies.
const DEFAULT_HEADER: &str = "x-forwarded-for";
/// The smallest buffer that hyper takes, and more than any callback's head needs.
const HEAD_BYTES: RangeInclusive<u64> = 8_192..=1_048_576;
const DEFAULT_HEAD: usize = 65_536;
const HEADERS: RangeInclusive<usize> = 16..=1_000;
/// Longer than the idle time of proxies in front (nginx and AWS' balancers 60 s, cloudflared 90 s), so that a connection is not
/// closed here at the moment when a proxy sends a request over it.
const DEFAULT_IDLE: Duration = Duration::from_secs(120);
const DEFAULT_CONNECTIONS: usize = 1024;
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;
/// A quarter of the connections, so that one address cannot use all of them.
const DEFAULT_PER_ADDRESS: usize = 256;
const DEFAULT_BODIES: usize = 64 << 20;
/// Half of the connections, so that a hanging bus leaves connections for answers.
const DEFAULT_STORING: usize = 512;
/// Far more than a sender with a wrong secret has reason to try.
const DEFAULT_REFUSED: Pace = Pace { count: 60, window: MINUTE };

pub(super) fn compile(c: &mut Compiler<'_>, raw: &raw::Ingress) -> Ingress {
    let trusted_proxies = trusted_proxies(c, raw);
    let p = &mut c.problems;
    let max_body_bytes = p.or(raw.max_body_bytes.as_ref(), DEFAULT_MAX_BODY, |text| body_limit(text));
    Ingress {
        listen: p.listen(raw.listen.as_ref(), "ingress.listen", 8080),
        public_url: p.or(raw.public_url.as_ref(), None, |text| public_url(text).map(Some)),
        max_body_bytes,
        body_timeout: p.duration(raw.body_timeout.as_ref(), "body_timeout", 10 * SECOND, SECOND / 10..=HOUR),
        linger: p.duration(raw.linger.as_ref(), "linger", Duration::ZERO, Duration::ZERO..=HOUR),
        max_head_bytes: p
            .or(raw.max_head_bytes.as_ref(), DEFAULT_HEAD, |text| length(text, "max_head_bytes", HEAD_BYTES)),
        max_headers: p.or(raw.max_headers.as_ref(), None, |n| within(*n, "max_headers", HEADERS).map(Some)),
        head_timeout: p.duration(raw.head_timeout.as_ref(), "head_timeout", 10 * SECOND, SECOND / 10..=HOUR),
        idle_timeout: p.duration(raw.idle_timeout.as_ref(), "idle_timeout", DEFAULT_IDLE, SECOND / 10..=HOUR),
        trusted_proxies,
        client_address: p.or(raw.client_address.as_ref(), DEFAULT_HEADER.to_owned(), |text| header(text)),
        limits: limits(p, &raw.limits, max_body_bytes),
    }
}

fn trusted_proxies(c: &mut Compiler<'_>, raw: &raw::Ingress) -> Networks {
    // Clients on this machine are its owner's tunnel or proxy.
    let Some(written) = &raw.trusted_proxies else {
        return [Network::Class(Class::Loopback)].into_iter().collect();
    };
    for network in written {
        if network.value.parse().is_ok_and(Network::is_everybody) {
            let what = "everybody is a trusted proxy, so that whoever comes may say from where";
            c.warnings.add(network, what, "name the addresses of your proxies alone");
        }
    }
    outbound::networks(&mut c.problems, written).unwrap_or_default()
}

fn limits(p: &mut Problems, raw: &raw::Limits, max_body_bytes: usize) -> Limits {
    let connections =
        p.or(raw.connections.as_ref(), DEFAULT_CONNECTIONS, |n| within(*n, "connections", CONNECTIONS));
    let bodies = p.or(raw.bodies.as_ref(), DEFAULT_BODIES.max(16 * max_body_bytes), |text| {
        length(text, "bodies", LEAST_BYTES..=MOST_BYTES)
    });
    // The buffer of a growing body may have twice its length, and a quarter of the room is reserved for known senders.
    if let Some(written) = raw.bodies.as_ref().filter(|_| bodies / 4 < max_body_bytes) {
        let least = in_mebibytes(4 * max_body_bytes);
        let what =
            "bodies is less than four times ingress.max_body_bytes, so that a long body may never find room";
        p.add(written, what, format!("write {least} or more, or lower max_body_bytes"));
    }
    Limits {
        connections,
        connections_per_address: p.or(
            raw.connections_per_address.as_ref(),
            DEFAULT_PER_ADDRESS.min(connections),
            |n| within(*n, "connections_per_address", CONNECTIONS),
        ),
        bodies,
        storing: p.or(raw.storing.as_ref(), DEFAULT_STORING, |n| within(*n, "storing", CONNECTIONS)),
        per_address: p.or(raw.per_address.as_ref(), None, |text| pace(text)),
        refused_per_address: p.or(raw.refused_per_address.as_ref(), Some(DEFAULT_REFUSED), |text| pace(text)),
        per_tenant: p.or(raw.per_tenant.as_ref(), None, |text| pace(text)),
    }
}

fn in_mebibytes(bytes: usize) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// A header's name, in lower case.
fn header(text: &str) -> Result<String, Fault> {
    if !outbound::is_header_name(text) {
        let help = "write one such as X-Forwarded-For, Forwarded, X-Real-IP or CF-Connecting-IP";
        return Err((format!("{text:?} is not a header's name"), help.into()));
    }
    Ok(text.to_ascii_lowercase())
}
