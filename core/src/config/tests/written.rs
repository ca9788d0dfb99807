//! Written values that are accepted, or refused with a remedy.

use super::*;

fn error(text: &str) -> String {
    load_text(text).err().unwrap_or_else(|| panic!("it is taken: {text}"))
}

fn warnings(line: &str) -> Vec<String> {
    load_text(&with_route(line)).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn own_keys_hold_what_anchors_are_on() {
    let text = "x-defaults: &defaults {pace: 5/s, timeout: 7s}\nx-list: [1, {a: b}]\n".to_owned()
        + &with_route("<<: *defaults\n        retry: {max_age: 1h}");
    let config = load_text(&text).unwrap();
    let route = config.route("acme", "video").unwrap();
    assert_eq!(
        (route.timeout, route.pace),
        (Duration::from_secs(7), Some(Pace { count: 5, window: Duration::from_secs(1) }))
    );

    // They are no settings, but values with their anchors are.
    let (_directory, path) = write(&text);
    let before = read_for(&path, Role::Both, Missing::Refused).settings;
    fs::write(&path, text.replace("[1, {a: b}]", "[2]").replace("timeout: 7s", "timeout: 8s")).unwrap();
    let after = read_for(&path, Role::Both, Missing::Refused).settings;
    let changed: Vec<_> = after.since(&before).into_keys().collect();
    assert_eq!(changed, ["tenants.acme.routes.video.timeout"]);

    assert_eq!(
        error(&with_route("x-mine: 1")),
        "talaria.yaml:9:9: unknown key x-mine\n  help: keys of your own, which begin with x-, stand at the top of the file"
    );
}

#[test]
fn a_key_that_is_not_known_says_what_is_meant_or_where_it_belongs() {
    let route = |line: &str| with_route(line);
    let top = |line: &str| with_route("") + line;
    for (text, expected) in [
        (route("promt: x"), "9:9: unknown key promt\n  help: write prompt, if that is meant"),
        (route("deliverOnly: true"), "unknown key deliverOnly\n  help: write deliver_only"),
        (top("tennants: {}"), "10:1: unknown key tennants\n  help: write tenants"),
        (
            route("public_url: x"),
            "unknown key public_url\n  help: public_url is a key of ingress: is it indented as the keys there?",
        ),
        (route("networks: [private]"), "networks is a key of a tenant: is it indented"),
        (
            with_route("")
                .replace("    routes:", "      routes:")
                .replace("{secrets: [{file: secrets/acme-openrouter}]}", "\n      secrets: [{file: x}]"),
            "unknown key routes\n  help: routes is a key of a tenant: is it indented as the keys there? Otherwise, the keys here are secrets, tolerance",
        ),
        (
            top("nonsense: 1"),
            "unknown key nonsense\n  help: the keys here are ingress, relay, console, admin,",
        ),
        (top("bus: {kafka: {}}"), "unknown key kafka\n  help: the keys here are nats"),
    ] {
        let found = error(&text);
        assert!(found.contains(expected), "{found}");
    }
}

/// Words of a parser or of Rust.
const JARGON: [&str; 14] = [
    "field",
    "struct",
    "deserialize",
    "serde",
    "variant",
    "mapping",
    "sequence",
    "scalar",
    "Option",
    "expected `",
    "invalid type",
    "visitor",
    "usize",
    "u16",
];

#[test]
fn no_error_speaks_of_rust_or_of_the_grammar_of_yaml() {
    let route = |line: &str| with_route(line);
    let top = |line: &str| with_route("") + line;
    let texts = [
        route("url: x"),
        route("colour: red"),
        route("events: video"),
        route("events: {a: b}"),
        route("prompt: [a]"),
        route("prompt: {a: b}"),
        route("guard: off"),
        route("guard: [commands]"),
        route("deliver_only: 5"),
        route("in_flight: many"),
        route("in_flight: 70000"),
        route("in_flight: -1"),
        route("retry: {schedule: 1s}"),
        route("timeout: [1s]"),
        route("filters: [{}]"),
        route("headers: [a]"),
        route("headers: {X-A: [b]}"),
        route("tls: yes"),
        route("<<: 5"),
        route("prompt: *nothing"),
        top("ingress: 5"),
        top("ingress: [a]"),
        top("ingress: {limits: {connections: {}}}"),
        top("ingress: {trusted_proxies: private}"),
        top("relay: {tokens: {a: b}}"),
        top("relay: {tokens: [a]}"),
        top("relay: {tokens: [{name: a}]}"),
        top("bus: [embedded]"),
        top("bus: kafka"),
        top("bus: {nats: {}}"),
        top("telemetry: {}"),
        top("---\na: b"),
        top("retention: {}"),
        "tenants: 5".into(),
        "tenants: [a]".into(),
        "tenants: {a: 5}".into(),
        "tenants: {a: }".into(),
        "tenants: {a: {}}".into(),
        "tenants: {a: {openrouter: {}}}".into(),
        "tenants: {a: {openrouter: {secrets: }}}".into(),
        "tenants: {a: {openrouter: {secrets: [{file: x}]}, routes: {r: }}}".into(),
        "tenants: {a: {openrouter: {secrets: [{file: x}]}, routes: {r: {}}}}".into(),
        "tenants: {a: {openrouter: {secrets: [{file: x}]}, routes: {r: {url: }}}}".into(),
        "tenants: {a: {openrouter: {secrets: [{file: }]}}}".into(),
        "just text".into(),
        "- a".into(),
        "5".into(),
    ];
    let mut wrong = Vec::new();
    for text in texts {
        let Err(found) = load_text(&text) else {
            wrong.push(format!("it is taken: {text}"));
            continue;
        };
        let message = found.split("help:").next().unwrap_or_default();
        if JARGON.iter().any(|word| message.contains(word)) || !found.contains("help: ") {
            wrong.push(format!("{found}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_tab_is_named_where_it_is() {
    for (line, place) in [
        ("\tpace: 5/s", "9:9"),
        ("pace: 5/s\n\ttimeout: 1s", "10:1"),
        ("pace: 5/s\n      \ttimeout: 1s\n        retry: {}", "10:7"),
    ] {
        let found = error(&with_route(line));
        assert!(
            found.starts_with(&format!(
                "talaria.yaml:{place}: a tab indents this line\n  help: YAML is indented with blanks"
            )),
            "{found}"
        );
    }
    let text = with_route("prompt: |\n          a\n          \tb\n        pace: 5/s");
    assert!(load_text(&text).is_ok(), "in a text it is a letter");
}

#[test]
fn wrong_indentation_is_named_in_the_line_that_is_wrong() {
    for (line, expected) in [
        (
            "pace: 5/s\n       timeout: 1s",
            "10:8: this line is indented by 7, and the lines above by 6 or 8\n  help: indent it by 6 or 8, as the keys that it belongs to",
        ),
        (
            "pace: 5/s\n          timeout: 1s",
            "10:11: this line is indented by 10, deeper than the line above, which has a value already\n  help: indent it by 8, if",
        ),
        (
            "pace: 5/s\n   timeout: 1s\n        body: raw",
            "10:4: this line is indented by 3, and the lines above by 2 or 8",
        ),
        (
            "retry:\n          jitter: 5%\n         max_age: 1h\n        pace: 5/s",
            "11:10: this line is indented by 9",
        ),
    ] {
        let found = error(&with_route(line));
        assert!(found.starts_with(&format!("talaria.yaml:{expected}")), "{line}: {found}");
    }
    for fine in [
        "events:\n        - a.b\n        - c.d",
        "filters:\n          - field: data.id\n            equals: a\n          - field: data.x\n            exists: true",
        "prompt: >-\n          deep\n            deeper\n        pace: 5/s",
        "extra: {\n    a: b,\n  }",
        "# a comment\n   # another\n        pace: 5/s",
    ] {
        assert!(load_text(&with_route(fine)).is_ok(), "{fine}: {:?}", load_text(&with_route(fine)).err());
    }
}

#[test]
fn a_value_that_needs_quotes_says_so() {
    for (line, expected) in [
        ("prompt: Done: {data.id}", "9:17: the value of prompt holds a colon, which begins another value"),
        ("prompt: {data.id} is done", "9:17: the value of prompt begins with {, which begins a map"),
        ("prompt: {data.id}", "9:17: the value of prompt begins with {, which begins a map"),
        ("prompt: @file is done: x", "9:17: the value of prompt begins with @"),
    ] {
        let found = error(&with_route(line));
        assert!(
            found.starts_with(&format!("talaria.yaml:{expected}"))
                && found.contains("put the whole value in quotes: prompt: "),
            "{found}"
        );
    }
}

#[test]
fn numbers_that_begin_with_a_zero_are_refused_beside_all_other_faults() {
    let found = error(&with_route("filters: {field: data.code, equals: 010}\n        pace: fast"));
    assert!(found.contains("9:45: 010 begins with a zero") && found.contains("10:15: not a pace"), "{found}");
    let found = error(&with_route("extra: {chat_id: 0123}"));
    assert!(found.contains("help: write \"0123\" where text is meant"), "{found}");
}

#[test]
fn sizes_may_have_a_unit_wherever_bytes_are_counted() {
    let text = "ingress: {max_body_bytes: 1MiB, max_head_bytes: 64KiB, limits: {bodies: 32MiB}}\n".to_owned()
        + &with_route("max_body_bytes: 512KiB");
    let config = load_text(&text).unwrap();
    assert_eq!((config.ingress.max_body_bytes, config.ingress.max_head_bytes), (1 << 20, 64 << 10));
    assert_eq!(
        (config.ingress.limits.bodies, config.route("acme", "video").unwrap().max_body_bytes),
        (32 << 20, 512 << 10)
    );
    let found = error(&with_route("max_body_bytes: 1MB"));
    assert!(found.contains("9:25: max_body_bytes is not a number of bytes\n  help: write a number from 1 to 67108864, or one with a unit such as"), "{found}");
}

#[test]
fn a_public_url_that_openrouter_would_not_call_is_refused() {
    for (url, expected) in [
        ("https://h/callbacks/me", "1:23: the public URL holds the path of the callbacks"),
        ("http://h", "1:23: OpenRouter calls https:// alone"),
    ] {
        let found = error(&(format!("ingress: {{public_url: {url}}}\n") + &with_route("")));
        assert!(found.contains(expected), "{found}");
    }
    let found = error(&with_route("").replace("/webhooks/openrouter-video", ""));
    assert!(
        found.contains("7:14: the URL has no path")
            && found.contains("write http://127.0.0.1:8644/webhooks/NAME"),
        "{found}"
    );
}

#[test]
fn the_profile_of_a_url_is_known() {
    let profile = |path: &str| {
        let config = load_text(&with_route("").replace("/webhooks/openrouter-video", path)).unwrap();
        config.route("acme", "video").unwrap().hermes_profile().map(str::to_owned)
    };
    assert_eq!(profile("/p/work/webhooks/v").as_deref(), Some("work"));
    assert_eq!(profile("/behind/a/proxy/p/work/webhooks/v").as_deref(), Some("work"));
    for path in ["/webhooks/v", "/p/webhooks/v", "/x/work/webhooks/v", "/p/work/hooks/v"] {
        assert_eq!(profile(path), None, "{path}");
    }
}

fn with_secret(bytes: &[u8]) -> Result<Config, String> {
    let (directory, path) = write(&with_route(""));
    fs::write(directory.path().join("secrets/acme-openrouter"), bytes).unwrap();
    load(&path).map_err(|error| error.to_string())
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_secret() {
    let config = with_secret("\u{feff}top secret\r\n".as_bytes()).unwrap();
    assert_eq!(config.tenants["acme"].secrets[0].expose_secret(), "top secret");
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain("abc".bytes().flat_map(|b| [b, 0])).collect();
    assert!(with_secret(&utf16).unwrap_err().contains("it is UTF-16: save it as UTF-8"));
}

#[test]
fn an_invisible_character_in_a_secret_is_refused_and_named() {
    let invisible = [
        '\u{a0}', '\u{ad}', '\u{200b}', '\u{200d}', '\u{200e}', '\u{202e}', '\u{2028}', '\u{2029}',
        '\u{2060}', '\u{3000}', '\u{feff}',
    ];
    for c in invisible {
        let code = format!("U+{:04X}", u32::from(c));
        for (secret, place) in [(format!("secret{c}"), "at its end"), (format!("se{c}cret"), "in it")] {
            let found = with_secret(secret.as_bytes()).unwrap_err();
            assert!(found.contains(&format!("has a character {place} that is invisible, {code}")), "{found}");
            assert!(
                !found.contains("cret\u{0}") && !found.contains(&secret),
                "the secret itself is not shown"
            );
        }
    }
    let found = with_secret("\u{200b}secret".as_bytes()).unwrap_err();
    assert!(found.contains("at its beginning that is invisible, U+200B"), "{found}");
    assert!(with_secret("größe-秘密".as_bytes()).is_ok(), "letters of any script are seen");
}

#[test]
fn characters_that_may_have_been_copied_with_a_secret_are_warned_of() {
    for (secret, odd) in [
        (" secret", "white space at an end"),
        ("secret ", "white space at an end"),
        ("\"secret\"", "a quote at an end"),
        ("'secret'", "a quote at an end"),
        ("“secret”", "a quote at an end"),
        ("secret'", "a quote at an end"),
        ("v1,c2VjcmV0", "v1, in front"),
    ] {
        let config = with_secret(secret.as_bytes()).unwrap();
        assert_eq!(config.tenants["acme"].secrets[0].expose_secret(), secret, "it is taken as it is");
        let found: Vec<_> =
            config.warnings.iter().map(ToString::to_string).filter(|warning| warning.contains(odd)).collect();
        assert!(found.len() == 1 && !found[0].contains("c2Vj"), "{secret}: {:?}", config.warnings);
    }
    assert!(
        with_secret(b"se cret \"x\" v1,")
            .unwrap()
            .warnings
            .iter()
            .all(|warning| !warning.what.contains("has a"))
    );
}

#[test]
fn every_kind_of_secret_is_checked() {
    let (directory, path) = write(&with_route("headers: {X-A: {file: odd}}"));
    for (name, expected) in
        [("secrets/acme-openrouter", ":4:"), ("secrets/acme-hermes", ":8:"), ("odd", ":9:")]
    {
        write_secret(&directory.path().join("odd"), "plain", 0o600);
        write_secret(&directory.path().join("secrets/acme-openrouter"), "plain", 0o600);
        write_secret(&directory.path().join("secrets/acme-hermes"), "plain", 0o600);
        write_secret(&directory.path().join(name), "\"quoted\"", 0o600);
        let warnings = load(&path).unwrap().warnings;
        assert!(
            warnings.len() == 1 && warnings[0].what.contains("a quote at an end"),
            "{name}: {warnings:?}"
        );
        assert_eq!(format!(":{}:", warnings[0].line), expected, "{name}");
        write_secret(&directory.path().join(name), "inv\u{200b}isible", 0o600);
        assert!(load(&path).is_err(), "{name}");
    }
}

#[test]
fn a_tilde_is_the_home_wherever_a_path_is_written() {
    let home = std::env::home_dir().unwrap();
    let place = home.display().to_string();
    let config =
        load_text(&(with_route("") + "data_dir: ~/talaria\ntunnel: {cloudflared: ~/bin/cloudflared}\n"))
            .unwrap();
    assert_eq!(
        (config.data_dir, config.tunnel.cloudflared),
        (home.join("talaria"), home.join("bin/cloudflared"))
    );
    let nowhere = "~/.talaria-test-nowhere";
    for (line, top) in [
        (format!("headers: {{X-A: {{file: {nowhere}/a}}}}"), String::new()),
        (format!("tls: {{ca: {nowhere}/a}}"), String::new()),
        (String::new(), format!("telemetry: {{otlp: 'https://c:4317', ca: {nowhere}/a}}")),
        (String::new(), format!("relay: {{tls: {{cert: {nowhere}/a, key: {nowhere}/a}}}}")),
        (String::new(), format!("bus: {{nats: {{servers: ['nats://n'], creds: {{file: {nowhere}/a}}}}}}")),
        (String::new(), format!("bus: {{nats: {{servers: ['nats://n'], nkey: {{file: {nowhere}/a}}}}}}")),
        (String::new(), format!("bus: {{nats: {{servers: ['nats://n'], tls: {{ca: {nowhere}/a}}}}}}")),
    ] {
        let found = error(&(with_route(&line) + &top));
        assert!(found.contains(&format!("{place}/.talaria-test-nowhere/a")), "{line}{top}: {found}");
    }
    assert!(error(&(with_route("") + "data_dir: ~bob/talaria\n")).contains("another user's home"));
}

#[test]
fn a_prompt_that_would_show_braces_is_warned_of() {
    assert!(warnings("prompt: '{data.unsigned_urls}'")[0].contains("9:17: the prompt of route acme/video names {data.unsigned_urls}, which callbacks of the types video.generation.failed"));
    assert!(warnings("prompt: '{payload}'")[0].contains("write {__raw__} for the whole payload"));
    assert!(
        warnings("extra: {chat_id: '{data.chat}', n: 5}")[0]
            .contains("9:16: extra.chat_id of route acme/video names {data.chat}")
    );
    for fine in [
        "prompt: '{data.unsigned_urls}'\n        events: [video.generation.completed]",
        "prompt: '{data.error}'\n        filters: {field: data.status, in: [failed]}",
        "prompt: '{data.pixels}'\n        events: ['image.*']",
        "prompt: '{data}'",
        "prompt: ''",
    ] {
        assert_eq!(warnings(fine), Vec::<String>::new(), "{fine}");
    }
    assert!(
        warnings("events: [video.generation.complete]")[0]
            .contains("9:18: video.generation.complete is none of the types that OpenRouter documents")
    );
    assert_eq!(warnings("events: ['video.*', image.done]"), Vec::<String>::new());
}

#[test]
fn a_broken_file_still_says_where_to_ask() {
    let guess = |text: &str| {
        let (_directory, path) = write(text);
        assert!(load_addresses(&path).is_err());
        let Addresses { grpc, grpc_tls, admin, .. } = guess_addresses(&path);
        (grpc.to_string(), grpc_tls, admin.to_string())
    };
    let asked = |grpc: &str, tls, admin: &str| (grpc.to_owned(), tls, admin.to_owned());
    assert_eq!(guess("tenants: ["), asked("127.0.0.1:50051", false, "127.0.0.1:9090"));
    assert_eq!(
        guess("relay: {grpc: 127.0.0.1:7, tls: {}}\nadmin: {listen: nowhere}\nnonsense: 1"),
        asked("127.0.0.1:7", true, "127.0.0.1:9090")
    );
    assert_eq!(guess_addresses(Path::new("/nowhere/talaria.yaml")).grpc.port(), 50051);
}

#[test]
fn reports_of_runs_need_an_agent_and_the_console() {
    let within = |line: &str| load_text(&with_route(line)).unwrap().route("acme", "video").unwrap().runs;
    assert_eq!(within("runs: 1h"), Some(crate::time::HOUR));
    assert_eq!((within("runs: off"), within("")), (None, None));
    let about_runs = |text: &str| {
        let warnings = load_text(text).unwrap().warnings;
        warnings
            .iter()
            .filter(|warning| warning.what.contains("runs"))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(about_runs(&with_route("runs: 1h")), Vec::<String>::new());
    let off = "console: {listen: off}\n";
    let warned = about_runs(&(with_route("runs: 1h") + off));
    assert!(warned.len() == 1 && warned[0].contains("which come to console.listen"), "{warned:?}");
    assert_eq!(about_runs(&(with_route("runs: off") + off)), Vec::<String>::new());
    let direct = load_text(&with_route("runs: 1h\n        deliver_only: true")).unwrap_err();
    assert!(direct.contains("9:15: route acme/video is deliver_only"), "{direct}");
}
