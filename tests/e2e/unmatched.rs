//! Events that no route takes.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};
use talaria_tests::{
    binary::{run, talaria},
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

fn ask(stack: &Stack, args: &[&str]) -> Output {
    run(stack.written.path(), &[args, &["--relay", &stack.relay()]].concat())
}

/// The output of a command that has to succeed.
fn works(stack: &Stack, args: &[&str]) -> String {
    let output = ask(stack, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(stack: &Stack, args: &[&str]) -> Value {
    serde_json::from_str(&works(stack, args)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmatched_event_is_listed_everywhere_and_can_be_replayed() {
    let sink = Sink::start().await;
    let keys = "events: ['video.generation.failed']";
    let mut stack = stack()
        .tenant("acme", |t| t.route("video", &sink.url("video"), keys))
        .tenant("globex", |t| t.route("all", &sink.url("all"), ""))
        .start()
        .await;
    assert!(works(&stack, &["status", "--unmatched"]).contains("There is no event that no route took."));
    let mut watch = Command::new(talaria())
        .args(["watch", "--relay", &stack.relay()])
        .current_dir(stack.written.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    // A watch shows only later events, so events are sent until it shows one.
    let sender = stack.openrouter("globex");
    let probes = tokio::spawn(async move {
        for number in 0.. {
            sender.send(&format!("probe {number}"), "completed").await;
        }
    });
    let (begun, mut lines) =
        tokio::task::spawn_blocking(move || (lines.any(|line| line.contains("globex/all")), lines))
            .await
            .unwrap();
    probes.abort();
    assert!(begun);
    let event = stack.openrouter("acme").send("job", "completed").await;
    let seen =
        tokio::task::spawn_blocking(move || lines.find(|line| line.contains("UNMATCHED"))).await.unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let seen = seen.unwrap();
    let seen: Vec<&str> = seen.split_whitespace().skip(2).collect();
    let expected = format!("UNMATCHED acme video.generation.completed job no route takes it ({event})");
    assert_eq!(seen.join(" "), expected);

    let warned = stack.logged("no route takes an event").await;
    for part in
        ["\"level\":\"WARN\"", "\"tenant\":\"acme\"", "no route's events name its type", "--route ROUTE"]
    {
        assert!(warned.contains(part), "{part}: {warned}");
    }
    let said = until("it to be counted", async || {
        Some(works(&stack, &["status"])).filter(|said| said.contains("acme: 1 event that no route took"))
    })
    .await;
    assert!(said.contains("talaria status --unmatched lists them") && !said.contains("globex: "), "{said}");
    let said = works(&stack, &["status", "--unmatched"]);
    for part in [&event, "job", "video.generation.completed", "no route's events name its type"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains(&format!("`talaria replay {event} --route ROUTE` hands it over")), "{said}");
    let list = json(&stack, &["status", "--unmatched", "--json"]);
    assert_eq!(list["events"][0]["event"]["id"], event.as_str());
    assert_eq!(list["events"].as_array().unwrap().len(), 1, "{list}");
    let second = stack.openrouter("acme").send("second job", "completed").await;
    let page = until("a second page", async || {
        let page = json(&stack, &["status", "--unmatched", "--limit", "1", "--json"]);
        (page["events"][0]["event"]["id"] == second.as_str()).then_some(page)
    })
    .await;
    let token = page["nextPageToken"].as_str().unwrap();
    let page = json(&stack, &["status", "--unmatched", "--limit", "1", "--page", token, "--json"]);
    assert_eq!(page["events"][0]["event"]["id"], event.as_str(), "{page}");
    assert!(works(&stack, &["status", "--unmatched", "--tenant", "globex"]).contains("There is no event"));
    assert!(works(&stack, &["status", "--unmatched", "--until", "1h"]).contains("There is no event"));
    assert_eq!(ask(&stack, &["status", "--unmatched", "--tenant", "nobody"]).status.code(), Some(4));

    stack.restart_with(|text| text.replace("video.generation.failed", "video.generation.*")).await;
    let said = until("the partition to have an owner", async || {
        let output = ask(&stack, &["status", "--unmatched"]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    assert!(said.contains("it came before video took its type"), "{said}");
    for event in [&event, &second] {
        works(&stack, &["replay", event, "--route", "video", "--as", "ana"]);
        stack.finished(event, "video").await;
    }
    assert!(works(&stack, &["status", "--unmatched"]).contains("There is no event"));
}

#[tokio::test(flavor = "multi_thread")]
async fn send_waits_and_shows_the_deliveries() {
    let sink = Sink::start().await;
    sink.set("declines", Does::Answer(200, serde_json::json!({"status": "ignored", "event": "x"})));
    let stack = stack()
        .tenant("acme", |t| {
            t.route("good", &sink.url("good"), "events: ['video.*']")
                .route("declines", &sink.url("declines"), "events: ['image.*']")
                .route("hangs", &sink.url("hangs"), "events: ['audio.*']")
        })
        .start()
        .await;
    sink.set("hangs", Does::Hang);
    let url = format!("http://{}/callbacks/acme", stack.ingress());
    let send = |args: &[&str]| ask(&stack, &[&["send", "--url", &url], args].concat());
    let out = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let err = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();

    let delivered = send(&["--wait", "--job", "one"]);
    assert_eq!(delivered.status.code(), Some(0), "{delivered:?}");
    let said = out(&delivered);
    assert!(said.starts_with("204 accepted: evt_") && !said.contains("known already"), "{said}");
    assert!(
        said.contains("acme/good") && said.contains("attempt 1: ") && said.contains("DELIVERED"),
        "{said}"
    );
    let again = send(&["--wait", "--job", "one"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(out(&again).contains(", known already: nothing is sent again\n"), "{again:?}");
    assert_eq!(sink.requests_to("good").len(), 1);

    let declined = send(&["--wait", "--type", "image.done", "--json"]);
    assert_eq!(declined.status.code(), Some(1), "{declined:?}");
    let document: Value = serde_json::from_str(&out(&declined)).unwrap();
    assert_eq!(
        (&document["became"], &document["known"]),
        (&"not_delivered".into(), &false.into()),
        "{document}"
    );
    assert_eq!(document["deliveries"][0]["delivery"]["state"], "DELIVERY_STATE_IGNORED", "{document}");

    let waits = send(&["--wait=300ms", "--type", "audio.done"]);
    assert_eq!(waits.status.code(), Some(5), "{waits:?}");
    assert!(err(&waits).contains("waits after 300 ms; `talaria explain evt_"), "{waits:?}");
    sink.set("hangs", Does::Accept);

    let unwanted = send(&["--wait", "--type", "text.done"]);
    assert_eq!(unwanted.status.code(), Some(1), "{unwanted:?}");
    assert!(out(&unwanted).contains("no route of acme takes it, and nothing is sent for it"), "{unwanted:?}");
    // Without --wait it is predicted from the configuration, and accepted all the same.
    let unwanted = send(&["--type", "text.done"]);
    assert_eq!(unwanted.status.code(), Some(0), "{unwanted:?}");
    assert!(out(&unwanted).contains("no route of acme takes it"), "{unwanted:?}");

    let listed = out(&run(stack.written.path(), &["send", "--list"]));
    assert_eq!(listed.lines().next(), Some("video.generation.completed"), "{listed}");
    let wrong = format!("http://{}/callback/acme", stack.ingress());
    let lost = ask(&stack, &["send", "--url", &wrong]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(err(&lost).contains("help: callbacks of acme go to POST /callbacks/acme"), "{lost:?}");
}
