//! Reports of the extension about runs of the real gateway's agents.

#![allow(clippy::float_cmp, reason = "counts are exact")]

use crate::{clock::Clock, commands::works};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use data_encoding::BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    net::SocketAddr,
    path::Path as File,
    sync::{Arc, Mutex},
};
use talaria_relay::describe_run_of;
use talaria_tests::{
    free_port,
    hermes::{Version, agents::Agents, model::Model},
    scrape::Scrape,
    sink::{SECRET, Sink},
    stack::{Builder, Stack, Written, stack},
    until,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// HMAC-SHA256, by RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

type Reports = Arc<Mutex<Vec<(String, Value)>>>;

/// Takes reports in Talaria's stead, and holds their signatures to the contract.
pub(super) struct Talaria {
    reports: Reports,
    server: JoinHandle<()>,
}

impl Talaria {
    pub(super) async fn start(address: SocketAddr) -> Self {
        let reports = Reports::default();
        let router =
            Router::new().route("/runs/{tenant}/{route}", post(take)).with_state(Arc::clone(&reports));
        let listener = until("the port", async || TcpListener::bind(address).await.ok()).await;
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { reports, server }
    }

    /// The report about a delivery, if it has come.
    pub(super) fn find(&self, delivery: &str) -> Option<Value> {
        let reports = self.reports.lock().unwrap();
        reports.iter().find(|(_, report)| report["delivery"] == delivery).map(|(_, report)| report.clone())
    }

    async fn report(&self, delivery: &str) -> Value {
        until(&format!("the report about {delivery}"), async || self.find(delivery)).await
    }

    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

async fn take(
    State(reports): State<Reports>,
    Path((tenant, route)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &body].concat();
    let expected = format!("v1,{}", BASE64.encode(&hmac(SECRET.as_bytes(), &signed)));
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    if (tenant.as_str(), route.as_str()) != ("acme", "r")
        || header("webhook-signature") != expected
        || !(-300..=300).contains(&age)
        || header("content-type") != "application/json"
        || id.len() > 64
    {
        return StatusCode::UNAUTHORIZED;
    }
    reports.lock().unwrap().push((id.to_owned(), serde_json::from_slice(&body).unwrap()));
    StatusCode::NO_CONTENT
}

/// A Hermes home with the extension in it, which reports to this address, with pauses of 200 ms at most.
pub(super) fn installed(version: &Version, model: &Model) -> (Written, Agents, SocketAddr) {
    installed_for(version, model, stack(), "")
}

/// [`installed`] for a Talaria that has more keys, and its route these.
fn installed_for(
    version: &Version,
    model: &Model,
    talaria: Builder,
    keys: &str,
) -> (Written, Agents, SocketAddr) {
    let port = free_port();
    let agents = Agents::write(version, model);
    let home = agents.home.path();
    let written = talaria
        .with(&format!("console: {{listen: 127.0.0.1:{port}}}"))
        .tenant("acme", |t| t.route("r", &agents.url("video"), keys))
        .write();
    works(written.path(), &["hermes", "acme/r", "--install", home.to_str().unwrap(), "--enable"]);
    let file = home.join("plugins/talaria/talaria.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    settings["longest_pause_s"] = json!(0.2);
    fs::write(&file, settings.to_string()).unwrap();
    (written, agents, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The reports that wait in a home.
pub(super) fn queued(home: &File) -> Vec<Value> {
    let Ok(files) = fs::read_dir(home.join("plugins/talaria/queue")) else { return Vec::new() };
    let paths = files.flatten().map(|file| file.path());
    let whole = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    // It may be sent, and so removed, meanwhile.
    whole.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_a_run_ends_is_reported() {
    let model = Model::start().await;
    let (_written, mut agents, address) = installed(&Version::tested(), &model);
    let talaria = Talaria::start(address).await;
    agents.start().await;
    let cases = [
        ("dlv_answer.1", "answer A fine video", json!({"outcome": "finished", "answer": "A fine video"})),
        ("dlv_silent.1", "answer [SILENT]", json!({"outcome": "finished", "answer": "[SILENT]"})),
        ("dlv_400.1", "status 400", json!({"outcome": "failed", "error": {"status": 400}})),
        ("dlv_401.1", "status 401", json!({"outcome": "failed", "error": {"status": 401}})),
        ("dlv_500.2", "status 500", json!({"outcome": "failed", "error": {"status": 500}})),
        ("dlv_command.1", "/help", json!({"outcome": "command", "command": "help"})),
        (
            "dlv_empty.1",
            "empty",
            json!({"outcome": "failed", "error": {"message": "the model's answer was empty"}}),
        ),
    ];
    for (delivery, prompt, expected) in cases {
        agents.deliver("video", delivery, prompt).await;
        let report = talaria.report(delivery).await;
        assert_eq!(report["outcome"], expected["outcome"], "{report} {}", agents.log());
        assert_eq!(
            (&report["answer"], &report["command"]),
            (&expected["answer"], &expected["command"]),
            "{report}"
        );
        assert_eq!(report["error"]["status"], expected["error"]["status"], "{report}");
        if expected["error"].is_object() {
            let message = report["error"]["message"].as_str().unwrap();
            assert!(message.contains("the model"), "{report}");
        }
        if delivery == "dlv_answer.1" {
            assert_eq!(
                (&report["tokens"], &report["calls"]),
                (&json!({"input": 11, "output": 7}), &json!(1))
            );
            assert!(report["session"].is_string() && report["duration_ms"].is_u64(), "{report}");
            let _: jiff::Timestamp = report["ended_at"].as_str().unwrap().parse().unwrap();
        }
    }
    // Another sender's delivery to the same route is not reported.
    agents.deliver("video", "4711", "answer Other").await;
    until("the other's run", async || {
        model.asked().iter().any(|asked| asked.contains("answer Other")).then_some(())
    })
    .await;

    // Talaria is away, and comes back on the same port.
    let before = talaria.reports.lock().unwrap().clone();
    talaria.stop().await;
    agents.deliver("video", "dlv_away.1", "answer Nobody listens").await;
    until("the report on disk", async || Some(queued(agents.home.path())).filter(|found| found.len() == 1))
        .await;
    let talaria = Talaria::start(address).await;
    assert_eq!(talaria.report("dlv_away.1").await["answer"], "Nobody listens");
    until("the queue to be empty", async || queued(agents.home.path()).is_empty().then_some(())).await;

    let after = talaria.reports.lock().unwrap().clone();
    let ids: std::collections::HashSet<_> = before.iter().chain(&after).map(|(id, _)| id).collect();
    assert_eq!((ids.len(), before.len(), after.len()), (8, 7, 1), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_the_gateway_interrupts_at_its_end_is_reported_after_the_next_start() {
    let model = Model::start().await;
    let (_written, mut agents, address) = installed(&Version::tested(), &model);
    agents.start().await;
    agents.deliver("video", "dlv_hangs.1", "hang").await;
    until("the model to be asked", async || model.asked().iter().any(|asked| asked == "hang").then_some(()))
        .await;
    agents.terminate().await;
    let found = queued(agents.home.path());
    assert_eq!(found.len(), 1, "{}", agents.log());
    let report = &found[0]["report"];
    assert_eq!((&report["outcome"], &report["answer"]), (&json!("interrupted"), &Value::Null), "{report}");
    let talaria = Talaria::start(address).await;
    agents.start().await;
    assert_eq!(talaria.report("dlv_hangs.1").await, *report);
}

/// Waits until the relay says this of a delivery's run.
async fn run_becomes(stack: &Stack, event: &str, text: &str) {
    until(&format!("{event}: {text}"), async || {
        let said = describe_run_of(&stack.finished(event, "r").await.delivery.unwrap())?;
        said.starts_with(text).then_some(())
    })
    .await;
}

/// The gateway and the relay have one clock, which is set while neither runs.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(has_faketime),
    ignore = "needs Debian's package libfaketime; after installing it, `touch tests/build.rs`"
)]
async fn runs_are_shown_also_those_that_end_while_talaria_is_away_for_an_hour() {
    let (model, sink, clock) = (Model::start().await, Sink::start().await, Clock::new());
    let environment = clock.environment();
    let talaria = environment.iter().fold(stack(), |stack, (name, value)| stack.environment(name, value));
    // It never reports.
    let talaria = talaria.tenant("silent", |t| t.route("r", &sink.url("r"), "runs: 1h"));
    let (written, mut agents, _) =
        installed_for(&Version::tested(), &model, talaria, "runs: 1h\nprompt: '{data.id}'");
    agents.environment = environment.into();
    agents.start().await;
    let mut stack = written.start().await;

    let event = stack.openrouter("acme").send("answer At once", "completed").await;
    run_becomes(&stack, &event, "run finished in ").await;

    let held = stack.openrouter("acme").send("hold Much later", "completed").await;
    let silent = stack.openrouter("silent").send("job", "completed").await;
    for event in [&held, &silent] {
        assert_eq!(stack.finished(event, "r").await.delivery.unwrap().run, None);
    }
    until("the model to be asked", async || {
        model.asked().iter().any(|asked| asked == "hold Much later").then_some(())
    })
    .await;
    stack.terminate().await;
    model.release();
    until("the report on disk", async || Some(queued(agents.home.path())).filter(|found| found.len() == 1))
        .await;
    agents.terminate().await;
    clock.set("+61m");
    agents.start().await;
    stack.kill_and_restart().await;
    run_becomes(&stack, &silent, "no run reported within 1 h").await;
    run_becomes(&stack, &held, "run finished in ").await;
    let run = stack.finished(&held, "r").await.delivery.unwrap().run.unwrap();
    assert_eq!(run.answer, "Much later");
    until("the queue to be empty", async || queued(agents.home.path()).is_empty().then_some(())).await;
    let scrape = Scrape::read(&stack.admin_get("/metrics").await.1);
    assert_eq!(scrape.sum("talaria_runs_total", Some(("outcome", "finished"))), 1.0, "since the restart");
}
