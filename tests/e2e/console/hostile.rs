//! Texts of others that try to break pages.

use super::setup::{World, world, world_of};
use crate::jobs;
use serde_json::{Value, json};
use talaria_proto::v1::{DeliveryState, PauseRequest, ReplayDeliveryRequest};
use talaria_tests::{browser::Browser, openrouter::event_id, sink::Does, stack::stack};

/// HTML, scripts, ends of attributes and elements, and characters that turn text around.
const HOSTILE: &str = "\"'><script>window.canary=1</script><img src=x onerror=\"window.canary=1\"><svg onload=window.canary=1>\
                       </textarea></title></main><b id=canary>\u{202e}txet\u{2066}\u{200b}\0 &lt;i&gt; javascript:window.canary=1 ${1} {{1}}";

fn payload(job: &str, kind: &str) -> Value {
    json!({
        "type": kind, "created_at": "2026-04-24T12:00:00.000Z",
        "data": {
            "id": job, "status": HOSTILE, "generation_id": HOSTILE, "model": HOSTILE, "error": HOSTILE,
            "unsigned_urls": ["javascript:window.canary=1", HOSTILE], "usage": {"cost": 0.5}, HOSTILE: {HOSTILE: [HOSTILE]},
        },
    })
}

/// Asserts that a page is whole, and that no text of others became an element or a script.
async fn is_whole(browser: &Browser, path: &str) {
    browser.open(path).await;
    let foreign = "return window.canary === undefined && document.querySelector('#canary, main script, main img, main svg[onload], \
                   main [onerror], main b, main a[href^=\"javascript:\"]') === null";
    assert_eq!(browser.run(foreign, &[]).await, true, "{path}");
    // The end of the frame is there, and nothing is turned around.
    assert_eq!(browser.count("body > dialog#help").await, 1, "{path}");
    let text = browser.run("return document.documentElement.textContent", &[]).await;
    let text = text.as_str().unwrap();
    for turns in ['\u{202e}', '\u{2066}', '\u{200b}', '\0'] {
        assert!(!text.contains(turns), "{path} has {turns:?}");
    }
    assert!(browser.title().await.ends_with("· Talaria"), "{path}");
    let complaints = browser.complaints().await;
    let security = complaints.iter().find(|line| line.contains("Content Security Policy"));
    assert_eq!(security, None, "{path}");
}

