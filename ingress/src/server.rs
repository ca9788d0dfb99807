//! The listening loop: HTTP/1.1 with a deadline for a request's head, a place for each connection, and draining.

use crate::{
    address::Sender,
    callback::State,
    connections::{Full, Place, Places},
    taken::Taken,
};
use http::{HeaderValue, header::CONNECTION};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};
use talaria_bus::LogLimit;
use talaria_core::config::Ingress;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long connections may take to finish after `stop`, beside the deadlines of a head and a body.
const DRAIN: Duration = Duration::from_secs(15);

pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let places = Arc::new(Places::default());
    loop {
        let accept = async {
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer.ip(), place(&state, &places, peer.ip()).await))
        };
        let (stream, peer, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => match accepted {
                Ok((stream, peer, Some(place))) => (stream, peer, place),
                // Its address has its share already.
                Ok((_, _, None)) => continue,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        // Answers are small and should not wait to be joined with others.
        let _ = TcpStream::set_nodelay(&stream, true);
        let (state, leaving, watcher) = (Arc::clone(&state), leaving.clone(), connections.watcher());
        tokio::spawn(async move {
            let answer = service_fn(|request| async {
                let mut response = state.answer(peer, &place, request).await;
                if leaving.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            });
            let (http, deadline) = {
                let ingress = &state.config.borrow().ingress;
                (http(ingress), ingress.head_timeout)
            };
            let stream = TokioIo::new(Taken::new(stream, deadline));
            let connection = http.serve_connection(stream, answer);
            tokio::select! {
                ended = watcher.watch(connection) => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                },
                () = place.let_go() => tracing::debug!(%peer, "connection closed to make room for another"),
            }
        });
    }
    drop(listener);
    let deadline = {
        let ingress = &state.config.borrow().ingress;
        ingress.head_timeout.max(ingress.body_timeout) + DRAIN
    };
    if tokio::time::timeout(deadline, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were still open when the ingress had to stop");
    }
}

/// A connection's place, once there is one; none if its address has its share.
async fn place(state: &State, places: &Arc<Places>, peer: IpAddr) -> Option<Place> {
    loop {
        let config = Arc::clone(&state.config.borrow());
        let is_proxy = config.ingress.trusted_proxies.contain(peer);
        let sender = (!is_proxy).then(|| Sender::from(peer));
        match places.enter(sender, &config.ingress.limits) {
            Ok(place) => break Some(place),
            Err(Full::Share) => break None,
            Err(Full::All) => places.changed().await,
        }
    }
}

fn http(ingress: &Ingress) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(ingress.head_timeout)
        .max_buf_size(ingress.max_head_bytes);
    // Only where it is asked for: hyper then makes room for the headers of each request anew.
    if let Some(most) = ingress.max_headers {
        http.max_headers(most);
    }
    http
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
