//! The listening loop, and where a request goes.

use crate::{
    call,
    fault::Fault,
    openapi, origin,
    pages::Pages,
    runs::{self, Runs},
};
use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use talaria_core::config::Config;
use talaria_relay::{Api, Socket};
use talaria_telemetry::LogLimiter;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower_layer::Layer as _;
use tower_service::Service as _;

/// For a head to arrive, and for the next request of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest head, with the message of a GET in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;

const OPENAPI: &str = "/openapi.json";

/// The contracts are shown to clients that gRPC reflection shows them to.
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The console, listening but not yet serving.
pub struct Console {
    listener: TcpListener,
    serving: Arc<Serving>,
}

struct Serving {
    api: Api,
    pages: Pages,
    runs: Runs,
    /// Ends what goes on by itself.
    end: CancellationToken,
    config: watch::Receiver<Arc<Config>>,
    listen: SocketAddr,
}

impl Console {
    /// Listens on this address. The names by which it may be called are read from the configuration with each request.
    pub async fn bind(
        address: SocketAddr,
        config: watch::Receiver<Arc<Config>>,
        api: Api,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let listen = listener.local_addr()?;
        let end = CancellationToken::new();
        let pages = Pages::new(api.clone(), config.clone(), end.clone());
        let runs = Runs::new(api.clone());
        Ok(Self { listener, serving: Arc::new(Serving { api, pages, runs, end, config, listen }) })
    }

    /// The address of the listener.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `end`, and then finishes open answers.
    ///
    /// Boxed, so that the code of this crate is compiled here. A crate that awaits a future compiles it again.
    pub fn serve(self, end: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.work(end))
    }

    async fn work(self, end: CancellationToken) {
        let Self { listener, serving } = self;
        let mut connections = JoinSet::new();
        {
            let mut sockets = pin!(serving.api.http(listener));
            loop {
                tokio::select! {
                    () = end.cancelled() => break,
                    Some(_) = connections.join_next() => {}
                    socket = sockets.next() => {
                        // The listener itself never fails.
                        let Some(Ok(socket)) = socket else { break };
                        connections.spawn(serve(socket, Arc::clone(&serving), end.clone()));
                    }
                }
            }
        }
        serving.end.cancel();
        while connections.join_next().await.is_some() {}
    }
}

async fn serve(socket: Socket, serving: Arc<Serving>, end: CancellationToken) {
    let connection = socket.connection();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let serving = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(serving.answer(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), answer));
    // A client's error is its own affair.
    tokio::select! {
        _ = &mut served => {}
        () = end.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

impl Serving {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        // Before the origin is checked: a signature admits a report, under any name of the relay.
        if request.uri().path().starts_with(runs::PREFIX) {
            return Box::pin(self.runs.answer(request)).await;
        }
        let config = Arc::clone(&self.config.borrow());
        let checked = origin::check(
            request.method(),
            request.uri(),
            request.headers(),
            self.listen,
            &config.console.names,
        );
        if let Err(fault) = checked {
            static REFUSED: LogLimiter = LogLimiter::new();
            if let Some(left_out) = REFUSED.admit() {
                tracing::warn!(why = fault.message, left_out, "refused a request to the console");
            }
            return fault.response();
        }
        let path = request.uri().path();
        if path == OPENAPI {
            return self.openapi(&request).unwrap_or_else(|fault| fault.response());
        }
        if is_grpc_web(&request) {
            // The services are always ready.
            let answer = GrpcWebLayer::new().layer(self.api.services()).call(request.map(Body::new)).await;
            return answer.unwrap_or_else(|never| match never {});
        }
        // Boxed, because every connection has room for the future of its answer.
        if is_method(path) {
            Box::pin(call::answer(&self.api, request)).await
        } else if is_json(&request) {
            let message = format!("nothing is here; {OPENAPI} describes the methods");
            Fault::http(StatusCode::NOT_FOUND, None, message).response()
        } else {
            Box::pin(self.pages.answer(request)).await
        }
    }

    fn openapi(&self, request: &Request<Incoming>) -> Result<Response<Body>, Fault> {
        if request.method() != Method::GET {
            let allow = Some((header::ALLOW, "GET"));
            return Err(Fault::http(StatusCode::METHOD_NOT_ALLOWED, allow, format!("{OPENAPI} takes GET")));
        }
        let mut asked = Request::new(());
        *asked.uri_mut() = Uri::from_static(REFLECTION);
        asked.headers_mut().clone_from(request.headers());
        asked.extensions_mut().clone_from(request.extensions());
        self.api.admit(&asked)?;
        Ok(crate::fault::answer(openapi::document()))
    }
}

fn is_grpc_web(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc-web"))
}

/// Whether a program asks, and not a browser for a page.
fn is_json(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().ends_with(b"json"))
}

/// Whether a path has the form `/package.Service/Method`.
fn is_method(path: &str) -> bool {
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    parts
        .is_some_and(|(service, method)| service.contains('.') && !method.is_empty() && !method.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_a_service_and_a_name() {
        for (path, expected) in [
            ("/talaria.v1.StatusService/GetSummary", true),
            ("/a.b/c", true),
            ("/", false),
            ("/favicon.ico", false),
            ("/assets/x.js", false),
            ("/a.b/", false),
            ("/a.b/c/d", false),
        ] {
            assert_eq!(is_method(path), expected, "{path}");
        }
    }
}
