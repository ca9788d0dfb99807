//! The tunnel that `--tunnel` opens.

use super::*;

/// Loads a configuration with these top-level keys and a tunnel's token beside it.
fn load_tunnel(keys: &str, role: Role) -> Result<Tunnel, String> {
    let (directory, path) = write(&format!("{keys}\n{}", with_route("")));
    write_secret(&directory.path().join("secrets/tunnel-token"), "eyJhIjoiaHVudGVyMiJ9\n", 0o600);
    write_secret(&directory.path().join("secrets/command"), "cloudflared service install hunter2", 0o600);
    let loaded = load_for(&path, role);
    let relative = |text: String| text.replace(&directory.path().display().to_string(), ".");
    loaded
        .map(|config| Tunnel {
            cloudflared: relative(config.tunnel.cloudflared.display().to_string()).into(),
            ..config.tunnel
        })
        .map_err(|error| relative(error.to_string()))
}

#[test]
fn a_tunnel_is_a_quick_one_unless_it_has_a_token() {
    for (keys, program) in [
        ("", "cloudflared"),
        ("tunnel: {}", "cloudflared"),
        ("tunnel: {cloudflared: bin/cloudflared}", "./bin/cloudflared"),
        ("tunnel: {cloudflared: /opt/cloudflared}", "/opt/cloudflared"),
    ] {
        let tunnel = load_tunnel(keys, Role::Both).unwrap();
        assert_eq!(
            (tunnel.cloudflared.as_path(), tunnel.named.is_none()),
            (Path::new(program), true),
            "{keys}"
        );
    }
    let keys =
        "tunnel: {token: {file: secrets/tunnel-token}}\ningress: {public_url: https://hooks.example.com/}";
    let named = load_tunnel(keys, Role::Both).unwrap().named.unwrap();
    assert_eq!(named.token.expose_secret(), "eyJhIjoiaHVudGVyMiJ9");
    assert_eq!(named.public_url, "https://hooks.example.com");
    assert!(!format!("{named:?}").contains("eyJ"));
}

#[test]
fn each_fault_of_a_tunnel_has_its_location() {
    let public = "ingress: {public_url: https://hooks.example.com}\n";
    for (keys, expected) in [
        (
            "tunnel: {token: {file: secrets/tunnel-token}}".to_owned(),
            "1:17: tunnel.token needs ingress.public_url\n  help: Cloudflare knows the tunnel's public name",
        ),
        (
            format!("{public}tunnel: {{token: {{file: secrets/command}}}}"),
            "2:17: what is in ./secrets/command is no tunnel's token\n  help: Cloudflare shows it",
        ),
        (
            format!("{public}tunnel: {{token: {{file: secrets/none}}}}"),
            "2:17: cannot read the secret in ./secrets/none",
        ),
        (format!("{public}tunnel: {{token: hunter2}}"), "2:17: a secret is named, not written"),
        ("tunnel: {cloudflared: ''}".to_owned(), "1:23: tunnel.cloudflared is empty"),
        ("tunnel: {port: 80}".to_owned(), "1:10: unknown key port"),
    ] {
        let error = load_tunnel(&keys, Role::Both).unwrap_err();
        assert!(error.contains(expected), "{keys}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(
            !error.contains('\n') || error.matches("help: ").count() == 1,
            "one fault, said once: {error}"
        );
    }
    // Only the URL is wrong.
    let error = load_tunnel(
        "ingress: {public_url: ftp://x}\ntunnel: {token: {file: secrets/tunnel-token}}",
        Role::Both,
    );
    let error = error.unwrap_err();
    assert!(error.contains("1:23: ") && !error.contains("tunnel.token"), "{error}");
}

#[test]
fn a_relay_alone_needs_no_token() {
    let keys = "tunnel: {token: {file: secrets/none}}\nbus: {nats: {servers: [nats://nats-1:4222]}}";
    assert!(load_tunnel(keys, Role::Relay).unwrap().named.is_none());
    assert!(load_tunnel(keys, Role::Ingress).unwrap_err().contains("secrets/none"));
}
