//! `talaria hermes --install`, `--enable` and `--uninstall`.

use crate::commands::{err, out, works};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use talaria_tests::{
    binary::run,
    stack::{Written, stack},
};

/// Every file of a directory with its mode and bytes, and every directory.
fn all(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode());
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if path.is_dir() {
            found.extend(all(&path));
        }
        found.insert(path, (mode, bytes));
    }
    found
}

/// A configuration with two routes, and a Hermes home in `.hermes` beside it.
fn written(config: Option<&str>) -> Written {
    let written = stack()
        .with("console: {listen: 127.0.0.1:8090}")
        .tenant("acme", |t| {
            t.route("video", "http://127.0.0.1:8644/webhooks/video", "")
                .route("other", "http://127.0.0.1:8644/webhooks/other", "")
                .route("direct", "http://127.0.0.1:8644/webhooks/direct", "deliver_only: true")
        })
        .write();
    fs::create_dir(written.path().join(".hermes")).unwrap();
    if let Some(config) = config {
        fs::write(written.path().join(".hermes/config.yaml"), config).unwrap();
    }
    written
}

const INSTALL: [&str; 4] = ["hermes", "acme/video", "--install", ".hermes"];
const UNINSTALL: [&str; 4] = ["hermes", "acme/video", "--uninstall", ".hermes"];
const CONFIG: &str =
    "# mine\nplatforms: {webhook: {enabled: true}}   # on\nplugins:\n  enabled:\n  - other\n";

