//! A tenant's jobs: the key, the URL, polls and budgets.

use super::*;

/// Loads a configuration whose tenant has these keys of `openrouter`, beside a key that can be read and one that cannot.
fn load_keys(keys: &str, networks: &str, role: Role) -> Result<Config, String> {
    let text = with_route("")
        .replace("secrets/acme-openrouter}]", &format!("secrets/acme-openrouter}}], {keys}"))
        .replace("networks: [loopback]", &format!("networks: [{networks}]"));
    load_with(&text, role, &[("key", "sk-or-v1-hunter2\n", 0o600), ("odd", "sk or hunter2", 0o600)])
}

fn jobs_of(keys: &str) -> Arc<Jobs> {
    let config = load_keys(keys, "loopback", Role::Both).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.tenants["acme"].jobs.clone().unwrap()
}

#[test]
fn a_key_is_enough() {
    let jobs = jobs_of("api_key: {file: key}");
    let api = jobs.api.as_ref().unwrap();
    assert_eq!(api.key.expose_secret(), "sk-or-v1-hunter2");
    assert_eq!(api.base_url.as_str(), "https://openrouter.ai/api/v1");
    assert!(!api.networks.is_empty(), "the tenant's");
    let [first, every, slowest, give_up] = [90, 30, 300, 10_800].map(Duration::from_secs);
    assert_eq!(jobs.poll, Poll { first, every, slowest, give_up });
    assert_eq!(jobs.budget, Budget::default());
    assert!(!format!("{jobs:?}").contains("hunter2"));
    assert!(load_text(&with_route("")).unwrap().tenants["acme"].jobs.is_none());
}

/// A configuration whose tenant has these keys of `openrouter` alone.
fn load_alone(openrouter: &str, missing: Missing) -> Result<Config, String> {
    let text = with_route("").replace("{secrets: [{file: secrets/acme-openrouter}]}", openrouter);
    let (directory, path) = write(&text);
    write_secret(&directory.path().join("key"), "sk-or-v1-hunter2", 0o600);
    read_for(&path, Role::Both, missing).config.map_err(|error| error.to_string())
}

#[test]
fn a_tenant_with_a_key_and_without_secrets_only_polls() {
    for openrouter in ["{api_key: {file: key}}", "{secrets: [], api_key: {file: key}}"] {
        let config = load_alone(openrouter, Missing::Refused).unwrap();
        let tenant = &config.tenants["acme"];
        assert!(tenant.only_polls() && tenant.down().is_none() && config.warnings.is_empty());
        assert!(tenant.jobs.as_ref().unwrap().api.is_some());
    }
    let relay = with_route("")
        .replace("{secrets: [{file: secrets/acme-openrouter}]}", "{api_key: {file: none}}")
        + "bus: {nats: {servers: [nats://n:4222]}}\n";
    assert!(load_with(&relay, Role::Relay, &[]).unwrap().tenants["acme"].only_polls());
    // Without its key it does nothing, and there is no other tenant.
    for missing in [Missing::Refused, Missing::Tolerated] {
        let error = load_alone("{api_key: {file: none}}", missing).unwrap_err();
        assert!(error.contains("cannot read the secret in"), "{error}");
    }
}

#[test]
fn a_tenant_has_secrets_or_a_key() {
    for openrouter in ["{}", "{secrets: []}", "{tolerance: 1m}", "{poll: {every: 1m}}"] {
        let error = load_alone(openrouter, Missing::Refused).unwrap_err();
        let expected = ":4:17: tenant acme has no OpenRouter secret, and no openrouter.api_key to poll with";
        assert!(error.contains(expected) && error.contains("or an api_key"), "{openrouter}: {error}");
    }
}

#[test]
fn all_keys_are_read() {
    let jobs = jobs_of(
        "api_key: {file: key}, base_url: 'http://127.0.0.1:8081/api/v1/', budget: {per_job: 2.5, per_day: 20}, \
         poll: {first: 1s, every: 10m, give_up: 1d}",
    );
    assert_eq!(jobs.api.as_ref().unwrap().base_url.as_str(), "http://127.0.0.1:8081/api/v1");
    assert_eq!(jobs.budget, Budget { per_job: Some(2_500_000), per_day: Some(20_000_000) });
    assert_eq!((jobs.poll.first, jobs.poll.give_up), (Duration::from_secs(1), Duration::from_secs(86_400)));
    assert_eq!(jobs.poll.slowest, jobs.poll.every, "never less");
    let budget = jobs_of("api_key: {file: key}, budget: {per_job: 0, per_day: 0.000001}").budget;
    assert_eq!(budget, Budget { per_job: Some(0), per_day: Some(1) });
}

