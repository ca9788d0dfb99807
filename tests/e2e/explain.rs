//! `talaria explain`, asked of a running Talaria.

use serde_json::{Value, json};
use std::{path::Path, process::Output};
use talaria_core::id::{DeliveryId, EventId};
use talaria_tests::{
    binary::run,
    openrouter::{event_id, payload},
    sink::{Does, Sink},
    stack::{Stack, stack},
};

/// The output of a command that has to succeed.
fn works(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output.stderr));
    said(&output.stdout)
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn explain(stack: &Stack, args: &[&str]) -> String {
    works(stack.written.path(), &[&["explain", "--relay", &stack.relay()], args].concat())
}

fn explain_json(stack: &Stack, id: &str) -> Value {
    serde_json::from_str(&explain(stack, &[id, "--json"])).unwrap()
}

/// The routes of an explanation, by name.
fn route<'a>(document: &'a Value, name: &str) -> &'a Value {
    let routes = document["explanations"][0]["routes"].as_array().unwrap();
    routes.iter().find(|route| route["route"] == name).unwrap_or_else(|| panic!("no {name}: {document:#}"))
}

/// The printed part about a route.
fn section<'a>(text: &'a str, route: &str) -> &'a str {
    let start = text.find(&format!("\n{route}  ")).unwrap_or_else(|| panic!("no {route}: {text}")) + 1;
    text[start..].split("\n\n").next().unwrap().trim_end()
}

/// A tenant of whose routes one takes a completed job, one cannot, and two will not.
async fn with_four_routes(sink: &Sink) -> Stack {
    sink.set("broken", Does::Answer(500, json!({"error": "boom\n  next: nothing \u{1b}[31m"})));
    stack()
        .tenant("acme", |t| {
            t.route("good", &sink.url("good"), "events: ['video.*']\nprompt: '{data.note}'")
                .route("broken", &sink.url("broken"), "retry: {schedule: [50ms, 1h], jitter: 0%}")
                .route("images", &sink.url("images"), "events: ['image.*', audio.done]")
                .route("failures", &sink.url("failures"), "filters: {field: data.status, equals: failed}")
        })
        .start()
        .await
}

