//! The differences of two files, and the reload from one to the other.

use super::*;

const TWO: &str = "\
retention: 7d
tenants:
  acme:
    openrouter: {secrets: [{file: secrets/acme-openrouter}]}
    routes:
      video: {url: 'https://hermes.example/webhooks/v', secret: {file: secrets/acme-hermes}, headers: {X-A: b}}
      other: {url: 'https://hermes.example/webhooks/o', secret: {file: secrets/acme-hermes}, prompt: '{data.id}'}
  else:
    openrouter: {secrets: [{file: secrets/acme-openrouter}]}
    routes: {r: {url: 'https://hermes.example/webhooks/r', secret: {env: PATH}}}
";

/// A file that is changed.
struct Both {
    directory: TempDir,
    path: PathBuf,
}

impl Both {
    fn new() -> Self {
        let (directory, path) = write(TWO);
        Self { directory, path }
    }

    fn read(&self, role: Role) -> (Settings, Config) {
        let Reading { settings, config } = read_for(&self.path, role, Missing::Refused);
        (settings, config.unwrap())
    }

    fn changed(&self, from: &str, to: &str) -> (Config, BTreeMap<String, Difference>, Reloaded) {
        let (older, running) = self.read(Role::Both);
        assert!(TWO.contains(from), "{from}");
        fs::write(&self.path, TWO.replace(from, to)).unwrap();
        let (newer, read) = self.read(Role::Both);
        let differences = newer.since(&older);
        let reloaded = reload(Role::Both, &running, read, &differences).unwrap();
        (running, differences, reloaded)
    }
}

fn keys(differences: &BTreeMap<String, Difference>) -> Vec<(&str, Difference)> {
    differences.iter().map(|(key, difference)| (key.as_str(), *difference)).collect()
}

/// The routes with the same `Arc` as before.
fn same(before: &Config, after: &Config) -> Vec<String> {
    let is_same = |t: &str, r: &str| Arc::ptr_eq(before.route(t, r).unwrap(), after.route(t, r).unwrap());
    let routes = after.routes().filter(|(t, r)| before.route(&t.name, &r.name).is_some());
    routes.filter(|(t, r)| is_same(&t.name, &r.name)).map(|(t, r)| format!("{}/{}", t.name, r.name)).collect()
}

#[test]
fn another_order_style_or_comment_is_the_same() {
    for (from, to) in [
        ("prompt: '{data.id}'", "prompt: \"{data.id}\""),
        ("retention: 7d\n", "# So.\n\nretention:   7d # and so\n"),
        (
            "url: 'https://hermes.example/webhooks/o', secret: {file: secrets/acme-hermes}",
            "secret: {file: secrets/acme-hermes}, url: https://hermes.example/webhooks/o",
        ),
    ] {
        let (running, differences, reloaded) = Both::new().changed(from, to);
        assert!(differences.is_empty(), "{to}: {differences:?}");
        assert_eq!(same(&running, &reloaded.config).len(), 3);
    }
}