async fn hostile_actions(world: &World, delivery: &str) {
    let mut control = world.stack.control().await;
    let replay = ReplayDeliveryRequest {
        delivery_id: delivery.into(),
        requested_by: HOSTILE.replace('\0', "").chars().take(90).collect(),
        reason: HOSTILE.replace('\0', "").chars().take(400).collect(),
        ..ReplayDeliveryRequest::default()
    };
    control.replay_delivery(replay).await.unwrap();
    let pause = PauseRequest {
        tenant: "beta".into(),
        requested_by: "<i>ana".into(),
        reason: HOSTILE.replace('\0', "").chars().take(400).collect(),
        ..PauseRequest::default()
    };
    control.pause(pause).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn no_text_of_others_becomes_an_element_or_a_script() {
    let world = world().await;
    // A job's id is 200 characters at most.
    let job: String = HOSTILE.replace('\0', "").chars().take(180).collect();
    let sender = world.stack.openrouter("acme");
    world.sink.set("broken", Does::Answer(500, json!({"error": HOSTILE})));
    let mut events = Vec::new();
    for status in ["completed", "failed", "expired"] {
        sender.send_payload(&payload(&job, &format!("video.generation.{status}"))).await;
        events.push(event_id("acme", &job, status));
    }
    sender.send_payload(&payload(&job, "<b id=canary>")).await;
    assert_eq!(sender.send_bytes(payload("", HOSTILE).to_string().into()).await, Some(422));
    let mut other = payload(&job, "video.generation.completed");
    other["data"]["usage"]["cost"] = json!(9.99);
    sender.send_payload(&other).await;
    let mut deliveries = Vec::new();
    for (event, route, state) in [
        (&events[0], "video", DeliveryState::Delivered),
        (&events[1], "broken", DeliveryState::Parked),
        (&events[2], "shut", DeliveryState::Waiting),
    ] {
        let found =
            world.stack.delivery_when(event, route, |it| it.state() == state && it.attempts > 0).await;
        deliveries.push(found.delivery.unwrap().id);
    }
    hostile_actions(&world, &deliveries[0]).await;
    let mut request = jobs::request("hostile");
    request.requested_by = "<script>window.canary=1</script>".into();
    request.context.insert("key".into(), "<script>window.canary=1</script>\u{202e}".into());
    let submitted = world.stack.jobs().await.submit_job(request).await.unwrap().into_inner().job.unwrap();
    world.stack.finished(&events[0], "video").await;
    let browser = world.browser().await;
    // So that the policy does not hide what a page lets through.
    browser.devtools("Page.setBypassCSP", json!({"enabled": true})).await;
    let query: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    let mut paths: Vec<String> =
        ["/", "/inbox", "/inbox?show=unmatched", "/inbox?show=quarantined", "/inbox?show=refused"]
            .map(str::to_owned)
            .to_vec();
    paths.extend(
        ["/deliveries", "/jobs", "/routes", "/routes/acme/broken", "/actions", "/replays"].map(str::to_owned),
    );
    paths.extend(events.iter().map(|event| format!("/events/{event}")));
    paths.extend(events.iter().map(|event| format!("/routes/acme/video?preview={event}")));
    paths.extend(deliveries.iter().map(|delivery| format!("/deliveries/{delivery}")));
    paths.extend(deliveries.iter().map(|delivery| format!("/deliveries/{delivery}/attempts/1")));
    paths.push(format!("/jobs/{}", submitted.id));
    for path in [
        "/search?q=",
        "/inbox?show=",
        "/inbox?job=",
        "/deliveries?job=",
        "/deliveries?state=",
        "/deliveries?tenant=",
        "/deliveries?since=",
        "/deliveries?page=",
        "/deliveries/",
        "/events/",
        "/jobs/",
        "/jobs?state=",
        "/routes/acme/",
        "/routes/acme/video?preview=",
        "/?note=",
    ] {
        paths.push(format!("{path}{query}"));
    }
    for path in &paths {
        is_whole(&browser, path).await;
    }
    browser.open(&format!("/login?back={query}")).await;
    assert_eq!(browser.run("return window.canary === undefined", &[]).await, true);
    assert_eq!(browser.run("return document.querySelector('[name=back]').value", &[]).await, "/");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_reason_of_a_form_is_shown_as_it_was_typed() {
    let world = world().await;
    let browser = world.browser().await;
    browser.devtools("Page.setBypassCSP", json!({"enabled": true})).await;
    browser.open("/routes/acme/video").await;
    let reason = "<script>window.canary=1</script> & \"Hermes\" 'moves' <b id=canary>";
    browser.fill("input[name=reason]", reason).await;
    browser.press("Pause").await;
    browser.shows("#route", &[reason]).await;
    is_whole(&browser, "/routes/acme/video").await;
    is_whole(&browser, "/actions").await;
    browser.shows("#actions", &[reason]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn long_and_deep_payloads_leave_pages_small_and_whole() {
    let world = world_of(stack()).await;
    let sender = world.stack.openrouter("acme");
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    let mut long = payload("long", "video.generation.completed");
    long["data"]["model"] = "m".repeat(200).into();
    long["data"]["error"] = "<b>".repeat(330_000).into();
    let mut many = payload("many", "video.generation.completed");
    many["data"]["list"] = vec!["<i>"; 50_000].into();
    let mut nested = payload("deep", "video.generation.completed");
    nested["data"]["deep"] = serde_json::from_str(&deep).unwrap();
    let browser = world.browser().await;
    for (job, body) in [("long", long), ("many", many), ("deep", nested)] {
        sender.send_payload(&body).await;
        let event = event_id("acme", job, "completed");
        let delivery = world.stack.finished(&event, "video").await.delivery.unwrap().id;
        for path in [
            format!("/events/{event}"),
            format!("/deliveries/{delivery}"),
            format!("/deliveries/{delivery}/attempts/1"),
            format!("/routes/acme/video?preview={event}"),
            "/inbox".to_owned(),
            "/deliveries".to_owned(),
        ] {
            is_whole(&browser, &path).await;
            let bytes = browser.run("return document.documentElement.outerHTML.length", &[]).await;
            assert!(bytes.as_u64().unwrap() < 400_000, "{path} has {bytes} bytes");
        }
    }
}