/// Sends a job's callback and waits until one route has it and the other has failed twice.
async fn send(stack: &Stack, job: &str) -> String {
    let mut payload = payload(job, "completed");
    payload["data"]["note"] = "see @file:x".into();
    stack.openrouter("acme").send_payload(&payload).await;
    let event = event_id("acme", job, "completed");
    stack.finished(&event, "good").await;
    stack.delivery_when(&event, "broken", |delivery| delivery.attempts == 2).await;
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_each_route_of_an_event_and_the_next_step() {
    let sink = Sink::start().await;
    let stack = with_four_routes(&sink).await;
    let event = send(&stack, "job 1").await;

    let text = explain(&stack, &[&event]);
    assert!(text.starts_with(&format!("{event}  video.generation.completed\n")), "{text}");
    assert!(text.contains("\n  2 routes took it: 1 waiting, 1 delivered\n"), "{text}");
    let good = section(&text, "acme/good");
    for part in [
        "\n  matches: its events name video.*\n",
        "attempt 1: ",
        "ACCEPTED, HTTP 202, ",
        "guard: ",
        "next: nothing more: Hermes has it",
    ] {
        assert!(good.contains(part), "{part}: {good}");
    }
    let broken = section(&text, "acme/broken");
    for part in [
        "\n  matches: it takes every type\n",
        "attempt 1: 500: ",
        "attempt 2: 500: ",
        "FAILED, HTTP 500, ",
        ", counted, generation 1\n",
        "  next at ",
        " min: attempt 3 (retrying after attempt 2: 500: ",
        "; if it fails, the delivery is parked",
    ] {
        assert!(broken.contains(part), "{part}: {broken}");
    }
    assert_eq!(
        broken.matches("\n                        sent as dlv_").count(),
        1,
        "once for one id: {broken}"
    );
    assert!(!broken.contains("\n  WAITING"), "what it waits for is said once: {broken}");
    assert_eq!(text.matches("\n  next: nothing").count(), 1, "Hermes' answer makes no line: {text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(
        section(&text, "acme/images"),
        "acme/images  not planned\n  does not match: its events are image.*, audio.done, and the type is \
         \"video.generation.completed\""
    );
    assert_eq!(
        section(&text, "acme/failures"),
        "acme/failures  not planned\n  does not match: its filters do not hold: data.status should equal \"failed\", and \
         is \"completed\""
    );

    // The same for programs, by event, by job, and by delivery, which is one route's alone.
    let document = explain_json(&stack, &event);
    assert_eq!(document["explanations"][0]["event"]["jobId"], "job 1");
    assert_eq!(document["explanations"][0]["payloadKept"], true);
    let names: Vec<_> =
        document["explanations"][0]["routes"].as_array().unwrap().iter().map(|r| &r["route"]).collect();
    assert_eq!(names, ["broken", "good", "failures", "images"]);
    let broken = route(&document, "broken");
    assert_eq!(broken["matches"], "ROUTE_MATCH_YES");
    assert_eq!(broken["delivery"]["state"], "DELIVERY_STATE_WAITING");
    assert_eq!(broken["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(broken["attempts"][1]["counted"], true);
    assert_eq!(broken["nextAt"], broken["delivery"]["nextAttemptAt"]);
    let failures = route(&document, "failures");
    assert_eq!((&failures["matches"], &failures["next"]), (&json!("ROUTE_MATCH_NO"), &json!("")));
    assert!(failures.get("delivery").is_none() && failures["difference"] == "");
    assert_eq!(explain_json(&stack, "job 1"), document);
    let delivery = broken["delivery"]["id"].as_str().unwrap();
    let one = explain_json(&stack, delivery);
    assert_eq!(one["explanations"][0]["routes"], json!([broken]));
    // One that was not planned has an id all the same.
    let never = DeliveryId::new(event.parse::<EventId>().unwrap(), "images").to_string();
    assert!(explain(&stack, &[&never]).contains("acme/images  not planned"));

    for (args, code, why) in [
        (
            &[event_id("acme", "never", "completed").as_str()][..],
            4,
            "it never came, waits to be planned, or is not kept",
        ),
        (&[&DeliveryId::new(event.parse().unwrap(), "nowhere").to_string()], 4, "no delivery dlv_"),
        (&["no such job"], 4, "no job no such job is known"),
        (&["job 1", "--tenant", "other"], 4, "there is no tenant other; there is: acme"),
        (&["evt_x"], 4, "no event evt_x is known"),
        (&["evt_1"], 2, "is not an event id"),
        (&["dlv_1"], 2, "is not a delivery id"),
        (&[""], 2, "name what is to be explained"),
        (&["qrt_x"], 2, "status --quarantined"),
        (&[], 2, "<ID>"),
    ] {
        let output: Output =
            run(stack.written.path(), &[&["explain", "--relay", &stack.relay()], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output.stderr));
        assert!(said(&output.stderr).contains(why), "{args:?}: {}", said(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_changes_since_the_event_was_planned() {
    let sink = Sink::start().await;
    let mut stack = with_four_routes(&sink).await;
    let event = send(&stack, "job 1").await;
    // One is renamed, which removes it and adds another; one takes fewer events, and one takes more.
    stack
        .restart_with(|text| {
            text.replace("      good:\n", "      later:\n")
                .replace("        retry: {schedule", "        events: [x]\n        retry: {schedule")
                .replace("equals: failed", "equals: completed")
        })
        .await;
    stack.event(&event).await;
    let text = explain(&stack, &[&event]);
    let changed = |route: &str, how: &str| {
        let section = section(&text, route);
        assert!(section.contains(&format!("\n  changed: {how}\n")), "{section}");
        section
    };
    let added = "it did not take the event when that came: it was added or changed since";
    let later = changed("acme/later", added);
    assert!(later.starts_with("acme/later  not planned\n  matches: its events name video.*\n"), "{later}");
    assert!(later.contains("next: nothing by itself: an event is planned once"), "{later}");
    changed("acme/failures", added);
    let good = changed("acme/good", "it took the event when that came, and was removed since");
    assert!(good.contains("\n  not configured: "), "{good}");
    let broken = changed("acme/broken", "it took the event when that came, and was changed since");
    assert!(broken.contains("does not match: its events are x") && broken.contains("next at "), "{broken}");
    assert!(!section(&text, "acme/images").contains("changed: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_block_of_a_route() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(401, json!({"error": "Invalid signature"})));
    let stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts == 1).await;
    let text = explain(&stack, &["job"]);
    for part in [
        "\n                        ROUTE_FAULT, HTTP 401, ",
        ", not counted, generation 1\n",
        "\n  held until ",
        "\n  next at ",
        ": a single delivery probes the route, and if that gets through, attempt 2; mend what shut it, and `talaria probe` tries it at once\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let document = explain_json(&stack, "job");
    let route = route(&document, "r");
    assert!(route["heldBecause"].as_str().unwrap().starts_with("the route is shut: 401"), "{route:#}");
    assert!(route["heldUntil"].is_string(), "{route:#}");
}
