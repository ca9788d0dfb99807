use super::{
    file::{FILE, Installed},
    subscription::Needs,
    *,
};
use crate::select;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use talaria_core::config;
use tempfile::TempDir;

/// A Hermes home with a configuration of Talaria in it.
fn home(route: &str) -> (TempDir, Arc<Tenant>, Arc<Route>) {
    home_at("http://h/webhooks/openrouter-video", route)
}

fn home_at(url: &str, route: &str) -> (TempDir, Arc<Tenant>, Arc<Route>) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("secret"), "top secret").unwrap();
    let text = format!(
        "tenants: {{acme: {{openrouter: {{secrets: [{{file: secret}}]}}, routes: {{video: {{url: \
         '{url}', secret: {{file: secret}}{route}}}}}}}}}"
    );
    let path = home.path().join("talaria.yaml");
    fs::write(&path, text).unwrap();
    let config = config::load(&path).unwrap();
    let (tenant, route) = select::route(&config, None).unwrap();
    (home, Arc::clone(tenant), Arc::clone(route))
}

fn install(home: &Path, name: &str, needs: &Needs<'_>) -> Result<Installed, Failure> {
    file::install(home, name, needs, |_| Ok(()))
}

fn needs<'a>(tenant: &'a Tenant, route: &'a Route) -> Needs<'a> {
    Needs { tenant, route, deliver: None, force: false }
}

/// An existing entry after an update, and the lines about it.
fn update(url: &str, route: &str, entry: &Value, force: bool) -> Result<(Value, Vec<String>), String> {
    let (home, tenant, route) = home_at(url, route);
    fs::write(home.path().join(FILE), json!({"n": entry}).to_string()).unwrap();
    let needs = Needs { force, ..needs(&tenant, &route) };
    let installed = install(home.path(), "n", &needs).map_err(|failure| failure.to_string());
    let after = entries(&home)["n"].clone();
    if installed.is_err() {
        assert_eq!(after, *entry, "nothing was written");
    }
    installed.map(|installed| (after, installed.lines))
}

const URL: &str = "http://h/webhooks/n";

fn entries(home: &TempDir) -> Value {
    serde_json::from_str(&fs::read_to_string(home.path().join(FILE)).unwrap()).unwrap()
}

