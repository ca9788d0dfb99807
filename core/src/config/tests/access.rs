//! Access to a relay: tokens and TLS.

use super::*;
use crate::token::TokenHash;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

fn hash(token: &str) -> String {
    TokenHash::of(token.as_bytes()).to_string()
}

/// A valid configuration with these keys under `relay`.
fn with_relay(keys: &str) -> String {
    format!("relay: {{{keys}}}\n{}", with_route(""))
}

/// The same beside certificates: `server.pem` with its key, and an authority, `ca.pem`.
fn load_with_files(keys: &str, role: Role) -> Result<Config, String> {
    // On NATS, so that there may be one role alone.
    let bus = "bus: {nats: {servers: [\"nats://127.0.0.1:4222\"]}}";
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let files = [
        ("ca.pem", &*authority.pem(), 0o600),
        ("server.pem", &server.pem(), 0o600),
        ("server.key", &key.serialize_pem(), 0o600),
        ("other.key", &KeyPair::generate().unwrap().serialize_pem(), 0o600),
        ("empty.pem", "", 0o600),
    ];
    load_with(&format!("{}{bus}\n", with_relay(keys)), role, &files)
}

#[test]
fn tokens_have_a_scope_a_tenant_or_all_and_hashes() {
    let text = format!(
        "tokens: [{{name: ops, scope: control, hashes: [\"{}\"]}}, {{name: dash, scope: read, tenant: acme, hashes: [\"{}\", \"{}\"]}}, \
         {{name: agent, scope: submit, hashes: [\"{}\"]}}]",
        hash("a"),
        hash("b"),
        hash("c"),
        hash("d")
    );
    let config = load_text(&with_relay(&text)).unwrap();
    let token = |name: &str, scope, tenant: Option<&str>, presented: &[&str]| Token {
        name: name.into(),
        scope,
        tenant: tenant.map(str::to_owned),
        hashes: presented.iter().map(|token| TokenHash::of(token.as_bytes())).collect(),
    };
    let expected = [
        token("ops", Scope::Control, None, &["a"]),
        token("dash", Scope::Read, Some("acme"), &["b", "c"]),
        token("agent", Scope::Submit, None, &["d"]),
    ];
    assert_eq!(config.relay.tokens, expected);
    assert!(config.warnings.is_empty() && config.relay.is_guarded());
}

#[test]
fn each_fault_of_a_token_says_what_and_where_and_never_the_token() {
    let good = hash("a");
    for (token, expected) in [
        ("{name: Ops, scope: read, hashes: [GOOD]}".to_owned(), "\"Ops\" is not a token's name"),
        ("{name: ops, scope: admin, hashes: [GOOD]}".into(), "unknown scope\n  help: write scope: read"),
        ("{name: ops, scope: read, hashes: []}".into(), "token ops has no hash"),
        ("{name: ops, scope: read, hashes: [tlr_secret]}".into(), "not a token's hash: sha256: and 64"),
        ("{name: ops, scope: read, hashes: [\"sha256:secret\"]}".into(), "not a token's hash"),
        ("{name: ops, scope: read, tenant: \"\", hashes: [GOOD]}".into(), "\"\" is not a tenant's name"),
        ("{name: ops, scope: read, hashes: [GOOD, GOOD]}".into(), "this hash is there twice"),
        ("{name: ops, scope: read, token: tlr_secret, hashes: [GOOD]}".into(), "unknown key token"),
        ("{name: ops, hashes: [GOOD]}".into(), "the key scope is missing"),
        (
            format!(
                "{{name: ops, scope: read, hashes: [GOOD]}}, {{name: ops, scope: read, hashes: [\"{}\"]}}",
                hash("b")
            ),
            "two tokens are named ops",
        ),
        (
            "{name: ops, scope: read, hashes: [GOOD]}, {name: other, scope: control, hashes: [GOOD]}".into(),
            "this hash is there twice",
        ),
    ] {
        let text = with_relay(&format!("tokens: [{}]", token.replace("GOOD", &format!("\"{good}\""))));
        let error = load_text(&text).unwrap_err();
        assert!(error.contains(expected) && error.contains("talaria.yaml:1:"), "{token}: {error}");
        assert!(error.contains("help: ") && !error.contains("secret"), "{token}: {error}");
    }
    let text = format!("tokens: [{{name: ops, scope: read, tenant: acmee, hashes: [\"{good}\"]}}]");
    let config = load_text(&with_relay(&text)).unwrap();
    assert!(config.warnings[0].what.contains("for the tenant acmee, which there is not"));
}

