//! How runs end, at the real gateway with the extension.

use super::Tried;
use crate::hermes::{route, runs};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use talaria_tests::{
    hermes::{Version, model::Model},
    poll,
};

/// A report that has not come by then is missing. Newer versions take deliveries before they are ready to run them.
const LIMIT: Duration = Duration::from_secs(300);

/// Adds a route to `config.yaml`, where the extension finds its secret.
fn add_fixed_route(home: &Path) {
    let (config, settings) = (home.join("config.yaml"), home.join("plugins/talaria/talaria.json"));
    let limit = "rate_limit: 1000";
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(limit), "{text}");
    let fixed = format!("{limit}, routes: {{fixed: {}}}", route(&json!({})));
    fs::write(config, text.replace(limit, &fixed)).unwrap();
    let mut known: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
    known["routes"]["fixed"] = known["routes"]["video"].clone();
    fs::write(settings, known.to_string()).unwrap();
}

/// A report of the extension, in words.
fn reported(report: Option<Value>) -> String {
    let Some(report) = report else { return "no report".into() };
    let outcome = report["outcome"].as_str().unwrap_or_default().to_owned();
    let more = [&report["answer"], &report["error"]["status"], &report["command"]];
    more.into_iter().filter(|it| !it.is_null()).fold(outcome, |text, it| format!("{text} {it}"))
}

/// How runs of the real gateway's agents end, as the extension reports it.
pub(super) async fn run_outcomes(version: &Version) -> Vec<Tried> {
    let model = Model::start().await;
    let (_written, mut agents, address) = runs::installed(version, &model);
    add_fixed_route(agents.home.path());
    let talaria = runs::Talaria::start(address).await;
    agents.start().await;
    let mut tried = Vec::new();
    for (what, route, prompt, expected) in [
        ("a run that ends", "video", "answer Done", r#"finished "Done""#),
        ("a route in config.yaml", "fixed", "answer Done", r#"finished "Done""#),
        ("a model that answers 500", "video", "status 500", "failed 500"),
        ("a command", "video", "/help", r#"command "help""#),
    ] {
        let delivery = format!("dlv_{}.1", tried.len());
        agents.deliver(route, &delivery, prompt).await;
        let report = poll(LIMIT, async || talaria.find(&delivery)).await;
        tried.push(Tried::new(what, expected, reported(report)));
    }
    agents.deliver("video", "dlv_hangs.1", "hang").await;
    poll(LIMIT, async || model.asked().iter().any(|asked| asked == "hang").then_some(())).await;
    agents.terminate().await;
    // It was sent before the gateway ended, or waits.
    let queued = || runs::queued(agents.home.path()).into_iter().map(|it| it["report"].clone());
    let of_this = |report: &Value| report["delivery"] == "dlv_hangs.1";
    let report = poll(LIMIT, async || talaria.find("dlv_hangs.1").or_else(|| queued().find(of_this))).await;
    tried.push(Tried::new("the gateway's end", "interrupted", reported(report)));
    tried
}
