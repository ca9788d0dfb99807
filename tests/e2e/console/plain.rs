//! Without scripts.

use super::setup::everything;
use talaria_proto::v1::ReplayDeliveryRequest;
use talaria_tests::{browser::Browser, sink::Does};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn every_page_is_complete_and_every_form_works_without_scripts() {
    let shown = everything().await;
    let browser = Browser::without_scripts(shown.world.stack.console()).await;
    for (name, path) in shown.pages() {
        browser.open(&path).await;
        assert!(browser.text("main").await.len() > 40, "{name}");
        assert_eq!(browser.count("main button.copy").await, 0, "{name}: a script ran");
        assert_eq!(
            browser.run("return document.getElementById('live')?.hidden ?? true", &[]).await,
            true,
            "{name}"
        );
    }
    browser.open(&format!("/deliveries/{}", shown.delivered.delivery)).await;
    browser.shows("#delivery", &["DELIVERED", "Attempt 1"]).await;
    let utc = "return [...document.querySelectorAll('time')].every((time) => time.textContent === time.title && time.title.endsWith('Z'))";
    assert_eq!(browser.run(utc, &[]).await, true);
    browser.open("/deliveries").await;
    browser.click("input[name=state][value=parked]").await;
    browser.press("Filter").await;
    browser.shows("#deliveries", &["job-parked"]).await;
    shown.world.sink.set("broken", Does::Accept);
    browser.click("#deliveries input[type=checkbox]").await;
    browser.press("Replay the selected").await;
    browser.shows(".note", &["1 delivery is sent again."]).await;
    // A button that is pressed twice, as by a double click, replays once.
    browser.open(&format!("/deliveries/{}", shown.delivered.delivery)).await;
    let request = ReplayDeliveryRequest {
        delivery_id: shown.delivered.delivery.clone(),
        requested_by: "the first press".into(),
        ..ReplayDeliveryRequest::default()
    };
    shown.world.stack.control().await.replay_delivery(request).await.unwrap();
    browser.press("Replay").await;
    browser.shows("main", &["was sent again meanwhile: it is of generation 2, and not 1"]).await;
    browser.open("/routes/acme/video").await;
    browser.press("Pause").await;
    browser.shows("main", &["acme/video is paused.", "PAUSED"]).await;
    browser.press("Resume").await;
    browser.shows("main", &["acme/video is not paused any more.", "ADMITTING"]).await;
    browser.click("#preview summary").await;
    browser.press("Preview").await;
    browser.shows(".prompt", &["Video "]).await;
    browser.fill("#search", &format!("{}\u{e007}", shown.parked.event)).await;
    browser.until_shows("h1", &shown.parked.event).await;
}
