//! Tokens and TLS from the command line.

use super::entry;
use crate::certificates::Authority;
use serde_json::Value;
use std::{fs, path::Path, process::Output};
use talaria_tests::{
    binary,
    sink::Sink,
    stack::{Stack, stack},
    until,
};

/// The exit code and the output of a command with these variables.
fn run(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = binary::run_with(directory, environment, arguments);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_token_permits_its_scope() {
    let directory = tempfile::tempdir().unwrap();
    let make = |arguments: &[&str]| {
        let (code, out, err) = run(directory.path(), &[], &[&["token"], arguments].concat());
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let looks: Value = serde_json::from_str(&make(&["--name", "looker", "--json"])).unwrap();
    let token = looks["token"].as_str().unwrap();
    assert!(token.starts_with("tlr_") && token.len() == 56, "{token}");
    let text = make(&["--name", "ops", "--scope", "control", "--out", "ops.token"]);
    let file = directory.path().join("ops.token");
    let written = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(written.trim()) && text.contains("Wrote the token into ops.token"), "{text}");
    assert_eq!(mode(&file), 0o600);
    let (code, _, err) = run(directory.path(), &[], &["token", "--out", "ops.token"]);
    assert!(code == Some(1) && err.contains("cannot write ops.token"), "what is there stays: {err}");
    assert_eq!(run(directory.path(), &[], &["token", "--name", "Ops"]).0, Some(2));
    // The printed entry is valid.
    let control = &text[text.find("    - name: ops").unwrap()..=text.rfind(']').unwrap()];
    let read = serde_json::to_string(&looks["entry"]).unwrap();
    let config = format!("relay:\n  grpc: 127.0.0.1:0\n  tokens:\n    - {read}\n{control}");
    let sink = Sink::start().await;
    let stack =
        stack().with(&config).tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    let (relay, at) = (stack.relay(), stack.written.path());
    let status = ["status", "--relay", &relay];
    let file = file.to_str().unwrap();

    let (code, _, err) = run(at, &[], &status);
    assert_eq!(code, Some(6), "{err}");
    assert!(
        err.contains("show a token") && err.contains("--token-file") && err.contains("TALARIA_TOKEN"),
        "{err}"
    );
    let (code, _, err) = run(at, &[("TALARIA_TOKEN", "tlr_wrong")], &status);
    assert!(code == Some(6) && err.contains("none of this relay's") && !err.contains("tlr_wrong"), "{err}");
    for environment in [("TALARIA_TOKEN", token), ("TALARIA_TOKEN_FILE", file)] {
        let (code, _, err) = run(at, &[environment], &status);
        assert_eq!(code, Some(0), "{}: {err}", environment.0);
    }
    // The command line has precedence over the environment.
    let (code, _, err) =
        run(at, &[("TALARIA_TOKEN", "tlr_wrong")], &[&status[..], &["--token-file", file]].concat());
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = run(at, &[], &[&status[..], &["--token-file", "nowhere"]].concat());
    assert!(code == Some(2) && err.contains("cannot read nowhere"), "{err}");

    let pause = ["pause", "acme/a", "--as", "ana", "--reason", "Hermes moves", "--relay", &relay];
    let (code, _, err) = run(at, &[("TALARIA_TOKEN", token)], &pause);
    assert!(code == Some(6) && err.contains("looker has scope read"), "{err}");
    let (code, out, err) = run(at, &[("TALARIA_TOKEN_FILE", file)], &pause);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("by ana with token ops: Hermes moves"), "{out}");
    let (_, out, _) = run(at, &[("TALARIA_TOKEN", token)], &["actions", "--relay", &relay]);
    assert!(out.contains("ana with token ops"), "{out}");
    let says = "for authenticated clients";
    until("it to be said", async || stack.log().iter().any(|line| line.contains(says)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_this_machine_is_answered() {
    let stack = stack().tenant("acme", |t| t).start().await;
    let says = "on loopback only, without authentication";
    until("it to be said", async || stack.log().iter().any(|line| line.contains(says)).then_some(())).await;
    let at = stack.written.path();
    let (code, _, err) = run(at, &[], &["check"]);
    assert_eq!(code, Some(0), "{err}");
    let text = fs::read_to_string(&stack.written.config).unwrap();
    fs::write(&stack.written.config, text.replace("grpc: 127.0.0.1:0", "grpc: 0.0.0.0:0")).unwrap();
    for command in ["check", "up"] {
        let (code, _, err) = run(at, &[], &[command]);
        assert!(code == Some(3) && err.contains("could read and control everything"), "{command}: {err}");
        assert!(err.contains("`talaria token`"), "{command}: {err}");
    }
    let nats = text + "bus: {nats: {servers: [\"nats://127.0.0.1:1\"]}}\n";
    fs::write(&stack.written.config, nats).unwrap();
    let (code, _, err) = run(at, &[], &["relay", "--grpc", "0.0.0.0:0"]);
    assert!(code == Some(2) && err.contains("--grpc: whoever reaches this address"), "{err}");
}

/// A relay over TLS, with certificates in its directory, and another authority's in `other`.
async fn over_tls(keys: &str) -> (Stack, String) {
    let files = tempfile::tempdir().unwrap().keep();
    for name in ["own", "other"] {
        let (path, authority) = (files.join(name), Authority::new());
        fs::create_dir(&path).unwrap();
        authority.write_server(&path);
        authority.write_client(&path, name);
    }
    let at = files.display().to_string();
    let tls = format!("tls: {{cert: {at}/own/server.pem, key: {at}/own/server-key.pem{keys}}}")
        .replace("FILES", &at);
    let stack =
        stack().with(&format!("relay: {{grpc: 127.0.0.1:0, {tls}}}")).tenant("acme", |t| t).start().await;
    (stack, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_tls_are_explained() {
    let tokens = entry("ops", "read", None, &["t"]);
    let (stack, files) = over_tls("").await;
    let port = stack.relay().rsplit(':').next().unwrap().to_owned();
    let at = stack.written.path();
    let [by_name, by_address, mapped, plain] =
        ["https://localhost", "https://127.0.0.1", "https://[::ffff:127.0.0.1]", "http://127.0.0.1"]
            .map(|host| format!("{host}:{port}"));
    let [ca, other] = ["own", "other"].map(|name| format!("{files}/{name}/ca.pem"));
    for (relay, ca, code, says) in [
        (&by_name, Some(&ca), 0, ""),
        (&by_address, Some(&ca), 0, ""),
        (&by_name, Some(&other), 5, "authority that is not trusted here"),
        (&by_name, None, 5, "--ca"),
        (&mapped, Some(&ca), 5, "is for another name"),
        (&plain, None, 5, "https://"),
    ] {
        let mut arguments = vec!["status", "--relay", relay];
        arguments.extend(ca.iter().flat_map(|ca| ["--ca", ca.as_str()]));
        let (found, _, err) = run(at, &[], &arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
    let (code, _, err) = run(at, &[("TALARIA_CA", &ca), ("TALARIA_RELAY", &by_name)], &["actions"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = run(at, &[], &["status", "--relay", &by_name, "--ca", "nowhere"]);
    assert!(code == Some(2) && err.contains("--ca: cannot read nowhere"), "{err}");
    let (code, _, err) = run(at, &[], &["status", "--relay", &by_name, "--ca", "openrouter-acme"]);
    assert!(code == Some(2) && err.contains("--ca cannot be used"), "{err}");

    // The other way round: TLS to a relay without.
    let without = talaria_tests::stack::stack()
        .with(&format!("relay: {{grpc: 127.0.0.1:0, tokens: [{tokens}]}}"))
        .tenant("acme", |t| t)
        .start()
        .await;
    let relay = without.relay().replace("http:", "https:");
    let (code, _, err) = run(at, &[], &["status", "--relay", &relay, "--ca", &ca]);
    assert!(code == Some(5) && err.contains("does not speak TLS"), "{err}");
    fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_an_authority_is_refused_with_advice() {
    let files = tempfile::tempdir().unwrap();
    Authority::new().write_wrong_server(files.path());
    let at = files.path().display();
    let relay =
        format!("relay: {{grpc: 127.0.0.1:0, tls: {{cert: {at}/server.pem, key: {at}/server-key.pem}}}}");
    let stack = stack().with(&relay).tenant("acme", |t| t).start().await;
    let relay = stack.relay().replace("http:", "https:");
    let ca = format!("{at}/ca.pem");
    let (code, _, err) = run(files.path(), &[], &["status", "--relay", &relay, "--ca", &ca]);
    assert!(code == Some(5) && err.contains("basicConstraints=CA:FALSE"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_authority_requests_without_a_certificate_fail() {
    let (stack, files) = over_tls(", client_ca: FILES/own/ca.pem").await;
    let relay = stack.relay().replace("http://127.0.0.1", "https://localhost");
    let (at, ca) = (stack.written.path(), format!("{files}/own/ca.pem"));
    let asked = ["status", "--relay", &relay, "--ca", &ca];
    // With TLS 1.3 the relay refuses after the handshake, so this comes sooner or later.
    let (code, _, err) = run(at, &[], &asked);
    assert!(code == Some(5) && err.contains("--cert") && err.contains("--key"), "{err}");
    let with = |name: &str| {
        let [cert, key] = ["client.pem", "client-key.pem"].map(|file| format!("{files}/{name}/{file}"));
        run(at, &[], &[&asked[..], &["--cert", &cert, "--key", &key]].concat())
    };
    let (code, _, err) = with("own");
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = with("other");
    assert!(code == Some(5) && err.contains("--cert"), "{err}");
    let (code, _, err) = run(at, &[], &[&asked[..], &["--cert", &ca]].concat());
    assert!(code == Some(2) && err.contains("--key"), "{err}");
    let says = "gRPC connection failed";
    until("it to be said", async || stack.log().iter().any(|line| line.contains(says)).then_some(())).await;
    fs::remove_dir_all(files).unwrap();
}
