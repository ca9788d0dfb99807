//! Log-in by a relay token, and log-out.

use super::{
    Pages,
    form::{Fields, url},
    frame, session,
    visitor::Visitor,
};
use http::{HeaderValue, Response, StatusCode, Uri, header, request::Parts};
use maud::html;
use secrecy::SecretString;
use tonic::body::Body;

pub(super) const PATH: &str = "/login";
pub(super) const OUT: &str = "/logout";

/// Leads to the log-in, and from there back to the page.
pub(super) fn ask(wanted: &Uri) -> Response<Body> {
    let wanted = wanted.path_and_query().map_or("/", |path| path.as_str());
    frame::see_other(&url(PATH, &[("back", wanted)]))
}

/// The page that takes a token.
pub(super) fn page(fields: &Fields, fault: Option<&str>) -> Response<Body> {
    let main = html! {
        div.login {
            h1 { "Log in" }
            @if let Some(fault) = fault { p.fault role="alert" { (fault) } }
            form.stack method="post" action=(PATH) {
                input type="hidden" name="back" value=(fields.back());
                label for="token" { "Token of this relay" }
                input id="token" name="token" type="password" required autocomplete="current-password" autofocus
                    placeholder="tlr_…";
                button.main { "Log in" }
            }
            p.hint { "Tokens are made by " code { "talaria token" } ", and stand in the configuration under " code { "relay.tokens" } "." }
        }
    };
    frame::bare(if fault.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK }, "Log in", &main)
}

/// Begins a session, if the relay knows the token.
pub(super) fn log_in(pages: &Pages, head: &Parts, fields: &Fields) -> Response<Body> {
    let token = SecretString::from(fields.text("token").to_owned());
    let authorization = session::bearer(&token);
    // A token that no header can have is no token of the relay's, either.
    let known = authorization.is_some().then(|| Visitor::with(pages, head, authorization, true));
    if let Some(Err(fault)) = &known {
        return page(fields, Some(&fault.message));
    }
    let cookie = known.and_then(|_| session::begin(&pages.sessions, token, pages.over_tls()));
    match cookie {
        Some(cookie) => with_cookie(frame::see_other(&fields.back()), cookie),
        None => page(fields, Some("this is no token")),
    }
}

pub(super) fn log_out(pages: &Pages, head: &Parts) -> Response<Body> {
    let answer = frame::see_other(PATH);
    match session::end(&pages.sessions, &head.headers, pages.over_tls()) {
        Some(cookie) => with_cookie(answer, cookie),
        None => answer,
    }
}

fn with_cookie(mut answer: Response<Body>, cookie: HeaderValue) -> Response<Body> {
    answer.headers_mut().insert(header::SET_COOKIE, cookie);
    answer
}
