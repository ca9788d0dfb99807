//! Outbound requests: networks, TLS, headers, signatures.

use super::*;
use crate::hermes::signature::Scheme;

/// Loads a text with certificates and secrets beside it.
fn load_with_files(text: &str, role: Role) -> Result<Config, String> {
    let made = rcgen::generate_simple_self_signed(["test".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let files = [
        ("new", "the new secret", 0o600),
        ("token", "Bearer abc", 0o600),
        ("blanks", " secret", 0o600),
        ("bad-whsec", "whsec_no base64", 0o600),
        ("client.pem", &made.cert.pem(), 0o644),
        ("client.key", &made.signing_key.serialize_pem(), 0o600),
        ("other.key", &other.signing_key.serialize_pem(), 0o600),
        ("empty.pem", "", 0o644),
        ("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644),
    ];
    load_with(text, role, &files)
}

fn route(keys: &str) -> Arc<Route> {
    let config = load_with_files(&with_route(keys), Role::Both).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    Arc::clone(config.route("acme", "video").unwrap())
}

#[test]
fn all_settings_have_defaults() {
    let route = route("");
    assert_eq!((route.signing.name, route.secrets.len(), route.headers.len()), ("hub", 1, 0));
    assert!(route.tls.is_none());
}

#[test]
fn a_url_that_its_tenant_does_not_allow_is_an_error_that_says_what_to_add() {
    let (from, to) = ("networks: [loopback]", "networks: []");
    let error = load_text(&with_route("").replace(from, to)).unwrap_err();
    let expected = "talaria.yaml:7:14: route acme/video leads to 127.0.0.1, which is loopback, and its tenant does not \
                    allow that\n  help: if Hermes is there, write networks: [loopback] under tenant acme, beside \
                    openrouter";
    assert_eq!(error, expected);
    let error = load_text(&with_route("").replace(from, "networks: [10.0.0.0/8]")).unwrap_err();
    assert!(error.contains("add loopback to the networks of tenant acme"), "{error}");
    let error = load_text(&with_route("").replace(from, "networks: [lopback]")).unwrap_err();
    assert!(
        error.contains("is not a network") && !error.contains("leads to"),
        "nothing that follows: {error}"
    );
    for (host, allowed) in [
        ("localhost", "loopback"),
        ("10.1.2.3", "private"),
        ("[::ffff:192.168.0.1]", "private"),
        ("169.254.169.254", "link-local"),
        ("2130706433", "loopback"),
        ("0.0.0.0", "0.0.0.0"),
    ] {
        let text = with_route("").replace(from, to).replace("127.0.0.1:8644", host);
        let error = load_text(&text).unwrap_err();
        assert!(error.contains(&format!("networks: [{allowed}]")), "{host}: {error}");
        let text = text.replace(to, &format!("networks: [{allowed}]"));
        assert!(load_text(&text).is_ok(), "{host}");
    }
    let name = with_route("").replace(from, to).replace("127.0.0.1:8644", "hermes.example");
    assert!(load_text(&name).is_ok(), "a name is judged when it is looked up");
}

#[test]
fn an_invalid_network_is_an_error() {
    for (network, why) in [("public", "not a network"), ("10.1.2.3/16", "that one is 10.1.0.0/16")] {
        let error =
            load_text(&with_route("").replace("[loopback]", &format!("[loopback, {network}]"))).unwrap_err();
        assert!(error.contains(why) && error.contains(":3:26: ") && error.contains("fd12::/16"), "{error}");
    }
}

#[test]
fn a_secret_is_one_or_several() {
    let text =
        with_route("").replace("{file: secrets/acme-hermes}", "[{file: new}, {file: secrets/acme-hermes}]");
    let config = load_with_files(&text, Role::Both).unwrap();
    let route = config.route("acme", "video").unwrap();
    let secrets: Vec<_> = route.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect();
    assert_eq!(secrets, ["the new secret", "acme-hermes-secret"]);
    assert!(route.secret_origin.to_string().ends_with("/new"));
    let ingress = text.clone() + "bus: {nats: {servers: [nats://h]}}";
    let config = load_with_files(&ingress, Role::Ingress).unwrap();
    assert!(config.route("acme", "video").unwrap().secrets.is_empty());
    for (list, why) in [
        ("[]", "8:17: no secret"),
        ("[{file: new}, {file: none}]", "8:31: cannot read the secret"),
        ("[{file: new}, hunter2]", "a secret is named, not written"),
    ] {
        let error = load_with_files(&with_route("").replace("{file: secrets/acme-hermes}", list), Role::Both)
            .unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn requests_are_signed_by_one_of_four_schemes() {
    for scheme in Scheme::ALL {
        assert_eq!(route(&format!("signing: {}", scheme.name)).signing.name, scheme.name);
    }
    let error = load_text(&with_route("signing: rot13")).unwrap_err();
    assert!(
        error.contains("9:18: unknown signing\n  help: write one of hub, webhook-v2, svix, gitlab"),
        "{error}"
    );
    let far = with_route("signing: gitlab").replace("127.0.0.1:8644", "hermes.example");
    assert!(load_text(&far).unwrap_err().contains("9:18: signing: gitlab sends the secret itself"));
    assert!(load_text(&far.replace("http://", "https://")).is_ok());
    let svix = with_route("signing: svix").replace("secrets/acme-hermes", "bad-whsec");
    let error = load_with_files(&svix, Role::Both).unwrap_err();
    assert!(error.contains("8:17: what stands behind whsec_ in ./bad-whsec is not base64"), "{error}");
    let gitlab = with_route("signing: gitlab").replace("secrets/acme-hermes", "blanks");
    let error = load_with_files(&gitlab, Role::Both).unwrap_err();
    assert!(error.contains("8:17: the secret in ./blanks has blanks around it"), "{error}");
}

#[test]
fn headers_have_values_or_name_them() {
    let found = route("headers: {X-Env: prod, Authorization: {file: token}}").headers.clone();
    let found: Vec<_> =
        found.iter().map(|header| (header.name.as_str(), header.value.expose_secret().to_owned())).collect();
    assert_eq!(found, [("X-Env", "prod".into()), ("Authorization", "Bearer abc".to_owned())], "as written");
    for (headers, why) in [
        ("{X-GitHub-Event: x}", "9:19: the header X-GitHub-Event is Talaria's own"),
        ("{content-type: x}", "Talaria's own"),
        ("{Svix-Id: x}", "Talaria's own"),
        ("{webhook-id: x}", "Talaria's own"),
        ("{webhook-signature: x}", "Talaria's own"),
        ("{Linear-Signature: x}", "9:19: the header Linear-Signature is Talaria's own"),
        ("{LINEAR-SIGNATURE: x}", "Talaria's own"),
        ("{X-Gitlab-Token: x}", "Talaria's own"),
        ("{X-Webhook-Signature: x}", "Talaria's own"),
        ("{X-Hub-Signature: x}", "Talaria's own"),
        ("{Accept-Encoding: br}", "Talaria's own"),
        ("{Traceparent: x}", "Talaria's own"),
        ("{Host: x}", "Talaria's own"),
        ("{User-Agent: x}", "Talaria's own"),
        ("{Connection: x}", "belongs to one connection"),
        ("{Proxy-Authorization: x}", "belongs to one connection"),
        ("{X Env: x}", "\"X Env\" is not a header's name"),
        ("{X-A: x, x-a: z}", "9:27: the header x-a is there twice"),
        ("{X-A: \"\"}", "9:24: not a header's value"),
        ("{X-A: \"hunter2\\n\"}", "not a header's value"),
        ("{X-A: hunter2ß}", "not a header's value"),
        ("{X-A: {file: none}}", "9:24: cannot read the secret"),
        ("{X-A: {hunter2: x}}", "a secret is named"),
        ("{X-A: 31337}", "text (in quotes"),
    ] {
        let error = load_with_files(&with_route(&format!("headers: {headers}")), Role::Both).unwrap_err();
        assert!(error.contains(why) && error.contains(":9:"), "{headers}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("31337"), "{error}");
    }
}

#[test]
fn tls_is_read_with_the_configuration() {
    let everything = with_route("tls: {ca: client.pem, cert: client.pem, key: client.key}");
    let config = load_with_files(&everything.replace("http://", "https://"), Role::Both).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let warned = load_with_files(&everything, Role::Both).unwrap().warnings;
    assert!(warned[0].to_string().contains("9:19: the route's url begins with http://"), "{warned:?}");
    let tls = config.route("acme", "video").unwrap().tls.clone().unwrap();
    assert_eq!(tls.ca.len(), 1);
    assert_eq!(tls.client.as_ref().unwrap().0, tls.ca);
    for (keys, why) in [
        ("{ca: none.pem}", "9:19: cannot read ./none.pem"),
        ("{ca: empty.pem}", "9:19: ./empty.pem cannot be used: no certificate is in it"),
        ("{cert: client.pem}", "9:21: tls.cert has no tls.key"),
        ("{key: client.key}", "9:20: tls.key has no tls.cert"),
        ("{cert: client.pem, key: client.pem}", "9:38: ./client.pem cannot be used: no private key"),
        ("{cert: client.pem, key: other.key}", "9:38: ./other.key is not the key of tls.cert"),
        ("{ca: nonsense.pem}", "9:19: ./nonsense.pem cannot be used"),
        ("{insecure: true}", "unknown key insecure"),
    ] {
        let error = load_with_files(&with_route(&format!("tls: {keys}")), Role::Both).unwrap_err();
        assert!(error.contains(why), "{keys}: {error}");
    }
    let ingress = with_route("tls: {ca: none.pem}\n        headers: {X-A: {file: none}}")
        + "bus: {nats: {servers: [nats://h]}}";
    assert!(load_with_files(&ingress, Role::Ingress).is_ok(), "an ingress needs none of it");
}

#[test]
fn no_secret_of_it_is_in_the_debug_output() {
    let keys = "headers: {Authorization: {file: token}}\n        tls: {cert: client.pem, key: client.key}";
    let text = with_route(keys).replace("http://", "https://");
    let debug = format!("{:?}", load_with_files(&text, Role::Both).unwrap());
    assert!(!debug.contains("Bearer") && debug.contains("secret key elided"), "{debug}");
}