#[test]
fn changes_are_known_by_key_and_unchanged_values_keep_their_arc() {
    use Difference::{Added, Changed, Removed};
    let (running, differences, reloaded) = Both::new().changed("prompt: '{data.id}'", "pace: off");
    let expected = [("tenants.acme.routes.other.pace", Added), ("tenants.acme.routes.other.prompt", Removed)];
    assert_eq!(keys(&differences), expected);
    assert_eq!(reloaded.changes.to_string(), "changed route acme/other");
    assert_eq!(same(&running, &reloaded.config), ["acme/video", "else/r"]);
    assert!(Arc::ptr_eq(&running.tenants["else"], &reloaded.config.tenants["else"]));
    assert_eq!(reloaded.config.route("acme", "other").unwrap().pace, None);

    let (running, differences, reloaded) = Both::new().changed("headers: {X-A: b}", "headers: {X-A: c}");
    assert_eq!(keys(&differences), [("tenants.acme.routes.video.headers.X-A", Changed)]);
    assert_eq!(same(&running, &reloaded.config), ["acme/other", "else/r"]);

    // A name is no prefix of another.
    let (running, _, reloaded) = Both::new().changed("      other: {", "      video-2: {");
    assert_eq!(same(&running, &reloaded.config), ["acme/video", "else/r"]);

    // OpenRouter's settings do not affect routes; networks and defaults do.
    let (running, _, reloaded) =
        Both::new().changed("  acme:\n    openrouter: {", "  acme:\n    openrouter: {tolerance: 1m, ");
    assert_eq!(reloaded.changes.to_string(), "changed tenant acme");
    assert_eq!(same(&running, &reloaded.config), ["acme/other", "acme/video", "else/r"]);
    assert_eq!(reloaded.config.tenants["acme"].tolerance, Duration::from_secs(60));
    let (running, _, reloaded) = Both::new().changed("  acme:\n", "  acme:\n    networks: [private]\n");
    assert_eq!(same(&running, &reloaded.config), ["else/r"]);
    let (running, _, reloaded) = Both::new().changed("retention: 7d", "retention: 2d");
    assert_eq!(reloaded.changes.to_string(), "changed retention");
    assert!(same(&running, &reloaded.config).is_empty());
    let max_age = |config: &Config| config.route("else", "r").unwrap().retry.max_age;
    assert!(max_age(&reloaded.config) < max_age(&running));
}

#[test]
fn tenants_and_routes_come_and_go_by_name() {
    let (before, _, reloaded) = Both::new().changed("      other: {", "      another: {");
    assert_eq!(reloaded.changes.to_string(), "added route acme/another; removed route acme/other");
    assert_eq!(same(&before, &reloaded.config), ["acme/video", "else/r"]);
    let (_, _, reloaded) = Both::new().changed("  else:\n", "  new:\n");
    assert_eq!(
        reloaded.changes.to_string(),
        "added route new/r, tenant new; removed route else/r, tenant else"
    );
}

#[test]
fn a_secret_that_is_rotated_in_its_file_is_a_change_for_those_who_read_it() {
    for (role, secret, expected) in [
        (
            Role::Relay,
            "acme-hermes",
            &["tenants.acme.routes.other.secret", "tenants.acme.routes.video.secret"][..],
        ),
        (Role::Ingress, "acme-hermes", &[]),
        (
            Role::Ingress,
            "acme-openrouter",
            &["tenants.acme.openrouter.secrets", "tenants.else.openrouter.secrets"],
        ),
        (Role::Relay, "acme-openrouter", &[]),
    ] {
        let both = Both::new();
        let read = || Settings::read(TWO, both.directory.path(), role);
        let before = read();
        fs::write(both.directory.path().join("secrets").join(secret), "rotated").unwrap();
        let differences = read().since(&before);
        assert_eq!(differences.keys().collect::<Vec<_>>(), expected, "{role:?} {secret}");
        let of_role = if role == Role::Relay { "acme-hermes" } else { "acme-openrouter" };
        assert_eq!(before.files(), [both.directory.path().join("secrets").join(of_role)], "{role:?}");
    }
}

