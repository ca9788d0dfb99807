//! The bus between processes, and the secrets of each role.

use super::*;

const CREDS: &str = "\
-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.hunter2
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
SUAHUNTER2
------END USER NKEY SEED------
";

/// A valid configuration with a bus on NATS, to which each test adds keys.
fn with_nats(keys: &str) -> String {
    format!("bus:\n  nats:\n    servers: [nats://nats-1:4222]\n    {keys}\n{}", with_route(""))
}

/// Loads a text with credentials and certificates beside it.
fn load_with_files(text: &str, role: Role) -> Result<Config, String> {
    let files = [
        ("secrets/nats.creds", CREDS, 0o600),
        ("secrets/open.creds", CREDS, 0o644),
        ("certs/ca.pem", "PEM", 0o644),
        ("certs/client.pem", "PEM", 0o644),
        ("certs/client.key", "PEM", 0o600),
        ("certs/open.key", "PEM", 0o644),
    ];
    load_with(text, role, &files)
}

fn nats(text: &str) -> Arc<Nats> {
    match load_with_files(text, Role::Both).unwrap().bus {
        BusKind::Nats(nats) => nats,
        BusKind::Embedded => panic!("the embedded bus"),
    }
}

#[test]
fn the_bus_is_embedded_unless_nats_is_named() {
    for bus in ["", "bus: embedded\n"] {
        let config = load_text(&(with_route("") + bus)).unwrap();
        assert!(matches!(config.bus, BusKind::Embedded), "{bus:?}");
    }
    let shortest = nats(&with_nats(""));
    assert_eq!(shortest.servers, ["nats://nats-1:4222"]);
    assert_eq!((shortest.replicas, shortest.prefix.as_str(), shortest.max_bytes), (1, "talaria", None));
    assert!(shortest.creds.is_none() && shortest.tls.is_none());
}

#[test]
fn all_settings_of_nats_are_read() {
    let text = with_nats(
        "creds: {file: secrets/nats.creds}\n    tls: {ca: certs/ca.pem, cert: certs/client.pem, key: \
         certs/client.key}\n    replicas: 3\n    prefix: acme_talaria-2\n    max_bytes: 10GiB",
    );
    let text = text.replace(
        "[nats://nats-1:4222]",
        "[nats://nats-1:4222, tls://nats.example.com, \"nats://[::1]:4222/\"]",
    );
    let nats = nats(&text);
    assert_eq!(nats.servers, ["nats://nats-1:4222", "tls://nats.example.com", "nats://[::1]:4222"]);
    assert!(matches!(&nats.creds, Some(SecretOrigin::File(path)) if path.ends_with("secrets/nats.creds")));
    let tls = nats.tls.as_ref().unwrap();
    assert!(tls.ca.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("certs/ca.pem")));
    let (cert, key) = tls.client.as_ref().unwrap();
    assert!(cert.ends_with("certs/client.pem") && key.ends_with("certs/client.key"));
    assert_eq!((nats.replicas, nats.prefix.as_str(), nats.max_bytes), (3, "acme_talaria-2", Some(10 << 30)));
}

#[test]
fn credentials_may_have_words_around_them_and_any_line_breaks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nats.creds");
    let origin = SecretOrigin::File(path.clone());
    let words =
        CREDS.replace("\n\n", "\n\n*** IMPORTANT ***\nThe seed below is a secret.\n\n") + "\n*********\n";
    for text in [CREDS, CREDS.trim_end(), &words, &CREDS.replace('\n', "\r\n"), &words.replace('\n', "\r\n")]
    {
        fs::write(&path, text).unwrap();
        let read = Credentials::read(&origin).unwrap();
        let debug = format!("{read:?}");
        assert!(
            !debug.contains("hunter2") && !debug.contains("SUAHUNTER2") && debug.contains("REDACTED"),
            "{debug}"
        );
        let Credentials { jwt, seed } = read;
        assert_eq!(jwt.expose_secret(), "eyJ0eXAiOiJKV1QifQ.hunter2", "{text}");
        assert_eq!(seed.expose_secret(), "SUAHUNTER2", "{text}");
    }
    let headings: String =
        CREDS.lines().filter(|line| line.starts_with("---")).map(|line| format!("{line}\n")).collect();
    let jwt_alone = CREDS.split_once("\n\n").unwrap().0;
    for text in [headings.as_str(), jwt_alone, "-----BEGIN NATS USER JWT-----", "hunter2"] {
        fs::write(&path, text).unwrap();
        let (what, help) = Credentials::read(&origin).unwrap_err();
        assert_eq!(what, format!("{origin} does not hold NATS credentials"), "{text}");
        assert!(!help.contains("hunter2"), "{help}");
    }
}

