//! Everything without a mouse.

use super::setup::world;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// What has the focus.
const FOCUSED: &str = "return document.activeElement.id || document.activeElement.getAttribute('href') || ''";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn rows_are_chosen_and_opened_by_keys() {
    let world = world().await;
    let (first, second) = (world.delivered("first").await, world.delivered("second").await);
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    let row = |delivery: &str| format!("/deliveries/{delivery}");
    for (key, expected) in [("j", &second), ("j", &first), ("j", &first), ("k", &second), ("k", &second)] {
        browser.keys(key).await;
        assert_eq!(browser.run(FOCUSED, &[]).await, row(&expected.delivery), "{key}");
    }
    browser.keys("x").await;
    let selected = "return document.querySelector('input[name=delivery]:checked').value";
    assert_eq!(browser.run(selected, &[]).await, format!("{}@1", second.delivery));
    browser.keys(ENTER).await;
    browser.until_shows("h1", &second.delivery).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_search_and_the_help_are_a_key_away() {
    let world = world().await;
    let browser = world.browser().await;
    browser.open("/").await;
    browser.keys("/").await;
    assert_eq!(browser.run(FOCUSED, &[]).await, "search");
    browser.keys("jk/?").await;
    assert_eq!(browser.run("return document.getElementById('search').value", &[]).await, "jk/?");
    browser.keys(ESCAPE).await;
    assert_ne!(browser.run(FOCUSED, &[]).await, "search");
    let open = "return document.getElementById('help').open";
    browser.keys("?").await;
    assert_eq!(browser.run(open, &[]).await, true);
    browser.shows("#help", &["Keys", "Next and previous row", "Close"]).await;
    browser.keys(ESCAPE).await;
    assert_eq!(browser.run(open, &[]).await, false);
    browser.keys("p").await;
    browser.shows("#live", &["Paused"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_first_link_skips_to_the_content() {
    let world = world().await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    browser.keys(TAB).await;
    assert_eq!(browser.run("return document.activeElement.innerText", &[]).await, "Skip to the content");
    browser.keys(ENTER).await;
    assert_eq!(browser.run(FOCUSED, &[]).await, "main");
    browser.keys(TAB).await;
    let inside = "return document.getElementById('main').contains(document.activeElement)";
    assert_eq!(browser.run(inside, &[]).await, true);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn every_control_is_reached_and_shows_that_it_has_the_focus() {
    let world = world().await;
    world.delivered("first").await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    let controls = "return [...document.querySelectorAll('a[href], button, input, select, summary')].filter(
                      (control) => control.checkVisibility() && control.type !== 'hidden').length";
    let controls = browser.run(controls, &[]).await.as_u64().unwrap();
    let mut reached = 0;
    for _ in 0..controls {
        browser.keys(TAB).await;
        let outlined = "const style = getComputedStyle(document.activeElement);
                        return document.activeElement === document.body || style.outlineStyle !== 'none'";
        assert_eq!(browser.run(outlined, &[]).await, true, "{}", browser.run(FOCUSED, &[]).await);
        reached += 1;
    }
    assert!(reached > 20, "{reached}");
}
