//! The official clients of Connect, and a fuzzer that reads the OpenAPI document. `make test-json` installs them.

use super::delivered;
use crate::access::entry;
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use talaria_proto::FILE_DESCRIPTOR_SET;
use talaria_tests::{
    binary::workspace,
    json::Json,
    openrouter_api::OpenRouterApi,
    sink::Sink,
    stack::{Stack, stack},
};

/// Something that `make test-json` installed.
fn installed(path: &str) -> PathBuf {
    let path = workspace().join("target/json").join(path);
    assert!(path.exists(), "{} is missing: `make test-json` installs it", path.display());
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lets others work while the program runs.
async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs npm: make test-json"]
async fn connects_client_reads_acts_and_watches() {
    let sink = Sink::start().await;
    let tokens =
        format!("relay: {{grpc: 127.0.0.1:0, tokens: [{}]}}", entry("ops", "control", None, &["tlr_ops"]));
    let (stack, event) = delivered(&sink).await;
    stack.rewrite(|text| text.replace("relay: {grpc: 127.0.0.1:0}", &tokens));
    stack.generation(2).await;
    let contracts = stack.written.path().join("contracts");
    fs::write(&contracts, FILE_DESCRIPTOR_SET).unwrap();
    // Modules are looked for beside the script.
    let script = installed("package.json").with_file_name("client.mjs");
    fs::copy(workspace().join("tests/connect/client.mjs"), &script).unwrap();
    let mut node = Command::new("node");
    node.arg(&script).arg(format!("http://{}", stack.console())).arg(&contracts).args(["tlr_ops", &event]);
    let output = run(node).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["connect", "get", "grpcWeb"] {
        let answer = &answers[name];
        assert_eq!(answer["event"]["deliveries"][0]["state"], "DELIVERY_STATE_DELIVERED", "{name}: {answer}");
        assert_eq!(answer["unknown"][0], "NotFound", "{name}: {answer}");
        assert_eq!((&answer["paused"], &answer["resumed"]), (&json!(name), &json!(name)));
        assert_eq!(answer["kinds"], json!([1, 2]), "{name}: a snapshot, and its end");
        assert_eq!(
            (&answer["stopped"], &answer["late"][0]),
            (&json!("Canceled"), &json!("DeadlineExceeded"))
        );
    }
    assert_eq!(answers["connect"]["unknown"], answers["grpcWeb"]["unknown"]);
}

/// With jobs, whose requests are the largest.
async fn with_jobs(sink: &Sink, api: &OpenRouterApi) -> Stack {
    let stack = stack()
        .tenant("me", |t| t.jobs(api, "").route("video", &sink.url("video"), "pace: off"))
        .start()
        .await;
    stack.openrouter("me").send("a job", "completed").await;
    stack
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PyPI: make test-json"]
async fn a_fuzzer_finds_no_answer_that_the_openapi_document_does_not_describe() {
    let sink = Sink::start().await;
    let api = OpenRouterApi::start().await;
    let stack = with_jobs(&sink, &api).await;
    let url = format!("http://{}/openapi.json", stack.console());
    let document = Json::new(stack.console(), None).request("GET", "/openapi.json").send().await.unwrap();
    let file = stack.written.path().join("openapi.json");
    fs::write(&file, document.bytes().await.unwrap()).unwrap();
    let mut validator = Command::new(installed("venv/bin/openapi-spec-validator"));
    let validated = run({
        validator.arg(&file);
        validator
    })
    .await;
    assert!(validated.status.success(), "{}{}", text(&validated.stdout), text(&validated.stderr));
    let mut fuzzer = Command::new(installed("venv/bin/schemathesis"));
    fuzzer.args(["run", &url, "--seed", "1", "--max-examples", "20", "--workers", "1"]);
    // A watch has no end. Protobuf's JSON takes more forms than it writes, so what the schema refuses may be taken.
    fuzzer.args([
        "--exclude-path-regex",
        "/Watch",
        "--exclude-checks",
        "negative_data_rejection,positive_data_acceptance",
    ]);
    fuzzer.current_dir(stack.written.path()).env("NO_COLOR", "1");
    let fuzzed = run(fuzzer).await;
    assert!(fuzzed.status.success(), "{}{}", text(&fuzzed.stdout), text(&fuzzed.stderr));
    assert_eq!(Json::new(stack.console(), None).post(super::SUMMARY, "{}").await.0, 200);
}
