//! Tokens, sessions, other sites, headers.

use super::setup::{World, token, world};
use axum::{Router, response::Html, routing::get};
use reqwest::{RequestBuilder, StatusCode, redirect::Policy};
use std::net::SocketAddr;
use talaria_proto::v1::DeliveryState;
use talaria_tests::{browser::Browser, until};
use tokio::net::TcpListener;

/// Every path that a button posts to.
const ACTS: [&str; 9] = [
    "pause",
    "resume",
    "probe",
    "cancel",
    "replay",
    "replay-selected",
    "replay-all",
    "cancel-replay",
    "stop-job",
];

/// A client that follows no redirect, for what a browser cannot send.
struct Plain {
    http: reqwest::Client,
    console: SocketAddr,
}

impl Plain {
    fn of(world: &World) -> Self {
        talaria_tests::http();
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { http, console: world.stack.console() }
    }

    fn request(&self, verb: &str, path: &str) -> RequestBuilder {
        self.http.request(verb.parse().unwrap(), format!("http://{}{path}", self.console))
    }

    /// A form as the console's own pages send it.
    fn form(&self, path: &str, body: &'static str) -> RequestBuilder {
        let request = self.request("POST", path).header("origin", format!("http://{}", self.console));
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    async fn status(&self, request: RequestBuilder) -> u16 {
        request.send().await.unwrap().status().as_u16()
    }
}

async fn log_in(browser: &Browser, token: &str) {
    browser.open("/login").await;
    browser.fill("#token", token).await;
    browser.press("Log in").await;
    assert_eq!(browser.path().await, "/");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_token_of_a_tenant_sees_nothing_of_others() {
    let world = world().await;
    let own = world.delivered("own").await;
    let others = world.sent("beta", "secret-job", "completed", "other", DeliveryState::Delivered).await;
    let (entry, acme) = token("acme-ops", "control", Some("acme"));
    world.take_tokens(&[entry]).await;
    let browser = world.browser().await;
    log_in(&browser, &acme).await;
    for path in
        ["/", "/inbox", "/deliveries", "/routes", "/configuration", "/actions", "/search?q=dlv_", "/jobs"]
    {
        browser.open(path).await;
        let text = browser.run("return document.documentElement.outerHTML", &[]).await;
        let text = text.as_str().unwrap();
        for hidden in ["beta", "secret-job", &others.event, &others.delivery] {
            assert!(!text.contains(hidden), "{path} has {hidden}");
        }
    }
    browser.open(&format!("/deliveries/{}", own.delivery)).await;
    browser.shows("#delivery", &["DELIVERED"]).await;
    // The same page as for an id that there is not, but for the id.
    for (path, unknown) in [
        (format!("/deliveries/{}", others.delivery), format!("/deliveries/dlv_{}", "a".repeat(40))),
        (format!("/events/{}", others.event), format!("/events/evt_{}", "a".repeat(32))),
        ("/routes/beta/other".to_owned(), "/routes/gamma/other".to_owned()),
    ] {
        let mut texts = Vec::new();
        for path in [&path, &unknown] {
            browser.open(path).await;
            let parts: Vec<&str> = path.rsplit('/').take(2).collect();
            let text = browser.text("main").await;
            texts.push(text.replace(parts[0], "ID").replace(&format!("{}/", parts[1]), "T/"));
        }
        assert_eq!(texts[0], texts[1], "{path}");
    }
    browser.open("/search?q=secret-job").await;
    browser.shows("main", &["There is none."]).await;
    let plain = Plain::of(&world);
    let fields = format!("delivery={}", others.delivery);
    for path in ["/act/replay", "/act/cancel"] {
        let request = plain.form(path, "").body(fields.clone()).bearer_auth(&acme);
        assert_eq!(plain.status(request).await, 404, "{path}");
    }
    let request = plain.form("/act/pause", "tenant=beta").bearer_auth(&acme);
    assert!(matches!(plain.status(request).await, 403 | 404));
    assert_eq!(world.sink.requests_to("other").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_token_that_only_reads_has_no_buttons_and_its_forms_are_refused() {
    let world = world().await;
    let (parked, waiting) = (world.parked("parked").await, world.waiting("waiting").await);
    let unmatched = world.unmatched("unmatched").await;
    let (job, _) = world.running("first").await;
    let (entry, reader) = token("reader", "read", None);
    world.take_tokens(&[entry]).await;
    let browser = world.browser().await;
    log_in(&browser, &reader).await;
    browser.shows(".top", &["reader", "read"]).await;
    for path in [
        "/".to_owned(),
        "/inbox?show=unmatched".to_owned(),
        "/deliveries".to_owned(),
        format!("/deliveries/{}", parked.delivery),
        format!("/deliveries/{}", waiting.delivery),
        format!("/events/{unmatched}"),
        format!("/jobs/{job}"),
        "/routes".to_owned(),
        "/routes/acme/shut".to_owned(),
        "/replays".to_owned(),
    ] {
        browser.open(&path).await;
        assert_eq!(browser.count("main form[method=post], main input[name=delivery]").await, 0, "{path}");
    }
    let plain = Plain::of(&world);
    for act in ACTS {
        let body = "tenant=acme&route=video&delivery=x&replay=x&job=x&confirmed=yes";
        let request = plain.form(&format!("/act/{act}"), body).bearer_auth(&reader);
        let status = plain.status(request).await;
        // Each of the selected ones is refused, which the note says.
        assert_eq!(status, if act == "replay-selected" { 303 } else { 403 }, "{act}");
    }
    assert_eq!(world.sink.requests_to("broken").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn no_script_and_no_other_site_gets_the_cookie() {
    let world = world().await;
    let (entry, ops) = token("ops", "control", None);
    world.take_tokens(&[entry]).await;
    let browser = world.browser().await;
    log_in(&browser, &ops).await;
    let cookies = browser.cookies().await;
    assert_eq!(cookies.len(), 1);
    assert_eq!((&cookies[0]["httpOnly"], &cookies[0]["sameSite"]), (&true.into(), &"Strict".into()));
    assert!(!cookies[0]["value"].as_str().unwrap().contains(&ops));
    assert_eq!(browser.run("return document.cookie", &[]).await, "");
    let stored = "return localStorage.length + sessionStorage.length";
    assert_eq!(browser.run(stored, &[]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_revoked_token_is_logged_out_also_from_an_open_page() {
    let world = world().await;
    let ((ops, first), (other, _)) = (token("ops", "control", None), token("other", "control", None));
    world.take_tokens(&[ops, other.clone()]).await;
    let browser = world.browser().await;
    log_in(&browser, &first).await;
    browser.until_shows("#live", "Live").await;
    world.take_tokens(&[other]).await;
    browser.until_shows("#live", "Ended").await;
    browser.open("/deliveries").await;
    assert_eq!(browser.path().await, "/login?back=%2Fdeliveries");
}

/// A page of another site with a form for the console, which it sends by itself.
async fn other_site(console: SocketAddr) -> SocketAddr {
    let page = format!(
        "<!doctype html><title>Other</title><form method=post action='http://{console}/act/pause'><input name=tenant value=acme>\
         <input name=route value=video><button id=go>Go</button></form><iframe src='http://{console}/'></iframe>\
         <script>fetch('http://{console}/').then((answer) => answer.text()).then((text) => document.title = text, () => document.title = 'Refused')</script>"
    );
    let router = Router::new().route("/", get(move || async move { Html(page) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_page_of_another_site_reads_and_does_nothing() {
    let world = world().await;
    let site = other_site(world.stack.console()).await;
    let browser = world.browser().await;
    // Without tokens, so that no cookie is needed.
    browser.open(&format!("http://{site}/")).await;
    until("the script's end", async || (browser.title().await == "Refused").then_some(())).await;
    browser.go("#go").await;
    browser.until_shows("body", "pages of other sites may not ask here").await;
    browser.open("/routes").await;
    assert!(!browser.text("#routes").await.contains("PAUSED"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn only_forms_of_our_own_pages_at_our_own_name_are_taken() {
    let world = world().await;
    let plain = Plain::of(&world);
    let body = "tenant=acme&route=video";
    for act in ACTS {
        let path = format!("/act/{act}");
        let request =
            plain.request("POST", &path).header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(plain.status(request.body(body)).await, 403, "{act} without an Origin");
        for origin in ["http://127.0.0.1:1", "null", "https://evil.example"] {
            let request = plain.request("POST", &path).header("origin", origin);
            let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
            assert_eq!(plain.status(request).await, 403, "{act} from {origin}");
        }
        assert_eq!(plain.status(plain.request("GET", &format!("{path}?{body}"))).await, 404, "{act} by GET");
    }
    for path in ["/", "/deliveries", "/assets/console.js", "/login"] {
        let request = plain.request("GET", path).header("host", "evil.example");
        assert_eq!(plain.status(request).await, 403, "{path}");
    }
    let login = plain.request("POST", "/login").body("token=x");
    assert_eq!(plain.status(login).await, 403, "a log-in without an Origin");
    let done = plain.form("/act/pause", "tenant=acme&route=video&back=//evil.example/").send().await.unwrap();
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert!(
        done.headers()["location"].to_str().unwrap().starts_with("/?note="),
        "back to pages of ours alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn every_answer_forbids_what_pages_do_not_need() {
    let world = world().await;
    let plain = Plain::of(&world);
    for path in ["/", "/deliveries", "/no-such-page", "/login", "/deliveries?since=x", "/search?q=x"] {
        let answer = plain.request("GET", path).send().await.unwrap();
        let headers = answer.headers().clone();
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let policy = header("content-security-policy");
        assert!(!policy.contains("unsafe-") && !policy.contains('*'), "{path}: {policy}");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        let page = answer.text().await.unwrap();
        assert!(
            !page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick="),
            "{path}"
        );
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"/assets/").count(), "{path}");
    }
    for path in ["/assets/console.js", "/assets/console.css", "/assets/icon.svg"] {
        let answer = plain.request("GET", path).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-content-type-options"]),
            (200, &"nosniff".parse().unwrap())
        );
    }
}
