//! From a name to a connection: looks the name up, checks each address, and connects to one that is allowed.

use crate::{Peer, Policy, exchange::ConnectTimings, resolve::Resolver, tls};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use talaria_core::network::{Class, Networks, to_allow};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// For look-up, connection and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For one address if there are others: enough to send a lost packet again.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Makes connections within a tenant's networks.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: Arc<Resolver>,
    peer: Peer,
    networks: Networks,
    /// Whether public addresses are excluded.
    is_private: bool,
    tls: Option<TlsConnector>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Failure {
    /// In a sentence.
    pub why: String,
    /// Whether the tenant does not allow the address.
    pub not_allowed: bool,
    pub timings: ConnectTimings,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failure {}

impl Connector {
    pub(super) fn new(resolver: Arc<Resolver>, policy: &Policy, tls: Option<TlsConnector>) -> Self {
        let Policy { peer, networks, is_https, .. } = policy.clone();
        // OpenRouter's requests have a key, which only it may see. Hermes' have signatures.
        let is_private = peer == Peer::OpenRouter && !is_https;
        Self { inner: Arc::new(Inner { resolver, peer, networks, is_private, tls }) }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let mut timings = ConnectTimings::default();
            match inner.connect(&uri, &mut timings).await {
                Ok(io) => Ok(Stream { io: TokioIo::new(io), connected: Fresh::new(timings) }),
                Err((why, not_allowed)) => Err(Failure { why, not_allowed, timings }),
            }
        })
    }
}

/// [`Failure::why`] and [`Failure::not_allowed`].
type Refused = (String, bool);

impl Inner {
    async fn connect(&self, uri: &Uri, timings: &mut ConnectTimings) -> Result<Box<dyn Io>, Refused> {
        let end = Instant::now() + CONNECT_TIMEOUT;
        let failed = |why: String| (why, false);
        let late = |doing: &str| failed(format!("{doing} took longer than {CONNECT_TIMEOUT:?}"));
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });

        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let start = Instant::now();
                let found = timeout(CONNECT_TIMEOUT, self.resolver.look_up(host)).await;
                let found = found.map_err(|_| late(&format!("looking {host} up")))?;
                timings.dns = Some(start.elapsed());
                found.map_err(|error| failed(format!("cannot look {host} up: {error}")))?
            }
        };
        let stream = connect_to_one(&self.check(host, found)?, port, end, timings).await.map_err(failed)?;
        // A request is one or two writes, and then waits for its answer.
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let tls = match &self.tls {
            _ if !is_https => return Ok(Box::new(stream)),
            None => return Err(failed("this connector makes no TLS connections".into())),
            Some(tls) => tls,
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| failed(format!("{host} is no name that a certificate could be for")))?;
        let start = Instant::now();
        let agreed = timeout(end.saturating_duration_since(start), tls.connect(name, stream)).await;
        let agreed = agreed.map_err(|_| late(&format!("connecting to {host} and agreeing on TLS")))?;
        timings.tls = Some(start.elapsed());
        agreed
            .map(|stream| Box::new(stream) as _)
            .map_err(|error| failed(tls::sentence(self.peer, host, &error)))
    }

    /// The allowed addresses. A forbidden one is an error only if no address is allowed.
    fn check(&self, host: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match self.networks.allow(address) {
                Ok(()) if self.is_private && !self.networks.contain(address) => {
                    refused.get_or_insert((address, Class::Public));
                }
                Ok(()) => allowed.push(address),
                Err(class) => {
                    refused.get_or_insert((address, class));
                }
            }
        }
        allowed.truncate(MOST_ADDRESSES);
        match refused {
            Some((address, class)) if allowed.is_empty() => {
                let leads = if host == address.to_string() {
                    format!("{host} is {class}")
                } else {
                    format!("{host} leads to {address}, which is {class}")
                };
                if class == Class::Public {
                    let why = "the key would go there in plain text; write https:// in openrouter.base_url";
                    return Err((format!("{leads}, and {why}"), true));
                }
                let networks = to_allow(address, class);
                let help =
                    format!("if {} is there, add {networks} to the tenant's networks", self.peer.name());
                Err((format!("{leads}, and the tenant does not allow that; {help}"), true))
            }
            _ if allowed.is_empty() => Err((format!("{host} has no address"), false)),
            _ => Ok(allowed),
        }
    }
}

/// Tries one address after the other. Each has its share of the remaining time, at most [`ADDRESS_TIMEOUT`] unless it is the
/// last, so that a silent one leaves time for the others.
async fn connect_to_one(
    addresses: &[IpAddr],
    port: u16,
    end: Instant,
    timings: &mut ConnectTimings,
) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let address = SocketAddr::from((*address, port));
        let start = Instant::now();
        let time = end.saturating_duration_since(start);
        let share = if left == 1 {
            time
        } else {
            ADDRESS_TIMEOUT.min(time / u32::try_from(left).unwrap_or(u32::MAX))
        };
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                timings.connect = Some(start.elapsed());
                return Ok(stream);
            }
            Ok(Err(error)) => failures.push(format!("cannot connect to {address}: {error}")),
            Err(_) => failures.push(format!("{address} did not answer within {:.1} s", share.as_secs_f64())),
        }
    }
    Err(failures.join("; "))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with its timings.
pub(crate) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    connected: Fresh,
}

/// The timings of a connection, for the exchange that it was made for.
#[derive(Clone)]
pub(crate) struct Fresh {
    timings: ConnectTimings,
    at: Instant,
    is_used: Arc<AtomicBool>,
}

impl Fresh {
    fn new(timings: ConnectTimings) -> Self {
        Self { timings, at: Instant::now(), is_used: Arc::default() }
    }

    /// The timings, for an exchange that began at `began`; `None` if the connection is older, or another exchange took them.
    pub(crate) fn take(&self, began: Instant) -> Option<ConnectTimings> {
        let is_used = self.is_used.swap(true, Ordering::Relaxed);
        (!is_used && self.at >= began).then_some(self.timings)
    }

    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.connected.clone())
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, from)
    }
}
