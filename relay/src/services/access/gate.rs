//! Stands before all services: finds out who asks, and lets through what they may ask.

use super::{
    Caller, Pass, Refusals,
    decide::{Refusal, Takes, identify, permit, takes},
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

/// Makes what stands before services.
#[derive(Clone)]
pub(crate) struct Gate {
    config: watch::Receiver<Arc<Config>>,
    refusals: Refusals,
}

impl Gate {
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>, refusals: Refusals) -> Self {
        Self { config, refusals }
    }

    /// The caller, if they may ask this. Methods that take nothing need no authentication.
    fn judge<T>(&self, request: &Request<T>) -> Result<Option<Pass>, (Refusal, Option<Caller>)> {
        // What came another way than through the listener has no connection, and is not answered.
        let connection = request.extensions().get::<Connection>().ok_or((Refusal::Unguarded, None))?;
        let shown = shown(request.headers());
        let identified = identify(&self.config.borrow().relay, &connection.wire(), shown);
        // Who is known keeps the connection, whatever they ask.
        if identified.is_ok() {
            connection.keep();
        }
        let takes = takes(request.uri().path());
        let caller = match (takes, identified) {
            (Some(Takes::Nothing), _) => return Ok(None),
            (_, Err(refusal)) => return Err((refusal, None)),
            (None, Ok(caller)) => return Err((Refusal::NoSuchMethod, Some(caller))),
            (Some(Takes::Scope(scope)), Ok(caller)) => match permit(&caller, scope) {
                Ok(()) => caller,
                Err(refusal) => return Err((refusal, Some(caller))),
            },
        };
        Ok(Some(Pass { caller, shown, wire: connection.wire(), config: self.config.clone() }))
    }
}

/// The hash of the token in `authorization: Bearer …`.
fn shown(headers: &HeaderMap) -> Option<TokenHash> {
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
        match self.gate.judge(&request) {
            Ok(pass) => {
                if let Some(pass) = pass {
                    request.extensions_mut().insert(pass);
                }
                Box::pin(self.inner.call(request))
            }
            Err((refusal, caller)) => {
                let peer = request.extensions().get().map(Connection::peer);
                self.gate.refusals.request(&refusal, peer, caller.as_ref(), request.uri().path());
                let (code, message) = refusal.told();
                Box::pin(async move { Ok(Status::new(code, message).into_http()) })
            }
        }
    }
}
