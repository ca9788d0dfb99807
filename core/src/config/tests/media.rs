//! A tenant's links to files.

use super::*;

const PUBLIC_URL: &str = "ingress: {public_url: 'https://h'}\n";

/// Loads a configuration whose tenant has these keys of `media`, and a key of the API.
fn load_media(keys: &str, rest: &str) -> Result<Config, String> {
    let text = with_route("").replace(
        "secrets/acme-openrouter}]}",
        &format!("secrets/acme-openrouter}}], api_key: {{file: key}}}}\n    media: {{{keys}}}"),
    );
    load_with(&(text + rest), Role::Both, &[("key", "sk-or-v1-hunter2\n", 0o600)])
}

#[test]
fn links_are_off_unless_they_are_on() {
    for keys in ["", "mode: off"] {
        let config = load_media(keys, "").unwrap();
        assert_eq!(config.tenants["acme"].media, None, "{keys}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
    let media = |keys| load_media(keys, PUBLIC_URL).unwrap().tenants["acme"].media.clone().unwrap();
    let day = Duration::from_secs(86_400);
    assert_eq!(media("mode: link"), Media { link_life: day, max_bytes: 256 << 20, keep: None });
    let all = media("mode: link, link_life: 2d, max_bytes: 1GiB");
    assert_eq!(all, Media { link_life: 2 * day, max_bytes: 1 << 30, keep: None });
    let keep = |keys| media(keys).keep.unwrap();
    assert_eq!(keep("mode: keep"), Keep { wait: Duration::from_secs(120), directory: None });
    let directory = Some("/var/lib/videos".into());
    let all = keep("mode: keep, wait: 30s, directory: /var/lib/videos");
    assert_eq!(all, Keep { wait: Duration::from_secs(30), directory });
    let home = keep("mode: keep, directory: ~/.hermes/cache/videos").directory.unwrap();
    assert!(home.is_absolute() && home.ends_with(".hermes/cache/videos"), "{home:?}");
}

#[test]
fn each_fault_says_where_it_is_and_what_to_write() {
    for (keys, rest, expected) in [
        ("mode: store", PUBLIC_URL, ":5:19: unknown mode\n  help: write mode: link, mode: keep or mode: off"),
        ("mode: link", "", ":5:19: tenant acme has media.mode: link, and there is no ingress.public_url"),
        ("mode: link, link_life: 1s", PUBLIC_URL, ":5:36: media.link_life is out of range"),
        ("mode: link, max_bytes: 1MB", PUBLIC_URL, ":5:36: media.max_bytes is not a number of bytes"),
        ("mode: keep, wait: 2h", PUBLIC_URL, ":5:31: media.wait is out of range"),
        (
            "mode: keep, directory: videos",
            PUBLIC_URL,
            "media.directory of tenant acme is not an absolute path",
        ),
        ("mode: keep", "", ":5:19: tenant acme has media.mode: keep, and there is no ingress.public_url"),
    ] {
        let error = load_media(keys, rest).unwrap_err();
        assert!(error.contains(expected) && error.contains("help: "), "{keys}: {error}");
    }
    let without_key =
        with_route("").replace("    routes:", "    media: {mode: link}\n    routes:") + PUBLIC_URL;
    let error = load_text(&without_key).unwrap_err();
    assert!(error.contains("5:19: tenant acme has media.mode: link and no openrouter.api_key"), "{error}");
}

#[test]
fn what_nothing_uses_is_warned_of() {
    let warnings = load_media("link_life: 1h, max_bytes: 1MiB", "").unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].to_string().starts_with("5:24: tenant acme has media.link_life and no mode: link"));
    let warnings = load_media("mode: link, wait: 1m, directory: /v", PUBLIC_URL).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].to_string().contains("tenant acme has media.wait and no mode: keep"), "{warnings:?}");
}
