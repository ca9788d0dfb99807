//! The console's address and names.

use super::*;

const TOKENS: &str = "relay: {tokens: [{name: ops, scope: read, hashes: ['HASH']}]}\n";

fn read(role: Role, lines: &str) -> Result<Config, String> {
    let hash = crate::token::TokenHash::of(b"a token").to_string();
    let (directory, path) = write(&(with_route("") + &lines.replace("HASH", &hash)));
    load_for(&path, role)
        .map_err(|error| error.to_string().replace(&directory.path().display().to_string(), "."))
}

#[test]
fn the_console_is_on_where_ingress_and_relay_are_one_process() {
    let nats = "bus: {nats: {servers: [nats://n:4222]}}\n";
    let written = format!("{nats}console: {{listen: 127.0.0.1:9}}\n");
    let listen = |role, lines: &str| read(role, lines).unwrap().console.listen.map(|address| address.port());
    assert_eq!((listen(Role::Both, ""), listen(Role::Relay, nats)), (Some(8090), None));
    assert_eq!((listen(Role::Both, &written), listen(Role::Relay, &written)), (Some(9), Some(9)));
    assert_eq!(listen(Role::Both, "console: {listen: off}\n"), None);
}

#[test]
fn another_address_than_loopback_needs_tokens() {
    let error = read(Role::Both, "console: {listen: 0.0.0.0:8090}\n").unwrap_err();
    assert!(error.contains("10:19: console.listen: whoever reaches this address could"), "{error}");
    let config = read(Role::Both, &format!("console: {{listen: 0.0.0.0:8090}}\n{TOKENS}")).unwrap();
    let warned = |warning: &Problem| warning.what.starts_with("tokens come to console.listen in plain text");
    assert!(config.warnings.iter().any(warned), "{:?}", config.warnings);
}

#[test]
fn faults_of_the_console_name_the_value() {
    for (written, expected) in [
        ("listen: everywhere", "10:19: console.listen is not an address"),
        ("listen: 127.0.0.1:8080", "the same address as ingress.listen"),
        ("names: ['https://talaria.example.com']", "10:19: not a host's name"),
        ("names: ['talaria.example.com:443']", "not a host's name"),
        ("names: ['']", "not a host's name"),
        ("name: x", "unknown key name"),
    ] {
        let lines = format!("console: {{{written}}}\ningress: {{listen: 127.0.0.1:8080}}\n");
        let error = read(Role::Both, &lines).unwrap_err();
        assert!(error.contains(expected), "{written}: {error}");
    }
    let config = read(Role::Both, "console: {names: [Talaria.Example.com, relay_1]}\n").unwrap();
    assert_eq!(config.console.names, ["talaria.example.com", "relay_1"]);
}
