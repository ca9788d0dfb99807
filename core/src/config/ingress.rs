//! Where callbacks come in, whose address is believed, and what strangers may use up.

use super::{
    Pace,
    compile::DEFAULT_MAX_BODY,
    outbound,
    problem::{Fault, Problems},
    raw,
    value::{
        HOUR, LEAST_BYTES, MINUTE, MOST_BYTES, SECOND, body_limit, duration, length, listen, pace, public_url,
    },
};
use crate::network::{Class, Network, Networks};
use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

/// Where callbacks come in.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The address that is listened on.
    pub listen: SocketAddr,
    /// What OpenRouter reaches that address by, without a trailing slash.
    pub public_url: Option<String>,
    /// A longer body is refused.
    pub max_body_bytes: usize,
    /// A body must have arrived whole in this time.
    pub body_timeout: Duration,
    /// How long callbacks are still taken after the stop signal, so that load balancers see `/readyz` fail first.
    pub linger: Duration,
    /// A longer head is refused.
    pub max_head_bytes: usize,
    /// A head with more headers is refused; hyper's own default where it is `None`.
    pub max_headers: Option<usize>,
    /// A request's head must have arrived whole in this time, counted from the connection, or from its first byte on a
    /// connection that had a request before. Also how long the client may take nothing of an answer.
    pub head_timeout: Duration,
    /// How long a connection may be idle between an answer and the next request.
    pub idle_timeout: Duration,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Networks,
    /// The header with that word, in lower case.
    pub client_address: String,
    /// What may be used up.
    pub limits: Limits,
}

/// What senders may use up, together and each.
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
    /// Requests of one address that were refused, after which it is not listened to for a while.
    pub refused_per_address: Option<Pace>,
    /// Verified callbacks of one tenant.
    pub per_tenant: Option<Pace>,
}

/// What most proxies write.
const DEFAULT_HEADER: &str = "x-forwarded-for";
/// The smallest buffer that hyper takes, and more than any callback's head needs.
const HEAD_BYTES: RangeInclusive<u64> = 8_192..=1_048_576;
const DEFAULT_HEAD: usize = 65_536;
const HEADERS: RangeInclusive<usize> = 16..=1_000;
/// Longer than what stands in front keeps an idle connection (nginx and AWS' balancers 60 s, cloudflared 90 s), so that
/// it is never closed here in the moment in which a request is sent over it there.
const DEFAULT_IDLE: Duration = Duration::from_secs(120);
const DEFAULT_CONNECTIONS: usize = 1024;
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;
/// A quarter of the connections, so that it takes several to use them up.
const DEFAULT_PER_ADDRESS: usize = 256;
const DEFAULT_BODIES: usize = 64 << 20;
/// Half of the connections, so that a bus that hangs leaves the others to be answered.
const DEFAULT_STORING: usize = 512;
/// Far more than a sender with a wrong secret has reason to try.
const DEFAULT_REFUSED: Pace = Pace { count: 60, window: MINUTE };

pub(super) fn compile(p: &mut Problems, warnings: &mut Problems, raw: &raw::Ingress) -> Ingress {
    let max_body_bytes = p.or(raw.max_body_bytes.as_ref(), DEFAULT_MAX_BODY, |text| body_limit(text));
    Ingress {
        listen: listen(p, raw.listen.as_ref(), "ingress.listen", 8080),
        public_url: p.or(raw.public_url.as_ref(), None, |text| public_url(text).map(Some)),
        max_body_bytes,
        body_timeout: duration(p, raw.body_timeout.as_ref(), "body_timeout", 10 * SECOND, SECOND / 10..=HOUR),
        linger: duration(p, raw.linger.as_ref(), "linger", Duration::ZERO, Duration::ZERO..=HOUR),
        max_head_bytes: p
            .or(raw.max_head_bytes.as_ref(), DEFAULT_HEAD, |text| length(text, "max_head_bytes", HEAD_BYTES)),
        max_headers: p.or(raw.max_headers.as_ref(), None, |n| within(*n, "max_headers", HEADERS).map(Some)),
        head_timeout: duration(p, raw.head_timeout.as_ref(), "head_timeout", 10 * SECOND, SECOND / 10..=HOUR),
        idle_timeout: duration(
            p,
            raw.idle_timeout.as_ref(),
            "idle_timeout",
            DEFAULT_IDLE,
            SECOND / 10..=HOUR,
        ),
        trusted_proxies: trusted_proxies(p, warnings, raw),
        client_address: p.or(raw.client_address.as_ref(), DEFAULT_HEADER.to_owned(), |text| header(text)),
        limits: limits(p, &raw.limits, max_body_bytes),
    }
}

fn trusted_proxies(p: &mut Problems, warnings: &mut Problems, raw: &raw::Ingress) -> Networks {
    // Who comes from this machine is its owner's tunnel or proxy.
    let Some(written) = &raw.trusted_proxies else {
        return [Network::Class(Class::Loopback)].into_iter().collect();
    };
    for network in written {
        if network.value.parse().is_ok_and(Network::is_everybody) {
            let what = "everybody is a trusted proxy, so that whoever comes may say from where";
            warnings.add(network, what, "name the addresses of your proxies alone");
        }
    }
    outbound::networks(p, written).unwrap_or_default()
}

fn limits(p: &mut Problems, raw: &raw::Limits, max_body_bytes: usize) -> Limits {
    let connections =
        p.or(raw.connections.as_ref(), DEFAULT_CONNECTIONS, |n| within(*n, "connections", CONNECTIONS));
    let bodies = p.or(raw.bodies.as_ref(), DEFAULT_BODIES.max(16 * max_body_bytes), |text| {
        length(text, "bodies", LEAST_BYTES..=MOST_BYTES)
    });
    // What a body takes while it grows may be twice its length, and a quarter is not for everybody.
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

fn within(number: usize, key: &str, range: RangeInclusive<usize>) -> Result<usize, Fault> {
    let (least, most) = (range.start(), range.end());
    if range.contains(&number) {
        return Ok(number);
    }
    Err((format!("{key} is out of range"), format!("write a number from {least} to {most}")))
}

fn in_mebibytes(bytes: usize) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// A header's name, in lower case.
fn header(text: &str) -> Result<String, Fault> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || !text.bytes().all(token) {
        let help = "write one such as X-Forwarded-For, Forwarded, X-Real-IP or CF-Connecting-IP";
        return Err((format!("{text:?} is not a header's name"), help.into()));
    }
    Ok(text.to_ascii_lowercase())
}
