//! What buttons do.

use super::setup::{Ids, World, token, world};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{browser::Browser, sink::Does};

impl World {
    async fn becomes(&self, ids: &Ids, route: &str, state: State) {
        self.stack.delivery_when(&ids.event, route, |delivery| delivery.state() == state).await;
    }

    fn mended(&self, route: &str) {
        self.sink.set(route, Does::Accept);
    }
}

/// The note on the page that follows an action.
async fn notes(browser: &Browser, text: &str) {
    browser.until_shows(".note", text).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_route_is_paused_until_resumed_and_for_a_time() {
    let world = world().await;
    let browser = world.browser().await;
    browser.open("/routes/acme/video").await;
    browser.fill("input[name=reason]", "Hermes moves").await;
    browser.press("Pause").await;
    notes(&browser, "acme/video is paused.").await;
    browser.shows("main", &["PAUSED", "Paused by console", "Hermes moves"]).await;
    browser.press("Resume").await;
    notes(&browser, "acme/video is not paused any more.").await;
    browser.fill("input[name=for]", "2h").await;
    browser.press("Pause").await;
    notes(&browser, "acme/video is paused until ").await;
    browser.shows("main", &["PAUSED", " until "]).await;
    browser.press("Resume").await;
    browser.fill("input[name=for]", "a while").await;
    browser.press("Pause").await;
    browser.shows("main", &["a while is no duration, such as 30m or 2h"]).await;
    // A note is shown once.
    browser.open("/routes/acme/video").await;
    assert_eq!(browser.count(".note").await, 0);
    browser.open("/routes").await;
    browser.click("#tenants summary").await;
    browser.press("Pause").await;
    notes(&browser, "acme is paused.").await;
    browser.shows("main", &["The whole tenant acme is paused."]).await;
    browser.press("Resume").await;
    notes(&browser, "acme is not paused any more.").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_shut_route_is_probed() {
    let world = world().await;
    let waiting = world.waiting("a job").await;
    let browser = world.browser().await;
    browser.open("/routes/acme/shut").await;
    // Before it is mended, so that no probe of the breaker's own comes first.
    browser.press("Probe now").await;
    notes(&browser, "acme/shut").await;
    world.mended("shut");
    world.probed_until_open("shut").await;
    world.becomes(&waiting, "shut", State::Delivered).await;
    browser.until_shows("#route", "ADMITTING").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_delivery_is_cancelled_and_replayed() {
    let world = world().await;
    let waiting = world.waiting("a job").await;
    let browser = world.browser().await;
    browser.open(&format!("/deliveries/{}", waiting.delivery)).await;
    browser.press("Cancel").await;
    notes(&browser, "is cancelled.").await;
    browser.until_shows("#delivery", "CANCELLED").await;
    browser.shows("#delivery", &["cancelled by console"]).await;
    world.mended("shut");
    browser.press("Replay").await;
    notes(&browser, "is sent again to acme/shut.").await;
    world.probed_until_open("shut").await;
    world.becomes(&waiting, "shut", State::Delivered).await;
    browser.until_shows("#delivery", "DELIVERED").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_selected_deliveries_alone_are_replayed() {
    let world = world().await;
    let (first, second, third) =
        (world.parked("first").await, world.parked("second").await, world.parked("third").await);
    world.mended("broken");
    let browser = world.browser().await;
    browser.open("/deliveries?state=parked").await;
    browser.press("Replay the selected").await;
    browser.shows("main", &["no delivery is selected"]).await;
    browser.open("/deliveries?state=parked").await;
    for ids in [&first, &third] {
        browser.click(&format!("input[value^='{}@']", ids.delivery)).await;
    }
    browser.fill("#selected-reason", "mended").await;
    browser.press("Replay the selected").await;
    notes(&browser, "2 deliveries are sent again.").await;
    assert_eq!(browser.run("return location.search.startsWith('?state=parked')", &[]).await, true);
    world.becomes(&first, "broken", State::Delivered).await;
    world.becomes(&third, "broken", State::Delivered).await;
    world.becomes(&second, "broken", State::Parked).await;
    browser.open(&format!("/deliveries/{}", third.delivery)).await;
    browser.shows("#delivery", &["replayed by console: mended"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn all_that_match_are_replayed_after_a_confirmation_with_their_count() {
    let world = world().await;
    for number in 0..3 {
        world.parked(&format!("job-{number}")).await;
    }
    world.delivered("other").await;
    world.mended("broken");
    let browser = world.browser().await;
    browser.open("/deliveries?state=parked").await;
    browser.press("Replay all that match…").await;
    browser.shows("main", &["Replay all that match", "Can be replayed\n3", "parked"]).await;
    assert_eq!(world.sink.requests_to("broken").len(), 3, "nothing is sent before the confirmation");
    browser.fill("#reason", "mended").await;
    browser.press("Replay 3").await;
    notes(&browser, "of 3 deliveries has begun.").await;
    browser.until_shows("#replays", "DONE").await;
    browser.shows("#replays", &["3 of 3", "mended", "console", "600"]).await;
    assert_eq!(world.sink.requests_to("broken").len(), 6);
    assert_eq!(world.sink.requests_to("video").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_replay_is_cancelled() {
    let world = world().await;
    for number in 0..3 {
        world.parked(&format!("job-{number}")).await;
    }
    let browser = world.browser().await;
    browser.open("/deliveries?state=parked").await;
    browser.press("Replay all that match…").await;
    browser.run("document.getElementById('rate').value = 1", &[]).await;
    browser.press("Replay 3").await;
    browser.until_shows("#replays", "RUNNING").await;
    browser.press("Cancel").await;
    notes(&browser, "is cancelled.").await;
    browser.until_shows("#replays", "CANCELLED").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn an_unmatched_event_is_delivered_to_a_route_that_takes_it_since_then() {
    let world = world().await;
    let event = world.unmatched("a job").await;
    let browser = world.browser().await;
    browser.open("/inbox?show=unmatched").await;
    browser.shows("#inbox", &["a job"]).await;
    let late =
        format!("      late:\n        url: {}\n        secret: {{file: hermes}}\n", world.sink.url("late"));
    world.stack.rewrite(|text| text.replacen("    routes:\n", &format!("    routes:\n{late}"), 1));
    world.stack.generation(2).await;
    browser.open("/inbox?show=unmatched").await;
    browser.run("document.querySelector('select[name=route]').value = 'late'", &[]).await;
    browser.press("Deliver").await;
    notes(&browser, "is sent again to acme/late.").await;
    assert!(browser.path().await.starts_with(&format!("/events/{event}")));
    world.stack.finished(&event, "late").await;
    browser.until_shows("#event", "DELIVERED").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_job_is_not_waited_for_any_more() {
    let world = world().await;
    let (job, _) = world.running("first").await;
    let browser = world.browser().await;
    browser.open(&format!("/jobs/{job}")).await;
    browser.press("Stop waiting for it").await;
    notes(&browser, "is not waited for any more.").await;
    browser.until_shows("#job", "STOPPED").await;
    assert_eq!(browser.count("form[action='/act/stop-job']").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_token_logs_in_and_the_session_ends_with_the_log_out() {
    let world = world().await;
    let (entry, token) = token("ops", "control", None);
    world.take_tokens(&[entry]).await;
    let browser = world.browser().await;
    browser.open("/deliveries?state=parked").await;
    assert!(browser.path().await.starts_with("/login?back="));
    browser.fill("#token", "tlr_wrong").await;
    browser.press("Log in").await;
    browser.until("the refusal", "return document.querySelector('[role=alert]') !== null", &[]).await;
    browser.fill("#token", &token).await;
    browser.press("Log in").await;
    assert_eq!(browser.path().await, "/deliveries?state=parked");
    browser.shows(".top", &["ops", "Log out"]).await;
    browser.go("form[action='/logout'] button").await;
    assert_eq!(browser.path().await, "/login");
    browser.open("/").await;
    assert!(browser.path().await.starts_with("/login"));
}