fn seed(kind: nkeys::KeyPairType) -> String {
    nkeys::KeyPair::new_from_raw(kind, [7; 32]).unwrap().seed().unwrap()
}

#[test]
fn a_key_is_the_seed_of_a_user_and_is_never_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nkey");
    let origin = SecretOrigin::File(path.clone());
    let users = seed(nkeys::KeyPairType::User);
    for text in [users.clone(), format!("{users}\n"), format!("{users}\r\n")] {
        fs::write(&path, &text).unwrap();
        let read = UserKey::read(&origin).unwrap();
        assert_eq!(read.seed.expose_secret(), users);
        assert!(!format!("{read:?}").contains(&users), "{read:?}");
    }
    let (others, damaged) = (seed(nkeys::KeyPairType::Account), users.replace('A', "B"));
    for (text, expected) in [
        (others.as_str(), "holds an NKey that is not a user's"),
        (&users[..57], "does not hold the seed of an NKey"),
        (damaged.as_str(), "does not hold the seed of an NKey"),
        ("SUAHUNTER2", "does not hold the seed of an NKey"),
        ("UAHUNTER2", "does not hold the seed of an NKey"),
        (CREDS, "has a line break"),
        ("", "is empty"),
    ] {
        fs::write(&path, text).unwrap();
        let (what, help) = UserKey::read(&origin).unwrap_err();
        assert!(what.contains(expected) && what.contains(&origin.to_string()), "{text}: {what}");
        assert!(!what.contains("HUNTER2") && !help.contains("HUNTER2"), "{what}: {help}");
    }
}

#[test]
fn a_connection_has_credentials_or_a_key() {
    let users = seed(nkeys::KeyPairType::User);
    let files = [("secrets/nats.creds", CREDS, 0o600), ("secrets/nkey", users.as_str(), 0o644)];
    let load = |keys: &str| load_with(&with_nats(keys), Role::Relay, &files);
    let config = load("nkey: {file: secrets/nkey}").unwrap();
    let BusKind::Nats(nats) = &config.bus else { panic!("the embedded bus") };
    assert!(matches!(&nats.nkey, Some(SecretOrigin::File(path)) if path.ends_with("secrets/nkey")));
    assert!(config.warnings[0].what.contains("every user of this machine can read"), "{:?}", config.warnings);
    for (keys, expected) in [
        (
            "nkey: {file: secrets/nkey}\n    creds: {file: secrets/nats.creds}",
            "4:11: nkey beside creds: a connection has one user",
        ),
        ("nkey: {file: secrets/nats.creds}", "4:11: the secret in ./secrets/nats.creds has a line break"),
        (
            "nkey: {file: secrets/acme-hermes}",
            "4:11: ./secrets/acme-hermes does not hold the seed of an NKey",
        ),
        (
            "nkey: {env: TALARIA_TEST_NOT_SET}",
            "4:11: the environment variable TALARIA_TEST_NOT_SET is not set",
        ),
        ("nkey: SUAHUNTER2", "4:11: a secret is named, not written"),
    ] {
        let error = load(keys).unwrap_err();
        assert!(error.contains(&format!("talaria.yaml:{expected}")), "{keys}: {error}");
        assert!(error.contains("help: ") && !error.contains("HUNTER2"), "{keys}: {error}");
    }
}

#[test]
fn the_prefix_is_read_without_secrets() {
    let prefix = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("talaria.yaml");
        fs::write(&path, text).unwrap();
        load_nats_prefix(&path).map_err(|error| error.to_string())
    };
    let nats = with_nats("nkey: {file: not/here}\n    prefix: acme");
    assert_eq!(prefix(&nats).unwrap(), "acme");
    assert_eq!(prefix(&with_nats("nkey: {file: not/here}")).unwrap(), "talaria");
    assert_eq!(prefix(&with_route("")).unwrap(), "talaria");
    let error = prefix(&with_nats("prefix: Talaria.x")).unwrap_err();
    assert!(error.contains("4:13: \"Talaria.x\" is not a prefix"), "{error}");
}

