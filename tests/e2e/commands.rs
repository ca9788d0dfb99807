//! The command line, as a person and as a script uses it.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};
use talaria_core::json::parse;
use talaria_proto::v1::DeliveryState;
use talaria_tests::{
    binary::{run, run_with_input, talaria, workspace},
    nats::server,
    openrouter::payload,
    sink::{Does, Sink},
    stack::stack,
    until,
};

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A command that has to work; what it prints.
fn works(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(output.status.success(), "{args:?}: {}", err(&output));
    out(&output)
}

fn json(directory: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&works(directory, args)).unwrap()
}

#[test]
fn the_demo_delivers_everything_and_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let said = works(directory.path(), &["demo"]);
    for status in ["completed", "failed", "cancelled", "expired"] {
        assert!(said.contains(&format!("signed callback video.generation.{status}: answered 204")), "{said}");
        assert!(said.contains(&format!("demo-{status}")), "{said}");
    }
    assert_eq!(said.matches("Hermes received, with a valid signature, the prompt:").count(), 4);
    assert!(said.contains("4 of 4 delivered."), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_works_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let said = works(directory, &["init", "--tenant", "acme", "--public-url", "https://hooks.example.com/"]);
    assert!(said.contains("https://hooks.example.com/callbacks/acme"), "{said}");
    let secret = fs::read_to_string(directory.join("secrets/acme-openrouter")).unwrap();
    assert!(said.contains(&secret) && secret.len() >= 43, "the secret to paste");
    let hermes = fs::read_to_string(directory.join("secrets/acme-hermes")).unwrap();
    assert!(!said.contains(&hermes), "the other one is named and not shown");
    assert!(said.contains("hermes webhook subscribe openrouter-video --secret \"$(cat "), "{said}");
    for name in ["acme-openrouter", "acme-hermes"] {
        let mode = fs::metadata(directory.join("secrets").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(works(directory, &["check"]), "./talaria.yaml is valid: 1 tenant, 1 route\n");

    // A second time it changes nothing, unless it is told to, and then it keeps the secrets.
    let again = run(directory, &["init"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("--force"), "{}", err(&again));
    let text = fs::read_to_string(directory.join("talaria.yaml")).unwrap();
    for wrong in
        [["--tenant", "Acme Corp"], ["--tenant", "../acme"], ["--hermes", "ftp://h"], ["--tenant", "null"]]
    {
        let output = run(directory, &[&["init", "--force"], &wrong[..]].concat());
        assert!(matches!(output.status.code(), Some(2 | 3)), "{wrong:?}: {}", err(&output));
        assert_eq!(
            fs::read_to_string(directory.join("talaria.yaml")).unwrap(),
            text,
            "{wrong:?} changes nothing"
        );
    }
    works(directory, &["init", "--tenant", "acme", "--force"]);
    assert_eq!(fs::read_to_string(directory.join("secrets/acme-openrouter")).unwrap(), secret);

    // And with ports that are free it runs.
    let sink = Sink::start().await;
    fs::write(directory.join("secrets/acme-hermes"), talaria_tests::sink::SECRET).unwrap();
    let text = fs::read_to_string(directory.join("talaria.yaml")).unwrap();
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:50051", "127.0.0.1:0");
    let text = text
        .replace("127.0.0.1:9090", "127.0.0.1:0")
        .replace("http://127.0.0.1:8644", &format!("http://{}", sink.address));
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    let mut up =
        Command::new(talaria()).arg("up").current_dir(directory).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufReader::new(up.stderr.take().unwrap());
    let ingress = loop {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(ingress) = line["ingress"].as_str() {
            break ingress.to_owned();
        }
    };
    let url = format!("http://{ingress}/callbacks/acme");
    let sent = works(directory, &["send", "--url", &url, "--job", "j1"]);
    assert!(sent.starts_with("204 accepted: evt_"), "{sent}");
    let request = until("the prompt", async || sink.requests().first().cloned()).await;
    let prompt = request.prompt();
    assert!(
        prompt.starts_with("The video job j1 is completed.") && prompt.contains("unsigned_urls"),
        "{prompt}"
    );
    // A job that failed says why, and leaves no braces in the prompt.
    works(directory, &["send", "--url", &url, "--job", "j2", "--type", "video.generation.failed"]);
    let request = until("the other prompt", async || sink.requests().get(1).cloned()).await;
    let prompt = request.prompt();
    assert!(
        prompt.starts_with("The video job j2 is failed.") && prompt.contains("a test of failed"),
        "{prompt}"
    );
    assert!(!prompt.contains("{data"), "{prompt}");
    up.kill().unwrap();
    up.wait().unwrap();
}

#[test]
fn init_refuses_urls_that_would_not_work_and_says_which_would() {
    let directory = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (
            ["--public-url", "https://h/callbacks/me"],
            "write https://h: OpenRouter then calls https://h/callbacks/TENANT",
        ),
        (["--public-url", "http://h"], "OpenRouter calls https:// alone"),
        (["--hermes", "http://127.0.0.1:8644/webhooks/video"], "write --hermes http://127.0.0.1:8644"),
    ] {
        let output = run(directory.path(), &[&["init"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");
    works(directory.path(), &["init", "--hermes", "http://webhooks.example.com"]);
}

/// A Hermes home in the directory of a configuration with one route, acme/r, at `http://127.0.0.1:8644/p/work/webhooks/video`.
fn beside_hermes(config: &str) -> talaria_tests::stack::Written {
    let written =
        stack().tenant("acme", |t| t.route("r", "http://127.0.0.1:8644/p/work/webhooks/video", "")).write();
    fs::create_dir(written.path().join(".hermes")).unwrap();
    fs::write(written.path().join(".hermes/config.yaml"), config).unwrap();
    for secret in ["openrouter-acme", "hermes"] {
        fs::set_permissions(written.path().join(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    written
}

#[test]
fn what_hermes_own_configuration_says_against_a_route_is_told() {
    let fine = "multiplex_profiles: true\nplatforms: {webhook: {enabled: true, extra: {port: 8644}}}\n";
    let told = |config: &str| {
        let written = beside_hermes(config);
        let checked = works(written.path(), &["check"]);
        let installed = run(written.path(), &["hermes", "--install", ".hermes"]);
        (checked, installed)
    };
    let (checked, installed) = told(fine);
    assert_eq!(checked, "./talaria.yaml is valid: 1 tenant, 1 route\n");
    assert!(installed.status.success() && err(&installed).is_empty(), "{}", err(&installed));
    for (config, expected) in [
        ("", "webhooks are not enabled there"),
        (
            &fine.replace("8644", "9000"),
            "Hermes listens on port 9000 there, and the route's url leads to port 8644",
        ),
        (
            &fine.replace("multiplex", "x"),
            "the route's url names the profile work, and multiplex_profiles is not set there",
        ),
    ] {
        let (checked, installed) = told(config);
        let expected = format!(".hermes/config.yaml: {expected}");
        assert!(checked.contains("warning: route acme/r: ") && checked.contains(&expected), "{checked}");
        assert!(installed.status.success() && err(&installed).contains(&expected), "{}", err(&installed));
    }

    let (checked, installed) = told("platforms: [");
    assert!(
        checked.contains(".hermes/config.yaml is nothing that Hermes can read: it is not YAML"),
        "{checked}"
    );
    assert_eq!(installed.status.code(), Some(1));

    // A route of its own, which no subscription changes.
    let own = fine
        .replace("8644}", "8644, secret: other, routes: {video: {prompt: '{data.error}', deliver: log}}}");
    let (checked, installed) = told(&own);
    assert!(checked.contains("it has a route of that name, which wins over any subscription"), "{checked}");
    assert!(checked.contains("prompt: \"{prompt}\" instead of \"{data.error}\""), "{checked}");
    assert_eq!(installed.status.code(), Some(1));
    assert!(
        err(&installed).contains("video is a route of .hermes/config.yaml already"),
        "{}",
        err(&installed)
    );
    let secret = talaria_tests::sink::SECRET;
    let same = own
        .replace("other", secret)
        .replace("{data.error}", "{prompt}")
        .replace("deliver: log", "profile: work");
    let (checked, installed) = told(&same);
    assert_eq!(checked, "./talaria.yaml is valid: 1 tenant, 1 route\n");
    assert!(out(&installed).contains("and is as acme/r needs it"), "{} {}", out(&installed), err(&installed));

    // And what is told to programs, and of another home.
    let written = beside_hermes(fine);
    fs::create_dir(written.path().join("other")).unwrap();
    fs::write(written.path().join("other/config.yaml"), "{}").unwrap();
    let document = json(written.path(), &["check", "--json", "--hermes", "other"]);
    let what = document["warnings"][0]["what"].as_str().unwrap();
    assert!(what.contains("other/config.yaml: webhooks are not enabled there"), "{what}");
}

#[test]
fn a_subscription_with_a_prompt_of_its_own_is_replaced_by_force_alone() {
    let written = beside_hermes("multiplex_profiles: true\nplatforms: {webhook: {enabled: true}}\n");
    let file = written.path().join(".hermes/webhook_subscriptions.json");
    let theirs =
        r#"{"video": {"secret": "old", "prompt": "New: {data.error}", "deliver": "slack", "events": ["x"]}}"#;
    fs::write(&file, theirs).unwrap();
    let install = ["hermes", "--install", ".hermes"];
    let output = run(written.path(), &install);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("has a prompt of its own, \"New: {data.error}\""), "{}", err(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    let said = works(written.path(), &[&install[..], &["--force"]].concat());
    for line in [
        "prompt: \"{prompt}\" instead of \"New: {data.error}\"",
        "events: [] instead of [\"x\"]",
        "profile: \"work\" instead of nothing",
    ] {
        assert!(said.contains(&format!("\n  {line}\n")), "{said}");
    }
    assert!(said.starts_with("Updated the subscription video in "), "{said}");
    assert!(!said.contains("old") && !said.contains(talaria_tests::sink::SECRET), "{said}");
    let said = works(written.path(), &install);
    assert!(said.starts_with("Nothing was to be changed in the subscription video in "), "{said}");

    let printed = works(written.path(), &["hermes"]);
    assert!(printed.ends_with("\n# With Hermes 0.20 or newer, add: --route-profile work\n"), "{printed}");
    let output = run(written.path(), &["hermes", "--deliver", "telegram/all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("write --deliver telegram, which is its home channel"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_warned_of_and_the_relay_is_asked_all_the_same() {
    let running = stack().tenant("acme", |t| t).start().await;
    let directory = running.written.path();
    let relay = running.relay().trim_start_matches("http://").to_owned();
    let text = fs::read_to_string(&running.written.config).unwrap();
    let text = text.replace("relay: {grpc: 127.0.0.1:0}", &format!("relay: {{grpc: '{relay}'}}"));
    fs::write(&running.written.config, text + "\nnonsense: 1\n").unwrap();
    let output = run(directory, &["status"]);
    assert!(output.status.success(), "{}", err(&output));
    // The relay itself may have read the file meanwhile, and says so first.
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

#[test]
fn init_allows_the_network_that_hermes_is_in() {
    let directory = tempfile::tempdir().unwrap();
    for (hermes, expected) in [
        ("http://127.0.0.1:8644", "\n    networks: [loopback] "),
        ("http://localhost:8644", "\n    networks: [loopback] "),
        ("http://10.0.0.5:8644", "\n    networks: [private] "),
        ("http://[fd12::1]:8644", "\n    networks: [private] "),
        ("https://hermes.example.com", "\n    # networks: [private] "),
    ] {
        works(directory.path(), &["init", "--force", "--hermes", hermes]);
        let text = fs::read_to_string(directory.path().join("talaria.yaml")).unwrap();
        assert!(text.contains(expected), "{hermes}: {text}");
        works(directory.path(), &["check"]);
    }
}

#[test]
fn check_refuses_a_url_that_the_tenant_does_not_allow() {
    let written = stack()
        .tenant("acme", |t| t.networks("private").route("r", "http://localhost:1/webhooks/r", ""))
        .write();
    let output = run(written.path(), &["check"]);
    assert_eq!(output.status.code(), Some(3));
    let said = err(&output);
    assert!(
        said.contains(
            "talaria.yaml:10:14: route acme/r leads to 127.0.0.1, which is loopback, and its tenant does not"
        ) && said.contains("add loopback to the networks of tenant acme"),
        "{said}"
    );
}

#[test]
fn check_says_what_is_wrong_where_and_what_to_do() {
    let written =
        stack().tenant("acme", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", "pace: fast")).write();
    let output = run(written.path(), &["check"]);
    assert_eq!(output.status.code(), Some(3));
    let said = err(&output);
    assert!(
        said.contains("talaria.yaml:12:15: not a pace\n  help: write 30/min, 5/s, 100/h or off"),
        "{said}"
    );
    let output = run(written.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["errors"][0]["line"], 12);
    assert_eq!(document["valid"], false);
    let missing = run(written.path(), &["check", "--config", "nowhere.yaml"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(err(&missing).contains("talaria init"), "{}", err(&missing));
    let example = workspace().join("deploy/talaria.example.yaml");
    let output = run(written.path(), &["check", "--config", example.to_str().unwrap()]);
    assert!(err(&output).contains("cannot read the secret in"), "its secrets are not here: {}", err(&output));
}

#[test]
fn one_role_alone_needs_a_bus_between_processes_and_its_own_secrets() {
    let route = |t: talaria_tests::stack::Tenant| t.route("r", "http://127.0.0.1:1/webhooks/r", "");
    let embedded = stack().with("bus: embedded").tenant("acme", route).write();
    for role in ["ingress", "relay"] {
        for args in [&[role][..], &["check", "--role", role]] {
            let output = run(embedded.path(), args);
            assert_eq!(output.status.code(), Some(3), "{args:?}: {}", err(&output));
            let expected = "talaria.yaml:1:6: the embedded bus is for one process\n  help: run `talaria up`, or name a \
                            NATS server under bus.nats";
            assert!(err(&output).contains(expected), "{args:?}: {}", err(&output));
        }
    }
    assert!(!embedded.path().join("talaria-data").exists(), "nothing was begun");

    let apart = stack().with("bus: {nats: {servers: [nats://127.0.0.1:4222]}}").tenant("acme", route).write();
    for (gone, role, other) in [("hermes", "ingress", "relay"), ("openrouter-acme", "relay", "ingress")] {
        let (file, aside) = (apart.path().join(gone), apart.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        let said = works(apart.path(), &["check", "--role", role]);
        assert!(said.ends_with("./talaria.yaml is valid: 1 tenant, 1 route\n"), "{said}");
        for args in [&["check"][..], &["check", "--role", other]] {
            let output = run(apart.path(), args);
            assert_eq!(output.status.code(), Some(3), "{args:?}");
            assert!(err(&output).contains("cannot read the secret in"), "{args:?}: {}", err(&output));
        }
        fs::rename(&aside, &file).unwrap();
    }
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

    // A file, standard input, and what is no event.
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

    // Watching, from what is now.
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
async fn status_shows_whatever_strangers_wrote() {
    let sink = Sink::start().await;
    let running = stack()
        .tenant("acme", |t| t.route("good", &sink.url("good"), ""))
        .tenant("other", |t| t)
        .start()
        .await;
    let (directory, relay) = (running.written.path(), running.relay());
    let url = format!("http://{}/callbacks/other", running.ingress());

    // What no route wants is known all the same, and no text of a stranger makes a row or breaks the table.
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
async fn an_ingress_is_no_relay_and_nothing_came_yet() {
    let running = stack().tenant("acme", |t| t).start().await;
    let directory = running.written.path();
    let output = run(directory, &["status", "--relay", &format!("http://{}", running.ingress())]);
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert!(err(&output).contains("hung up, or is no relay"), "{}", err(&output));
    let said = works(directory, &["status", "--relay", &running.relay()]);
    assert_eq!(said, "No deliveries.\n", "and no empty tables");
}

#[test]
fn secrets_that_are_missing_are_written_and_shown_to_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let text = "\
tenants:
  acme:
    openrouter: {secrets: [{file: secrets/openrouter}]}
    networks: [loopback]
    routes:
      r: {url: 'http://127.0.0.1:1/webhooks/r', secret: [{file: secrets/new}, {env: TALARIA_TEST_OLD}]}
";
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    let output = run(directory, &["secrets", "--show", "acme"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("secrets/openrouter: No such file"), "{}", err(&output));
    fs::create_dir(directory.join("secrets")).unwrap();
    fs::write(directory.join("secrets/openrouter"), "kept").unwrap();
    let said = works(directory, &["secrets"]);
    let secret = fs::read_to_string(directory.join("secrets/new")).unwrap();
    assert!(secret.len() == 43 && !said.contains(&secret), "256 bits, and not shown: {said}");
    let mode = fs::metadata(directory.join("secrets/new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let found = json(directory, &["secrets", "--json"]);
    let told =
        |entry: &Value| (entry["of"].as_str().unwrap().to_owned(), entry["written"].as_bool().unwrap());
    let told: Vec<_> = found["secrets"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [("acme".into(), false), ("acme/r".into(), false), ("acme/r".into(), false)], "{found}");
    assert_eq!(works(directory, &["secrets", "--show", "acme"]), "kept\n");
    assert_eq!(works(directory, &["secrets", "--show", "acme/r"]), format!("{secret}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_needs_no_secrets_and_says_what_is_not_ready() {
    let server = server().start().await;
    let nats = format!("bus: {{nats: {{servers: ['{}']}}}}", server.url());
    let running = stack().with(&nats).tenant("acme", |tenant| tenant).start().await;
    let directory = running.written.path();
    let address = running.admin();
    fs::remove_file(directory.join("openrouter-acme")).unwrap();
    let text = fs::read_to_string(&running.written.config).unwrap();
    let text = text
        .replace("admin: {listen: 127.0.0.1:0}", &format!("admin: {{listen: 0.0.0.0:{}}}", address.port()));
    fs::write(&running.written.config, text).unwrap();
    until("it to be ready", async || run(directory, &["healthcheck"]).status.success().then_some(())).await;
    assert_eq!(works(directory, &["healthcheck"]), "ready\n");
    let url = format!("http://{address}/");
    let found = json(directory, &["healthcheck", "--json", "--url", &url]);
    assert_eq!(found, serde_json::json!({"ready": true, "status": 200, "said": "ready"}));
    drop(server);
    let output = until("it to be noticed", async || {
        Some(run(directory, &["healthcheck"])).filter(|output| !output.status.success())
    })
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let why = "/readyz answered 503 Service Unavailable: ";
    assert!(err(&output).contains(why) && err(&output).contains("NATS"), "{}", err(&output));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let written = stack()
        .tenant("acme", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", ""))
        .tenant("other", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", "body: raw"))
        .write();
    let directory = written.path();
    for (args, code, why) in [
        (&["nonsense"][..], 2, "unrecognized subcommand"),
        (&["send"], 2, "--tenant takes one of: acme, other"),
        (&["send", "--tenant", "nobody"], 4, "no tenant nobody"),
        (&["render", "acme/nowhere"], 4, "there is: acme/r, other/r"),
        (&["render", "other/r"], 1, "raw bodies"),
        (&["hermes"], 2, "which route?"),
        (&["hermes", "acme/r", "--install", "nowhere"], 1, "Hermes home"),
        (&["status", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["explain", "j", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["watch", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["send", "--tenant", "acme", "--url", "http://127.0.0.1:1/"], 5, "cannot reach the ingress"),
        (&["status", "--relay", "127.0.0.1:1"], 2, "begins with http:// or https://"),
        (&["explain", "rpl_1"], 2, "talaria jobs rpl_1 shows it"),
        (&["status", "--since", "yesterday"], 2, "how long ago, such as 2h"),
        (&["status", "--limit", "0"], 2, "1..=1000"),
        (&["secrets", "--show", "nobody"], 4, "there is: acme, acme/r, other, other/r"),
        (&["healthcheck", "--url", "http://127.0.0.1:1"], 5, "nobody answers at http://127.0.0.1:1/readyz"),
        (&["check", "--role", "bystander"], 2, "possible values: ingress, relay"),
        (&["check", "--config", "nowhere"], 3, "cannot read nowhere"),
        (&["render", "acme/r", "--payload", "nowhere"], 1, "cannot read nowhere"),
        (&["help", "nonsense"], 4, "no command nonsense"),
        (&["help", "error", "callbak-401"], 4, "there is: callback-401"),
        (&["help", "error", "qqqq"], 4, "talaria help error lists them"),
        (&["completions", "basic"], 2, "possible values"),
    ] {
        let output = run(directory, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(why), "{args:?}: {}", err(&output));
    }
    let help = works(directory, &["--help"]);
    assert!(help.contains("Exit codes: 0 done") && help.contains("talaria demo"), "{help}");
    for command in [
        "init",
        "check",
        "up",
        "ingress",
        "relay",
        "demo",
        "send",
        "status",
        "explain",
        "watch",
        "render",
        "hermes",
        "secrets",
        "healthcheck",
        "doctor",
        "probe",
        "backup",
        "restore",
        "completions",
        "man",
        "help",
    ] {
        assert_eq!(works(directory, &["help", command]), works(directory, &[command, "--help"]));
        let help = works(directory, &[command, "--help"]);
        assert!(help.contains("--config"), "{help}");
        assert!(command == "up" || command == "demo" || help.contains("Examples:"), "{command}");
    }
}

#[test]
fn the_manual_is_in_the_binary() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let list = works(directory, &["help", "error"]);
    let pages = fs::read_dir(workspace().join("docs/errors")).unwrap().count() - 1;
    assert_eq!(list.lines().count(), pages, "each page but the list of them: {list}");
    assert!(list.lines().any(|line| line.starts_with("hermes-401 ")), "{list}");
    let page = fs::read_to_string(workspace().join("docs/errors/hermes-401.md")).unwrap();
    for name in ["hermes-401", "docs/errors/hermes-401.md"] {
        assert_eq!(works(directory, &["help", "error", name]), page);
    }

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = works(directory, &["completions", shell]);
        assert!(script.contains("doctor") && script.contains("public-url"), "{shell}");
    }
    let said = works(directory, &["man", "manual"]);
    let manual = directory.join("manual");
    let written = fs::read_dir(&manual).unwrap().count();
    assert!(said.starts_with(&format!("Wrote {written} pages into manual")), "{said}");
    let page = fs::read_to_string(manual.join("talaria-doctor.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("public") && manual.join("talaria.1").exists(), "{page}");

    let version = works(directory, &["--version"]);
    assert!(version.starts_with("talaria 0."), "{version}");
}

#[test]
fn render_previews_what_a_route_would_send() {
    let written = stack()
        .tenant("acme", |t| {
            t.route("r", "http://127.0.0.1:1/webhooks/r", "prompt: '{data.error}{data.id} on {event_type}'")
        })
        .write();
    let directory = written.path();
    assert_eq!(works(directory, &["render", "acme/r"]), "{data.error}abc123 on video.generation.completed\n");
    let steering = br#"{"type":"t","data":{"error":"/stop @diff "}}"#;
    let output = run_with_input(directory, &["render", "acme/r", "--payload", "-"], steering);
    assert_eq!(out(&output), "> /stop @ diff {data.id} on t\n");
    assert!(err(&output).contains("guard: a leading / defused"), "{}", err(&output));
    let output = run_with_input(directory, &["render", "acme/r", "--payload", "-", "--no-guard"], steering);
    assert_eq!(out(&output), "/stop @diff {data.id} on t\n");
    let output =
        run_with_input(directory, &["render", "--template", "{a}", "--payload", "-"], br#"{"a":[1.0]}"#);
    assert_eq!(out(&output), "[\n  1.0\n]\n");
}

#[test]
fn render_jsonl_renders_every_recorded_case_as_hermes_did() {
    let cases = fs::read(workspace().join("core/testdata/render_cases.jsonl")).unwrap();
    let output = run_with_input(workspace(), &["render", "--jsonl"], &cases);
    assert!(output.status.success());
    let answers: Vec<&[u8]> = output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    let cases: Vec<&[u8]> = cases.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!((answers.len(), cases.len()), (60, 60));
    for (case, answer) in cases.into_iter().zip(answers) {
        let (case, answer) = (parse(case).unwrap(), parse(answer).unwrap());
        let name = case.root().get("name").unwrap();
        if case.root().get("error").is_some() {
            assert!(answer.root().get("error").is_some(), "{name:?}");
        } else if case.root().get("lone_surrogate").is_none() {
            let prompt = |document: &talaria_core::json::Document| {
                document.root().get("prompt").unwrap().as_text().cloned()
            };
            assert_eq!(prompt(&answer), prompt(&case), "{name:?}");
        }
    }
}

/// `talaria render --jsonl | head -1` is no error.
#[test]
fn a_reader_that_has_heard_enough_is_no_error() {
    let case = r#"{"template":"x","body":"{}","event_type":"t","route":"r"}"#;
    let script = format!(
        "yes '{case}' | head -n 100000 | '{}' render --jsonl 2>errors | head -n 1; cat errors",
        talaria().display()
    );
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    assert_eq!(out(&output), "{\"prompt\": \"x\"}\n");
}
