//! The client that Hermes has: the protocol's own, in Python.

use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};
use talaria_tests::{binary, hermes::program, sink::Sink, stack::stack, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_hermes_lists_and_calls_tools() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
    let event = stack.openrouter("acme").send("j1", "completed").await;
    until("the delivery", async || (stack.deliveries().await.len() == 1).then_some(())).await;
    let calls = json!([
        ["deliveries", {"filter": {"tenant": "acme"}}],
        ["why", {"id": event}],
        ["why", {}],
        ["plan_pause", {"target": "acme", "reason": "r"}],
    ]);
    let mut client = Command::new(program("python"))
        .arg(binary::workspace().join("tests/hermes/mcp_client.py"))
        .arg(binary::talaria())
        .args(["mcp", "--relay", &stack.relay()])
        .current_dir(stack.written.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(calls.to_string().as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let got: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got["server"], "talaria", "{got}");
    assert_eq!(got["tools"].as_array().unwrap().len(), 6, "{got}");
    let answers: Vec<_> = got["answers"].as_array().unwrap().iter().map(|it| &it["isError"]).collect();
    assert_eq!(answers, [false, false, true, true], "{got}");
    assert!(got["answers"][0]["text"].as_str().unwrap().contains("to acme/video"), "{got}");
}
