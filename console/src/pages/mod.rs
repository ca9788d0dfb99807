//! Pages for browsers, rendered here and complete without script.
//!
//! ```text
//! request ▶ visitor (session or token) ▶ page ▶ relay's services, through the gate ▶ frame ▶ answer
//!                                      └ act  ▶ relay's services ▶ back to the page, with a note
//! ```
//!
//! - [`visitor`]: who looks, and the services as they may use them. [`session`]: log-in, and notes from one page to the next.
//! - [`frame`]: what every page has, and its headers. [`parts`]: times, ids, states. [`tree`]: payloads. [`waterfall`]: the parts of an
//!   attempt's time. [`chart`]: counts over time. [`assets`]: the style sheet and the script.
//! - [`live`]: a page again and again, while it is looked at. [`bus`]: a warning while the bus cannot be used.
//! - [`act`]: what buttons do. [`form`]: fields of requests.
//! - Every other module is a page.

mod act;
mod actions;
mod assets;
mod attempt;
mod bus;
mod chart;
mod configuration;
mod deliveries;
mod delivery;
mod event;
mod form;
mod frame;
mod inbox;
mod job;
mod jobs;
mod live;
mod login;
mod overview;
mod parts;
mod relays;
mod replays;
mod route;
mod routes;
mod search;
mod session;
mod tree;
mod visitor;
mod waterfall;

use crate::{call::read_form, fault::Fault};
use form::Fields;
use frame::Page;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use maud::html;
use std::sync::Arc;
use talaria_core::config::Config;
use talaria_relay::Api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body};
use visitor::Visitor;

/// All that pages need. Clones share it.
#[derive(Clone)]
pub(crate) struct Pages {
    api: Api,
    config: watch::Receiver<Arc<Config>>,
    sessions: session::Sessions,
    notes: session::Notes,
    live: live::Limit,
    bus: bus::Bus,
    /// Ends live pages, for which the server would wait.
    end: CancellationToken,
}

impl Pages {
    pub(crate) fn new(api: Api, config: watch::Receiver<Arc<Config>>, end: CancellationToken) -> Self {
        let (sessions, notes, live, bus) = Default::default();
        Self { api, config, sessions, notes, live, bus, end }
    }

    /// Answers a request for a page, for its parts, or of a button.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if let Some(asset) = assets::answer(&head) {
            return asset;
        }
        match head.method {
            Method::GET | Method::HEAD => self.got(head).await,
            Method::POST => match self.posted(&head, body).await {
                Ok(answer) => answer,
                Err(fault) => frame::fault(&fault, Visitor::of(self, &head).ok().as_ref()),
            },
            _ => {
                let allow = Some((header::ALLOW, "GET, HEAD, POST"));
                let fault =
                    Fault::http(StatusCode::METHOD_NOT_ALLOWED, allow, "pages take GET, and buttons POST");
                frame::fault(&fault, None)
            }
        }
    }

    /// Whether the console is asked over TLS, which it shares with gRPC.
    fn over_tls(&self) -> bool {
        self.config.borrow().relay.tls.is_some()
    }

    async fn got(&self, head: Parts) -> Response<Body> {
        let path = head.uri.path();
        let fields = Fields::of_query(&head.uri);
        if path == login::PATH {
            return login::page(&fields, None);
        }
        let visitor = match Visitor::of(self, &head) {
            Ok(visitor) => visitor,
            Err(fault) if fault.code == Code::Unauthenticated && path != live::PATH => {
                return login::ask(&head.uri);
            }
            Err(fault) => return frame::fault(&fault, None),
        };
        if path == live::PATH {
            return live::answer(self.clone(), visitor, &fields).unwrap_or_else(|fault| fault.response());
        }
        let note = fields.get("note").and_then(|id| self.notes.take(id));
        match page(&visitor, path, &fields).await {
            Ok(Shown::Page(page)) => frame::answer(&page, &visitor, &head.uri, note.as_deref()),
            Ok(Shown::Elsewhere(path)) => frame::see_other(&path),
            Err(fault) => frame::fault(&fault, Some(&visitor)),
        }
    }

    async fn posted(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Fault> {
        // Every browser sends it with a form; its value was compared with `Host` already.
        if !head.headers.contains_key(header::ORIGIN) {
            return Err(Fault::new(
                Code::PermissionDenied,
                "a form is taken with its Origin alone, as every browser sends it",
            ));
        }
        match head.uri.path() {
            login::PATH => {
                let fields = Fields::of_body(&read_form(&head.headers, body).await?);
                Ok(login::log_in(self, head, &fields))
            }
            login::OUT => Ok(login::log_out(self, head)),
            path => {
                // First, so that no body of a client without a token is read.
                let visitor = Visitor::of(self, head)?;
                let fields = Fields::of_body(&read_form(&head.headers, body).await?);
                match act::act(&visitor, path, &fields).await? {
                    act::Outcome::Confirm(page) => Ok(frame::answer(&page, &visitor, &head.uri, None)),
                    act::Outcome::Done { back, note } => {
                        let joint = if back.contains('?') { '&' } else { '?' };
                        Ok(frame::see_other(&format!("{back}{joint}note={}", self.notes.put(note))))
                    }
                }
            }
        }
    }
}

/// What a path leads to.
enum Shown {
    Page(Page),
    /// Another path.
    Elsewhere(String),
}

impl From<Page> for Shown {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

async fn page(visitor: &Visitor, path: &str, fields: &Fields) -> Result<Shown, Fault> {
    Ok(match content(visitor, path, fields).await? {
        Shown::Page(page) => {
            let warning = bus::warning(visitor).await;
            Page { main: html! { (warning) (page.main) }, ..page }.into()
        }
        elsewhere @ Shown::Elsewhere(_) => elsewhere,
    })
}

async fn content(visitor: &Visitor, path: &str, fields: &Fields) -> Result<Shown, Fault> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Ok(match *parts.as_slice() {
        [""] => overview::page(visitor).await?.into(),
        ["inbox"] => inbox::page(visitor, fields).await?.into(),
        ["deliveries"] => deliveries::page(visitor, fields).await?.into(),
        ["deliveries", id] => delivery::page(visitor, id).await?.into(),
        ["deliveries", id, "attempts", number] => attempt::page(visitor, id, number).await?.into(),
        ["events", id] => event::page(visitor, id).await?.into(),
        ["jobs"] => jobs::page(visitor, fields).await?.into(),
        ["jobs", id] => job::page(visitor, id).await?.into(),
        ["routes"] => routes::page(visitor).await?.into(),
        ["routes", tenant, route] => route::page(visitor, tenant, route, fields).await?.into(),
        ["replays"] => replays::page(visitor, fields).await?.into(),
        ["actions"] => actions::page(visitor, fields).await?.into(),
        ["configuration"] => configuration::page(visitor).await?.into(),
        ["relays"] => relays::page(visitor).await?.into(),
        ["search"] => search::page(visitor, fields).await?,
        _ => {
            return Err(
                Fault::http(StatusCode::NOT_FOUND, None, "there is no such page").with(Code::NotFound)
            );
        }
    })
}
