//! The listening loop: HTTP/1.1 with deadlines for heads and idle connections, a permit for each connection, and draining.
//!
//! It serves callbacks and the admin port, each with its own bounds.

use crate::{
    address::ClientAddress,
    connections::{Full, Most, Permit, Permits},
    timed::{Phase, Timed, Times},
};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::{Body as _, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use metrics::Gauge;
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use talaria_telemetry::LogLimiter;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The limits and deadlines of clients.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most concurrent connections. Beyond it, the one that has waited longest for its client is closed.
    pub connections: usize,
    /// The most concurrent connections of one address.
    pub connections_per_address: usize,
    /// The deadline for a head, and for progress of a write.
    pub head_timeout: Duration,
    /// How long a connection may be idle between an answer and the next request.
    pub idle_timeout: Duration,
    /// A longer head is refused; at least 8 KiB.
    pub max_head_bytes: usize,
    /// A head with more headers is refused; hyper's default if it is `None`.
    pub max_headers: Option<usize>,
    /// The time for connections to finish after `stop`.
    pub drain: Duration,
}

/// Why a client got no answer from [`Answers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its address has all its connections, and all of them work.
    Share,
    /// Not HTTP/1.1.
    NotHttp,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS.
    Tls,
    /// The head is too long, or has too many headers.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTooSlow,
}

/// The service behind a listener.
pub trait Answers: Send + Sync + 'static {
    /// The present bounds: each connection keeps those of its beginning.
    fn bounds(&self) -> Bounds;

    /// Whether connections from this address are of many clients, so that [`Bounds::connections_per_address`] does not
    /// apply.
    fn is_shared(&self, peer: IpAddr) -> bool;

    /// Answers a request over the connection with this permit. The connection counts as waiting for its client, and may be
    /// evicted, until [`Permit::works`].
    fn answer(
        &self,
        peer: IpAddr,
        permit: &Permit,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;

    /// Records a client without an answer.
    fn unserved(&self, peer: IpAddr, why: Unserved);
}

/// Serves until `stop`, and then finishes open requests. After `leaving` is cancelled, each answer closes its connection.
pub async fn serve(
    listener: TcpListener,
    answers: Arc<impl Answers>,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let permits = Permits::new(Gauge::noop(), |_| {});
    serve_at(listener, answers, permits, leaving, stop).await;
}

/// The same with metrics of the permits.
pub(crate) async fn serve_at(
    listener: TcpListener,
    answers: Arc<impl Answers>,
    permits: Permits,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let permits = Arc::new(permits);
    loop {
        let accept = async {
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer.ip(), acquire(&*answers, &permits, peer.ip()).await))
        };
        let (stream, peer, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => match accepted {
                Ok((stream, peer, Some(permit))) => (stream, peer, permit),
                Ok((_, peer, None)) => {
                    answers.unserved(peer, Unserved::Share);
                    continue;
                }
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        // Answers are small, and must not wait for further data.
        let _ = TcpStream::set_nodelay(&stream, true);
        let (answers, leaving, watcher) = (Arc::clone(&answers), leaving.clone(), connections.watcher());
        let permit = Arc::new(permit);
        tokio::spawn(async move {
            let (bounds, phase) = (answers.bounds(), Phase::default());
            let answer = service_fn(|request| async {
                phase.works();
                let response = answers.answer(peer, &permit, request).await;
                let mut response = until_sent(response, &permit, &phase);
                if leaving.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            });
            let times = Times { head: bounds.head_timeout, idle: bounds.idle_timeout };
            let stream = TokioIo::new(Timed::new(stream, times, phase.clone()));
            let connection = http(&bounds).serve_connection(stream, answer);
            tokio::select! {
                ended = watcher.watch(connection) => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                    if let Some(why) = unserved(&error, &phase) {
                        answers.unserved(peer, why);
                    }
                },
                () = permit.evicted() => tracing::debug!(%peer, "connection evicted"),
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(answers.bounds().drain, connections.shutdown()).await.is_err() {
        tracing::warn!("connections still open at the end of the drain");
    }
}

/// The connection works until the answer is sent. An answer of known length is in memory, and counts as sent.
fn until_sent(response: Response, permit: &Arc<Permit>, phase: &Phase) -> Response {
    let work = Work { permit: Arc::clone(permit), phase: phase.clone() };
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Streamed { body, _work: work }))
}

/// The work on an answer, until it is dropped.
struct Work {
    permit: Arc<Permit>,
    phase: Phase,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.permit.waits();
        self.phase.idles();
    }
}

/// A body that is read while it is sent.
struct Streamed {
    body: Body,
    _work: Work,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

/// A permit for a connection, once there is one; `None` if its address has used up its share.
async fn acquire(answers: &impl Answers, permits: &Arc<Permits>, peer: IpAddr) -> Option<Permit> {
    loop {
        let bounds = answers.bounds();
        let address = (!answers.is_shared(peer)).then(|| ClientAddress::from(peer));
        let most = Most { all: bounds.connections, each: bounds.connections_per_address };
        match permits.acquire(address, most) {
            Ok(permit) => break Some(permit),
            Err(Full::Share) => break None,
            Err(Full::All) => permits.changed().await,
        }
    }
}

fn http(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    // `Timed` has the deadlines. With a deadline of its own, which is never earlier, hyper polls an idle connection for the next
    // head at once; without it, only when data has come.
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle_timeout + bounds.head_timeout)
        .max_buf_size(bounds.max_head_bytes);
    // Only if configured: hyper then allocates the headers for each request.
    if let Some(most) = bounds.max_headers {
        http.max_headers(most);
    }
    http
}

/// Why a client got no answer before its connection ended, if the cause is in its data.
fn unserved(error: &hyper::Error, phase: &Phase) -> Option<Unserved> {
    if phase.was_late() {
        Some(Unserved::HeadTooSlow)
    } else if !error.is_parse() {
        None
    } else if phase.was_tls() {
        Some(Unserved::Tls)
    } else if error.is_parse_version_h2() {
        Some(Unserved::Http2)
    } else if error.is_parse_too_large() {
        Some(Unserved::HeadTooLarge)
    } else {
        Some(Unserved::NotHttp)
    }
}

/// Waits after an error of the listener, such as a lack of file descriptors. Errors of one connection need no wait.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        static FAILED: LogLimiter = LogLimiter::new();
        if let Some(left_out) = FAILED.admit() {
            tracing::error!(%error, left_out, "cannot accept connections");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