#[test]
fn clients_on_other_machines_must_authenticate() {
    let token = format!("tokens: [{{name: ops, scope: read, hashes: [\"{}\"]}}]", hash("a"));
    let tls = "tls: {cert: server.pem, key: server.key}";
    let mutual = "tls: {cert: server.pem, key: server.key, client_ca: ca.pem}";
    for (keys, is_valid, warns) in [
        ("grpc: 127.0.0.1:1".to_owned(), true, false),
        ("grpc: \"[::1]:1\"".into(), true, false),
        ("grpc: 0.0.0.0:1".into(), false, false),
        ("grpc: 192.0.2.1:1, tokens: []".into(), false, false),
        (format!("grpc: 0.0.0.0:1, {tls}"), false, false),
        (format!("grpc: 127.0.0.1:1, {token}"), true, false),
        (format!("grpc: 0.0.0.0:1, {token}"), true, true),
        (format!("grpc: 0.0.0.0:1, {token}, {tls}"), true, false),
        (format!("grpc: \"[::]:1\", {mutual}"), true, false),
        (format!("grpc: 0.0.0.0:1, {token}, {mutual}"), true, false),
    ] {
        let loaded = load_with_files(&keys, Role::Both);
        assert_eq!(loaded.is_ok(), is_valid, "{keys}: {loaded:?}");
        match loaded {
            Ok(config) => {
                let found: Vec<_> = config.warnings.iter().map(|warning| &warning.what).collect();
                assert_eq!(
                    found.iter().any(|what| what.contains("in plain text")),
                    warns,
                    "{keys}: {found:?}"
                );
            }
            Err(error) => {
                assert!(error.contains("could read and control everything"), "{keys}: {error}");
                assert!(error.contains("`talaria token`"), "{keys}: {error}");
            }
        }
    }
}

#[test]
fn tls_needs_files_that_belong_together() {
    for (keys, expected) in [
        ("{}", "relay.tls has no certificate"),
        ("{client_ca: ca.pem}", "relay.tls has no certificate"),
        ("{cert: server.pem}", "relay.tls.cert has no relay.tls.key"),
        ("{key: server.key}", "relay.tls.key has no relay.tls.cert"),
        ("{cert: nowhere.pem, key: server.key}", "cannot read"),
        ("{cert: server.pem, key: other.key}", "is not the key of relay.tls.cert"),
        ("{cert: empty.pem, key: server.key}", "no certificate is in it"),
        ("{cert: server.pem, key: empty.pem}", "no private key is in it"),
        ("{cert: server.pem, key: server.key, client_ca: empty.pem}", "no certificate is in it"),
        ("{cert: server.pem, key: server.key, ca: ca.pem}", "unknown key ca"),
    ] {
        let error = load_with_files(&format!("tls: {keys}"), Role::Both).unwrap_err();
        assert!(error.contains(expected) && error.contains("help: "), "{keys}: {error}");
    }
    let tls = |config: Config| config.relay.tls.map(|tls| tls.client_ca.len());
    let mutual = "tls: {cert: server.pem, key: server.key, client_ca: ca.pem}";
    assert_eq!(load_with_files(mutual, Role::Relay).map(tls), Ok(Some(1)));
    assert_eq!(load_with_files(mutual, Role::Ingress).map(tls), Ok(None), "which has no use for the key");
    let elsewhere = "tls: {cert: nowhere.pem, key: nowhere.key}";
    assert_eq!(load_with_files(elsewhere, Role::Ingress).map(tls), Ok(None));
}

#[test]
fn commands_know_whether_to_ask_over_tls() {
    let is_tls = |keys: &str| {
        let (_directory, path) = write(&with_relay(keys));
        load_addresses(&path).unwrap().grpc_tls
    };
    assert!(is_tls("tls: {cert: nowhere.pem, key: nowhere.key}") && !is_tls("grpc: 127.0.0.1:1"));
}