#[test]
fn fixed_settings_stay_and_are_named() {
    let both = Both::new();
    let (running, _, reloaded) = both.changed(
        "retention: 7d",
        "retention: 1d\nrelay: {grpc: 127.0.0.1:1, in_flight: 9}\ningress: {listen: 127.0.0.1:2}\nconsole: {listen: off, names: [here]}\nadmin: {listen: 127.0.0.1:3}\ndata_dir: elsewhere\nbus: {nats: {servers: [nats://n:4222]}}",
    );
    assert_eq!(
        reloaded.needs_restart,
        ["ingress.listen", "relay.grpc", "console.listen", "admin.listen", "bus", "data_dir"]
    );
    assert_eq!(reloaded.config.console.listen, running.console.listen);
    assert_eq!(reloaded.config.console.names, ["here"], "names come into force at once");
    assert_eq!(reloaded.config.relay.grpc, running.relay.grpc);
    assert_eq!(reloaded.config.data_dir, running.data_dir);
    assert!(matches!(reloaded.config.bus, BusKind::Embedded));
    assert_eq!(
        (reloaded.config.relay.in_flight, reloaded.config.retention),
        (9, Duration::from_secs(86_400))
    );
    // A process of another role needs no restart.
    let (_, read) = both.read(Role::Both);
    assert_eq!(
        reload(Role::Ingress, &running, read.clone(), &BTreeMap::new()).unwrap().needs_restart,
        ["ingress.listen", "admin.listen", "bus"]
    );
    assert_eq!(
        reload(Role::Relay, &running, read, &BTreeMap::new()).unwrap().needs_restart,
        ["relay.grpc", "console.listen", "admin.listen", "bus", "data_dir"]
    );
    assert!(super::super::reload::needs_restart("bus.nats.servers", Role::Ingress));
    assert!(!super::super::reload::needs_restart("relay.grpc", Role::Ingress));
    assert!(!super::super::reload::needs_restart("business", Role::Both));
    // The written default is the same address.
    let (_, differences, reloaded) = Both::new().changed("retention: 7d", "relay: {grpc: 127.0.0.1:50051}");
    assert!(!differences.is_empty() && reloaded.needs_restart.is_empty());
}

#[test]
fn fingerprints_show_equality_and_nothing_else() {
    let both = Both::new();
    let (settings, _) = both.read(Role::Both);
    let fingerprints = settings.fingerprints(&[7; settings::SALT]);
    assert_eq!(fingerprints, settings.fingerprints(&[7; settings::SALT]));
    let other = settings.fingerprints(&[8; settings::SALT]);
    assert!(
        fingerprints.iter().all(|(key, fingerprint)| other[key] != *fingerprint || fingerprint.len() == 4)
    );
    let long = |key: &str| fingerprints[key].len();
    assert_eq!((long("retention"), long("tenants.acme.routes.video.url")), (16, 16));
    // Possible secrets have short ones.
    assert_eq!(long("tenants.acme.routes.video.secret"), 4);
    assert_eq!(long("tenants.acme.openrouter.secrets"), 4);
    assert_eq!(long("tenants.acme.routes.video.headers.X-A"), 4);
    assert!(!format!("{settings:?} {fingerprints:?}").contains("acme-hermes-secret"));
    // `with_older` includes the keys below.
    fs::write(&both.path, TWO.replace("retention: 7d", "bus: {nats: {servers: [nats://n:4222]}}\nbusy: 1"))
        .unwrap();
    let newer = Settings::read(&fs::read_to_string(&both.path).unwrap(), both.directory.path(), Role::Both);
    let kept = newer.with_older("bus", &settings);
    assert_eq!(
        keys(&kept.since(&settings)),
        [("busy", Difference::Added), ("retention", Difference::Removed)]
    );
}

#[test]
fn an_invalid_file_has_settings_too() {
    let both = Both::new();
    let (settings, _) = both.read(Role::Both);
    fs::write(&both.path, "tenants: [").unwrap();
    let Reading { settings: broken, config } = read_for(&both.path, Role::Both, Missing::Refused);
    assert!(!broken.since(&settings).is_empty());
    let problems = config.unwrap_err().into_problems();
    assert_eq!((problems.len(), problems[0].line), (1, 1), "{problems:?}");
    // An invalid file names files whose change may make it valid.
    fs::write(&both.path, TWO.replace("secrets/acme-hermes", "secrets/later")).unwrap();
    let Reading { settings, config } = read_for(&both.path, Role::Both, Missing::Refused);
    assert!(config.is_err() && settings.files().contains(&both.directory.path().join("secrets/later")));
    fs::remove_file(&both.path).unwrap();
    let problems = read_for(&both.path, Role::Both, Missing::Refused).config.unwrap_err().into_problems();
    assert!(problems[0].line == 0 && problems[0].what.contains("cannot read"), "{problems:?}");
}