#[test]
fn sizes_are_plain_or_have_a_binary_unit() {
    for (text, bytes) in [
        ("1048576", 1 << 20),
        ("1024KiB", 1 << 20),
        ("512 MiB", 512 << 20),
        ("10GiB", 10 << 30),
        ("2TiB", 2 << 40),
    ] {
        assert_eq!(nats(&with_nats(&format!("max_bytes: {text}"))).max_bytes, Some(bytes), "{text}");
    }
}

#[test]
fn each_fault_of_the_bus_says_what_and_where() {
    for (keys, expected) in [
        ("replicas: 2", "4:15: replicas must be 1 or 3"),
        ("replicas: three", "4:15: expected a whole number"),
        ("prefix: Talaria.x", "4:13: \"Talaria.x\" is not a prefix\n  help: use 1 to 63 of a-z"),
        ("prefix: ''", "4:13: \"\" is not a prefix"),
        ("max_bytes: 10GB", "4:16: max_bytes is not a number of bytes\n  help: write 1MiB or more"),
        ("max_bytes: -1", "4:16: max_bytes is not a number of bytes"),
        ("max_bytes: 1KiB", "4:16: max_bytes is out of range"),
        ("max_bytes: 99999999TiB", "4:16: max_bytes is out of range"),
        ("max_bytes: 99999999999999999999", "4:16: max_bytes is out of range"),
        ("stream: talaria", "4:5: unknown key stream"),
        ("tls: {verify: false}", "4:11: unknown key verify"),
        ("tls: {ca: certs/none.pem}", "4:15: cannot read ./certs/none.pem: No such file"),
        ("tls: {ca: certs}", "4:15: cannot read ./certs: it is not a regular file"),
        ("tls: {cert: certs/client.pem}", "4:17: tls.cert has no tls.key"),
        ("tls: {key: certs/client.key}", "4:16: tls.key has no tls.cert"),
        (
            "creds: {env: TALARIA_TEST_NOT_SET}",
            "4:12: the environment variable TALARIA_TEST_NOT_SET is not set",
        ),
        ("creds: {file: secrets/acme-hermes}", "4:12: ./secrets/acme-hermes does not hold NATS credentials"),
        ("creds: hunter2", "4:12: a secret is named, not written"),
    ] {
        let error = load_with_files(&with_nats(keys), Role::Both).unwrap_err();
        assert!(error.contains(&format!("talaria.yaml:{expected}")), "{keys}: {error}");
        assert!(error.contains("help: ") && !error.contains("hunter2"), "{keys}: {error}");
    }
    for (servers, expected) in [
        ("[]", "3:14: no NATS server"),
        ("[nats-1:4222]", "3:15: a NATS server's URL must begin with nats:// or tls://"),
        ("[\"127.0.0.1:4222\"]", "3:15: not a URL"),
        ("[nats://a, http://nats-1]", "3:25: a NATS server's URL must begin with nats:// or tls://"),
        ("[\"nats://:4222\"]", "3:15: "),
        (
            "[nats://hunter2@nats-1]",
            "3:15: a NATS server's URL must not hold a user name, a token or a password",
        ),
        ("[nats://nats-1/hunter2]", "3:15: a NATS server's URL ends with the host and the port"),
    ] {
        let text = with_nats("").replace("[nats://nats-1:4222]", servers);
        let error = load_with_files(&text, Role::Both).unwrap_err();
        assert!(error.contains(&format!("talaria.yaml:{expected}")), "{servers}: {error}");
        assert!(error.contains("help: ") && !error.contains("hunter2"), "{servers}: {error}");
    }
    for (bus, expected) in [
        ("bus: redis", "1:6: unknown bus: write embedded, or {nats: "),
        ("bus: nats", "1:6: unknown bus"),
        ("bus: 5", "expected a bus: embedded, or {nats: "),
        ("bus: {}", "1:6: a bus has the one key nats"),
        ("bus: {nats: {}}", "1:13: the key servers is missing"),
        ("bus: {nats: nats://nats-1}", "1:13: "),
        ("bus: {redis: {}}", "1:7: unknown key redis"),
    ] {
        let error = load_text(&format!("{bus}\n{}", with_route(""))).unwrap_err();
        assert!(error.contains(expected) && error.contains("help: "), "{bus}: {error}");
    }
}

