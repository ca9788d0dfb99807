use super::*;
use std::sync::Arc;
use tempfile::TempDir;

/// A Hermes home with a configuration of Talaria in it.
fn home(route: &str) -> (TempDir, Arc<Tenant>, Arc<Route>) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("secret"), "top secret").unwrap();
    let text = format!(
        "tenants: {{acme: {{openrouter: {{secrets: [{{file: secret}}]}}, routes: {{video: {{url: \
         'http://h/webhooks/openrouter-video', secret: {{file: secret}}{route}}}}}}}}}"
    );
    let path = home.path().join("talaria.yaml");
    fs::write(&path, text).unwrap();
    let config = config::load(&path).unwrap();
    let (tenant, route) = super::super::route(&config, None).unwrap();
    (home, Arc::clone(tenant), Arc::clone(route))
}

fn entries(home: &TempDir) -> Value {
    serde_json::from_str(&fs::read_to_string(home.path().join(FILE)).unwrap()).unwrap()
}

#[test]
fn a_subscription_is_added_beside_the_others_for_the_owner_alone() {
    let (home, tenant, route) = home("");
    let other = json!({"other": {"secret": "x", "prompt": "é", "n": 1.5, "enabled": false}});
    fs::write(home.path().join(FILE), other.to_string()).unwrap();
    assert_eq!(install(home.path(), "openrouter-video", &tenant, &route, None).unwrap(), "Added");
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
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing is left behind");
}

#[test]
fn an_update_keeps_what_the_operator_added_and_makes_the_file_newer() {
    let (home, tenant, route) = home("");
    let file = home.path().join(FILE);
    let mine = json!({"openrouter-video": {"secret": "old", "prompt": "Hi: {prompt}", "deliver": "slack", "deliver_only": true}});
    fs::write(&file, mine.to_string()).unwrap();
    let future = SystemTime::now() + Duration::from_secs(3_600);
    fs::File::open(&file).unwrap().set_modified(future).unwrap();
    assert_eq!(install(home.path(), "openrouter-video", &tenant, &route, None).unwrap(), "Updated");
    let entry = &entries(&home)["openrouter-video"];
    assert_eq!(
        (&entry["secret"], &entry["prompt"], &entry["deliver"]),
        (&json!("top secret"), &json!("Hi: {prompt}"), &json!("slack"))
    );
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
        let error = install(home.path(), "n", &tenant, &route, None).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("left as it is"), "{error}");
        assert_eq!(fs::read_to_string(home.path().join(FILE)).unwrap(), text);
    }
    let error = install(&home.path().join("nowhere"), "n", &tenant, &route, None).unwrap_err().to_string();
    assert!(error.contains("Hermes home"), "{error}");
}

#[test]
fn others_entries_stay_as_they_are_written_and_in_their_order() {
    let (home, tenant, route) = home("");
    let file = home.path().join(FILE);
    let theirs = r#""z": {"extra": {"chat_id": -1001234567890123456789, "x": 1e2}}"#;
    fs::write(&file, format!("{{{theirs}, \"a\": {{}}}}")).unwrap();
    install(home.path(), "m", &tenant, &route, None).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(theirs), "{text}");
    assert!(text.find("\"z\"") < text.find("\"a\"") && text.find("\"a\"") < text.find("\"m\""), "{text}");
}

#[test]
fn installing_at_once_loses_nobodys_subscription() {
    let (home, tenant, route) = home("");
    std::thread::scope(|scope| {
        for name in 0..20 {
            let (home, tenant, route) = (home.path(), &tenant, &route);
            scope.spawn(move || install(home, &format!("r{name}"), tenant, route, None).unwrap());
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
    let error = install(home.path(), "n", &tenant, &route, None).unwrap_err().to_string();
    assert!(error.contains("a link that leads nowhere"), "{error}");
    fs::write(&target, "{}").unwrap();
    install(home.path(), "n", &tenant, &route, None).unwrap();
    assert!(fs::symlink_metadata(home.path().join(FILE)).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("top secret"));
}

#[test]
fn a_direct_route_says_so_and_where_to() {
    let (home, tenant, route) = home(", deliver_only: true, extra: {chat_id: '{data.chat}'}");
    install(home.path(), "openrouter-video", &tenant, &route, Some("telegram")).unwrap();
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
fn a_url_that_is_not_hermes_is_said_so() {
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