#[test]
fn install_enable_and_uninstall_leave_the_home_byte_for_byte_as_it_was() {
    // As Hermes writes it, without a newline in the end.
    let theirs = "{\n  \"mine\": {\n    \"secret\": \"x\",\n    \"prompt\": \"\u{e9}\"\n  }\n}";
    for (config, subscriptions) in [(Some(CONFIG), Some(theirs)), (Some("a: 1"), None), (None, None)] {
        let written = written(config);
        let home = written.path().join(".hermes");
        if let Some(text) = subscriptions {
            let file = home.join("webhook_subscriptions.json");
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let before = all(&home);
        let said = works(written.path(), &INSTALL);
        assert!(
            said.contains("Installed the extension, which reports to http://127.0.0.1:8090, and the skill"),
            "{said}"
        );
        let plugins = match config {
            Some(CONFIG) => "  # add talaria to the list plugins.enabled\n",
            _ => "  plugins:\n    enabled: [talaria]\n",
        };
        let lines = format!("\n{plugins}  mcp_servers:\n    talaria:\n      command: ");
        assert!(said.contains(&lines), "{said}");
        let enable = [&INSTALL[..], &["--enable", "--token-file", "t"]].concat();
        let said = works(written.path(), &enable);
        assert!(
            said.contains(
                "The extension and the skill talaria-video are there already.\nEnabled the extension"
            ),
            "{said}"
        );
        let once = all(&home);
        let said = works(written.path(), &enable);
        assert!(said.contains("config.yaml enables both already."), "{said}");
        assert_eq!(all(&home), once, "twice is as once");
        let text = fs::read_to_string(home.join("config.yaml")).unwrap();
        assert!(
            text.starts_with(config.unwrap_or_default()) || text.contains("  - other\n  - talaria\n"),
            "{text}"
        );
        let token = format!("env: {{TALARIA_TOKEN_FILE: \"{}\"}}", written.path().join("t").display());
        assert!(text.contains(&token), "{text}");
        let text: String = once.values().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
        assert_eq!(text.matches(talaria_tests::sink::SECRET).count(), 1, "in the subscription alone");

        let said = works(written.path(), &UNINSTALL);
        assert_eq!(said, "Took video, the extension and the skill out of .hermes; restart the gateway.\n");
        assert_eq!(all(&home), before);
        let said = works(written.path(), &UNINSTALL);
        assert_eq!(said, "video is not installed in .hermes, so nothing is changed.\n");
    }
}

#[test]
fn changed_files_and_other_routes_stay() {
    let written = written(Some(CONFIG));
    let home = written.path().join(".hermes");
    works(written.path(), &[&INSTALL[..], &["--enable"]].concat());
    works(written.path(), &["hermes", "acme/other", "--install", ".hermes", "--url", "http://relay:8090/"]);
    let skill = home.join("skills/talaria-video/SKILL.md");
    fs::write(&skill, "mine").unwrap();
    let output = run(written.path(), &INSTALL);
    assert!(output.status.success());
    assert!(err(&output).contains("SKILL.md was changed by hand and is left as it is; --force replaces it"));
    let settings = || -> Value {
        serde_json::from_slice(&fs::read(home.join("plugins/talaria/talaria.json")).unwrap()).unwrap()
    };
    assert_eq!(settings()["routes"].as_object().unwrap().len(), 2);
    assert_eq!(settings()["version"], env!("CARGO_PKG_VERSION"));

    let said = works(written.path(), &UNINSTALL);
    assert_eq!(said, "Took video out of .hermes. Other routes still use the extension.\n");
    assert_eq!(settings()["routes"], serde_json::json!({"other": {"tenant": "acme", "route": "other"}}));
    let subscriptions = fs::read_to_string(home.join("webhook_subscriptions.json")).unwrap();
    assert!(subscriptions.contains("\"other\"") && !subscriptions.contains("\"video\""), "{subscriptions}");

    // Lines of ours that were changed are left, too.
    let config = fs::read_to_string(home.join("config.yaml")).unwrap();
    fs::write(home.join("config.yaml"), config.replace("- talaria\n", "- talaria # keep\n")).unwrap();
    let said = works(written.path(), &["hermes", "acme/other", "--uninstall", ".hermes"]);
    assert!(
        said.contains("\nLeft: talaria in plugins.enabled and mcp_servers of config.yaml, because "),
        "{said}"
    );
    assert!(said.contains("\nLeft: skills/talaria-video/SKILL.md, which was changed since\n"), "{said}");
    assert_eq!(fs::read_to_string(&skill).unwrap(), "mine");
    assert!(!home.join("plugins").exists() && !home.join("hooks").exists());
}

#[test]
fn a_configuration_that_cannot_be_edited_safely_is_left() {
    let config = "plugins: {enabled: [other]}\n";
    let written = written(Some(config));
    let output = run(written.path(), &[&INSTALL[..], &["--enable"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains("These lines belong into .hermes/config.yaml:\n  # add talaria to the list plugins.enabled\n  mcp_servers:\n"),
        "{}",
        out(&output)
    );
    assert!(err(&output).contains("is left as it is: plugins is not written as a block"), "{}", err(&output));
    assert_eq!(fs::read_to_string(written.path().join(".hermes/config.yaml")).unwrap(), config);
}

#[test]
fn a_route_without_an_agent_and_a_relay_without_an_http_port_have_no_extension() {
    let written = written(None);
    let home = written.path().join(".hermes");
    let direct = ["hermes", "acme/direct", "--install", ".hermes", "--deliver", "telegram"];
    let said = works(written.path(), &direct);
    assert!(
        said.contains("The route is deliver_only and runs no agent, so nothing else is installed."),
        "{said}"
    );
    let text = fs::read_to_string(&written.config).unwrap();
    fs::write(&written.config, text.replace("127.0.0.1:8090", "off")).unwrap();
    let said = works(written.path(), &INSTALL);
    assert!(said.contains("is not installed: console.listen is off"), "{said}");
    assert!(!home.join("hooks").exists());
    let said = works(written.path(), &["hermes", "acme/direct", "--uninstall", ".hermes"]);
    assert_eq!(said, "Took direct out of .hermes.\n");
    assert_eq!(works(written.path(), &UNINSTALL), "Took video out of .hermes.\n");
    assert_eq!(all(&home), BTreeMap::new(), "subscriptions with their secrets, too");
}

#[test]
fn a_subscription_of_the_same_name_is_put_back() {
    let written = written(None);
    let home = written.path().join(".hermes");
    let own = "{\n  \"video\": {\n    \"secret\": \"x\",\n    \"enabled\": false,\n    \"script\": \"a.sh\"\n  }\n}";
    let file = home.join("webhook_subscriptions.json");
    fs::write(&file, own).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = all(&home);
    works(written.path(), &INSTALL);
    assert!(!fs::read_to_string(&file).unwrap().contains("a.sh"));
    let said = works(written.path(), &UNINSTALL);
    assert!(said.ends_with("The subscription video that was there before is put back.\n"), "{said}");
    assert_eq!(all(&home), before);
}

#[test]
fn doctor_says_whether_the_extension_is_there_and_whole() {
    let written = written(Some(CONFIG));
    let doctor = |expected: &str| {
        let output = run(written.path(), &["doctor", "--hermes", ".hermes"]);
        assert!(out(&output).contains(expected), "{expected}: {}", out(&output));
    };
    works(written.path(), &INSTALL);
    doctor(
        "acme/video: the extension in .hermes may report no runs: config.yaml has no plugins: {enabled: [talaria]}",
    );
    works(written.path(), &[&INSTALL[..], &["--enable"]].concat());
    doctor("acme/video: the extension in .hermes is that of version ");
    fs::write(written.path().join(".hermes/hooks/talaria/handler.py"), "").unwrap();
    doctor("may report no runs: hooks/talaria/handler.py is not that of version ");
    works(written.path(), &UNINSTALL);
    let file = written.path().join(".hermes/webhook_subscriptions.json");
    fs::write(file, "{\"video\": {\"secret\": \"x\"}}").unwrap();
    doctor("acme/video: no extension in .hermes reports its runs");
}