#[test]
fn tokens_cannot_be_removed_while_the_address_stays() {
    let both = Both::new();
    let token = crate::token::TokenHash::of(b"a token");
    let guarded = format!(
        "relay: {{grpc: 0.0.0.0:50051, tokens: [{{name: ops, scope: read, hashes: ['{token}']}}]}}\n{TWO}"
    );
    fs::write(&both.path, guarded).unwrap();
    let (older, running) = both.read(Role::Both);
    fs::write(&both.path, TWO).unwrap();
    let (newer, read) = both.read(Role::Both);
    let differences = newer.since(&older);
    let problem = reload(Role::Both, &running, read.clone(), &differences).unwrap_err();
    assert!(
        problem.what.starts_with("relay.grpc stays 0.0.0.0:50051 until a restart, and whoever"),
        "{problem}"
    );
    // A process of another role does not listen there.
    assert!(reload(Role::Ingress, &running, read, &differences).is_ok());
}

/// The configuration of a running process.
fn tolerated(both: &Both, text: &str) -> Result<Config, Error> {
    fs::write(&both.path, text).unwrap();
    read_for(&both.path, Role::Ingress, Missing::Tolerated).config
}

const SHARED: &str = "bus: {nats: {servers: [nats://n:4222]}}
tenants:
  acme: {openrouter: {secrets: [{file: secrets/acme-openrouter}, {file: secrets/new}]}}
  other: {openrouter: {secrets: [{file: secrets/other}]}}
";

#[test]
fn a_tenant_whose_secret_is_missing_takes_down_no_other() {
    let both = Both::new();
    let config = tolerated(&both, SHARED).unwrap();
    let (acme, other) = (&config.tenants["acme"], &config.tenants["other"]);
    // The first tenant has a readable secret, and the second has none.
    assert_eq!((acme.secrets.len(), acme.unread.len(), acme.down()), (1, 1, None));
    let problem = other.down().unwrap();
    assert!(problem.line == 4 && problem.what.contains("cannot read the secret in "), "{problem}");
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert!(
        warnings[0].starts_with("tenant acme: cannot") && warnings[0].ends_with("; its other ones are used")
    );
    assert!(
        warnings[1].starts_with("tenant other: ")
            && warnings[1].ends_with("; its callbacks are answered 503")
    );
    // `check` still fails, and so does a start without any working tenant.
    assert_eq!(load_for(&both.path, Role::Ingress).unwrap_err().into_problems().len(), 2);
    let alone = SHARED.replace("secrets/acme-openrouter", "secrets/away");
    assert_eq!(tolerated(&both, &alone).unwrap_err().into_problems().len(), 3);
    // A relay reads none of them.
    let relay = read_for(&both.path, Role::Relay, Missing::Tolerated).config.unwrap();
    assert!(relay.tenants.values().all(|tenant| tenant.down().is_none() && tenant.unread.is_empty()));
}

const ROUTES: &str = "bus: {nats: {servers: [nats://n:4222]}}
tenants:
  acme:
    openrouter: {secrets: [{file: secrets/acme-openrouter}]}
    routes:
      works: {url: 'http://127.0.0.1/webhooks/a', secret: {file: secrets/acme-openrouter}}
      rotates: {url: 'http://127.0.0.1/webhooks/b', secret: [{file: secrets/new}, {file: secrets/acme-openrouter}]}
      lacks: {url: 'http://127.0.0.1/webhooks/c', secret: {file: secrets/new}}
      heads: {url: 'http://127.0.0.1/webhooks/d', secret: {file: secrets/acme-openrouter}, headers: {X-Key: {file: secrets/new}}}
    networks: [loopback]
";

