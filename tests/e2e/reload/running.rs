//! `talaria check --running`, and settings that need a restart.

use serde_json::{Value, json};
use std::fs;
use talaria_tests::{
    binary::run,
    sink::{self, Sink},
    stack::{Stack, openrouter_secret, stack},
};

fn check(stack: &Stack, more: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", stack.admin());
    let checked = run(stack.written.path(), &[&["check", "--running", "--admin", &admin], more].concat());
    let text = [checked.stdout, checked.stderr].concat();
    (checked.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_with_the_running_process() {
    let sink = Sink::start().await;
    let stack =
        stack().tenant("acme", |t| t.route("r", &sink.url("r"), "prompt: 'a secret plan'")).start().await;
    let (code, said) = check(&stack, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("`talaria up` runs the same: configuration 1, which was read at "), "{said}");
    // Another file, which is not read.
    let text = fs::read_to_string(&stack.written.config).unwrap();
    let other =
        text.replace("prompt: 'a secret plan'", "pace: off").replace("relay:", "retention: 3d\nrelay:");
    fs::write(stack.written.path().join("other.yaml"), other).unwrap();
    let (code, said) = check(&stack, &["--config", "other.yaml"]);
    assert_eq!(code, 1, "{said}");
    for line in
        ["added tenants.acme.routes.r.pace", "removed tenants.acme.routes.r.prompt", "added retention"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (code, said) = check(&stack, &["--config", "other.yaml", "--json"]);
    let said: Value = serde_json::from_str(said.split_once("error:").unwrap().0).unwrap();
    assert_eq!(
        (code, &said["running"]["same"], &said["running"]["generation"]),
        (1, &json!(false), &json!(1))
    );
    let added = json!({"key": "retention", "change": "added", "needsRestart": false});
    assert_eq!(said["running"]["differences"][0], added);
    // The page has no value, and nothing by which a secret can be guessed.
    let shown = stack.config().await.to_string();
    for value in ["a secret plan", sink::SECRET, &openrouter_secret("acme"), "127.0.0.1"] {
        assert!(!shown.contains(value), "{value}: {shown}");
    }
    assert_eq!(stack.config().await["settings"]["tenants.acme.routes.r.secret"].as_str().unwrap().len(), 4);
    // An invalid file is not compared.
    fs::write(stack.written.path().join("other.yaml"), text.replace("prompt:", "promt:")).unwrap();
    let (code, said) = check(&stack, &["--config", "other.yaml", "--json"]);
    assert_eq!(code, 3, "{said}");
    let said: Value = serde_json::from_str(said.split_once("error:").unwrap().0).unwrap();
    assert_eq!((&said["valid"], &said["running"]["same"]), (&json!(false), &Value::Null));
    // A role that is not its own.
    let (code, said) = check(&stack, &["--role", "relay"]);
    assert!(code == 2 && said.contains("is `talaria up`"), "{said}");
    let (admin, path) = (format!("http://{}", stack.admin()), stack.written.path().to_owned());
    // Another program, and no listener.
    let sink_url = format!("http://{}", sink.address);
    let checked = run(&path, &["check", "--running", "--admin", &sink_url]);
    assert_eq!(checked.status.code(), Some(5), "{checked:?}");
    let mut stack = stack;
    stack.terminate().await;
    let checked = run(&path, &["check", "--running", "--admin", &admin]);
    assert_eq!(checked.status.code(), Some(5), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_need_a_restart_are_named_and_others_are_in_force() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "prompt: 'first'")).start().await;
    let (grpc, before) = (stack.relay(), fs::read_to_string(&stack.written.config).unwrap());
    stack.rewrite(|text| {
        text.replace("'first'", "'second'").replace("grpc: 127.0.0.1:0", "grpc: '[::1]:0'")
            + "data_dir: elsewhere\n"
    });
    let config = stack.generation(2).await;
    assert_eq!(config["needs_restart"], json!(["relay.grpc", "data_dir"]));
    let line = stack.logged("in force, except for settings that need a restart").await;
    assert!(line.contains("relay.grpc, data_dir"), "{line}");
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.finished(&event, "r").await;
    assert_eq!(sink.requests()[0].prompt(), "second");
    assert!(stack.admin_get("/metrics").await.1.contains("talaria_config_restart_needed 1"));
    let status = run(stack.written.path(), &["status", "--relay", &grpc]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("needs a restart: relay.grpc, data_dir"), "{status}");
    let (code, said) = check(&stack, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("changed relay.grpc (needs a restart)"), "{said}");
    assert!(said.contains("added data_dir (needs a restart)") && !said.contains("prompt"), "{said}");
    // Without the change nothing needs a restart, nor after a restart.
    let after = stack.rewrite(|_| before);
    assert_eq!(stack.generation(3).await["needs_restart"], json!([]));
    assert_eq!(check(&stack, &[]).0, 0);
    stack.restart_with(|_| after + "data_dir: elsewhere\n").await;
    assert_eq!(stack.config().await["needs_restart"], json!([]));
    assert_eq!(check(&stack, &[]).0, 0);
}
