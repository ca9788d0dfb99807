//! `talaria hermes`: printed and installed subscriptions.

use super::{one_route, outcomes, state};
use crate::commands::{err, json as json_of, out, works};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};
use talaria_proto::v1::{AttemptOutcome as Outcome, DeliveryState as State, GetSummaryRequest};
use talaria_tests::{
    binary::run,
    hermes::{Gateway, program},
    openrouter::event_id,
    stack::stack,
};

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
fn settings_of_hermes_that_stop_a_route_are_warned_of() {
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

    // As JSON, and for another home.
    let written = beside_hermes(fine);
    fs::create_dir(written.path().join("other")).unwrap();
    fs::write(written.path().join("other/config.yaml"), "{}").unwrap();
    let document = json_of(written.path(), &["check", "--json", "--hermes", "other"]);
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

/// The command that `talaria hermes` prints, run as it is, makes the route work.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_command_subscribes_the_route() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.yaml"), "platforms: {webhook: {enabled: true}}\n").unwrap();
    let written = stack()
        .tenant("acme", |t| {
            t.route("r", "http://127.0.0.1:8644/webhooks/openrouter-video", "prompt: 'Hi {data.id}'")
        })
        .write();
    let printed = run(written.path(), &["hermes", "acme/r"]);
    let command = String::from_utf8(printed.stdout).unwrap();
    let path =
        format!("{}:{}", program("hermes").parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &command])
        .env("PATH", path)
        .env("HERMES_HOME", home.path())
        .current_dir(written.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("Created webhook subscription: openrouter-video"),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let hermes = Gateway::start_in(home, json!({}), 1000).await;
    let mut stack = written.start().await;
    stack.restart_with(|text| text.replace("127.0.0.1:8644", &hermes.address.to_string())).await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    assert_eq!(outcomes(&stack.finished(&event, "r").await), [Outcome::Accepted]);
    assert_eq!(hermes.prompts("openrouter-video"), ["Hi job"]);
}

/// Hermes does not know the route yet. It is installed while the gateway runs, and the waiting delivery goes out.
#[tokio::test(flavor = "multi_thread")]
async fn installing_a_subscription_opens_a_shut_route() {
    let hermes = Gateway::start(json!({}), 1000).await;
    let stack = one_route(&hermes.url("openrouter-video"), "prompt: 'Hi {data.id}'").await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let held = stack.delivery_when(&event, "r", |delivery| delivery.attempts == 1).await;
    assert_eq!((state(&held), held.attempts[0].http_status), (State::Waiting, Some(404)));
    let home = hermes.home.path().to_str().unwrap();
    let installed = run(stack.written.path(), &["hermes", "--install", home]);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let found = stack.finished(&event, "r").await;
    assert_eq!(outcomes(&found), [Outcome::RouteFault, Outcome::Accepted]);
    assert_eq!(hermes.prompts("openrouter-video"), ["Hi job"]);
    // And the hold is over.
    let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    assert_eq!(summary.routes[0].held_because, "");
}

/// A subscription with a prompt of its own would let a payload write the agent's prompt. Installed over it, the route's prompt and
/// guard work again, and the other settings there are kept.
#[tokio::test(flavor = "multi_thread")]
async fn installing_over_a_subscription_makes_the_guard_work() {
    let home = tempfile::tempdir().unwrap();
    let theirs = json!({"openrouter-video": {
        "secret": "another", "prompt": "{data.error}", "events": ["video.generation.completed"], "enabled": false,
        "filters": [{"field": "data.id", "equals": "no"}], "deliver": "log",
    }});
    // With the mark that editors of Windows write, which Hermes 0.19 cannot read.
    fs::write(home.path().join("webhook_subscriptions.json"), format!("\u{feff}{theirs}")).unwrap();
    let hermes = Gateway::start_in(home, json!({}), 1000).await;
    let stack = one_route(&hermes.url("openrouter-video"), "prompt: '{data.error}'").await;
    let home = hermes.home.path().to_str().unwrap();
    let refused = run(stack.written.path(), &["hermes", "--install", home]);
    assert_eq!(refused.status.code(), Some(1));
    let installed = run(stack.written.path(), &["hermes", "--install", home, "--force"]);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let body = json!({"type": "video.generation.failed", "data": {"id": "job", "status": "failed", "error": "/status"}});
    stack.openrouter("acme").send_payload(&body).await;
    let event = event_id("acme", "job", "failed");
    assert_eq!(outcomes(&stack.finished(&event, "r").await), [Outcome::Accepted]);
    assert_eq!(hermes.prompts("openrouter-video"), ["> /status"]);
}
