//! `deploy/compose.yaml` as it is, in a real Docker engine: `make test-stack`.

use rand::Rng as _;
use serde_json::{Value, json};
use std::{
    collections::HashMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};
use talaria_tests::{
    binary,
    compose::{Compose, docker, host},
    fleet::{Ledger, load_on},
    http, seeded,
    sink::SECRET,
    stack::openrouter_secret,
    until_within,
};
use tempfile::TempDir;

/// How long everything may take to come to its end once nothing more comes in: the longest pause of a shut route, and
/// Hermes' own pace.
const PATIENCE: Duration = Duration::from_secs(240);

/// Beside the tenant that is there: one whose Hermes is on this machine, and keeps an account.
fn tenant(ledger: SocketAddr) -> String {
    let route = |name: &str| {
        let url = format!("http://host.docker.internal:{}/webhooks/{name}", ledger.port());
        format!(
            "      {name}:\n        url: {url}\n        secret: {{file: hermes}}\n        pace: off\n        \
             prompt: '{{data.id}}'\n        retry: {{schedule: [100ms, 500ms, 1s, 1s, 5s, 5s, 5s, 5s, 5s, 5s]}}\n"
        )
    };
    format!(
        "  load:\n    openrouter: {{secrets: [{{file: openrouter}}]}}\n    networks: [private]\n    routes:\n{}{}",
        route("one"),
        route("two")
    )
}

