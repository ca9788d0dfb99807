//! `talaria doctor`, without and with faults.

use crate::hermes::{one_route, route};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};
use talaria_tests::{
    binary, free_port,
    hermes::Gateway,
    nats,
    openrouter::OpenRouter,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

/// The exit code and the output of `talaria doctor --json`, with a home without Hermes, so that the machine's own is not read.
fn doctor(directory: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let home = directory.join("no-hermes").display().to_string();
    let output =
        binary::run_with(directory, &[("HERMES_HOME", &home)], &[&["doctor", "--json"], arguments].concat());
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {err}"));
    (output.status.code(), found, err)
}

/// The findings of a check, as "level: text".
fn of(found: &Value, check: &str) -> Vec<String> {
    let findings = found["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["check"] == check);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.map(|finding| format!("{}: {}", text(&finding["level"]), text(&finding["what"]))).collect()
}

async fn ready(stack: &Stack) {
    until("the relay to be ready", async || (stack.admin_get("/readyz").await.0 == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_real_hermes_everything_is_ok_and_nothing_is_run() {
    let hermes =
        Gateway::start(json!({"r": route(&json!({})), "direct": route(&json!({"events": []}))}), 1000).await;
    let stack = stack()
        .tenant("acme", |t| {
            t.route("r", &hermes.url("r"), "pace: off").route("svix", &hermes.url("direct"), "signing: svix")
        })
        .start()
        .await;
    ready(&stack).await;
    for secret in ["hermes", "openrouter-acme"] {
        fs::set_permissions(stack.written.path().join(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (ingress, admin) = (format!("http://{}", stack.ingress()), format!("http://{}", stack.admin()));
    let relay = stack.relay();
    let arguments = ["--public-url", &ingress, "--admin", &admin, "--relay", &relay];
    let (code, found, err) = doctor(stack.written.path(), &arguments);
    assert_eq!(
        (code, &found["faults"], &found["warnings"]),
        (Some(0), &json!(0), &json!(0)),
        "{found:#} {err}"
    );
    let hermes_says = of(&found, "hermes");
    assert!(hermes_says.len() == 2, "{hermes_says:?}");
    assert!(hermes_says.iter().all(|said| said.contains("has the route's secret")), "{hermes_says:?}");
    for check in ["configuration", "secrets", "public url", "clock", "disk", "bus", "process", "routes"] {
        assert_eq!(of(&found, check).len(), 1, "{check}: {found:#}");
    }
    assert!(of(&found, "bus")[0].contains("a process works with it"), "{found:#}");
    // An event that comes behind it is the first that Hermes ran.
    let event = stack.openrouter("acme").send("job", "completed").await;
    for route in ["r", "svix"] {
        stack.finished(&event, route).await;
    }
    let prompts = || hermes.prompts("r").len() + hermes.prompts("direct").len();
    until("the agent", async || (prompts() >= 2).then_some(())).await;
    assert_eq!(prompts(), 2, "one for each route");

    let home = stack.written.path().join("no-hermes").display().to_string();
    let arguments = [&["doctor"], &arguments[..]].concat();
    let shown = binary::run_with(stack.written.path(), &[("HERMES_HOME", &home)], &arguments);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().all(|line| line.starts_with("ok      ")), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hermes_with_another_secret_a_missing_subscription_and_one_that_verifies_nothing_are_faults() {
    let other = json!({"secret": "another one altogether", "prompt": "{prompt}"});
    let open = json!({"secret": "INSECURE_NO_AUTH", "prompt": "{prompt}"});
    let hermes = Gateway::start(json!({"other": other, "open": open}), 1000).await;
    let stack = stack()
        .tenant("acme", |t| {
            t.route("a", &hermes.url("other"), "pace: off")
                .route("b", &hermes.url("nowhere"), "pace: off")
                .route("c", &hermes.url("open"), "pace: off")
        })
        .start()
        .await;
    let (code, found, _) = doctor(stack.written.path(), &["--admin", &format!("http://{}", stack.admin())]);
    assert_eq!(code, Some(1));
    let said = of(&found, "hermes");
    for (line, says) in said.iter().zip(["has another secret than", "404", "wrongly signed"]) {
        assert!(line.starts_with("fault: acme/") && line.contains(says), "{says}: {said:?}");
    }
    assert_eq!(said.len(), 3);
    let text = found.to_string();
    assert!(!text.contains(talaria_tests::sink::SECRET), "no secret is shown");
    assert!(hermes.prompts("open").is_empty(), "nothing was run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_lets_the_guard_do_nothing_is_warned_of() {
    let hermes = Gateway::start(json!({}), 1000).await;
    let stack = one_route(&hermes.url("openrouter-video"), "prompt: 'Hi {data.id}'").await;
    let home = hermes.home.path().to_str().unwrap();
    let installed = binary::run(stack.written.path(), &["hermes", "--install", home]);
    assert!(installed.status.success());
    let ask = || doctor(stack.written.path(), &["--hermes", home]).1;
    let is_different =
        |found: &Value| of(found, "hermes").iter().any(|said| said.contains("not as the route needs it"));
    assert!(!is_different(&ask()));
    let file = hermes.home.path().join("webhook_subscriptions.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("{prompt}", "{data.error}")).unwrap();
    let found = ask();
    assert!(is_different(&found), "{found:#}");
    assert!(of(&found, "hermes")[0].starts_with("ok: "), "its secret is right all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_found_with_advice() {
    let sink = Sink::start().await;
    sink.set("page", Does::Page(200, "<html>Welcome to nginx!</html>".into()));
    let nothing = format!("http://127.0.0.1:{}", free_port());
    let written = stack()
        .tenant("acme", |t| {
            t.route("page", &sink.url("page"), "pace: off").route(
                "away",
                &format!("{nothing}/webhooks/x"),
                "pace: off",
            )
        })
        .tenant("down", |t| t)
        .write();
    let directory = written.path();
    fs::remove_file(directory.join("openrouter-down")).unwrap();
    fs::create_dir(directory.join("talaria-data")).unwrap();
    fs::write(directory.join("talaria-data/bus.db"), "no database, and long enough to be looked at").unwrap();
    let public = format!("http://{}/webhooks/page?", sink.address);
    let (code, found, err) = doctor(directory, &["--public-url", &public, "--admin", &nothing]);
    assert_eq!(code, Some(1), "{found:#}");
    assert!(err.contains("checks found a fault"), "{err}");
    for (check, says) in [
        ("secrets", "openrouter-down"),
        ("hermes", "acme/away"),
        ("hermes", "what answers is not Hermes"),
        ("public url", "not as an ingress does"),
        ("bus", "not a database"),
        ("process", "no answer at"),
    ] {
        let said = of(&found, check);
        assert!(
            said.iter().any(|line| line.starts_with("fault: ") && line.contains(says)),
            "{check}: {said:?}"
        );
    }
    let faults = found["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "fault");
    for fault in faults {
        assert!(!fault["help"].as_str().unwrap().is_empty(), "{fault}");
    }

    fs::write(&written.config, "tenants: {").unwrap();
    let (code, found, _) = doctor(directory, &[]);
    assert_eq!((code, &found["valid"]), (Some(3), &json!(false)), "{found:#}");
}

/// The callback that it sends is listed, as any other that is not signed.
#[tokio::test(flavor = "multi_thread")]
async fn the_public_url_is_asked_without_a_signature_and_callbacks_go_on() {
    let stack = stack().tenant("acme", |t| t).start().await;
    ready(&stack).await;
    let public = format!("http://{}", stack.ingress());
    let (_, found, _) = doctor(stack.written.path(), &["--public-url", &public]);
    assert!(of(&found, "public url")[0].starts_with("ok: "), "{found:#}");
    assert!(of(&found, "clock")[0].contains("agrees with the Date of 127.0.0.1"), "{found:#}");
    let guesses = OpenRouter::new(stack.ingress(), "acme", "guessed");
    assert_eq!(guesses.try_send("refused", "completed").await, Some(401));
    stack.openrouter("acme").send("job", "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_asked_for_its_streams_and_none_is_created() {
    let url = nats::shared().await;
    let prefix = format!("doctor-{:016x}", rand::random::<u64>());
    let bus = format!("bus: {{nats: {{servers: [\"{url}\"], prefix: {prefix}}}}}");
    let written = stack().with(&bus).tenant("acme", |t| t).write();
    for _ in 0..2 {
        let (code, found, _) = doctor(written.path(), &[]);
        let said = of(&found, "bus");
        assert!(code == Some(1) && said[0].starts_with("fault: "), "{said:?}");
    }
    let stack = written.start().await;
    ready(&stack).await;
    for role in [&[][..], &["--role", "ingress"], &["--role", "relay"]] {
        let admin = format!("http://{}", stack.admin());
        let (_, found, _) = doctor(stack.written.path(), &[role, &["--admin", &admin]].concat());
        assert!(of(&found, "bus")[0].starts_with("ok: NATS at "), "{role:?}: {found:#}");
        assert!(of(&found, "process")[0].starts_with("ok: "), "{role:?}: {found:#}");
        assert_eq!(of(&found, "public url").is_empty(), role.contains(&"relay"), "{role:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shut_and_paused_routes_are_found_with_their_cause_as_explain_shows_it() {
    let sink = Sink::start().await;
    sink.set("refuses", Does::Answer(401, json!({"error": "Invalid signature"})));
    let stack = stack()
        .tenant("acme", |t| {
            t.route("refuses", &sink.url("refuses"), "").route("paused", &sink.url("paused"), "")
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.delivery_when(&event, "refuses", |delivery| delivery.reason.starts_with("the route is shut")).await;
    let relay = stack.relay();
    let paused =
        binary::run(stack.written.path(), &["pause", "acme/paused", "--as", "ana", "--relay", &relay]);
    assert!(paused.status.success(), "{paused:?}");
    let (code, found, _) = doctor(stack.written.path(), &["--relay", &relay]);
    assert_eq!(code, Some(1));
    let routes = of(&found, "routes");
    let [refuses, paused] = match &routes[..] {
        [first, second] if first.contains("acme/refuses") => [first, second],
        [first, second] => [second, first],
        _ => panic!("{routes:?}"),
    };
    assert!(refuses.starts_with("fault: acme/refuses is shut until "), "{refuses}");
    assert!(paused.starts_with("warning: acme/paused is paused since "), "{paused}");
    let explained = binary::run(stack.written.path(), &["explain", &event, "--json", "--relay", &relay]);
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let routes = explained["explanations"][0]["routes"].as_array().unwrap();
    let held = routes.iter().find(|route| route["route"] == "refuses").unwrap();
    let cause = held["heldBecause"].as_str().unwrap().trim_start_matches("the route is shut: ");
    assert!(refuses.ends_with(cause), "{refuses}: {cause}");
}

/// As a user who may not read the files: root would be allowed to.
#[test]
fn wrong_permissions_are_no_reason_to_restore_a_backup() {
    const NOBODY: u32 = 65_534;
    let written = stack().tenant("acme", |t| t).write();
    let data = written.path().join("talaria-data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("bus.db"), "unreadable").unwrap();
    for (path, mode) in
        [(written.path().to_owned(), 0o755), (data.clone(), 0o755), (data.join("bus.db"), 0o000)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // A copy, because the other user may not reach the binary itself.
    let program = written.path().join("talaria");
    fs::copy(binary::talaria(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["doctor", "--json"]).current_dir(written.path()).env("HERMES_HOME", &data);
    if fs::metadata(&data).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let bus = findings.iter().find(|finding| finding["check"] == "bus").unwrap();
    let help = bus["help"].as_str().unwrap();
    assert!(bus["level"] == "fault" && help.contains("give it to the user that runs Talaria"), "{bus}");
    assert!(!help.contains("restore"), "{bus}");
}
