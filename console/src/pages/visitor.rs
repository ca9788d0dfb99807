//! Who looks at a page, and the relay's services as they may use them.

use super::{Pages, session};
use crate::fault::Fault;
use http::{HeaderValue, Request, Response, Uri, header, request::Parts};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use talaria_core::config::{Config, Scope};
use talaria_proto::v1::{
    control_service_client::ControlServiceClient, job_service_client::JobServiceClient,
    status_service_client::StatusServiceClient,
};
use talaria_relay::{Api, Caller, Connection};
use tonic::{Code, body::Body};
use tower_service::Service;

/// A method that every token may call.
const LEAST: &str = "/talaria.v1.StatusService/GetSummary";

/// Who looks.
#[derive(Clone)]
pub(crate) struct Visitor {
    services: Services,
    bus: super::bus::Bus,
    pub caller: Caller,
    /// The configuration that was in force when the page was asked for.
    pub config: Arc<Config>,
    /// Whether a session is open, which can be closed.
    pub logged_in: bool,
    /// Forms that can be sent once.
    pub once: session::Notes,
    /// Whether a live page is made, which needs only its changing parts.
    pub looks_again: bool,
}

impl Visitor {
    /// By the request's own token, or else its session's. An error with the code `Unauthenticated` when a log-in is needed.
    pub(crate) fn of(pages: &Pages, head: &Parts) -> Result<Self, Fault> {
        let own = head.headers.get(header::AUTHORIZATION).cloned();
        let session =
            if own.is_some() { None } else { session::token(&pages.sessions, head, pages.over_tls()) };
        let logged_in = session.is_some();
        Self::with(pages, head, own.or(session), logged_in)
    }

    /// By this token.
    pub(crate) fn with(
        pages: &Pages,
        head: &Parts,
        authorization: Option<HeaderValue>,
        logged_in: bool,
    ) -> Result<Self, Fault> {
        let connection = head.extensions.get::<Connection>().cloned();
        let connection =
            connection.ok_or_else(|| Fault::new(Code::Internal, "the request has no connection"))?;
        let services = Services { api: pages.api.clone(), connection, authorization };
        let mut asked = Request::new(());
        *asked.uri_mut() = Uri::from_static(LEAST);
        services.sign(&mut asked);
        let admitted = services.api.admit(&asked)?;
        let caller = admitted.caller().cloned();
        let caller = caller.ok_or_else(|| Fault::new(Code::Internal, "the request has no caller"))?;
        let (bus, once, config) = (pages.bus.clone(), pages.once.clone(), Arc::clone(&pages.config.borrow()));
        Ok(Self { services, bus, caller, config, logged_in, once, looks_again: false })
    }

    /// The same visitor, with a live page.
    pub(super) fn looking_again(self) -> Self {
        Self { looks_again: true, ..self }
    }

    /// Why the bus cannot be used.
    pub(super) async fn bus_fault(&self) -> Option<String> {
        self.bus.fault(&self.services.api).await
    }

    pub(crate) fn status(&self) -> StatusServiceClient<Services> {
        StatusServiceClient::new(self.services.clone())
    }

    pub(crate) fn control(&self) -> ControlServiceClient<Services> {
        ControlServiceClient::new(self.services.clone())
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Services> {
        JobServiceClient::new(self.services.clone())
    }

    /// Whether they may pause, replay and the like.
    pub(crate) fn controls(&self) -> bool {
        self.caller.scope >= Scope::Control
    }

    /// Whether they may submit jobs, and stop waiting for them.
    pub(crate) fn submits(&self) -> bool {
        self.caller.scope >= Scope::Submit
    }

    /// Whether they may see a tenant.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.caller.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    /// Whether they may see all tenants, and so what belongs to none.
    pub(crate) fn sees_all(&self) -> bool {
        self.caller.tenant.is_none()
    }
}

/// The relay's services behind its gate, with the visitor's token.
#[derive(Clone)]
pub(crate) struct Services {
    api: Api,
    connection: Connection,
    authorization: Option<HeaderValue>,
}

impl Services {
    fn sign<T>(&self, request: &mut Request<T>) {
        request.extensions_mut().insert(self.connection.clone());
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        self.sign(&mut request);
        Box::pin(self.api.services().call(request))
    }
}