#[test]
fn each_fault_says_where_it_is_and_what_to_write() {
    for (keys, expected) in [
        ("api_key: sk-hunter2", ":4:71: a secret is named, not written"),
        ("api_key: {file: none}", ":4:71: cannot read the secret in ./none"),
        ("api_key: {file: odd}", ":4:71: the key in ./odd has a blank"),
        ("api_key: {file: key}, base_url: nowhere", "not a URL"),
        ("api_key: {file: key}, base_url: 'https://h/v1?a'", "must end before ? and #"),
        ("api_key: {file: key}, base_url: 'https://me:pw@h/v1'", "user name or password"),
        (
            "api_key: {file: key}, base_url: 'https://10.1.2.3/v1'",
            "openrouter.base_url leads to 10.1.2.3, which is private",
        ),
        ("api_key: {file: key}, base_url: 'http://9.9.9.9/v1'", "to a public address in plain text"),
        ("api_key: {file: key}, budget: {per_job: -1}", ":4:102: budget.per_job is not an amount of money"),
        ("api_key: {file: key}, budget: {per_day: ten}", "budget.per_day is not an amount of money"),
        ("api_key: {file: key}, budget: {per_day: 0.0000001}", "budget.per_day is out of range"),
        ("api_key: {file: key}, budget: {per_day: 1000000001}", "budget.per_day is out of range"),
        ("api_key: {file: key}, budget: {per_year: 1}", "unknown key per_year"),
        ("api_key: {file: key}, poll: {first: soon}", "poll.first is not a duration"),
        ("api_key: {file: key}, poll: {give_up: 8d}", "poll.give_up is out of range"),
        ("api_key: {file: key}, poll: {every: 2m, slowest: 1m}", "poll.slowest is less than poll.every"),
        ("api_key: {file: key}, poll: {first: 2m, give_up: 1m}", "poll.first is more than poll.give_up"),
    ] {
        let error = load_keys(keys, "loopback", Role::Both).unwrap_err();
        assert!(error.contains(expected) && error.contains("help: "), "{keys}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let plain = "api_key: {file: key}, base_url: 'http://openrouter-proxy:8081/v1'";
    assert!(load_keys(plain, "", Role::Both).unwrap_err().contains("plain text"));
    let warnings = load_keys(plain, "private, loopback", Role::Both).unwrap().warnings;
    assert!(warnings[0].what.contains("the networks between could read the key"), "{warnings:?}");
}

#[test]
fn what_nothing_uses_is_warned_of() {
    let keys = "base_url: 'https://h/v1', poll: {every: 1m}, budget: {per_job: 1}";
    let config = load_keys(keys, "loopback", Role::Both).unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[1].starts_with("4:94: tenant acme has openrouter.poll and no openrouter.api_key"),
        "{warnings:?}"
    );
    assert!(config.tenants["acme"].jobs.is_none());
}

#[test]
fn an_ingress_alone_reads_the_key() {
    for (role, is_read) in
        [(Role::Both, true), (Role::Ingress, true), (Role::Relay, false), (Role::Sender, false)]
    {
        let (directory, path) = write(
            &(with_route("").replace(
                "secrets/acme-openrouter}]",
                "secrets/acme-openrouter}], api_key: {file: key}, budget: {per_day: 1}",
            ) + "bus: {nats: {servers: [nats://n:4222]}}\n"),
        );
        let key = directory.path().join("key");
        let read = || read_for(&path, role, Missing::Tolerated);
        // Without its key the process starts, and says what does not work.
        let without = read();
        let config = without.config.unwrap();
        let tenant = &config.tenants["acme"];
        let jobs = tenant.jobs.as_ref().unwrap();
        assert_eq!((jobs.api.is_some(), jobs.budget.per_day), (false, Some(1_000_000)), "{role:?}");
        assert!(tenant.down().is_none());
        assert_eq!(
            (tenant.unread.len(), load_for(&path, role).is_err()),
            (usize::from(is_read), is_read),
            "{role:?}"
        );
        let warned = config.warnings.iter().any(|warning| {
            warning.what.starts_with("tenant acme: cannot read ")
                && warning.what.ends_with("; its jobs are neither submitted nor polled")
        });
        assert_eq!(warned, is_read);
        write_secret(&key, "sk-or-1", 0o600);
        let with = read();
        let changes = with.settings.since(&without.settings);
        let config = with.config.unwrap();
        assert_eq!(config.tenants["acme"].jobs.as_ref().unwrap().api.is_some(), is_read);
        assert_eq!(changes.contains_key("tenants.acme.openrouter.api_key"), is_read, "{role:?}");
        let fingerprints = with.settings.fingerprints(&[7; settings::SALT]);
        assert_eq!(fingerprints["tenants.acme.openrouter.api_key"].len(), 4, "a secret's is short");
    }
}
