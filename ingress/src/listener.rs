//! The listening loop: HTTP/1.1 with deadlines for heads and idle connections, a place for each connection, and draining.
//!
//! Callbacks and the admin port are served by it, each with bounds of its own.

use crate::{
    address::Sender,
    connections::{Full, Most, Place, Places},
    timed::{Phase, Timed, Times},
};
use axum::response::Response;
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use metrics::Gauge;
use std::{convert::Infallible, future::Future, io, net::IpAddr, sync::Arc, time::Duration};
use talaria_bus::LogLimit;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What clients may use up, and for how long they may let us wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once. Where all are taken, the one is closed that has waited for its client the longest.
    pub connections: usize,
    /// Connections of one address at once.
    pub connections_per_address: usize,
    /// In which a head has to arrive, and something of an answer has to be taken.
    pub head_timeout: Duration,
    /// How long a connection may be idle between an answer and the next request.
    pub idle_timeout: Duration,
    /// A longer head is refused; at least 8 KiB.
    pub max_head_bytes: usize,
    /// A head with more headers is refused; hyper's own default where it is `None`.
    pub max_headers: Option<usize>,
    /// How long connections may take to finish after `stop`.
    pub drain: Duration,
}

/// Why a client was refused whose request never came to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its address has as many connections as it may have, and all of them work.
    Share,
    /// No HTTP/1.1.
    NotHttp,
    /// HTTP/2 without asking whether it is spoken here.
    Http2,
    /// TLS.
    Tls,
    /// The head is too long, or has too many headers.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTooSlow,
}

/// Who answers requests.
pub trait Answers: Send + Sync + 'static {
    /// The bounds as they are now: each connection has those of its beginning.
    fn bounds(&self) -> Bounds;

    /// Whether connections from this address are of many clients, so that [`Bounds::connections_per_address`] does not
    /// apply.
    fn is_shared(&self, peer: IpAddr) -> bool;

    /// Answers a request that came over the connection at this place. The connection counts as waiting for its client, and
    /// may have to leave, until the place is told that it works.
    fn answer(
        &self,
        peer: IpAddr,
        place: &Place,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send;

    /// Learns of a client that was refused.
    fn unserved(&self, peer: IpAddr, why: Unserved);
}

/// Serves until it is told to stop, and then finishes what has begun. Once it is leaving, each answer ends its connection.
pub async fn serve(
    listener: TcpListener,
    answers: Arc<impl Answers>,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let places = Places::new(Gauge::noop(), |_| {});
    serve_at(listener, answers, places, leaving, stop).await;
}

/// The same, with places that are counted.
pub(crate) async fn serve_at(
    listener: TcpListener,
    answers: Arc<impl Answers>,
    places: Places,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let places = Arc::new(places);
    loop {
        let accept = async {
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer.ip(), place(&*answers, &places, peer.ip()).await))
        };
        let (stream, peer, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => match accepted {
                Ok((stream, peer, Some(place))) => (stream, peer, place),
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
        // Answers are small and should not wait to be joined with others.
        let _ = TcpStream::set_nodelay(&stream, true);
        let (answers, leaving, watcher) = (Arc::clone(&answers), leaving.clone(), connections.watcher());
        tokio::spawn(async move {
            let (bounds, phase) = (answers.bounds(), Phase::default());
            let answer = service_fn(|request| async {
                phase.works();
                let mut response = answers.answer(peer, &place, request).await;
                place.waits();
                phase.idles();
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
                () = place.let_go() => tracing::debug!(%peer, "connection closed to make room for another"),
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(answers.bounds().drain, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were still open when the process had to stop");
    }
}

/// A connection's place, once there is one; none if its address has its share.
async fn place(answers: &impl Answers, places: &Arc<Places>, peer: IpAddr) -> Option<Place> {
    loop {
        let bounds = answers.bounds();
        let sender = (!answers.is_shared(peer)).then(|| Sender::from(peer));
        let most = Most { all: bounds.connections, each: bounds.connections_per_address };
        match places.enter(sender, most) {
            Ok(place) => break Some(place),
            Err(Full::Share) => break None,
            Err(Full::All) => places.changed().await,
        }
    }
}

fn http(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    // The connection itself has a deadline for either. With one of its own, which is never earlier, hyper asks the connection
    // for the next head as soon as it is idle; without, only when something has come.
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle_timeout + bounds.head_timeout)
        .max_buf_size(bounds.max_head_bytes);
    // Only where it is asked for: hyper then makes room for the headers of each request again.
    if let Some(most) = bounds.max_headers {
        http.max_headers(most);
    }
    http
}

/// Why a connection ended whose client never got an answer of ours, if that is for what it sent.
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

/// Errors of one connection pass; when the process has no more files, waiting is all that helps.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        static FAILED: LogLimit = LogLimit::new();
        if let Some(left_out) = FAILED.admit() {
            tracing::error!(%error, left_out, "cannot accept connections");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