#[test]
fn a_route_whose_secret_is_missing_takes_down_no_other() {
    let both = Both::new();
    fs::write(&both.path, ROUTES).unwrap();
    let read = |role| read_for(&both.path, role, Missing::Tolerated).config.unwrap();
    let config = read(Role::Relay);
    let state = |name: &str| {
        let route = config.route("acme", name).unwrap();
        (route.secrets.len(), route.unread.len(), route.down.is_some())
    };
    assert_eq!(state("works"), (1, 0, false));
    assert_eq!(state("rotates"), (1, 1, false), "it has another secret");
    assert_eq!((state("lacks"), state("heads")), ((0, 1, true), (1, 1, true)));
    let down = config.route("acme", "lacks").unwrap().down.as_ref().unwrap();
    assert!(down.line == 8 && down.what.contains("cannot read the secret in "), "{down}");
    let warned = |start: &str, end: &str| {
        let mut warnings = config.warnings.iter().map(|warning| warning.what.as_str());
        assert!(
            warnings.any(|what| what.starts_with(start) && what.ends_with(end)),
            "{start}: {:?}",
            config.warnings
        );
    };
    warned("route acme/lacks: cannot read ", "; the route is down, and what is for it waits");
    warned("route acme/rotates: cannot read ", "; its other ones are used");
    // `check` still fails, and so does a start without any working route.
    assert_eq!(load_for(&both.path, Role::Relay).unwrap_err().into_problems().len(), 3);
    assert!(
        read(Role::Ingress).routes().all(|(_, route)| route.down.is_none()),
        "an ingress reads none of them"
    );
    // A missing secret may appear, and a present one may not disappear.
    let secret = both.directory.path().join("secrets/new");
    write_secret(&secret, "ours", 0o600);
    let whole = read(Role::Relay);
    let changed = [("tenants.acme.routes.lacks.secret".to_owned(), Difference::Changed)].into();
    let repaired = reload(Role::Relay, &config, whole.clone(), &changed).unwrap().config;
    assert!(repaired.route("acme", "lacks").unwrap().down.is_none());
    let problem = reload(Role::Relay, &whole, config.clone(), &changed).unwrap_err();
    assert!(problem.what.starts_with("cannot read the secret in "), "{problem}");
    let changed = [("retention".to_owned(), Difference::Changed)].into();
    assert!(
        reload(Role::Relay, &config, config.clone(), &changed).is_ok(),
        "what is missing stops no other change"
    );
    fs::remove_file(&secret).unwrap();
    fs::write(&both.path, ROUTES.replace("secrets/acme-openrouter", "secrets/away")).unwrap();
    assert!(read_for(&both.path, Role::Relay, Missing::Tolerated).config.is_err());
}

#[test]
fn a_secret_that_disappears_takes_down_no_working_tenant() {
    let both = Both::new();
    let secrets = both.directory.path().join("secrets");
    let without = tolerated(&both, SHARED).unwrap();
    write_secret(&secrets.join("other"), "theirs", 0o600);
    let partly = tolerated(&both, SHARED).unwrap();
    write_secret(&secrets.join("new"), "ours", 0o600);
    let whole = tolerated(&both, SHARED).unwrap();
    let changed = |key: &str| [(key.to_owned(), Difference::Changed)].into();
    let reload = |from: &Config, to: &Config, key| reload(Role::Ingress, from, to.clone(), &changed(key));
    let (other, acme) = ("tenants.other.openrouter.secrets", "tenants.acme.openrouter.secrets");
    // A missing secret may appear, and one that is still missing stops no other change.
    let repaired = reload(&without, &partly, other).unwrap().config;
    assert!(repaired.tenants["other"].down().is_none() && repaired.tenants["acme"].unread.len() == 1);
    assert!(reload(&partly, &whole, acme).is_ok());
    assert!(reload(&without, &without, "retention").is_ok());
    // A present secret may not disappear.
    for (from, to, key) in [(&partly, &without, other), (&whole, &partly, acme), (&whole, &without, acme)] {
        let problem = reload(from, to, key).unwrap_err();
        assert!(problem.what.starts_with("cannot read the secret in "), "{problem}");
    }
}
