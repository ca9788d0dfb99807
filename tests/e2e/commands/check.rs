//! `talaria check`.

use super::{err, works};
use serde_json::Value;
use std::fs;
use talaria_tests::{
    binary::{run, workspace},
    stack::stack,
};

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
            "talaria.yaml:11:14: route acme/r leads to 127.0.0.1, which is loopback, and its tenant does not"
        ) && said.contains("add loopback to the networks of tenant acme"),
        "{said}"
    );
}

#[test]
fn check_names_each_fault_with_its_line_and_advice() {
    let written =
        stack().tenant("acme", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", "pace: fast")).write();
    let output = run(written.path(), &["check"]);
    assert_eq!(output.status.code(), Some(3));
    let said = err(&output);
    assert!(
        said.contains("talaria.yaml:13:15: not a pace\n  help: write 30/min, 5/s, 100/h or off"),
        "{said}"
    );
    let output = run(written.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["errors"][0]["line"], 13);
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
