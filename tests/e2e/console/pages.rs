//! What each page shows.

use super::setup::{everything, world, world_with};
use crate::jobs::job_when;
use std::fs;
use talaria_proto::v1::{DeliveryState, FilesState, Job};
use talaria_tests::{browser::ZONE, openrouter_api::End, stack::stack, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_overview_shows_sums_and_routes() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open("/").await;
    browser
        .shows("main", &["Waiting\n1", "Parked\n", "Unmatched\n1", "Refused, last hour\n1", "Quarantined\n1"])
        .await;
    browser
        .shows("main", &["Jobs under way\n1", "acme/video", "acme/shut", "SHUT", "beta/other", "PAUSED"])
        .await;
    browser.shows("main", &["Paused by ana", "Hermes moves"]).await;
    browser.follow("acme/shut").await;
    assert_eq!(browser.path().await, "/routes/acme/shut");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_inbox_shows_events_and_what_became_none() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open("/inbox").await;
    browser
        .shows("#inbox", &["video.generation.completed", "job-delivered", "job-of-beta", "google/veo-3.1"])
        .await;
    browser.fill("#filter-job", "job-of-beta").await;
    browser.press("Filter").await;
    assert_eq!(browser.count("#inbox tbody tr").await, 1);
    browser.follow("Unmatched").await;
    browser.shows("#inbox", &["job-unmatched", "Deliver"]).await;
    assert_eq!(browser.count("#inbox tbody tr").await, 1);
    browser.follow("Quarantined").await;
    browser.shows("#inbox", &["acme", "no event", "As it came, 20 bytes"]).await;
    browser.follow("Refused").await;
    browser.shows("#inbox", &["acme", "127.0.0.1", "/callbacks/acme"]).await;
    assert_eq!(browser.count("#inbox tbody tr").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn deliveries_are_filtered_and_paged() {
    let world = world().await;
    for number in 0..51 {
        world.stack.openrouter("acme").send(&format!("job-{number}"), "completed").await;
    }
    let parked = world.parked("job-parked").await;
    until("all deliveries", async || (world.stack.deliveries().await.len() == 52).then_some(())).await;
    let browser = world.browser().await;
    browser.open("/deliveries").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 50);
    browser.follow("Older").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 2);
    browser.follow("Newest").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 50);
    browser.click("input[name=state][value=parked]").await;
    browser.press("Filter").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 1);
    browser.shows("#deliveries", &["PARKED", "acme/broken", "job-parked"]).await;
    assert_eq!(browser.run("return document.querySelector('[value=parked]').checked", &[]).await, true);
    browser.open(&format!("/deliveries?route=broken&job={}", "job-1")).await;
    browser.shows("#deliveries", &["There is no such delivery."]).await;
    browser.follow("Clear").await;
    assert_eq!(browser.path().await, "/deliveries");
    browser.go(&format!("a[href='/deliveries/{}']", parked.delivery)).await;
    browser.shows("h1", &[&parked.delivery]).await;
    browser.open("/deliveries?since=yesterday").await;
    browser.shows("main", &["such as 2h; it is yesterday"]).await;
    // What was typed is there to be mended.
    browser.open("/deliveries?since=yesterday&state=parked&why=no+room").await;
    browser
        .fill("#filter-since", "\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}2h")
        .await;
    browser.press("Filter").await;
    browser.shows("#deliveries", &["job-parked"]).await;
    browser.open("/inbox?since=yesterday&job=job-parked").await;
    browser.shows("main", &["such as 2h; it is yesterday"]).await;
    assert_eq!(browser.run("return document.getElementById('filter-job').value", &[]).await, "job-parked");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn ids_and_commands_can_be_copied() {
    let world = world().await;
    let delivered = world.delivered("job").await;
    let browser = world.browser().await;
    let permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"];
    browser.devtools("Browser.grantPermissions", serde_json::json!({"permissions": permissions})).await;
    let copied = "return navigator.clipboard.readText()";
    browser.open(&format!("/deliveries/{}", delivered.delivery)).await;
    browser.click("h1 button.copy").await;
    browser.until_shows("h1 button.copy", "Copied").await;
    assert_eq!(browser.run(copied, &[]).await, delivered.delivery);
    browser.open(&format!("/deliveries/{}/attempts/1", delivered.delivery)).await;
    browser.click("pre[data-copy^='curl'] + button.copy").await;
    browser.until_shows("pre[data-copy^='curl'] + button.copy", "Copied").await;
    let command = browser.run(copied, &[]).await;
    assert!(command.as_str().unwrap().starts_with("curl "), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn kept_files_are_shown_and_others_are_links() {
    let world = world_with(stack(), "mode: keep").await;
    let (job, at_openrouter) = world.running("kept").await;
    world.api.end(&at_openrouter, End { videos: 2, ..End::completed(1.0) }).await;
    let is_kept = |job: &Job| job.files.as_ref().is_some_and(|files| files.state() == FilesState::Kept);
    job_when(&mut world.stack.jobs().await, &job, is_kept).await;
    let browser = world.browser().await;
    browser.open(&format!("/jobs/{job}")).await;
    browser.shows("main", &["Files", "File 1", "File 2", "Its files are kept: 2 of 2."]).await;
    let sources = "return [...document.querySelectorAll('video[controls][preload=none]')].map((video) => new URL(video.src).origin)";
    assert_eq!(
        browser.run(sources, &[]).await,
        serde_json::json!(["https://hooks.example.com", "https://hooks.example.com"])
    );
    // Nothing is loaded before somebody presses play, and the page's policy lets that load.
    browser.run("document.querySelector('video').load()", &[]).await;
    let complaints = browser.complaints().await;
    assert!(!complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_delivery_shows_its_attempts_with_their_waterfall() {
    let world = world().await;
    let (parked, waiting) = (world.parked("job-parked").await, world.waiting("job-waiting").await);
    let browser = world.browser().await;
    browser.open(&format!("/deliveries/{}", parked.delivery)).await;
    browser
        .shows("#delivery", &["PARKED", "acme/broken", "job-parked", "Attempt 1", "FAILED", "500: "])
        .await;
    browser.shows(".waterfall", &["Connect", "First byte", "Rest"]).await;
    assert!(browser.count(".waterfall rect").await >= 3);
    browser.open(&format!("/deliveries/{}", waiting.delivery)).await;
    browser.shows("#delivery", &["WAITING", "ROUTE FAULT", "401: ", "Next:", "The route is held:"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn an_event_shows_its_payload_as_a_tree_and_its_conflicts() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open(&format!("/events/{}", shown.delivered.event)).await;
    browser
        .shows("#event", &["video.generation.completed", "acme", "job-delivered", "google/veo-3.1", "0.5"])
        .await;
    browser.shows("#event", &["YES", "DELIVERED", "NO"]).await;
    browser.shows(".tree", &["data", "unsigned_urls", "generation_id", "\"gen-xyz789\""]).await;
    browser.shows("main", &["Conflict 1", "another body", "9.99"]).await;
    browser.click(".tree summary").await;
    assert!(!browser.text(".tree").await.contains("gen-xyz789"), "a closed tree");
    browser.click("#raw-payload summary").await;
    browser.shows("#raw-payload pre", &["\"generation_id\":\"gen-xyz789\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn jobs_show_their_state_their_cost_and_what_happened() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open("/jobs").await;
    browser.shows("#jobs", &["RUNNING", "COMPLETED", "google/veo-3.1", "0.75", "test"]).await;
    browser.shows("main", &["Costs", "By day in UTC"]).await;
    browser.open("/jobs?state=running").await;
    assert_eq!(browser.count("#jobs tbody tr").await, 1);
    browser.go("#jobs a[data-row]").await;
    assert_eq!(browser.path().await, format!("/jobs/{}", shown.running));
    browser.shows("#job", &["RUNNING", "The intent to submit it was recorded.", "OpenRouter took it."]).await;
    browser.shows("#job", &["Stop waiting for it", "Gives it up", "first"]).await;
    browser.open(&format!("/jobs/{}", shown.completed)).await;
    browser.shows("#job", &["COMPLETED", "Its callback came.", "as a callback said"]).await;
    browser.shows("main", &["Files", "File 1", "Open"]).await;
    let shown_text = browser.text("main").await;
    assert!(!shown_text.contains("a very secret prompt"), "prompts are not kept");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_route_shows_its_settings_and_a_preview_of_its_prompt() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open("/routes").await;
    browser
        .shows("#routes", &["acme/broken", "acme/shut", "acme/video", "beta/other", "SHUT", "PAUSED"])
        .await;
    browser.follow("acme/video").await;
    browser.shows("#route", &["ADMITTING", "DELIVERED", "From callback to delivered"]).await;
    browser.shows("#route-lists", &["Latest", "job-delivered"]).await;
    browser.click("#settings summary").await;
    browser
        .shows("#settings", &[&shown.world.sink.url("video"), "video.generation.completed", "no limit"])
        .await;
    browser.click("#preview summary").await;
    browser.run("document.getElementById('preview-event').value = ''", &[]).await;
    browser.fill("#preview-event", &shown.delivered.event).await;
    browser.press("Preview").await;
    browser.shows(".prompt", &["Video job-delivered by google/veo-3.1"]).await;
    browser.open("/routes/acme/shut").await;
    browser.shows("main", &["SHUT", "Probe now", "job-waiting", "Next attempt"]).await;
    browser.shows("#route", &["Pace\n1 of 30 in the last", "Next free slot\nnow"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn replays_and_actions_show_who_did_what_and_why() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    browser.open("/replays").await;
    browser.shows("#replays", &["acme", "broken", "Hermes is mended", "ana", "1 of 1"]).await;
    browser.open("/actions").await;
    browser
        .shows("#actions", &["paused by ana: Hermes moves", "a replay was begun by ana: Hermes is mended"])
        .await;
    browser.shows("#actions", &["beta/other", "submitted by test"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn the_configuration_shows_why_a_file_is_not_in_force() {
    let world = world().await;
    let browser = world.browser().await;
    browser.open("/configuration").await;
    browser
        .shows("#configuration", &["IN FORCE", "embedded, in data_dir", "acme", "broken, shut, video"])
        .await;
    let text = world.stack.rewrite(|text| format!("{text}\nretention: <b>never</b>\n"));
    world.stack.config_when("the refusal", |config| !config["fault"].is_null()).await;
    browser.until_shows("#configuration", "REFUSED").await;
    browser.shows("#configuration", &["line ", "retention"]).await;
    browser.open("/").await;
    browser.shows("#overview", &["REFUSED", "is not in force"]).await;
    let mended = text.replace("\nretention: <b>never</b>\n", "");
    fs::write(&world.stack.written.config, mended).unwrap();
    browser
        .until("the overview without it", "return !document.body.innerText.includes('REFUSED')", &[])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn relays_show_which_of_them_owns_what() {
    let world = world().await;
    let browser = world.browser().await;
    browser.open("/relays").await;
    browser.shows("#relays", &["ALL OWNED", "this one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn an_id_or_its_unique_beginning_leads_to_its_page() {
    let shown = everything().await;
    let browser = shown.world.browser().await;
    let event = format!("/events/{}", shown.delivered.event);
    for (wanted, expected) in [
        (shown.delivered.event.as_str(), event.as_str()),
        (&shown.delivered.event[..16], &event),
        (&shown.parked.delivery[..16], &format!("/deliveries/{}", shown.parked.delivery)),
        (&shown.running, &format!("/jobs/{}", shown.running)),
        ("job-delivered", &event),
        ("job-deli", &event),
        ("rpl_", "/replays"),
    ] {
        browser.open("/").await;
        browser.fill("#search", &format!("{wanted}\u{e007}")).await;
        until(&format!("{wanted} to lead to {expected}"), async || {
            (browser.path().await == expected).then_some(())
        })
        .await;
    }
    browser.open("/search?q=dlv_").await;
    browser.shows("main", &[&shown.delivered.delivery, &shown.parked.delivery, "acme", "beta"]).await;
    browser.open("/search?q=nothing").await;
    browser.shows("main", &["There is none."]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn times_are_shown_in_the_browsers_zone_with_utc_in_their_title() {
    let world = world().await;
    let ids = world.sent("beta", "a job", "completed", "other", DeliveryState::Delivered).await;
    let browser = world.browser().await;
    browser.open(&format!("/deliveries/{}", ids.delivery)).await;
    let times = browser
        .run(
            "return [...document.querySelectorAll('time')].map((time) => [time.dateTime, time.title, time.textContent])",
            &[],
        )
        .await;
    let times = times.as_array().unwrap();
    assert!(times.len() >= 3, "{times:?}");
    for time in times {
        let [machine, title, shown] = [0, 1, 2].map(|at| time[at].as_str().unwrap());
        let at: jiff::Timestamp = machine.parse().unwrap();
        let (utc, here) = (at.to_zoned(jiff::tz::TimeZone::UTC), at.in_tz(ZONE).unwrap());
        assert!(title.contains(&utc.strftime("%H:%M:%S").to_string()), "{title}, of {machine}");
        assert!(shown.contains(&here.strftime("%H:%M:%S").to_string()), "{shown}, of {machine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn an_unknown_page_says_so() {
    let world = world().await;
    let browser = world.browser().await;
    let id = "a".repeat(40);
    for path in [
        "/no-such-page",
        "/routes/acme/none",
        &format!("/deliveries/dlv_{id}"),
        &format!("/events/evt_{}", &id[..32]),
        "/jobs/job_none",
    ] {
        browser.open(path).await;
        browser.shows("main", &["Not Found", "To the overview"]).await;
    }
}