#[test]
fn world_readable_secrets_of_the_bus_are_warned_of() {
    let keys = "creds: {file: secrets/open.creds}\n    tls: {cert: certs/client.pem, key: certs/open.key}";
    let warnings = load_with_files(&with_nats(keys), Role::Both).unwrap().warnings;
    let open: Vec<_> =
        warnings.iter().map(|warning| (warning.line, warning.what.contains("every user"))).collect();
    assert_eq!(open, [(4, true), (5, true)], "{warnings:?}");
}

#[test]
fn a_role_reads_its_own_secrets_and_those_of_the_bus() {
    let text = with_nats("creds: {file: secrets/nats.creds}");
    let without_hermes = text.replace("{file: secrets/acme-hermes}", "{file: not/here}");
    let config = load_with_files(&without_hermes, Role::Ingress).unwrap();
    assert_eq!(config.tenants["acme"].secrets[0].expose_secret(), "acme-openrouter-secret");
    assert!(config.route("acme", "video").unwrap().secrets.is_empty());
    let without_openrouter = text.replace("{file: secrets/acme-openrouter}", "{env: TALARIA_TEST_NOT_SET}");
    let config = load_with_files(&without_openrouter, Role::Relay).unwrap();
    assert!(config.tenants["acme"].secrets.is_empty(), "no signature can be valid");
    assert_eq!(config.route("acme", "video").unwrap().secrets[0].expose_secret(), "acme-hermes-secret");

    let error = |text: &str, role| load_with_files(text, role).unwrap_err();
    for role in [Role::Both, Role::Relay] {
        assert!(error(&without_hermes, role).contains("cannot read the secret in ./not/here"), "{role:?}");
    }
    for role in [Role::Both, Role::Ingress] {
        assert!(error(&without_openrouter, role).contains("TALARIA_TEST_NOT_SET is not set"), "{role:?}");
    }
    for role in [Role::Ingress, Role::Relay] {
        let no_creds = text.replace("nats.creds", "none.creds");
        assert!(
            error(&no_creds, role).contains("cannot read the secret in ./secrets/none.creds"),
            "{role:?}"
        );
        let written = text.replace("{file: secrets/acme-hermes}", "hunter2");
        assert!(error(&written, role).contains("a secret is named, not written"), "{role:?}");
        let written = text.replace("[{file: secrets/acme-openrouter}]", "[hunter2]");
        assert!(error(&written, role).contains("a secret is named, not written"), "{role:?}");
        let none = text.replace("[{file: secrets/acme-openrouter}]", "[]");
        assert!(error(&none, role).contains("has no OpenRouter secret"), "{role:?}");
        let wrong = text.clone() + "retention: soon\n";
        assert!(error(&wrong, role).contains("retention is not a duration"), "{role:?}");
    }
}

#[test]
fn the_embedded_bus_is_for_one_process() {
    for role in [Role::Ingress, Role::Relay] {
        let error = load_with_files(&(with_route("") + "bus: embedded\n"), role).unwrap_err();
        let expected = "./talaria.yaml:10:6: the embedded bus is for one process\n  help: run `talaria up`, or name \
                        a NATS server under bus.nats";
        assert_eq!(error, expected);
        let error = load_with_files(&with_route(""), role).unwrap_err();
        assert!(error.starts_with("./talaria.yaml: the embedded bus is for one process"), "{error}");
        let wrong = with_nats("replicas: 2");
        assert!(!load_with_files(&wrong, role).unwrap_err().contains("embedded"), "only what is wrong");
    }
}

/// In the example the other bus is commented out.
#[test]
fn the_bus_of_the_documented_example_is_valid() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/talaria.example.yaml")).unwrap();
    let (before, rest) = text.split_once("bus: embedded").unwrap();
    let commented: String = rest
        .lines()
        .skip_while(|line| *line != "# bus:")
        .take_while(|line| line.starts_with('#'))
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let (_, after) = rest.split_once("\ndata_dir:").unwrap();
    for key in ["servers", "creds", "nkey", "tls", "ca", "cert", "key", "replicas", "prefix", "max_bytes"] {
        assert!(commented.contains(&format!("{key}: ")), "{key} is not in the example");
    }
    let nats = nats(&format!("{before}{commented}data_dir:{after}"));
    assert!(
        nats.servers.len() >= 2 && nats.creds.is_some() && nats.tls.is_some() && nats.max_bytes.is_some()
    );
}
