use super::*;
use std::net::IpAddr;

fn ingress(keys: &str) -> Ingress {
    let config = load_text(&(with_route("") + &format!("ingress: {{{keys}}}"))).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.ingress
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn all_settings_have_defaults() {
    let ingress = ingress("");
    assert_eq!((ingress.max_head_bytes, ingress.max_headers), (65_536, None));
    assert_eq!(
        [ingress.head_timeout, ingress.body_timeout, ingress.idle_timeout].map(|timeout| timeout.as_secs()),
        [10, 10, 120]
    );
    assert_eq!(ingress.client_address, "x-forwarded-for");
    assert!(ingress.trusted_proxies.contain(ip("127.0.0.1")) && ingress.trusted_proxies.contain(ip("::1")));
    assert!(
        !ingress.trusted_proxies.contain(ip("10.0.0.1")) && !ingress.trusted_proxies.contain(ip("8.8.8.8"))
    );
    let expected = Limits {
        connections: 1024,
        connections_per_address: 256,
        bodies: 64 << 20,
        storing: 512,
        per_address: None,
        refused_per_address: Some(Pace { count: 60, window: Duration::from_secs(60) }),
        per_tenant: None,
    };
    assert_eq!(ingress.limits, expected);
}

/// The documented example has the defaults.
#[test]
fn the_documented_example_says_what_the_defaults_are() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/talaria.example.yaml")).unwrap();
    let (documented, default) = (load_text(&text).unwrap().ingress, ingress(""));
    assert_eq!(documented.limits, default.limits);
    assert_eq!(documented.trusted_proxies, default.trusted_proxies);
    assert_eq!(documented.client_address, default.client_address);
    assert_eq!(documented.max_head_bytes, default.max_head_bytes);
    assert_eq!(documented.head_timeout, default.head_timeout);
    assert_eq!(documented.idle_timeout, default.idle_timeout);
}

#[test]
fn every_limit_is_read() {
    let ingress = ingress(
        "max_head_bytes: 8192, max_headers: 50, head_timeout: 5s, idle_timeout: 70s, trusted_proxies: [private, 192.0.2.0/24], \
         client_address: CF-Connecting-IP, limits: {connections: 100, connections_per_address: 10, bodies: 4MiB, \
         storing: 7, per_address: 50/s, refused_per_address: off, per_tenant: 1000/min}",
    );
    assert_eq!((ingress.max_head_bytes, ingress.max_headers), (8192, Some(50)));
    assert_eq!(
        (ingress.head_timeout, ingress.idle_timeout, ingress.client_address.as_str()),
        (Duration::from_secs(5), Duration::from_secs(70), "cf-connecting-ip")
    );
    assert!(
        ingress.trusted_proxies.contain(ip("10.0.0.1")) && !ingress.trusted_proxies.contain(ip("127.0.0.1"))
    );
    let limits = ingress.limits;
    assert_eq!((limits.connections, limits.connections_per_address, limits.storing), (100, 10, 7));
    assert_eq!((limits.bodies, limits.refused_per_address), (4 << 20, None));
    assert_eq!(limits.per_address, Some(Pace { count: 50, window: Duration::from_secs(1) }));
    assert_eq!(limits.per_tenant, Some(Pace { count: 1000, window: Duration::from_secs(60) }));
}

#[test]
fn the_room_for_bodies_grows_with_the_longest_one() {
    assert_eq!(ingress("max_body_bytes: 67108864").limits.bodies, 1 << 30);
    assert_eq!(ingress("limits: {connections: 100}").limits.connections_per_address, 100);
}

#[test]
fn an_invalid_value_has_a_remedy() {
    for (keys, expected) in [
        (
            "max_head_bytes: 100",
            "10:27: max_head_bytes is out of range\n  help: write a number from 8192 to 1048576",
        ),
        ("max_headers: 0", "max_headers is out of range"),
        ("head_timeout: soon", "head_timeout is not a duration"),
        ("idle_timeout: 2h", "idle_timeout is out of range"),
        ("trusted_proxies: [everybody]", "\"everybody\" is not a network"),
        ("trusted_proxies: [10.0.0.1/8]", "is not where a network begins"),
        ("client_address: \"\"", "\"\" is not a header's name"),
        ("client_address: \"X Y\"", "help: write one such as X-Forwarded-For"),
        ("limits: {connections: 0}", "connections is out of range"),
        ("limits: {connections_per_address: 0}", "connections_per_address is out of range"),
        ("limits: {bodies: lots}", "bodies is not a number of bytes"),
        ("limits: {bodies: 1KiB}", "bodies is out of range"),
        ("limits: {bodies: 2MiB}", "bodies is less than four times ingress.max_body_bytes"),
        ("limits: {bodies: 2MiB}", "help: write 4MiB or more, or lower max_body_bytes"),
        ("limits: {storing: 0}", "storing is out of range"),
        ("limits: {per_address: fast}", "not a pace\n  help: write 30/min, 5/s, 100/h or off"),
        ("limits: {per_tenants: 5/s}", "unknown key per_tenants"),
    ] {
        let error = load_text(&(with_route("") + &format!("ingress: {{{keys}}}"))).unwrap_err();
        assert!(error.contains(expected) && error.contains("help: "), "{keys}: {error}");
    }
}

#[test]
fn to_trust_everybody_is_warned_of() {
    let text = with_route("") + "ingress: {trusted_proxies: [loopback, 0.0.0.0/0, \"::/0\"]}";
    let warnings = load_text(&text).unwrap().warnings;
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].to_string().contains("everybody is a trusted proxy"), "{warnings:?}");
}
