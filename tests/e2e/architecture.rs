//! Which crate may know which. Cargo forbids circles; this forbids sideways edges.

use serde_json::Value;
use std::{collections::BTreeMap, process::Command};
use talaria_tests::binary::workspace;

/// Every edge that there may be: who, and whom he may know. The tests stand above everything.
const MAY_KNOW: [(&str, &[&str]); 10] = [
    ("talaria-core", &[]),
    ("talaria-proto", &[]),
    ("talaria-telemetry", &[]),
    ("talaria-bus", &["talaria-core", "talaria-proto", "talaria-telemetry"]),
    ("talaria-outbound", &["talaria-core"]),
    ("talaria-openrouter", &["talaria-core", "talaria-outbound", "talaria-proto"]),
    (
        "talaria-ingress",
        &["talaria-bus", "talaria-core", "talaria-openrouter", "talaria-proto", "talaria-telemetry"],
    ),
    (
        "talaria-relay",
        &["talaria-bus", "talaria-core", "talaria-outbound", "talaria-proto", "talaria-telemetry"],
    ),
    ("talaria-console", &["talaria-core", "talaria-proto", "talaria-relay", "talaria-telemetry"]),
    (
        "talaria",
        &[
            "talaria-bus",
            "talaria-console",
            "talaria-core",
            "talaria-ingress",
            "talaria-proto",
            "talaria-relay",
            "talaria-telemetry",
        ],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn no_crate_knows_one_that_it_should_not() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let edges: BTreeMap<&str, Vec<&str>> = packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let names = dependencies.map(|dependency| dependency["name"].as_str().unwrap());
            (package["name"].as_str().unwrap(), names.filter(|name| name.starts_with("talaria")).collect())
        })
        .collect();
    assert_eq!(
        edges.len(),
        MAY_KNOW.len() + 1,
        "a new crate needs its place in the picture: {:?}",
        edges.keys()
    );
    for (name, may_know) in MAY_KNOW {
        for known in &edges[name] {
            assert!(may_know.contains(known), "{name} must not know {known}");
        }
    }
}

/// The permitted dependencies of core, without network and clock, and of proto, without logic.
#[test]
fn the_lowest_crates_stand_on_little() {
    let metadata = metadata();
    for (name, never) in [
        (
            "talaria-core",
            &["tokio", "axum", "hyper", "reqwest", "tonic", "rusqlite", "async-nats", "tracing"][..],
        ),
        ("talaria-proto", &["tokio", "axum", "rusqlite", "serde_json", "talaria-core"]),
        ("talaria-telemetry", &["tokio", "axum", "rusqlite", "serde_json", "jiff"]),
    ] {
        let package =
            metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            assert!(!never.contains(&dependency), "{name} must not stand on {dependency}");
        }
    }
}
