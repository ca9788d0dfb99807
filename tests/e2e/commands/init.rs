//! `talaria init`.

use super::{err, works};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};
use talaria_tests::{
    binary::{run, talaria},
    sink::Sink,
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_written_configuration_works_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let said = works(directory, &["init", "--tenant", "acme", "--public-url", "https://hooks.example.com/"]);
    assert!(said.contains("https://hooks.example.com/callbacks/acme"), "{said}");
    let secret = fs::read_to_string(directory.join("secrets/acme-openrouter")).unwrap();
    assert!(said.contains(&secret) && secret.len() >= 43, "the secret to paste");
    let hermes = fs::read_to_string(directory.join("secrets/acme-hermes")).unwrap();
    assert!(!said.contains(&hermes), "the other one is named and not shown");
    assert!(said.contains("hermes webhook subscribe openrouter-video --secret \"$(cat "), "{said}");
    for name in ["acme-openrouter", "acme-hermes"] {
        let mode = fs::metadata(directory.join("secrets").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(works(directory, &["check"]), "./talaria.yaml is valid: 1 tenant, 1 route\n");

    // A second time it changes nothing; with --force it keeps the secrets.
    let again = run(directory, &["init"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("--force"), "{}", err(&again));
    let text = fs::read_to_string(directory.join("talaria.yaml")).unwrap();
    for wrong in
        [["--tenant", "Acme Corp"], ["--tenant", "../acme"], ["--hermes", "ftp://h"], ["--tenant", "null"]]
    {
        let output = run(directory, &[&["init", "--force"], &wrong[..]].concat());
        assert!(matches!(output.status.code(), Some(2 | 3)), "{wrong:?}: {}", err(&output));
        assert_eq!(
            fs::read_to_string(directory.join("talaria.yaml")).unwrap(),
            text,
            "{wrong:?} changes nothing"
        );
    }
    works(directory, &["init", "--tenant", "acme", "--force"]);
    assert_eq!(fs::read_to_string(directory.join("secrets/acme-openrouter")).unwrap(), secret);

    // And with ports that are free it runs.
    let sink = Sink::start().await;
    fs::write(directory.join("secrets/acme-hermes"), talaria_tests::sink::SECRET).unwrap();
    let text = fs::read_to_string(directory.join("talaria.yaml")).unwrap();
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:50051", "127.0.0.1:0");
    let text = text
        .replace("127.0.0.1:8090", "127.0.0.1:0")
        .replace("127.0.0.1:9090", "127.0.0.1:0")
        .replace("http://127.0.0.1:8644", &format!("http://{}", sink.address));
    fs::write(directory.join("talaria.yaml"), text).unwrap();
    let mut up =
        Command::new(talaria()).arg("up").current_dir(directory).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufReader::new(up.stderr.take().unwrap());
    let ingress = loop {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(ingress) = line["ingress"].as_str() {
            break ingress.to_owned();
        }
    };
    let url = format!("http://{ingress}/callbacks/acme");
    let sent = works(directory, &["send", "--url", &url, "--job", "j1"]);
    assert!(sent.starts_with("204 accepted: evt_"), "{sent}");
    let request = until("the prompt", async || sink.requests().first().cloned()).await;
    let prompt = request.prompt();
    assert!(
        prompt.starts_with("The video job j1 is completed.") && prompt.contains("unsigned_urls"),
        "{prompt}"
    );
    // A failed job has an error, and the prompt has no placeholders left.
    works(directory, &["send", "--url", &url, "--job", "j2", "--type", "video.generation.failed"]);
    let request = until("the other prompt", async || sink.requests().get(1).cloned()).await;
    let prompt = request.prompt();
    assert!(
        prompt.starts_with("The video job j2 is failed.") && prompt.contains("a test of failed"),
        "{prompt}"
    );
    assert!(!prompt.contains("{data"), "{prompt}");
    up.kill().unwrap();
    up.wait().unwrap();
}

#[test]
fn what_jobs_need_is_there_and_only_has_to_be_uncommented() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    works(directory, &["init", "--public-url", "https://hooks.example.com"]);
    let path = directory.join("talaria.yaml");
    let mut text = fs::read_to_string(&path).unwrap();
    for key in ["api_key: {file: secrets/me-api-key}", "budget: {", "media: {mode: link}"] {
        assert!(text.contains(&format!("# {key}")), "{key}: {text}");
        text = text.replace(&format!("# {key}"), key);
    }
    let key = directory.join("secrets/me-api-key");
    fs::write(&key, "sk-or-v1-of-a-test").unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, text).unwrap();
    assert_eq!(works(directory, &["check"]), "./talaria.yaml is valid: 1 tenant, 1 route\n");
}

#[test]
fn init_refuses_wrong_urls_and_suggests_right_ones() {
    let directory = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (
            ["--public-url", "https://h/callbacks/me"],
            "write https://h: OpenRouter then calls https://h/callbacks/TENANT",
        ),
        (["--public-url", "http://h"], "OpenRouter calls https:// alone"),
        (["--hermes", "http://127.0.0.1:8644/webhooks/video"], "write --hermes http://127.0.0.1:8644"),
    ] {
        let output = run(directory.path(), &[&["init"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");
    works(directory.path(), &["init", "--hermes", "http://webhooks.example.com"]);
}

#[test]
fn init_allows_the_network_that_hermes_is_in() {
    let directory = tempfile::tempdir().unwrap();
    for (hermes, expected) in [
        ("http://127.0.0.1:8644", "\n    networks: [loopback] "),
        ("http://localhost:8644", "\n    networks: [loopback] "),
        ("http://10.0.0.5:8644", "\n    networks: [private] "),
        ("http://[fd12::1]:8644", "\n    networks: [private] "),
        ("https://hermes.example.com", "\n    # networks: [private] "),
    ] {
        works(directory.path(), &["init", "--force", "--hermes", hermes]);
        let text = fs::read_to_string(directory.path().join("talaria.yaml")).unwrap();
        assert!(text.contains(expected), "{hermes}: {text}");
        works(directory.path(), &["check"]);
    }
}
