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

#[test]
fn keys_of_nats_users_are_made_once_and_the_list_of_users_follows_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let bus = |prefix: &str| {
        // The key that it names is not there yet.
        let text = format!(
            "bus: {{nats: {{servers: [nats://n], nkey: {{file: nats/relay/nkey}}, prefix: {prefix}}}}}\n\
             tenants: {{acme: {{openrouter: {{secrets: [{{file: secret}}]}}}}}}\n"
        );
        fs::write(directory.join("talaria.yaml"), text).unwrap();
    };
    let mode = |path: &str| fs::metadata(directory.join(path)).unwrap().permissions().mode() & 0o777;
    let read = |path: &str| fs::read_to_string(directory.join("nats").join(path)).unwrap();
    let make = || {
        let answer = json(directory, &["secrets", "--nats-users", "nats", "--json"]);
        let files = answer["nats"].as_array().unwrap().clone();
        let written = |file: &&Value| file["written"].as_bool().unwrap();
        let name = |file: &Value| file["in"].as_str().unwrap().trim_start_matches("nats/").to_owned();
        (files.iter().filter(written).map(name).collect::<Vec<_>>(), files)
    };
    bus("talaria");
    let (written, files) = make();
    let users = ["ingress/nkey", "relay/nkey", "backup/nkey", "operator/nkey"];
    let server = ["server/routes-password", "server/users.conf"];
    assert_eq!(written, [&users[..], &server[..]].concat());
    for file in &written {
        assert_eq!(mode(&format!("nats/{file}")), 0o600, "{file}");
    }
    for of in ["ingress", "relay", "backup", "operator", "server"] {
        assert_eq!(mode(&format!("nats/{of}")), 0o700, "{of}");
    }
    let list = read("server/users.conf");
    for file in &files[..4] {
        let public = file["publicKey"].as_str().unwrap();
        assert!(public.starts_with('U') && list.contains(&format!("nkey: {public}\n")), "{list}");
    }
    for secret in users.iter().chain(&["server/routes-password"]) {
        let said = format!("{files:?}{}", works(directory, &["secrets", "--nats-users", "nats"]));
        assert!(!list.contains(&read(secret)) && !said.contains(&read(secret)), "{secret}");
    }
    let password = read("server/routes-password");
    assert!(password.len() == 44 && password.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{password}");

    assert!(make().0.is_empty(), "all of it is as it was");
    bus("other");
    assert_eq!(make().0, ["server/users.conf"]);
    assert!(
        read("server/users.conf").contains("\"other.journal.*\"")
            && !read("server/users.conf").contains("talaria.journal")
    );
    let before = read("relay/nkey");
    fs::remove_file(directory.join("nats/relay/nkey")).unwrap();
    assert_eq!(make().0, ["relay/nkey", "server/users.conf"]);
    assert_ne!(read("relay/nkey"), before);

    fs::write(directory.join("nats/relay/nkey"), "SUAHUNTER2").unwrap();
    let output = run(directory, &["secrets", "--nats-users", "nats"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("nats/relay/nkey does not hold the seed of an NKey"), "{}", err(&output));
    assert!(err(&output).contains("help: remove that file") && !err(&output).contains("HUNTER2"));
}
