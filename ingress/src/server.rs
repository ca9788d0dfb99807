//! The listening loop: HTTP/1.1 with a deadline for a request's head, and draining.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// More than any callback's head needs.
const LARGEST_HEAD: usize = 64 * 1024;

/// Connections at once; who comes after that waits in front of the listener. With the bound of a body this bounds
/// what strangers can make us hold.
const CONNECTIONS: usize = 1024;

/// How long connections may take to finish after `stop`, beside the deadline of a body.
const DRAIN: Duration = Duration::from_secs(15);

pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    head_deadline: Duration,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_deadline).max_buf_size(LARGEST_HEAD);
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        // Answers are small and should not wait to be joined with others.
        let _ = TcpStream::set_nodelay(&stream, true);
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(head_deadline + DRAIN, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were still open when the ingress had to stop");
    }
}

/// Errors of one connection pass; when the process has no more files, waiting is all that helps.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