#[test]
fn a_subscription_is_added_beside_the_others_and_for_no_others_to_read() {
    let (home, tenant, route) = home("");
    let other = json!({"other": {"secret": "x", "prompt": "é", "n": 1.5, "enabled": false}});
    fs::write(home.path().join(FILE), other.to_string()).unwrap();
    fs::set_permissions(home.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    let installed = install(home.path(), "openrouter-video", &needs(&tenant, &route)).unwrap();
    assert_eq!((installed.verb, installed.lines.len()), ("Added", 0));
    let found = entries(&home);
    assert_eq!(found["other"], other["other"]);
    let entry = &found["openrouter-video"];
    assert_eq!(
        (&entry["secret"], &entry["prompt"], &entry["deliver"]),
        (&json!("top secret"), &json!("{prompt}"), &json!("log"))
    );
    assert!(
        entry.get("deliver_only").is_none() && entry["events"] == json!([]) && entry["skills"] == json!([])
    );
    let mode = fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the group's right of before");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing is left behind");
}

#[test]
fn an_update_keeps_what_the_operator_added_and_makes_the_file_newer() {
    let (home, tenant, route) = home("");
    let file = home.path().join(FILE);
    let mine = json!({"openrouter-video": {
        "secret": "old", "prompt": "Hi: {prompt}", "deliver": "slack", "deliver_only": true, "skills": ["a"], "toolsets": ["t"],
        "deliver_extra": {"thread_id": 7}, "mine": 1,
    }});
    fs::write(&file, mine.to_string()).unwrap();
    let future = SystemTime::now() + Duration::from_secs(3_600);
    fs::File::open(&file).unwrap().set_modified(future).unwrap();
    let installed = install(home.path(), "openrouter-video", &needs(&tenant, &route)).unwrap();
    assert_eq!(installed.verb, "Updated");
    assert_eq!(
        installed.lines,
        ["secret: the route's instead of another", "deliver_only: nothing instead of true"]
    );
    let entry = &entries(&home)["openrouter-video"];
    assert_eq!(
        (&entry["secret"], &entry["prompt"], &entry["deliver"]),
        (&json!("top secret"), &json!("Hi: {prompt}"), &json!("slack"))
    );
    for (key, kept) in [
        ("skills", json!(["a"])),
        ("toolsets", json!(["t"])),
        ("deliver_extra", json!({"thread_id": 7})),
        ("mine", json!(1)),
    ] {
        assert_eq!(entry[key], kept);
    }
    assert!(entry.get("deliver_only").is_none(), "the route runs an agent");
    assert!(
        fs::metadata(&file).unwrap().modified().unwrap() > future,
        "Hermes reads a file again that is newer"
    );
}

#[test]
fn a_file_that_hermes_could_not_read_is_left_as_it_is() {
    let (home, tenant, route) = home("");
    for (text, why) in
        [("{", "not JSON"), ("[]", "not a JSON object"), (r#"{"a": {}, "b": 5}"#, "entry \"b\" is no object")]
    {
        fs::write(home.path().join(FILE), text).unwrap();
        let error = install(home.path(), "n", &needs(&tenant, &route)).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("left as it is"), "{error}");
        assert_eq!(fs::read_to_string(home.path().join(FILE)).unwrap(), text);
    }
}

#[test]
fn others_entries_stay_as_they_are_written_and_in_their_order() {
    let (home, tenant, route) = home("");
    let file = home.path().join(FILE);
    let theirs = r#""z": {"extra": {"chat_id": -1001234567890123456789, "x": 1e2}}"#;
    fs::write(&file, format!("{{{theirs}, \"a\": {{}}}}")).unwrap();
    install(home.path(), "m", &needs(&tenant, &route)).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(theirs), "{text}");
    assert!(text.find("\"z\"") < text.find("\"a\"") && text.find("\"a\"") < text.find("\"m\""), "{text}");
}

#[test]
fn concurrent_installs_lose_no_subscription() {
    let (home, tenant, route) = home("");
    std::thread::scope(|scope| {
        for name in 0..20 {
            let (home, tenant, route) = (home.path(), &tenant, &route);
            scope.spawn(move || install(home, &format!("r{name}"), &needs(tenant, route)).unwrap());
        }
    });
    assert_eq!(entries(&home).as_object().unwrap().len(), 20);
}

#[test]
fn a_link_stays_one_and_its_target_is_written() {
    let (home, tenant, route) = home("");
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.json");
    std::os::unix::fs::symlink(&target, home.path().join(FILE)).unwrap();
    let error = install(home.path(), "n", &needs(&tenant, &route)).unwrap_err().to_string();
    assert!(error.contains("a link that leads nowhere"), "{error}");
    fs::write(&target, "{}").unwrap();
    install(home.path(), "n", &needs(&tenant, &route)).unwrap();
    assert!(fs::symlink_metadata(home.path().join(FILE)).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("top secret"));
}

#[test]
fn a_direct_route_says_so_and_where_to() {
    let (home, tenant, route) = home(", deliver_only: true, extra: {chat_id: '{data.chat}'}");
    let needs = Needs { deliver: Some("telegram"), ..needs(&tenant, &route) };
    install(home.path(), "openrouter-video", &needs).unwrap();
    let entry = &entries(&home)["openrouter-video"];
    assert_eq!((&entry["deliver"], &entry["deliver_only"]), (&json!("telegram"), &json!(true)));
    assert_eq!(entry["deliver_extra"], json!({"chat_id": "{extra.chat_id}"}));
}

#[test]
fn the_command_names_the_secret_and_does_not_show_it() {
    let (home, tenant, route) = home(", deliver_only: true, extra: {chat_id: x}");
    let command = subscribe_command(&tenant, &route, None);
    let secret = home.path().join("secret");
    let expected = format!(
        "hermes webhook subscribe openrouter-video --secret \"$(cat {})\" --prompt '{{prompt}}' --description \
         'Talaria acme/video' --deliver TARGET --deliver-only --deliver-chat-id '{{extra.chat_id}}'",
        secret.display()
    );
    assert_eq!(command, expected);
    assert_eq!(quoted("it's"), r"'it'\''s'");
}

#[test]
fn a_url_without_a_subscription_name_is_refused() {
    let (_home, _, route) = home("");
    let mut route = (*route).clone();
    assert_eq!(subscription_name(&route).unwrap(), "openrouter-video");
    for url in ["http://h/other", "http://h/webhooks/", "http://h/webhooks/Upper"] {
        route.url = url.parse().unwrap();
        assert!(subscription_name(&route).is_err(), "{url}");
    }
    route.url = "http://h/p/work/webhooks/ok".parse().unwrap();
    assert_eq!(subscription_name(&route).unwrap(), "ok");
}

#[test]
fn the_keys_that_promises_depend_on_are_replaced() {
    let secret = json!("top secret");
    let old = json!({
        "secret": "old", "prompt": "", "events": ["video.generation.completed"], "enabled": false, "profile": "work",
        "filters": [{"field": "data.id", "equals": "x"}], "script": "a.sh", "deliver": "telegram", "skills": ["s"],
    });
    let (entry, lines) = update(URL, "", &old, false).unwrap();
    assert_eq!(
        (&entry["secret"], &entry["prompt"], &entry["events"]),
        (&secret, &json!("{prompt}"), &json!([]))
    );
    assert_eq!(
        (&entry["enabled"], &entry["deliver"], &entry["skills"]),
        (&json!(true), &json!("telegram"), &json!(["s"]))
    );
    for gone in ["filters", "script", "profile"] {
        assert!(entry.get(gone).is_none(), "{gone}");
    }
    let expected = [
        "secret: the route's instead of another",
        "prompt: \"{prompt}\" instead of \"\"",
        "events: [] instead of [\"video.generation.completed\"]",
        "filters: nothing instead of [{\"equals\":\"x\",\"field\":\"data.id\"}]",
        "script: nothing instead of \"a.sh\"",
        "enabled: true instead of false",
        "profile: nothing instead of \"work\"",
    ];
    assert_eq!(lines, expected);
    let (again, lines) = update(URL, "", &entry, false).unwrap();
    assert_eq!((again, lines), (entry, Vec::new()), "and then nothing is to be done");
}

#[test]
fn a_prompt_of_the_users_own_is_replaced_by_force_alone() {
    for prompt in ["New video {data.id}", "/summarize {prompt}", "{prompt}: {data.error}", "{__raw__}"] {
        let old = json!({"secret": "top secret", "prompt": prompt, "deliver": "log"});
        let error = update(URL, "", &old, false).unwrap_err();
        let shown = serde_json::to_string(prompt).unwrap();
        assert!(
            error.contains(&format!("has a prompt of its own, {shown}"))
                && error.contains("--force replaces it"),
            "{error}"
        );
        let (entry, lines) = update(URL, "", &old, true).unwrap();
        assert_eq!(entry["prompt"], "{prompt}");
        assert!(lines.contains(&format!("prompt: \"{{prompt}}\" instead of {shown}")), "{lines:?}");
        // With raw bodies it is the prompt.
        let (entry, _) =
            update(URL, ", body: raw", &json!({"prompt": "New video {data.id}"}), false).unwrap();
        assert_eq!(entry["prompt"], "New video {data.id}");
    }
    let job = json!({"prompt": "{prompt}", "cron_job": "nightly"});
    assert!(update(URL, "", &job, false).unwrap_err().contains("has a cron_job of its own, \"nightly\""));
    assert!(update(URL, "", &job, true).unwrap().0.get("cron_job").is_none());
}

#[test]
fn our_prompt_would_be_a_word_where_bodies_are_raw() {
    let (entry, lines) = update(URL, ", body: raw", &json!({"prompt": "{prompt}"}), false).unwrap();
    assert_eq!(entry["prompt"], "", "Hermes' own, which shows the payload");
    assert!(lines.contains(&"prompt: \"\" instead of \"{prompt}\"".to_owned()), "{lines:?}");
    let (back, _) = update(URL, "", &entry, false).unwrap();
    assert_eq!(back["prompt"], "{prompt}");
}

#[test]
fn a_direct_route_keeps_its_target_and_needs_one() {
    let direct = ", deliver_only: true";
    let (entry, _) = update(URL, direct, &json!({"prompt": "{prompt}", "deliver": "slack"}), false).unwrap();
    assert_eq!((&entry["deliver"], &entry["deliver_only"]), (&json!("slack"), &json!(true)));
    for entry in [json!({"deliver": "log"}), json!({"prompt": ""})] {
        assert!(
            update(URL, direct, &entry, false).unwrap_err().contains("needs a target: --deliver telegram")
        );
    }
}

#[test]
fn the_routes_chat_goes_with_the_route() {
    let chat = json!({"chat_id": "{extra.chat_id}"});
    let (entry, _) =
        update(URL, ", extra: {chat_id: '1'}", &json!({"deliver_extra": {"thread_id": 5}}), false).unwrap();
    assert_eq!(entry["deliver_extra"], json!({"chat_id": "{extra.chat_id}", "thread_id": 5}));
    let (entry, lines) = update(URL, "", &json!({"deliver_extra": chat}), false).unwrap();
    assert_eq!(entry["deliver_extra"], json!({}));
    assert!(lines.iter().any(|line| line.starts_with("deliver_extra: no chat_id")), "{lines:?}");
    let (entry, _) = update(URL, "", &json!({"deliver_extra": {"chat_id": "-1"}}), false).unwrap();
    assert_eq!(entry["deliver_extra"], json!({"chat_id": "-1"}), "that is the operator's");
    let both = ", extra: {chat_id: '{talaria.job.context.chat}', thread_id: '{talaria.job.context.thread}'}";
    let (entry, _) = update(URL, both, &json!({}), false).unwrap();
    assert_eq!(
        entry["deliver_extra"],
        json!({"chat_id": "{extra.chat_id}", "thread_id": "{extra.thread_id}"})
    );
}

#[test]
fn a_profile_in_the_url_is_that_of_the_subscription() {
    let url = "http://h/p/work/webhooks/n";
    let (entry, _) = update(url, "", &json!({"prompt": "{prompt}"}), false).unwrap();
    assert_eq!(entry["profile"], "work");
    let (entry, _) =
        update("http://h/p/default/webhooks/n", "", &json!({"profile": "default"}), false).unwrap();
    assert_eq!(entry["profile"], "default", "which is what is meant without one, too");
}

#[test]
fn a_byte_order_mark_is_read_and_not_written_again() {
    let (home, tenant, route) = home("");
    fs::write(home.path().join(FILE), "\u{feff}{\"other\": {\"secret\": \"x\"}}").unwrap();
    install(home.path(), "n", &needs(&tenant, &route)).unwrap();
    assert!(fs::read_to_string(home.path().join(FILE)).unwrap().starts_with('{'));
    assert_eq!(entries(&home)["other"]["secret"], "x");
}

#[test]
fn no_secret_is_shown() {
    let old = json!({"secret": "old secret", "prompt": "{prompt}"});
    let (_, lines) = update(URL, "", &old, false).unwrap();
    assert!(lines[0].starts_with("secret: ") && !format!("{lines:?}").contains("old secret"), "{lines:?}");
    assert!(!format!("{lines:?}").contains("top secret"), "{lines:?}");
}
