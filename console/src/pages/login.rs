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

/// The longest authorization: some times that of a token.
const LONGEST: usize = 500;

/// Leads to the log-in, and from there back to the page.
pub(super) fn ask(head: &Parts) -> Response<Body> {
    let wanted = head.uri.path_and_query().map_or("/", |path| path.as_str());
    // With a link on another site the browser sends no cookie. From a page of ours it does.
    if head
        .headers
        .get("sec-fetch-site")
        .is_some_and(|site| matches!(site.as_bytes(), b"cross-site" | b"same-site"))
    {
        return frame::again(wanted);
    }
    frame::see_other(&url(PATH, &[("back", wanted)]))
}

/// The same for a button, which leads back to the page that it was on.
pub(super) fn ask_for_button(head: &Parts) -> Response<Body> {
    let referrer = head.headers.get(header::REFERER).and_then(|page| page.to_str().ok()?.parse::<Uri>().ok());
    let page = referrer.as_ref().and_then(|page| page.path_and_query()).map_or("/", |path| path.as_str());
    frame::see_other(&url(PATH, &[("back", page)]))
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

/// Begins a session, if the relay knows the token. Where it needs none, there is nothing to log in to.
pub(super) fn log_in(pages: &Pages, head: &Parts, fields: &Fields) -> Response<Body> {
    let token = SecretString::from(fields.text("token").to_owned());
    // A token that no header can have is no token of the relay's, either.
    let Some(authorization) = session::bearer(&token).filter(|value| value.len() <= LONGEST) else {
        return page(fields, Some("this is no token"));
    };
    let visitor = match Visitor::with(pages, head, Some(authorization), true) {
        Ok(visitor) => visitor,
        Err(fault) => return page(fields, Some(&fault.message)),
    };
    let answer = frame::see_other(&fields.back());
    if visitor.caller.token.is_empty() {
        return answer;
    }
    match session::begin(&pages.sessions, token, head, is_over_tls(pages, head)) {
        Some(cookie) => with_cookie(answer, cookie),
        None => answer,
    }
}

pub(super) fn log_out(pages: &Pages, head: &Parts) -> Response<Body> {
    let answer = frame::see_other(PATH);
    match session::end(&pages.sessions, head, is_over_tls(pages, head)) {
        Some(cookie) => with_cookie(answer, cookie),
        None => answer,
    }
}

/// Whether the browser has TLS: the relay's, or that of a proxy, as the `Origin` says that it sends.
fn is_over_tls(pages: &Pages, head: &Parts) -> bool {
    pages.over_tls()
        || head.headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"))
}

fn with_cookie(mut answer: Response<Body>, cookie: HeaderValue) -> Response<Body> {
    answer.headers_mut().insert(header::SET_COOKIE, cookie);
    answer
}
