//! What every page has: its head, its menu, and the headers of its answer.

use super::{assets::VERSION, form::url, live, login, visitor::Visitor};
use crate::fault::{self, Fault};
use http::{HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::Full;
use maud::{DOCTYPE, Markup, html};
use tonic::{Code, body::Body};

/// A page without its frame.
pub(crate) struct Page {
    pub title: String,
    /// The path of its entry in the menu.
    pub menu: &'static str,
    pub main: Markup,
    /// The origin of the files that it shows, such as "https://talaria.example.com".
    pub media: Option<String>,
    /// Why it has only its form: something in that is not right.
    pub refused: Option<Fault>,
}

impl Page {
    pub(super) fn new(title: impl Into<String>, menu: &'static str, main: Markup) -> Self {
        Self { title: title.into(), menu, main, media: None, refused: None }
    }

    /// A page with a form as it was filled in, where that is why there is no list.
    pub(super) fn refused(
        fault: Fault,
        title: &'static str,
        menu: &'static str,
        form: &Markup,
    ) -> Result<Self, Fault> {
        if fault.code != Code::InvalidArgument {
            return Err(fault);
        }
        Ok(Self { refused: Some(fault), ..Self::new(title, menu, html! { h1 { (title) } (form) }) })
    }
}

const MENU: [(&str, &str); 9] = [
    ("/", "Overview"),
    ("/inbox", "Inbox"),
    ("/deliveries", "Deliveries"),
    ("/jobs", "Jobs"),
    ("/routes", "Routes"),
    ("/replays", "Replays"),
    ("/actions", "Actions"),
    ("/configuration", "Configuration"),
    ("/relays", "Relays"),
];

/// Nothing of others: no script and no style in a page, no frame around it, no form to elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// A page as it is shown first. One that has an address is live.
pub(super) fn answer(
    page: &Page,
    visitor: &Visitor,
    uri: Option<&Uri>,
    note: Option<&str>,
) -> Response<Body> {
    let main = html! {
        @if let Some(note) = note { p.note role="status" { (note) } }
        @if let Some(fault) = &page.refused { p.fault role="alert" { (super::parts::sentence(&fault.message)) } }
        (page.main)
    };
    let uri = uri.filter(|_| page.refused.is_none());
    let live = uri.and_then(Uri::path_and_query).map(|shown| url(live::PATH, &[("page", shown.as_str())]));
    html(
        page.refused.as_ref().map_or(StatusCode::OK, Fault::status),
        &document(&page.title, page.menu, Some(visitor), live.as_deref(), &main),
        page.media.as_deref(),
    )
}

/// A page that says why there is no other.
pub(super) fn fault(fault: &Fault, visitor: Option<&Visitor>, head: &Parts) -> Response<Body> {
    let status = fault.status();
    // A list without its filter, or the page that had the button.
    let referrer = head.headers.get(header::REFERER).and_then(|page| page.to_str().ok()?.parse::<Uri>().ok());
    let back = match &referrer {
        Some(page) if head.method == Method::POST => page.path_and_query().map_or("/", |path| path.as_str()),
        _ => head.uri.path(),
    };
    let main = html! {
        h1 { (status.canonical_reason().unwrap_or("Not answered")) }
        p.fault role="alert" { (super::parts::sentence(&fault.message)) }
        p { a href=(back) { "Back" } " · " a href="/" { "To the overview" } }
    };
    let mut answer = html(status, &document("Not answered", "", visitor, None, &main), None);
    for (name, value) in fault.response().headers() {
        if matches!(*name, header::ALLOW | header::WWW_AUTHENTICATE) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// A page without menu, for those who are not logged in.
pub(super) fn bare(status: StatusCode, title: &str, main: &Markup) -> Response<Body> {
    html(status, &document(title, "", None, None, main), None)
}

/// Has a browser ask once more for a page, from a page of ours.
pub(super) fn again(path: &str) -> Response<Body> {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta http-equiv="refresh" content={ "0;url=" (path) }; title { "Talaria" } }
            body { main { p { a href=(path) { "Go on" } } } }
        }
    };
    html(StatusCode::OK, &document, None)
}

/// Leads a browser to another page of ours.
pub(super) fn see_other(path: &str) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    fault::guard(&mut answer, "text/plain");
    *answer.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(path) = HeaderValue::try_from(path) {
        answer.headers_mut().insert(header::LOCATION, path);
    }
    answer
}

fn html(status: StatusCode, document: &Markup, media: Option<&str>) -> Response<Body> {
    let mut answer = Response::new(Body::new(Full::new(document.0.clone().into())));
    *answer.status_mut() = status;
    fault::guard(&mut answer, "text/html; charset=utf-8");
    let policy = match media {
        Some(origin) => HeaderValue::try_from(format!("{POLICY}; media-src {origin}")).ok(),
        None => None,
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.unwrap_or(HeaderValue::from_static(POLICY)));
    // Not `no-referrer`, with which browsers send forms without their Origin.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}

fn document(title: &str, menu: &str, visitor: Option<&Visitor>, live: Option<&str>, main: &Markup) -> Markup {
    let version = VERSION.as_str();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Talaria" }
                link rel="icon" href={ "/assets/icon.svg?" (version) } type="image/svg+xml";
                link rel="stylesheet" href={ "/assets/console.css?" (version) };
                script src={ "/assets/console.js?" (version) } defer {}
            }
            body data-live=[live] {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { "Talaria" }
                    @if let Some(visitor) = visitor { (top(visitor, live.is_some())) }
                }
                @if visitor.is_some() {
                    nav.menu aria-label="Pages" {
                        ul {
                            @for (path, name) in MENU {
                                li { a href=(path) aria-current=[(path == menu).then_some("page")] { (name) } }
                            }
                        }
                    }
                }
                main id="main" tabindex="-1" { (main) }
                @if visitor.is_some() { (help()) }
            }
        }
    }
}

fn top(visitor: &Visitor, live: bool) -> Markup {
    let caller = &visitor.caller;
    html! {
        form.search role="search" action="/search" {
            label.unseen for="search" { "Search for an id" }
            input id="search" name="q" type="search" maxlength="200" autocomplete="off" spellcheck="false"
                placeholder="An id, or its beginning";
        }
        @if live {
            button.live id="live" type="button" hidden aria-pressed="true" title="Pause or go on" { "Live" }
        }
        @if !caller.token.is_empty() {
            span.who title={ "scope " (caller.scope.name()) } {
                (caller.token)
                @if let Some(tenant) = &caller.tenant { " · " (tenant) }
                @if !visitor.controls() { " · " (caller.scope.name()) }
            }
        }
        @if visitor.logged_in {
            form method="post" action=(login::OUT) { button.quiet { "Log out" } }
        }
    }
}

fn help() -> Markup {
    html! {
        dialog id="help" aria-labelledby="help-title" {
            h2 id="help-title" { "Keys" }
            dl.pairs {
                dt { kbd { "/" } } dd { "Search for an event, a delivery, a job or a replay" }
                dt { kbd { "j" } " " kbd { "k" } } dd { "Next and previous row" }
                dt { kbd { "Enter" } } dd { "Open the row" }
                dt { kbd { "x" } } dd { "Select the row, where rows can be selected" }
                dt { kbd { "p" } } dd { "Pause the page, or let it go on" }
                dt { kbd { "?" } } dd { "This help" }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}
