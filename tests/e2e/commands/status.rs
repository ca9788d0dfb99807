//! `talaria send`, `talaria status` and `talaria watch` with a running Talaria.

use super::{err, json, out, works};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
};
use talaria_proto::v1::DeliveryState;
use talaria_tests::{
    binary::{run, run_with_input, talaria},
    openrouter::payload,
    sink::{Does, Sink},
    stack::stack,
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn with_a_broken_configuration_the_relay_is_asked_with_a_warning() {
    let running = stack().tenant("acme", |t| t).start().await;
    let directory = running.written.path();
    let relay = running.relay().trim_start_matches("http://").to_owned();
    let text = fs::read_to_string(&running.written.config).unwrap();
    let text = text.replace("relay: {grpc: 127.0.0.1:0}", &format!("relay: {{grpc: '{relay}'}}"));
    fs::write(&running.written.config, text + "\nnonsense: 1\n").unwrap();
    let output = run(directory, &["status"]);
    assert!(output.status.success(), "{}", err(&output));
    // The relay may have read the broken file, too, which is printed first.
    assert!(out(&output).ends_with("No deliveries.\n"), "{}", out(&output));
    assert!(
        err(&output).starts_with("warning: ./talaria.yaml:")
            && err(&output).contains(&format!("unknown key nonsense; asking at {relay}")),
        "{}",
        err(&output)
    );

    // In a directory without a configuration, and with one where the user keeps it.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = run(elsewhere.path(), &["status"]);
    let expected = "warning: cannot read ./talaria.yaml: No such file or directory (os error 2); asking at 127.0.0.1:50051";
    assert!(err(&output).contains(expected), "{}", err(&output));
    let of_the_user = elsewhere.path().join(".config/talaria");
    fs::create_dir_all(&of_the_user).unwrap();
    fs::write(of_the_user.join("talaria.yaml"), format!("relay: {{grpc: '{relay}'}}\n")).unwrap();
    let said = works(elsewhere.path(), &["status"]);
    assert!(said.ends_with("No deliveries.\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn send_status_and_watch_speak_with_a_running_talaria() {
    let sink = Sink::start().await;
    sink.set("broken", Does::Answer(500, serde_json::json!({"error": "boom \u{1b}[31m"})));
    let mut running = stack()
        .tenant("acme", |t| {
            t.route("good", &sink.url("good"), "").route(
                "broken",
                &sink.url("broken"),
                "retry: {schedule: [50ms]}",
            )
        })
        .tenant("other", |t| t)
        .start()
        .await;
    let (directory, relay) = (running.written.path(), running.relay());
    let url = format!("http://{}/callbacks/acme", running.ingress());
    let sent = json(
        directory,
        &["send", "--tenant", "acme", "--url", &url, "--type", "image.batch.done", "--job", "j 1", "--json"],
    );
    let event = sent["eventId"].as_str().unwrap().to_owned();
    assert_eq!(sent["status"], 204);
    running.finished(&event, "good").await;
    running.finished(&event, "broken").await;

    let said = works(directory, &["status", "--relay", &relay]);
    assert!(said.contains("acme/good") && said.contains("DELIVERED") && said.contains("PARKED"), "{said}");
    assert!(!said.contains('\u{1b}'), "neither our colours nor a stranger's: {said}");
    let by_job = works(directory, &["status", "j 1", "--relay", &relay]);
    assert!(by_job.contains("image.batch.done") && by_job.contains("acme/broken"), "{by_job}");
    let by_event = works(directory, &["status", &event, "--relay", &relay, "--payload"]);
    assert!(
        by_event.contains("attempt 2: 500:") && by_event.contains("\"type\":\"image.batch.done\""),
        "{by_event}"
    );
    let parked = json(directory, &["status", "--state", "parked", "--relay", &relay, "--json"]);
    assert_eq!(parked["deliveries"][0]["state"], "DELIVERY_STATE_PARKED");
    let delivery = parked["deliveries"][0]["id"].as_str().unwrap();
    let by_delivery = json(directory, &["status", delivery, "--relay", &relay, "--json"]);
    assert_eq!(by_delivery["attempts"].as_array().unwrap().len(), 2);
    let summary = json(directory, &["status", "--relay", &relay, "--json"]);
    assert_eq!(summary["routes"][0]["route"], "broken");

    assert!(!summary["deliveries"].as_array().unwrap().is_empty());
    assert_eq!(
        json(directory, &["status", "--state", "cancelled", "--relay", &relay, "--json"])["deliveries"],
        serde_json::json!([])
    );

    // A file, standard input, and a payload that is no event.
    fs::write(directory.join("callback.json"), payload("from a file", "failed").to_string()).unwrap();
    works(directory, &["send", "--tenant", "acme", "--url", &url, "--payload", "callback.json"]);
    let output = run_with_input(
        directory,
        &["send", "--tenant", "acme", "--url", &url, "--payload", "-"],
        b"no event",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("answered 422"), "{}", err(&output));
    let quarantined = until("it to be listed", async || {
        let said = works(directory, &["status", "--quarantined", "--payload", "--relay", &relay]);
        said.contains("1 signed callback was not an event.").then_some(said)
    })
    .await;
    assert!(
        quarantined.contains("no event") && quarantined.contains("the body is not JSON"),
        "{quarantined}"
    );

    // A watch with a snapshot.
    let mut watch = Command::new(talaria())
        .args(["watch", "--snapshot", "--state", "parked", "--json", "--relay", &relay])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (&first["kind"], &first["delivery"]["state"]),
        (&"WATCH_KIND_SNAPSHOT".into(), &"DELIVERY_STATE_PARKED".into())
    );
    let event = running.openrouter("acme").send("watched", "expired").await;
    let job = loop {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line["kind"] == "WATCH_KIND_CHANGE" && line["delivery"]["jobId"] == "watched" {
            break line;
        }
    };
    assert_eq!(job["attempt"]["outcome"], "ATTEMPT_OUTCOME_FAILED");
    assert_eq!(running.finished(&event, "broken").await.delivery.unwrap().state(), DeliveryState::Parked);

    // It goes on where it was when the relay was killed and is there again.
    let grpc = relay.trim_start_matches("http://").to_owned();
    running
        .restart_with(|text| {
            text.replace("relay: {grpc: 127.0.0.1:0}", &format!("relay: {{grpc: '{grpc}'}}"))
        })
        .await;
    running.openrouter("acme").send("after the kill", "expired").await;
    let seen = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let again = seen
        .filter(|line| line["kind"] == "WATCH_KIND_CHANGE")
        .find(|line| line["delivery"]["jobId"] == "after the kill");
    assert!(again.is_some());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_untrusted_text_safely() {
    let sink = Sink::start().await;
    let running = stack()
        .tenant("acme", |t| t.route("good", &sink.url("good"), ""))
        .tenant("other", |t| t)
        .start()
        .await;
    let (directory, relay) = (running.written.path(), running.relay());
    let url = format!("http://{}/callbacks/other", running.ingress());

    // An unmatched event is listed, and untrusted text makes no row.
    works(directory, &["send", "--tenant", "other", "--url", &url, "--job", "unwanted"]);
    let unwanted = until("it to be planned", async || {
        let output = run(directory, &["status", "unwanted", "--relay", &relay]);
        output.status.success().then(|| out(&output))
    })
    .await;
    assert!(
        unwanted.contains("video.generation.completed") && unwanted.contains("No deliveries."),
        "{unwanted}"
    );
    let long = format!("{}\nRECEIVED  DELIVERED  acme/good  forged", "j".repeat(70_000));
    running.openrouter("acme").send(&long, "completed").await;
    let shown = until("it to be listed", async || {
        let said = works(directory, &["status", "--relay", &relay]);
        said.contains("jjjjj").then_some(said)
    })
    .await;
    assert!(
        shown.len() < 50_000 && !shown.lines().any(|line| line.starts_with("RECEIVED  DELIVERED")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_no_relay() {
    let running = stack().tenant("acme", |t| t).start().await;
    let directory = running.written.path();
    let output = run(directory, &["status", "--relay", &format!("http://{}", running.ingress())]);
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert!(err(&output).contains("hung up, or is no relay"), "{}", err(&output));
    let said = works(directory, &["status", "--relay", &running.relay()]);
    assert_eq!(said, "No deliveries.\n", "and no empty tables");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_route_is_an_error_that_names_the_known_ones() {
    let sink = Sink::start().await;
    let running = stack()
        .tenant("acme", |t| t.route("video", &sink.url("video"), ""))
        .tenant("other", |t| t.route("image", &sink.url("image"), ""))
        .start()
        .await;
    let (directory, relay) = (running.written.path(), running.relay());
    for (route, names) in [("vidoe", "acme/video, other/image"), ("acme/image", "acme/video")] {
        let output = run(directory, &["status", "--route", route, "--relay", &relay]);
        assert_eq!(output.status.code(), Some(4), "{route}: {}", err(&output));
        let expected = format!("no route {route} is known: it has had no delivery");
        assert!(err(&output).contains(&expected), "{}", err(&output));
        assert!(err(&output).ends_with(&format!("; there is: {names}\n")), "{}", err(&output));
    }
    for route in ["video", "acme/video"] {
        assert_eq!(works(directory, &["status", "--route", route, "--relay", &relay]), "No deliveries.\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_continues_with_the_page_of_its_token() {
    let sink = Sink::start().await;
    let running = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start().await;
    let (directory, relay) = (running.written.path(), running.relay());
    for job in ["one", "two", "three"] {
        let event = running.openrouter("acme").send(job, "completed").await;
        running.finished(&event, "r").await;
    }
    let jobs = |list: &Value| -> Vec<String> {
        let deliveries = list["deliveries"].as_array().unwrap().iter();
        deliveries.map(|delivery| delivery["jobId"].as_str().unwrap().to_owned()).collect()
    };
    let first = json(directory, &["status", "--limit", "2", "--json", "--relay", &relay]);
    assert_eq!(jobs(&first), ["three", "two"]);
    let token = first["nextPageToken"].as_str().unwrap();
    let next = ["status", "--limit", "2", "--page", token, "--json", "--relay", &relay];
    assert_eq!(jobs(&json(directory, &next)), ["one"]);
    let shown = works(directory, &["status", "--limit", "2", "--relay", &relay]);
    assert!(shown.contains(&format!("There are more: --page {token} shows the next")), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_takes_the_beginning_of_a_job() {
    let sink = Sink::start().await;
    let running = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start().await;
    let event = running.openrouter("acme").send("job-with-a-long-id", "completed").await;
    running.finished(&event, "r").await;
    let mut watch = Command::new(talaria())
        .args(["watch", "--snapshot", "--job", "job-with", "--json", "--relay", &running.relay()])
        .current_dir(running.written.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(first["delivery"]["jobId"], "job-with-a-long-id", "{first}");
}
