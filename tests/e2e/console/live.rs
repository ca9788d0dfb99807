//! News on a page that is looked at.

use super::setup::world;
use talaria_proto::v1::DeliveryState;
use talaria_tests::until;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_new_delivery_appears_and_the_rest_of_the_page_stays() {
    let world = world().await;
    let first = world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    browser.run("window.stays = true", &[]).await;
    browser.click(&format!("input[value^='{}@']", first.delivery)).await;
    browser.fill("#filter-since", "half a wo").await;
    world.delivered("second").await;
    browser.until_shows("#deliveries", "second").await;
    browser.fill("#filter-since", "rd").await;
    world.delivered("third").await;
    browser.until_shows("#deliveries", "third").await;
    let state = browser
        .run(
            "return [window.stays, document.getElementById('filter-since').value, document.activeElement.id,
                     [...document.querySelectorAll('input[name=delivery]:checked')].map((box) => box.value)]",
            &[],
        )
        .await;
    assert_eq!(
        state,
        serde_json::json!([true, "half a word", "filter-since", [format!("{}@1", first.delivery)]])
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn open_details_and_the_current_row_stay() {
    let world = world().await;
    world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/routes").await;
    browser.click("#tenants summary").await;
    browser.keys("jj").await;
    let current =
        "return document.querySelector('tr.at a')?.textContent + document.getElementById('tenants').open";
    let before = browser.run(current, &[]).await;
    world.waiting("a job").await;
    browser.until_shows("#routes", "SHUT").await;
    assert_eq!(browser.run(current, &[]).await, before);
    assert_eq!(before, "acme/shuttrue");
    assert_eq!(browser.run("return document.activeElement.textContent", &[]).await, "acme/shut");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_live_button_pauses_the_page() {
    let world = world().await;
    world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    browser.until_shows("#live", "Live").await;
    browser.click("#live").await;
    browser.shows("#live", &["Paused"]).await;
    world.delivered("second").await;
    // The other page is told of it, so this one would have been.
    let other = world.browser().await;
    other.open("/").await;
    world.delivered("third").await;
    other.until_shows("#overview", "3").await;
    assert!(!browser.text("#deliveries").await.contains("second"));
    browser.click("#live").await;
    browser.until_shows("#deliveries", "third").await;
    browser.shows("#live", &["Live"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_delivery_is_followed_to_its_end() {
    let world = world().await;
    let waiting = world.waiting("a job").await;
    let browser = world.browser().await;
    browser.open(&format!("/deliveries/{}", waiting.delivery)).await;
    browser.shows("#delivery", &["WAITING"]).await;
    world.sink.set("shut", talaria_tests::sink::Does::Accept);
    world.probed_until_open("shut").await;
    browser.until_shows("#delivery", "DELIVERED").await;
    browser.shows("#delivery", &["Attempt 2"]).await;
    let times = "return [...document.querySelectorAll('#delivery time')].every((time) => time.textContent !== time.title)";
    assert_eq!(browser.run(times, &[]).await, true, "fresh parts have the browser's zone, too");
    until("the delivery", async || {
        let found = world.stack.finished(&waiting.event, "shut").await;
        (found.delivery?.state() == DeliveryState::Delivered).then_some(())
    })
    .await;
}