/// A copy of the stack's configuration, which containers can read.
fn configuration() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let source = binary::workspace().join("deploy/compose/config/talaria.yaml");
    fs::copy(source, directory.path().join("talaria.yaml")).unwrap();
    fs::write(directory.path().join("openrouter"), openrouter_secret("load")).unwrap();
    fs::write(directory.path().join("hermes"), SECRET).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn add(directory: &Path, tenant: &str) {
    let file = directory.join("talaria.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text + tenant).unwrap();
}

/// The deliveries of a tenant to a route, by the ids of their events.
fn deliveries(stack: &Compose, tenant: &str, route: &str) -> HashMap<String, Value> {
    let said = stack
        .talaria("relay", &["status", "--json", "--limit", "1000", "--tenant", tenant, "--route", route]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let list = said["deliveries"].as_array().cloned().unwrap_or_default();
    let count = list.len();
    assert!(count < 1000, "more than can be listed at once");
    let by_event: HashMap<_, _> = list
        .into_iter()
        .map(|delivery| (delivery["eventId"].as_str().unwrap().to_owned(), delivery))
        .collect();
    assert_eq!(by_event.len(), count, "an event has one delivery to a route");
    by_event
}

/// Waits until nothing of a route waits any more; everything has been delivered then.
async fn delivered(stack: &Compose, tenant: &str, route: &str) -> HashMap<String, Value> {
    let all = until_within(PATIENCE, &format!("{tenant}/{route} to be delivered"), async || {
        let all = deliveries(stack, tenant, route);
        all.values().all(|delivery| delivery["state"] != "DELIVERY_STATE_WAITING").then_some(all)
    })
    .await;
    for delivery in all.values() {
        assert_eq!(delivery["state"], "DELIVERY_STATE_DELIVERED", "{delivery:#}");
    }
    all
}

/// Sends a callback as in README. Returns the event's id.
fn send(stack: &Compose) -> String {
    let sent = stack.talaria("ingress", &["send", "--tenant", "me", "--json"]);
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent["status"], 204);
    sent["eventId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs images that take minutes to build; `make test-stack` builds them and runs it"]
async fn the_stack_comes_up_delivers_and_outlives_the_death_of_each_container() {
    let mut random = seeded("the stack");
    let config = configuration();
    let stack = Compose::up(config.path()).await;
    came_up_in_order(&stack);
    for service in ["nats", "ingress", "relay", "hermes"] {
        is_hardened(&stack, service);
    }
    let mut events = vec![send(&stack)];
    delivered(&stack, "me", "video").await;

    let ledger = Ledger::start_on(SocketAddr::new(host(), 0)).await;
    add(config.path(), &tenant(ledger.address));
    stack.works(&["restart", "ingress", "relay"]);
    for service in ["ingress", "relay"] {
        stack.is_healthy(service).await;
    }
    let load = load_on(stack.ingress(), &["load"]).per_second(8).start();
    load.goes_on(20).await;
    let mut services = vec!["nats", "ingress", "relay", "hermes"];
    while !services.is_empty() {
        let service = services.swap_remove(random.random_range(0..services.len()));
        eprintln!("{service} is killed");
        stack.kill(service).await;
        load.goes_on(20).await;
        events.extend([send(&stack), send(&stack)]);
    }
    let sent = load.stop().await;

    // The account of the tenant whose Hermes never died: each to both routes, and Hermes saw each under one id.
    let lines = ledger.lines();
    let mut count = 0;
    for route in ["one", "two"] {
        let all = delivered(&stack, "load", route).await;
        let missing: Vec<_> = sent.acknowledged.keys().filter(|event| !all.contains_key(*event)).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        for delivery in all.values() {
            let line = &ledger.lines()[delivery["id"].as_str().unwrap()];
            assert_eq!(line.ids.len(), 1, "{line:?}");
            assert!(
                delivery["attempts"].as_u64().unwrap() >= u64::from(line.requests),
                "{line:?}: {delivery:#}"
            );
            count += 1;
        }
    }
    assert_eq!(ledger.lines().len(), count, "Hermes saw what the status does not know");
    // And of the one whose Hermes did.
    let all = delivered(&stack, "me", "video").await;
    let seen = stack.works(&["exec", "-T", "hermes", "cat", "/data/logs/agent.log"]);
    for event in &events {
        let id = all[event]["id"].as_str().unwrap();
        assert!(seen.contains(&format!("delivery={id}.")), "Hermes never saw {id}");
    }
    eprintln!(
        "{} callbacks, {} of them to the real Hermes: {} answered 503, {} not answered, the slowest after {:?}; {} repeats",
        sent.acknowledged.len() + events.len(),
        events.len(),
        sent.refused,
        sent.unanswered,
        sent.slowest,
        lines.values().map(|line| line.requests - 1).sum::<u32>()
    );

    has_a_console(&stack, config.path()).await;

    // A copy, as docs/compose.md says.
    let backup = ["run", "--rm", "-T", "backup", "backup", "--into", "/backups", "--json"];
    let saved: Value = serde_json::from_str(&stack.works(&backup)).unwrap();
    assert!(saved["directory"].as_str().unwrap().starts_with("/backups/talaria-"), "{saved}");

    // Both complete their requests before the engine would kill them.
    stack.works(&["stop", "ingress", "relay"]);
    for service in ["ingress", "relay"] {
        assert_eq!(stack.inspect(service)["State"]["ExitCode"], 0, "{service}: {}", stack.logs());
    }
}

/// It is turned on as docs/compose.md says, and answers who has the token. How the agent's run ended is reported there.
async fn has_a_console(stack: &Compose, config: &Path) {
    let made = stack.works(&[
        "run",
        "--rm",
        "--no-deps",
        "setup",
        "token",
        "--name",
        "me",
        "--scope",
        "control",
        "--json",
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let file = config.join("talaria.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let on = text
        .replace(
            "  # tokens: [{name: me, scope: control, hashes: [\"sha256:…\"]}]",
            &format!("  tokens: [{}]", made["entry"]),
        )
        .replace("# console: {listen", "console: {listen");
    fs::write(&file, on).unwrap();
    stack.works(&["exec", "-T", "hermes", "hermes", "plugins", "enable", "talaria"]);
    stack.works(&["restart", "relay", "hermes"]);
    for service in ["relay", "hermes"] {
        stack.is_healthy(service).await;
    }
    let token = made["token"].as_str().unwrap();
    let url = |path: &str| format!("http://{}{path}", stack.console());
    let ask = async |path: &str, question: Value, token: &str| {
        let request = http().post(url(path)).bearer_auth(token).header("content-type", "application/json");
        let answer = request.body(question.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
    };
    let summary = "/talaria.v1.StatusService/GetSummary";
    assert_eq!(ask(summary, json!({}), "tlr_wrong").await.0, 401);
    assert_eq!(ask(summary, json!({}), token).await.0, 200);
    let page = http().get(url("/")).send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/login"), "{page:?}");
    // No model is set up, so the agent's run fails.
    let event = send(stack);
    until_within(PATIENCE, "the failed run", async || {
        let question = json!({"filter": {"runs": ["RUN_OUTCOME_FAILED"]}});
        let (_, found) = ask("/talaria.v1.StatusService/ListDeliveries", question, token).await;
        found["deliveries"].as_array()?.iter().any(|delivery| delivery["eventId"] == event).then_some(())
    })
    .await;
}

fn came_up_in_order(stack: &Compose) {
    let [setup, subscribe, nats, ingress, relay, hermes] =
        ["setup", "subscribe", "nats", "ingress", "relay", "hermes"].map(|service| stack.times(service));
    assert!(setup.1 <= nats.0 && nats.0 <= ingress.0 && nats.0 <= relay.0);
    assert!(setup.1 <= subscribe.0 && subscribe.1 <= hermes.0);
}

fn is_hardened(stack: &Compose, service: &str) {
    let known = stack.inspect(service);
    let (host, config) = (&known["HostConfig"], &known["Config"]);
    assert_eq!(config["User"], "65532:65532", "{service}");
    assert_eq!(host["ReadonlyRootfs"], true, "{service}");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{service}");
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]), "{service}");
    assert!(host["Memory"].as_u64() > Some(0) && host["PidsLimit"].as_u64() > Some(0), "{service}");
    for bindings in host["PortBindings"].as_object().into_iter().flat_map(serde_json::Map::values) {
        assert_eq!(bindings[0]["HostIp"], "127.0.0.1", "{service}");
    }
}

/// The image of README's first command.
#[test]
#[ignore = "needs an image that takes minutes to build; `make test-stack` builds it and runs this"]
fn the_image_shows_the_demo() {
    let said = docker(&["run", "--rm", "--network", "none", "talaria:0.1.0", "demo"]);
    assert!(said.contains("4 of 4 delivered."), "{said}");
}

#[test]
#[ignore = "needs compose; `make test-stack` runs it"]
fn every_part_of_the_stack_is_valid() {
    let stack = Compose::new(configuration().path());
    let profiles = ["backup", "restore", "hermes", "tunnel", "tunnel-named", "observability"];
    let mut arguments: Vec<&str> = profiles.iter().flat_map(|profile| ["--profile", profile]).collect();
    arguments.extend(["config", "--services"]);
    let mut services: Vec<String> = stack.works(&arguments).lines().map(str::to_owned).collect();
    services.sort();
    assert_eq!(
        services,
        [
            "backup",
            "collector",
            "grafana",
            "hermes",
            "ingress",
            "nats",
            "nats-exporter",
            "prometheus",
            "relay",
            "restore",
            "setup",
            "subscribe",
            "tunnel",
            "tunnel-named"
        ]
    );
}
