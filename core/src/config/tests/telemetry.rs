//! The collector of traces.

use super::*;
use secrecy::ExposeSecret as _;

fn with_telemetry(keys: &str) -> String {
    format!("telemetry: {{{keys}}}\n{}", with_route(""))
}

#[test]
fn traces_go_nowhere_unless_a_collector_is_named() {
    assert!(load_text(&with_route("")).unwrap().telemetry.is_none());
    let shortest = load_text(&with_telemetry("otlp: http://collector:4317")).unwrap().telemetry.unwrap();
    assert_eq!((shortest.otlp.as_str(), shortest.ca.as_ref()), ("http://collector:4317/", None));
    assert!((shortest.sample - 1.0).abs() < f64::EPSILON && shortest.headers.is_empty());
}

#[test]
fn all_settings_of_a_collector_are_read() {
    let (directory, path) = write(&with_telemetry(
        "otlp: https://collector:4317, sample: 2.5%, headers: {Authorization: {file: token}}, ca: ca.pem",
    ));
    write_secret(&directory.path().join("token"), "Bearer hunter2", 0o600);
    fs::write(directory.path().join("ca.pem"), "PEM").unwrap();
    for role in [Role::Both, Role::Ingress, Role::Relay] {
        let Ok(config) = load_for(&path, role) else { continue };
        let telemetry = config.telemetry.clone().unwrap();
        assert!((telemetry.sample - 0.025).abs() < f64::EPSILON);
        assert_eq!(telemetry.headers[0].name, "authorization");
        assert_eq!(telemetry.headers[0].value.expose_secret(), "Bearer hunter2");
        assert_eq!(telemetry.ca.as_deref(), Some(b"PEM".as_slice()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

#[test]
fn each_fault_of_a_collector_is_reported() {
    for (keys, what) in [
        ("sample: 5%", "the key otlp is missing"),
        ("otlp: collector:4317", "must begin with http:// or https://"),
        ("otlp: http://user:hunter2@collector:4317", "must not hold a user name or password"),
        ("otlp: http://collector:4318/v1/traces", "OTLP over gRPC has no path"),
        ("otlp: http://collector:4317, sample: 101%", "write a percentage from 0% to 100%"),
        ("otlp: http://collector:4317, sample: half", "not a share"),
        ("otlp: http://collector:4317, ca: nothing.pem", "cannot read"),
        (
            "otlp: https://collector:4317, headers: {authorization: {env: HUNTER2_UNSET}}",
            "HUNTER2_UNSET is not set",
        ),
        ("otlp: http://collector:4317, protocol: grpc", "unknown key protocol"),
    ] {
        let error = load_text(&with_telemetry(keys)).unwrap_err();
        assert!(error.contains(what) && !error.contains("hunter2"), "{keys}: {error}");
    }
}
