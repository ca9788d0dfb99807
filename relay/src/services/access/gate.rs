//! The gate before all services: identifies the caller, and admits the requests that it may make.

use super::{
    Caller, Pass, RefusalLog,
    decide::{Access, Denial, access_of, identify, permit},
    listener::Connection,
};
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use talaria_core::{config::Config, token::TokenHash};
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

#[derive(Clone)]
pub(crate) struct Gate {
    config: watch::Receiver<Arc<Config>>,
    refusals: RefusalLog,
}

impl Gate {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, refusals: RefusalLog) -> Self {
        Self { config, refusals }
    }

    /// Admits a request, or refuses it, logs that, and returns the answer.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<Option<Pass>, Status> {
        self.admit(request).map_err(|(denial, caller)| {
            let peer = request.extensions().get().map(Connection::peer);
            self.refusals.request(&denial, peer, caller.as_ref(), request.uri().path());
            let (code, message) = denial.answer();
            Status::new(code, message)
        })
    }

    /// The caller, if it may make this request. `None` for methods without authentication.
    fn admit<T>(&self, request: &Request<T>) -> Result<Option<Pass>, (Denial, Option<Caller>)> {
        // Only requests from the listener have a connection.
        let connection = request.extensions().get::<Connection>().ok_or((Denial::Unguarded, None))?;
        let token = bearer_token(request.headers());
        let identified = identify(&self.config.borrow().relay, &connection.transport(), token);
        // An authenticated client keeps the connection, even if this request is refused.
        if identified.is_ok() {
            connection.keep();
        }
        let needs = access_of(request.uri().path());
        let caller = match (needs, identified) {
            (Some(Access::Nothing), _) => return Ok(None),
            (_, Err(denial)) => return Err((denial, None)),
            (None, Ok(caller)) => return Err((Denial::NoSuchMethod, Some(caller))),
            (Some(Access::Scope(scope)), Ok(caller)) => match permit(&caller, scope) {
                Ok(()) => caller,
                Err(denial) => return Err((denial, Some(caller))),
            },
        };
        Ok(Some(Pass { caller, token, transport: connection.transport(), config: self.config.clone() }))
    }
}

/// The hash of the token in `authorization: Bearer …`.
fn bearer_token(headers: &HeaderMap) -> Option<TokenHash> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| TokenHash::of(token.trim_ascii()))
}

impl<S> Layer<S> for Gate {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { gate: self.clone(), inner }
    }
}

/// Services behind the gate.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.check(&request) {
            Ok(pass) => {
                if let Some(pass) = pass {
                    request.extensions_mut().insert(pass);
                }
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}
