use super::*;
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodOptions, method_options::IdempotencyLevel};
use std::collections::BTreeSet;
use talaria_proto::FILE_DESCRIPTOR_SET;

/// The paths of all methods of these contracts.
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
fn exactly_the_served_methods_are_listed() {
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
        assert!(access_of(path).is_some(), "METHODS lacks {path}");
    }
    let unknown: Vec<_> = decided.difference(&served).collect();
    assert!(unknown.is_empty() || unknown == ["/grpc.health.v1.Health/List"], "{unknown:?} is not served");
}

#[test]
fn reading_methods_need_scope_read_jobs_submit_and_all_others_control() {
    for path in methods(FILE_DESCRIPTOR_SET) {
        let (_, method) = path.rsplit_once('/').unwrap();
        let looks = ["Get", "List", "Watch", "Explain"].iter().any(|verb| method.starts_with(verb));
        let scope = match method {
            _ if looks => Scope::Read,
            "SubmitJob" | "TrackJob" | "StopJob" => Scope::Submit,
            _ => Scope::Control,
        };
        assert_eq!(access_of(&path), Some(Access::Scope(scope)), "{path}");
    }
    assert_eq!(access_of("/grpc.health.v1.Health/Check"), Some(Access::Nothing));
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
        assert_eq!(access_of(path), None, "{path}");
    }
}

#[test]
fn reading_methods_and_no_others_have_no_side_effects() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    for (file, service) in files.iter().flat_map(|file| file.service.iter().map(move |it| (file, it))) {
        for method in &service.method {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let options = method.options.as_ref();
            let level = options.map(MethodOptions::idempotency_level);
            let reads = access_of(&path) == Some(Access::Scope(Scope::Read));
            // Browsers may GET the methods without side effects.
            assert_eq!(level == Some(IdempotencyLevel::NoSideEffects), reads, "{path}");
        }
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
        evidence: None,
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
    let http = Arc::clone(&server);
    Some(Arc::new(RelayTls { server, http, client_ca }))
}

#[test]
fn a_caller_is_identified_by_its_credentials_and_its_connection() {
    let tokens = vec![
        token("grafana", Scope::Read, None, &["old", "new"]),
        token("acme", Scope::Control, Some("acme"), &["a"]),
    ];
    let known = |name: &str, scope, tenant: Option<&str>| {
        Ok(Caller { token: name.into(), scope, tenant: tenant.map(str::to_owned) })
    };
    let unrestricted = || Ok(Caller::unrestricted());
    for (case, tokens, now, then, loopback, token, expected) in [
        ("nothing is configured", vec![], None, None, true, None, unrestricted()),
        ("a token where none is needed", vec![], None, None, true, Some("x"), unrestricted()),
        ("nothing is configured any more", vec![], None, None, false, None, Err(Denial::Unguarded)),
        ("TLS alone guards nothing", vec![], tls(None), tls(None), false, None, Err(Denial::Unguarded)),
        ("a certificate is enough", vec![], tls(Some(1)), tls(Some(1)), false, None, unrestricted()),
        ("tokens, and none is shown", tokens.clone(), None, None, true, None, Err(Denial::NoToken)),
        ("another", tokens.clone(), None, None, true, Some("b"), Err(Denial::UnknownToken)),
        ("an empty one", tokens.clone(), None, None, true, Some(""), Err(Denial::UnknownToken)),
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
            Err(Denial::NoToken),
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
            Err(Denial::OldConnection),
        ),
        (
            "from before any was asked for",
            vec![],
            tls(Some(1)),
            tls(None),
            true,
            None,
            Err(Denial::OldConnection),
        ),
        ("from before TLS", tokens.clone(), tls(None), None, true, Some("new"), Err(Denial::OldConnection)),
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
        let transport = Transport { loopback, tls: then };
        let token = token.map(|token: &str| TokenHash::of(token.as_bytes()));
        assert_eq!(identify(&relay(tokens, now), &transport, token), expected, "{case}");
    }
}

#[test]
fn a_scope_includes_the_smaller_ones_and_a_denial_names_both() {
    let caller = |scope| Caller { token: "t".into(), scope, tenant: None };
    let scopes = [Scope::Read, Scope::Submit, Scope::Control];
    for (i, has) in scopes.into_iter().enumerate() {
        for (j, needs) in scopes.into_iter().enumerate() {
            assert_eq!(permit(&caller(has), needs).is_ok(), i >= j, "{has:?} {needs:?}");
        }
    }
    let denied = |has, needs| permit(&caller(has), needs).unwrap_err().answer().1;
    assert_eq!(denied(Scope::Read, Scope::Submit), "the token t has scope read, and this takes scope submit");
    assert_eq!(
        denied(Scope::Submit, Scope::Control),
        "the token t has scope submit, and this takes scope control"
    );
}
