use super::*;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;
use talaria_proto::FILE_DESCRIPTOR_SET;

/// Every method of these contracts, as the path that it is asked at.
fn methods(encoded: &[u8]) -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(encoded).unwrap();
    let mut paths = BTreeSet::new();
    for file in files.file {
        for service in &file.service {
            let of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            paths.extend(service.method.iter().map(|method| of(method.name())));
        }
    }
    paths
}

#[test]
fn every_method_that_there_is_was_decided_on_and_no_other() {
    let mut served = methods(FILE_DESCRIPTOR_SET);
    assert!(served.len() >= 17, "{served:?}");
    for set in [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        served.extend(methods(set));
    }
    let decided: BTreeSet<String> = METHODS
        .iter()
        .flat_map(|(service, methods, _)| methods.iter().map(move |method| format!("/{service}/{method}")))
        .collect();
    for path in &served {
        assert!(takes(path).is_some(), "say in METHODS what {path} takes");
    }
    let unknown: Vec<_> = decided.difference(&served).collect();
    assert!(unknown.is_empty() || unknown == ["/grpc.health.v1.Health/List"], "{unknown:?} is not served");
}

#[test]
fn what_looks_is_open_to_those_who_may_read_and_what_does_something_is_not() {
    for path in methods(FILE_DESCRIPTOR_SET) {
        let (_, method) = path.rsplit_once('/').unwrap();
        let looks = ["Get", "List", "Watch", "Explain"].iter().any(|verb| method.starts_with(verb));
        let scope = if looks { Scope::Read } else { Scope::Control };
        assert_eq!(takes(&path), Some(Takes::Scope(scope)), "{path}");
    }
    assert_eq!(takes("/grpc.health.v1.Health/Check"), Some(Takes::Nothing));
    for path in [
        "",
        "/",
        "/talaria.v1.ControlService",
        "/talaria.v1.ControlService/",
        "/talaria.v1.ControlService/pause",
        "/talaria.v1.ControlService/Pause/",
        "//talaria.v1.ControlService/Pause",
        "/talaria.v1.StatusService/Pause",
        "talaria.v1.ControlService/Pause",
    ] {
        assert_eq!(takes(path), None, "{path}");
    }
}

fn token(name: &str, scope: Scope, tenant: Option<&str>, shown: &[&str]) -> Token {
    let hashes = shown.iter().map(|shown| TokenHash::of(shown.as_bytes())).collect();
    Token { name: name.into(), scope, tenant: tenant.map(str::to_owned), hashes }
}

fn relay(tokens: Vec<Token>, tls: Option<Arc<RelayTls>>) -> Relay {
    Relay {
        grpc: "127.0.0.1:0".parse().unwrap(),
        tls,
        tokens,
        drain: std::time::Duration::ZERO,
        in_flight: 1,
    }
}

/// TLS that asks clients for a certificate of this authority's, or for none.
#[expect(clippy::unnecessary_wraps, reason = "as the table wants it")]
fn tls(authority: Option<u8>) -> Option<Arc<RelayTls>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server =
        Arc::new(builder.with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new())));
    let client_ca = authority.map(|byte| vec![byte].into()).into_iter().collect();
    Some(Arc::new(RelayTls { server, client_ca }))
}

#[test]
fn who_somebody_is_depends_on_what_they_show_and_on_where() {
    let tokens = vec![
        token("grafana", Scope::Read, None, &["old", "new"]),
        token("acme", Scope::Control, Some("acme"), &["a"]),
    ];
    let known = |name: &str, scope, tenant: Option<&str>| {
        Ok(Caller { token: name.into(), scope, tenant: tenant.map(str::to_owned) })
    };
    let anybody = || Ok(Caller::anybody());
    for (what, tokens, now, then, loopback, shown, expected) in [
        ("nothing is configured", vec![], None, None, true, None, anybody()),
        ("a token where none is needed", vec![], None, None, true, Some("x"), anybody()),
        ("nothing is configured any more", vec![], None, None, false, None, Err(Refusal::Unguarded)),
        ("TLS alone guards nothing", vec![], tls(None), tls(None), false, None, Err(Refusal::Unguarded)),
        ("a certificate is enough", vec![], tls(Some(1)), tls(Some(1)), false, None, anybody()),
        ("tokens, and none is shown", tokens.clone(), None, None, true, None, Err(Refusal::NoToken)),
        ("another", tokens.clone(), None, None, true, Some("b"), Err(Refusal::UnknownToken)),
        ("an empty one", tokens.clone(), None, None, true, Some(""), Err(Refusal::UnknownToken)),
        ("one", tokens.clone(), None, None, true, Some("old"), known("grafana", Scope::Read, None)),
        (
            "the one that replaces it",
            tokens.clone(),
            None,
            None,
            false,
            Some("new"),
            known("grafana", Scope::Read, None),
        ),
        (
            "a tenant's",
            tokens.clone(),
            None,
            None,
            false,
            Some("a"),
            known("acme", Scope::Control, Some("acme")),
        ),
        (
            "a certificate is not enough",
            tokens.clone(),
            tls(Some(1)),
            tls(Some(1)),
            true,
            None,
            Err(Refusal::NoToken),
        ),
        (
            "both",
            tokens.clone(),
            tls(Some(1)),
            tls(Some(1)),
            true,
            Some("new"),
            known("grafana", Scope::Read, None),
        ),
        (
            "of another authority",
            tokens.clone(),
            tls(Some(1)),
            tls(Some(2)),
            true,
            Some("new"),
            Err(Refusal::OldConnection),
        ),
        (
            "from before any was asked for",
            vec![],
            tls(Some(1)),
            tls(None),
            true,
            None,
            Err(Refusal::OldConnection),
        ),
        ("from before TLS", tokens.clone(), tls(None), None, true, Some("new"), Err(Refusal::OldConnection)),
        (
            "from before TLS was given up",
            tokens,
            None,
            tls(None),
            true,
            Some("new"),
            known("grafana", Scope::Read, None),
        ),
    ] {
        let wire = Wire { loopback, tls: then };
        let shown = shown.map(|shown: &str| TokenHash::of(shown.as_bytes()));
        assert_eq!(identify(&relay(tokens, now), &wire, shown), expected, "{what}");
    }
}

#[test]
fn who_may_control_may_read_and_not_the_other_way() {
    let caller = |scope| Caller { token: "t".into(), scope, tenant: None };
    for (has, takes, may) in [
        (Scope::Read, Scope::Read, true),
        (Scope::Read, Scope::Control, false),
        (Scope::Control, Scope::Read, true),
        (Scope::Control, Scope::Control, true),
    ] {
        assert_eq!(permit(&caller(has), takes).is_ok(), may, "{has:?} {takes:?}");
    }
}
