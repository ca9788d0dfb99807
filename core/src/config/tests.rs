mod access;
mod bus;
mod console;
mod ingress;
mod media;
mod metrics;
mod notices;
mod openrouter;
mod outbound;
mod reload;
mod telemetry;
mod tunnel;
mod written;

use super::*;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

/// A directory with a configuration and its secrets.
fn write(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["secrets", "certs"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    for name in ["acme-openrouter", "acme-hermes"] {
        write_secret(&directory.path().join("secrets").join(name), &format!("{name}-secret\n"), 0o600);
    }
    let webhook = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    write_secret(&directory.path().join("secrets/acme-ops"), webhook, 0o600);
    let path = directory.path().join("talaria.yaml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

fn write_secret(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Loads a text with further files beside it, each with its mode; paths in the error are relative.
fn load_with(text: &str, role: Role, files: &[(&str, &str, u32)]) -> Result<Config, String> {
    let (directory, path) = write(text);
    for (name, content, mode) in files {
        write_secret(&directory.path().join(name), content, *mode);
    }
    load_for(&path, role)
        .map_err(|error| error.to_string().replace(&directory.path().display().to_string(), "."))
}

fn load_text(text: &str) -> Result<Config, String> {
    let (_directory, path) = write(text);
    load(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "talaria.yaml"))
}

/// A valid configuration with one route, to which each test adds a line.
fn with_route(line: &str) -> String {
    format!(
        "tenants:\n  acme:\n    networks: [loopback]\n    openrouter: {{secrets: [{{file: secrets/acme-openrouter}}]}}\n    routes:\n      \
         video:\n        url: http://127.0.0.1:8644/webhooks/openrouter-video\n        secret: {{file: \
         secrets/acme-hermes}}\n        {line}\n"
    )
}

#[test]
fn the_shortest_configuration_has_the_documented_defaults() {
    let config = load_text(&with_route("")).unwrap();
    assert_eq!(config.ingress.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.ingress.max_body_bytes, 1_048_576);
    assert_eq!(config.ingress.linger, Duration::ZERO);
    assert_eq!(config.relay.grpc, "127.0.0.1:50051".parse().unwrap());
    assert_eq!(config.console.listen, Some("127.0.0.1:8090".parse().unwrap()));
    assert_eq!(config.admin.listen, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(config.admin.counted_tenants, 100);
    assert_eq!(config.retention, Duration::from_secs(7 * 86_400));
    assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("talaria-data"));
    let tenant = &config.tenants["acme"];
    assert_eq!(tenant.tolerance, Duration::from_secs(300));
    assert_eq!(tenant.secrets[0].expose_secret(), "acme-openrouter-secret", "without the line's end");
    let route = config.route("acme", "video").unwrap();
    assert_eq!(route.pace, Some(Pace { count: 30, window: Duration::from_secs(60) }));
    assert_eq!(route.timeout, Duration::from_secs(30));
    assert_eq!(route.retry.schedule.iter().map(Duration::as_secs).sum::<u64>(), 56_556);
    assert_eq!((route.body, route.deliver_only, route.in_flight), (BodyMode::Prompt, false, 16));
    assert!(route.guard.commands && route.guard.references && route.prompt.is_default());
    assert_eq!(route.hermes_name(), Some("openrouter-video"));
    assert!(config.warnings.is_empty());
}

#[test]
fn the_documented_example_is_valid() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/talaria.example.yaml")).unwrap();
    let config = load_text(&text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.tenants["acme"].routes.len() >= 2);
}

#[test]
fn every_fault_is_shown_at_once_with_line_column_and_help() {
    let text = with_route("pace: fast\n        timeout: 1 fortnight\n        events: [\"video*\"]")
        + "ingress: {listen: localhost}\nrelay: {grpc: 0.0.0.0:50051}\nretention: 0s\n";
    let error = load_text(&text).unwrap_err();
    let expected = "\
talaria.yaml:9:15: not a pace
  help: write 30/min, 5/s, 100/h or off
talaria.yaml:10:18: timeout is not a duration
  help: write a time from 100ms to 10m, such as 500ms, 30s, 5m, 2h or 7d
talaria.yaml:11:18: not an event pattern
  help: write a whole type, or its beginning and .* as in video.generation.*, or * for all
talaria.yaml:12:19: ingress.listen is not an address
  help: write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080
talaria.yaml:13:15: relay.grpc: whoever reaches this address could read and control everything
  help: make a token with `talaria token` and name its hash under relay.tokens, or name the authority of your clients with relay.tls.client_ca, or use 127.0.0.1 or [::1]
talaria.yaml:14:12: retention is out of range
  help: write a time from 1s to 3650d, such as 500ms, 30s, 5m, 2h or 7d";
    assert_eq!(error, expected);
}

#[test]
fn each_fault_says_what_and_where() {
    for (line, expected) in [
        ("events: [\"\"]", "9:18: not an event pattern"),
        ("colour: red", "9:9: unknown key colour"),
        ("body: pdf", "9:15: unknown body"),
        ("in_flight: 0", "9:20: in_flight is out of range"),
        ("breaker: 0", "9:18: not a number of failures"),
        ("runs: 59s", "9:15: not a time for runs"),
        ("runs: soon", "9:15: not a time for runs"),
        ("max_body_bytes: -1", "9:25: max_body_bytes is not a number of bytes"),
        ("in_flight: many", "9:20: expected a whole number"),
        ("events: video.*", "9:17: expected a list, such as [one, two]"),
        ("guard: off", "9:16: expected keys with their values"),
        ("timeout: 1s\n        timeout: 2s", "10:9: the key timeout is there twice"),
        ("extra: {chat_id: \"\"}", "9:16: extra.chat_id is empty"),
        ("extra: {kind: \"{event_type}\"}", "9:16: extra.kind uses {event_type}"),
        ("extra: 5", "9:16: extra must be a map"),
        ("filters: {field: data.id}", "9:18: a filter needs one of"),
        ("filters: [{field: headers.X-A, equals: 1}]", "9:18: headers are not covered"),
        ("retry: {jitter: 80%}", "9:25: not a share"),
        ("retry: {schedule: [1s, soon]}", "9:32: schedule is not a duration"),
        ("retry: {max_age: 30d}", "9:26: max_age is out of range"),
        ("deliver_only: maybe", "9:23: expected true or false"),
    ] {
        let error = load_text(&with_route(line)).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
        assert!(error.contains("help: "), "{line}: {error}");
    }
    let text = with_route("").replace("video:", "Video Route:").replace("http://", "ftp://");
    let error = load_text(&text).unwrap_err();
    assert!(error.contains("6:7: \"Video Route\" is not a route name"), "{error}");
    assert!(error.contains("7:14: the URL must begin with http"), "{error}");
    let error = load_text(&with_route("").replace("http://", "http://me:pw@")).unwrap_err();
    assert!(error.contains("user name or password"), "{error}");
    assert!(load_text("retention: 7d\n").unwrap_err().contains("no tenants"));
    assert!(
        load_text("tenants: {a: {openrouter: {secrets: []}}}")
            .unwrap_err()
            .contains("has no OpenRouter secret")
    );
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = load(Path::new("/nowhere/talaria.yaml")).unwrap_err().to_string();
    assert!(error.contains("cannot read /nowhere/talaria.yaml") && error.contains("talaria init"), "{error}");
}

#[test]
fn secrets_are_named_and_what_was_written_instead_is_not_repeated() {
    let numbers = ["31337", "-31337", "3.1337", "0x31337", "31337313373133731337"];
    let texts = ["hunter2", "[hunter2]", "{text: hunter2}", "{file: a, env: hunter2}", "{}", "true"];
    for line in texts.into_iter().chain(numbers) {
        let text = with_route("").replace("{file: secrets/acme-hermes}", line);
        let error = load_text(&text).unwrap_err();
        assert!(
            !error.contains("hunter2") && !error.contains("1337") && !error.contains("true"),
            "{line}: {error}"
        );
        assert!(error.contains("talaria.yaml:8:"), "{line}: {error}");
    }
    for (line, expected) in [
        ("{env: TALARIA_TEST_NOT_SET}", "the environment variable TALARIA_TEST_NOT_SET is not set"),
        ("{file: secrets/none}", "cannot read the secret in"),
        ("{file: empty}", "empty is empty"),
        ("{file: two}", "has a line break"),
    ] {
        let (directory, path) = write(&with_route("").replace("{file: secrets/acme-hermes}", line));
        write_secret(&directory.path().join("empty"), " \n", 0o600);
        write_secret(&directory.path().join("two"), "one\ntwo\n", 0o600);
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(":8:17: "), "{line}: {error}");
    }
}

#[test]
fn no_secret_is_in_the_debug_output() {
    let debug = format!("{:?}", load_text(&with_route("")).unwrap());
    assert!(!debug.contains("acme-hermes-secret") && !debug.contains("acme-openrouter-secret"), "{debug}");
    assert!(debug.contains("REDACTED"));
}

#[test]
fn suspicious_settings_are_warned_of() {
    let warnings = |line: &str| load_text(&with_route(line)).unwrap().warnings;
    assert!(
        warnings("prompt: /stop {data.id}")[0]
            .to_string()
            .contains("9:17: the prompt of route acme/video starts with /")
    );
    assert!(
        warnings(r#"prompt: "@file:x\n\u2060/stop""#)[0].what.contains("starts with / as Hermes reads it")
    );
    assert!(warnings("prompt: /stop\n        guard: {commands: false}").is_empty());
    let other = "\n      other:\n        url: http://127.0.0.1:8644/webhooks/o\n        secret: {file: secrets/acme-hermes}\n";
    let two = with_route("").replace("tenants:", "relay: {in_flight: 1}\ntenants:") + other;
    assert!(load_text(&two).unwrap().warnings[0].what.contains("less than the 2 routes"));
    assert!(warnings("prompt: x\n        body: raw")[0].what.contains("never used"));
    let (directory, path) = write(&with_route(""));
    write_secret(&directory.path().join("secrets/acme-hermes"), "s", 0o644);
    assert!(load(&path).unwrap().warnings[0].what.contains("every user of this machine can read"));
}

#[test]
fn addresses_need_no_secrets() {
    let text = with_route("").replace("{file: secrets/acme-hermes}", "{env: TALARIA_TEST_NOT_SET}")
        + "relay: {grpc: 127.0.0.1:7}\nadmin: {listen: 0.0.0.0:8}\n";
    let (_directory, path) = write(&text);
    let addresses = load_addresses(&path).unwrap();
    assert_eq!((addresses.grpc.port(), addresses.admin.port()), (7, 8));
}

#[test]
fn nats_needs_no_secrets_of_tenants() {
    let nats = "bus: {nats: {servers: [\"nats://127.0.0.1:4222\"], prefix: acme, replicas: 3}}\n";
    let text = with_route("").replace("{file: secrets/acme-hermes}", "{env: TALARIA_TEST_NOT_SET}");
    let (_directory, path) = write(&format!("{nats}{text}"));
    assert!(load(&path).is_err());
    let found = load_nats(&path).unwrap().unwrap();
    assert_eq!((found.prefix.as_str(), found.replicas), ("acme", 3));
    let (_directory, path) = write(&format!("{}{text}", nats.replace("replicas: 3", "replicas: 2")));
    assert!(load_nats(&path).unwrap_err().to_string().contains("replicas must be 1 or 3"));
    let (_directory, path) = write(&text);
    assert!(load_nats(&path).unwrap().is_none());
}

#[test]
fn signers_are_known_before_their_secrets_exist() {
    let text = with_route("").replace("{file: secrets/acme-hermes}", "[{file: new}, {env: OLD}]");
    let (directory, path) = write(&text);
    fs::remove_file(directory.path().join("secrets/acme-openrouter")).unwrap();
    let [(tenant, openrouter, _), (route, hermes, false)] = &load_signers(&path).unwrap()[..] else {
        panic!()
    };
    assert_eq!((tenant.as_str(), route.as_str()), ("acme", "acme/video"));
    let file = |name: &str| SecretOrigin::File(directory.path().join(name));
    assert_eq!(openrouter[..], [file("secrets/acme-openrouter")]);
    assert_eq!(hermes[..], [file("new"), SecretOrigin::Env("OLD".into())]);
}

#[test]
fn patterns_match_whole_types_or_what_is_below_them() {
    let config = load_text(&with_route("events: [\"video.generation.*\", \"image.batch.done\"]")).unwrap();
    let route = config.route("acme", "video").unwrap();
    let wants = |kind: &str| route.wants(kind, &Value::Null);
    assert!(
        wants("video.generation.completed") && wants("video.generation.a.b") && wants("image.batch.done")
    );
    assert!(
        !wants("video.generation.")
            && !wants("video.generation")
            && !wants("image.batch.done.x")
            && !wants("")
    );
    assert!(EventPattern::Every.matches("anything"));
}

#[test]
fn a_route_says_why_it_takes_an_event_or_not() {
    let payload = crate::json::parse(br#"{"data":{"id":"j"}}"#).unwrap();
    let filter = "filters: {field: data.id, equals: k}";
    let not_kept = "its filters cannot be decided: the event's payload is not kept any more";
    for (line, with_payload, without) in [
        ("", Wanted::Yes("it takes every type".into()), None),
        ("events: ['a.*', b.c]", Wanted::Yes("its events name b.c".into()), None),
        ("events: ['*']", Wanted::Yes("its events name *".into()), None),
        ("events: ['a.*', x]", Wanted::No(r#"its events are a.*, x, and the type is "b.c""#.into()), None),
        (
            "filters: {field: data.id, equals: j}",
            Wanted::Yes("it takes every type, and its filters hold".into()),
            Some(format!("it takes every type, but {not_kept}")),
        ),
        (
            filter,
            Wanted::No(r#"its filters do not hold: data.id should equal "k", and is "j""#.into()),
            Some(format!("it takes every type, but {not_kept}")),
        ),
        (
            &format!("{filter}\n        events: [x]"),
            Wanted::No(r#"its events are x, and the type is "b.c""#.into()),
            None,
        ),
    ] {
        let config = load_text(&with_route(line)).unwrap();
        let route = config.route("acme", "video").unwrap();
        let explained = route.explain("b.c", Some(payload.root()));
        assert_eq!(explained, with_payload, "{line}");
        assert_eq!(matches!(explained, Wanted::Yes(_)), route.wants("b.c", payload.root()), "{line}");
        let without = without.map_or(with_payload, Wanted::Unknown);
        assert_eq!(route.explain("b.c", None), without, "{line}");
    }
}
