//! Intervening from the command line.

use super::{are, fails};
use serde_json::Value;
use std::process::Output;
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    binary,
    sink::{Does, Sink},
    stack::{Stack, stack},
};

/// The exit code and the output of a command.
fn run(stack: &Stack, arguments: &[&str]) -> (Option<i32>, String, String) {
    let relay = stack.relay();
    let arguments = [arguments, &["--relay", &relay]].concat();
    let Output { status, stdout, stderr } = binary::run(stack.written.path(), &arguments);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json(stack: &Stack, arguments: &[&str]) -> Value {
    let (code, out, err) = run(stack, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_commands_work_and_are_listed() {
    let sink = Sink::start().await;
    let keys = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}";
    let stack = stack()
        .tenant("acme", |t| t.route("a", &sink.url("a"), keys).route("b", &sink.url("b"), "pace: off"))
        .start()
        .await;
    let (code, out, _) = run(&stack, &["pause", "acme/a", "--reason", "Hermes moves", "--as", "ana"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("acme/a is paused since") && out.contains("by ana: Hermes moves"), "{out}");
    assert!(out.contains("talaria resume acme/a"), "{out}");
    let (_, out, _) = run(&stack, &["pause", "acme/a", "--for", "2h", "--as", "ana"]);
    assert!(out.contains(" until ") && out.contains("lets it go on before that"), "{out}");
    let (code, _, err) = run(&stack, &["pause", "acme/a", "--for", "2years", "--as", "ana"]);
    assert!(code == Some(2) && err.contains("from a second to 366 days"), "{err}");
    run(&stack, &["pause", "acme/a", "--reason", "Hermes moves", "--as", "ana"]);
    let (_, out, _) = run(&stack, &["status"]);
    assert!(out.contains("paused since") && out.contains("Hermes moves"), "{out}");
    let event = stack.openrouter("acme").send("job 1", "completed").await;
    are(&stack, "b", State::Delivered, 1).await;
    let id = stack.event(&event).await.deliveries[0].id.clone();
    let (code, out, _) = run(&stack, &["cancel", &id, "--as", "ana", "--reason", "by hand"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("CANCELLED") && out.contains("cancelled by ana: by hand"), "{out}");
    let (code, _, err) = run(&stack, &["cancel", &id, "--as", "ana"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("does not wait any more"), "{err}");

    let resumed = json(&stack, &["resume", "acme/a", "--as", "bob"]);
    assert_eq!(resumed["ended"]["requestedBy"], "ana");
    let (code, out, _) = run(&stack, &["resume", "acme/a", "--as", "bob"]);
    assert!(code == Some(0) && out.contains("was not paused"), "{out}");

    for (what, says) in [("c1", "--job c1"), (event.as_str(), "--route ROUTE")] {
        let (code, _, err) = run(&stack, &["replay", what, "--as", "ana"]);
        assert!(code == Some(2) && err.contains(says), "{what}: {err}");
    }
    let (code, _, err) = run(&stack, &["replay", &id, "--route", "a", "--as", "ana"]);
    assert!(code == Some(2) && err.contains("leave --route out"), "{err}");
    let again = json(&stack, &["replay", &event, "--route", "b", "--as", "ana"]);
    assert_eq!((&again["delivery"]["route"], &again["delivery"]["generation"]), (&"b".into(), &2.into()));
    are(&stack, "b", State::Delivered, 1).await;
    let replayed = json(&stack, &["replay", &id, "--as", "ana"]);
    assert_eq!(replayed["delivery"]["generation"], 2);
    are(&stack, "a", State::Delivered, 1).await;
    let (_, out, _) = run(&stack, &["status", &id]);
    for said in ["cancelled by ana: by hand", "replayed by ana", "DELIVERED"] {
        assert!(out.contains(said), "{said}: {out}");
    }

    sink.set("a", fails());
    for job in 2..7 {
        stack.openrouter("acme").send(&format!("job {job}"), "completed").await;
    }
    are(&stack, "a", State::Parked, 5).await;
    sink.set("a", Does::Accept);
    let (code, _, err) = run(&stack, &["replay", "--as", "ana"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--all"), "{err}");
    let (code, out, _) = run(&stack, &["replay", "--all", "--dry-run", "--as", "ana"]);
    assert_eq!((code, out.as_str()), (Some(0), "5 match, 5 can be replayed.\n"));
    let (code, out, _) =
        run(&stack, &["replay", "--route", "acme/a", "--http", "5xx", "--rate", "1000/s", "--as", "ana"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("has begun") && out.contains("DONE: 5 of 5 replayed"), "{out}");
    are(&stack, "a", State::Delivered, 6).await;
    let listed = json(&stack, &["replays"]);
    let job = listed["jobs"][0]["id"].as_str().unwrap();
    assert_eq!(json(&stack, &["replays", job])["job"]["replayed"], "5");
    let (_, out, _) = run(&stack, &["replays"]);
    assert!(out.contains("--tenant acme --route a --state parked --http 5xx"), "{out}");
    assert_eq!(run(&stack, &["replays", job, "--cancel", "--as", "bob"]).0, Some(1), "it has ended");
    let nothing = json(&stack, &["replay", "--all", "--detach", "--as", "ana"]);
    assert_eq!(nothing["matching"], "0");

    let actions = json(&stack, &["actions", "--tenant", "acme"]);
    let did: Vec<_> =
        actions["actions"].as_array().unwrap().iter().map(|done| done["kind"].clone()).collect();
    let expected =
        ["REPLAY_JOB_STARTED", "REPLAYED", "REPLAYED", "RESUMED", "CANCELLED", "PAUSED", "PAUSED", "PAUSED"];
    assert_eq!(did, expected.map(|kind| Value::from(format!("CONTROL_KIND_{kind}"))));
    let (_, out, _) = run(&stack, &["actions", "--limit", "1"]);
    assert!(out.contains("began to replay") && !out.contains("paused"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_selected_by_their_event_and_their_last_attempt() {
    let sink = Sink::start().await;
    sink.set("a", fails());
    let keys = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}";
    let stack = stack()
        .tenant("acme", |t| t.route("a", &sink.url("a"), keys).route("b", &sink.url("b"), "pace: off"))
        .start()
        .await;
    for job in 0..5 {
        stack.openrouter("acme").send(&format!("job {job}"), "completed").await;
    }
    are(&stack, "a", State::Parked, 5).await;
    let listed = |options: &[&str]| {
        let list = json(&stack, &[&["status"], options].concat());
        list["deliveries"].as_array().unwrap().len()
    };
    for (options, expected) in [
        (&["--http", "5xx", "--model", "google/veo-3.1"][..], 5),
        (&["--http", "404", "--http", "500", "--type", "video.*"], 5),
        (&["--http", "503"], 0),
        (&["--outcome", "failed", "--outcome", "answer_lost", "--route", "acme/a"], 5),
        (&["--why", "no attempt", "--state", "parked"], 0),
    ] {
        assert_eq!(listed(options), expected, "{options:?}");
    }
    for (options, says) in [
        (&["status", "--http", "9xx"][..], "\"9xx\" is not an HTTP status from 100 to 599, such as 503"),
        (&["status", "--outcome", "lost"], "possible values: accepted, delivered, duplicate, ignored"),
        (&["status", "--type", "video*"], "all that go on behind a dot: video.generation.*"),
        (&["status", "--why", &"x".repeat(201)], "reason has at most 200 characters"),
        (&["status", "--refused", "--http", "5xx"], "cannot be used with"),
        (&["watch", "--http", "5x"], "\"5x\" is not an HTTP status"),
        (&["replay", "--http", "600", "--as", "ana"], "\"600\" is not an HTTP status"),
    ] {
        let (code, _, err) = run(&stack, options);
        assert!(code == Some(2) && err.contains(says), "{options:?}: {code:?} {err}");
    }
    let (code, out, _) = run(&stack, &["replay", "--http", "404", "--dry-run", "--as", "ana"]);
    assert_eq!((code, out.as_str()), (Some(0), "0 match, 0 can be replayed.\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_of_interventions() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    for (arguments, code, says) in [
        (&["pause", "acme/x", "--as", "ana"][..], 4, "there is no route acme/x; there is: acme/a"),
        (&["pause", "acme/", "--as", "ana"], 2, "TENANT/ROUTE"),
        (&["resume", "nobody", "--as", "ana"], 4, "there is no tenant nobody"),
        (&["cancel", "dlv_x", "--as", "ana"], 4, "no delivery dlv_x is known"),
        (&["cancel", "dlv_1", "--as", "ana"], 2, "not a delivery id"),
        (&["replay", "dlv_1", "--as", "ana"], 2, "not a delivery id"),
        (&["replay", "--all", "--state", "waiting", "--as", "ana"], 2, "by its id"),
        (&["replay", "--all", "--rate", "fast", "--as", "ana"], 2, "10/s"),
        (&["status", "--tenant", "nobody"], 4, "there is no tenant nobody; there is: acme"),
        (&["status", "--tenant", "nobody", "--state", "parked"], 4, "there is: acme"),
        (&["watch", "--tenant", "nobody"], 4, "there is: acme"),
        (&["actions", "--tenant", "nobody"], 4, "there is: acme"),
        (&["replay", "--tenant", "nobody", "--dry-run", "--as", "ana"], 4, "there is: acme"),
        (&["explain", "c1", "--tenant", "nobody"], 4, "there is: acme"),
        (&["probe", "acme/x", "--as", "ana"], 4, "there is no route acme/x; there is: acme/a"),
        (&["probe", "acme", "--as", "ana"], 2, "a single route is probed: write acme/ROUTE"),
        (&["probe", "acme/a", "--as", "ana"], 1, "acme/a is not shut: it is open for deliveries already"),
        (&["status", "--tenant", "acme"], 0, ""),
        (&["replays", "rpl_x"], 4, "no replay job rpl_x"),
        (&["pause", "acme", "--as", " \n"], 2, "requested_by"),
    ] {
        let (found, _, err) = run(&stack, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
    let output =
        binary::run(stack.written.path(), &["pause", "acme", "--as", "a", "--relay", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(5));
}
