//! `talaria secrets`.

use super::{err, json, works};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt as _};
use talaria_tests::binary::run;

#[test]
fn missing_secrets_are_created_and_shown_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let text = "\
tenants:
  acme:
    openrouter: {secrets: [{file: secrets/openrouter}]}
    networks: [loopback]
    routes:
      r: {url: 'http://127.0.0.1:1/webhooks/r', secret: [{file: secrets/new}, {env: TALARIA_TEST_OLD}]}
";
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    let output = run(directory, &["secrets", "--show", "acme"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("secrets/openrouter: No such file"), "{}", err(&output));
    fs::create_dir(directory.join("secrets")).unwrap();
    fs::write(directory.join("secrets/openrouter"), "kept").unwrap();
    let said = works(directory, &["secrets"]);
    let secret = fs::read_to_string(directory.join("secrets/new")).unwrap();
    assert!(secret.len() == 43 && !said.contains(&secret), "256 bits, and not shown: {said}");
    let mode = fs::metadata(directory.join("secrets/new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let found = json(directory, &["secrets", "--json"]);
    let told =
        |entry: &Value| (entry["of"].as_str().unwrap().to_owned(), entry["written"].as_bool().unwrap());
    let told: Vec<_> = found["secrets"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [("acme".into(), false), ("acme/r".into(), false), ("acme/r".into(), false)], "{found}");
    assert_eq!(works(directory, &["secrets", "--show", "acme"]), "kept\n");
    assert_eq!(works(directory, &["secrets", "--show", "acme/r"]), format!("{secret}\n"));
}
