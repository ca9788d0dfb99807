use super::{removal::Removed, *};
use std::collections::BTreeMap;
use tempfile::TempDir;

const URL: &str = "http://127.0.0.1:8090";

/// The name of a report, without its ending.
const REPORT: &str = "1764400000123456789-run_0123456789abcdef0123456789abcdef";

fn reported(name: &str) -> Reported<'_> {
    Reported { name, tenant: "acme", route: "video", url: URL }
}

fn install_in(home: &TempDir, name: &str) -> Changes {
    install(home.path(), &reported(name), false).unwrap()
}

/// All files with their contents, and directories.
fn all(directory: &Path) -> BTreeMap<PathBuf, Option<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(all(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn server() -> Server {
    Server { command: "/bin/talaria".into(), args: vec!["mcp".into()], env: Vec::new() }
}

#[test]
fn the_files_say_this_version() {
    let (_, manifest) = FILES[0];
    assert!(manifest.contains(&format!("\nversion: {VERSION}\n")), "{manifest}");
    let (_, skill) = FILES[6];
    let front = skill.split("---\n").nth(1).unwrap();
    let of =
        |key: &str| front.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().chars().count();
    assert!(of("name:") <= 64 && of("description:") <= 1024, "limits of Hermes");
}

#[test]
fn installing_twice_is_as_once_and_removing_leaves_the_home_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.yaml"), "model: x  # mine\n").unwrap();
    fs::create_dir_all(home.path().join("plugins/other")).unwrap();
    let before = all(home.path());
    assert!(install_in(&home, "n").any);
    assert_eq!(enable(home.path(), &server()).unwrap(), Ok(Enabled::Now));
    let once = all(home.path());
    assert_eq!(install_in(&home, "n"), Changes::default());
    assert_eq!(enable(home.path(), &server()).unwrap(), Ok(Enabled::Before));
    assert_eq!(all(home.path()), once);
    assert_eq!(faults(home.path(), "n", ("acme", "video"), Some(URL)).unwrap(), Some(Vec::new()));
    assert_eq!(faults(home.path(), "m", ("acme", "video"), Some(URL)).unwrap(), None);

    let cache = home.path().join("plugins/talaria/__pycache__");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("talaria_runs.cpython-311.pyc"), "").unwrap();
    let queue = home.path().join("plugins/talaria/queue");
    fs::create_dir(&queue).unwrap();
    for (before, after) in [("", ".json"), (".", ""), ("", ".half")] {
        fs::write(queue.join(format!("{before}{REPORT}{after}")), "{}").unwrap();
    }
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(removed, Removed { any: true, extension: true, unsent: 1, ..Removed::default() });
    assert_eq!(all(home.path()), before);
    assert_eq!(removal::uninstall(home.path(), "n").unwrap(), Removed::default());
}

#[test]
fn a_home_without_a_configuration_has_none_afterwards() {
    let home = tempfile::tempdir().unwrap();
    install_in(&home, "n");
    assert_eq!(enable(home.path(), &server()).unwrap(), Ok(Enabled::Now));
    removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(all(home.path()), BTreeMap::new());
}

#[test]
fn other_routes_and_settings_of_the_operator_stay() {
    let home = tempfile::tempdir().unwrap();
    install_in(&home, "a");
    let file = home.path().join(SETTINGS);
    let mut own = settings(home.path()).unwrap();
    own.insert("longest_pause_s".into(), 60.into());
    fs::write(&file, Value::Object(own).to_string()).unwrap();
    install_in(&home, "b");
    let removed = removal::uninstall(home.path(), "a").unwrap();
    assert!(removed.used && removed.left.is_empty(), "{removed:?}");
    let found = settings(home.path()).unwrap();
    assert_eq!(found["routes"], json!({"b": {"tenant": "acme", "route": "video"}}));
    assert_eq!(found["longest_pause_s"], 60);
    let removed = removal::uninstall(home.path(), "b").unwrap();
    assert!(removed.left[0].contains("settings of your own") && file.exists(), "{removed:?}");
}

#[test]
fn files_that_were_changed_stay_and_are_named() {
    let home = tempfile::tempdir().unwrap();
    let skill = home.path().join("skills/talaria-video/SKILL.md");
    fs::create_dir_all(skill.parent().unwrap()).unwrap();
    fs::write(&skill, "mine").unwrap();
    assert_eq!(install_in(&home, "n").kept, std::slice::from_ref(&skill));
    let hook = home.path().join("hooks/talaria/handler.py");
    fs::write(&hook, "changed").unwrap();
    assert_eq!(install_in(&home, "n").kept, [hook.clone(), skill.clone()]);
    let found = faults(home.path(), "n", ("acme", "video"), Some("http://127.0.0.1:9000")).unwrap().unwrap();
    for (fault, expected) in
        found.iter().zip(["handler.py is not", "SKILL.md is not", "the url", "no plugins"])
    {
        assert!(fault.contains(expected), "{found:?}");
    }
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(removed.left, ["hooks/talaria/handler.py, which was changed since"]);
    assert_eq!(fs::read_to_string(&skill).unwrap() + &fs::read_to_string(&hook).unwrap(), "minechanged");
    // By force they are replaced.
    let changes = install(home.path(), &reported("n"), true).unwrap();
    assert!(changes.any && changes.kept.is_empty());
    assert_eq!(fs::read_to_string(&skill).unwrap(), FILES[6].1);
}

#[test]
fn files_of_an_older_version_are_replaced() {
    let home = tempfile::tempdir().unwrap();
    install_in(&home, "n");
    let (runs, gone) = (home.path().join(FILES[2].0), home.path().join("plugins/talaria/older.py"));
    for file in [&runs, &gone] {
        fs::write(file, "older").unwrap();
    }
    let mut manifest = Manifest::read(home.path()).unwrap().unwrap();
    for path in [FILES[2].0, "plugins/talaria/older.py"] {
        manifest.files.insert(path.to_owned(), hash("older"));
    }
    manifest.write(home.path()).unwrap();
    assert_eq!(install_in(&home, "n"), Changes { any: true, kept: Vec::new() });
    assert!(fs::read_to_string(&runs).unwrap() == FILES[2].1 && !gone.exists());
}

#[test]
fn a_queue_that_is_a_link_and_files_of_others_in_it_stay() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let queue = home.path().join("plugins/talaria/queue");
    let report = format!("{REPORT}.json");
    fs::write(elsewhere.path().join(&report), "{}").unwrap();
    install_in(&home, "n");
    std::os::unix::fs::symlink(elsewhere.path(), &queue).unwrap();
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(removed.left, ["plugins/talaria/queue, which is no directory, or a link to one"]);
    assert!(removed.unsent == 0 && elsewhere.path().join(&report).exists());

    fs::remove_file(&queue).unwrap();
    install_in(&home, "n");
    fs::create_dir_all(queue.join("directory")).unwrap();
    for name in ["mine.json", "x-run_y.json", ".hidden", report.as_str()] {
        fs::write(queue.join(name), "{}").unwrap();
    }
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(removed.left, ["plugins/talaria/queue, which has other files or directories: 4"]);
    assert!(removed.unsent == 1 && queue.join("mine.json").exists() && !queue.join(&report).exists());
    assert!(Manifest::read(home.path()).unwrap().is_none(), "nothing is half done");
}

#[test]
fn settings_of_another_route_and_a_disabled_plugin_are_faults() {
    let home = tempfile::tempdir().unwrap();
    install_in(&home, "n");
    enable(home.path(), &server()).unwrap().unwrap();
    let found = |route| faults(home.path(), "n", ("acme", route), Some(URL)).unwrap().unwrap();
    assert_eq!(found("video"), Vec::<String>::new());
    assert_eq!(found("other"), ["plugins/talaria/talaria.json has acme/video for n"]);
    let file = home.path().join("config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[talaria]\n", "[talaria]\n  disabled: [x, talaria]\n")).unwrap();
    assert_eq!(found("video"), ["config.yaml names talaria in plugins.disabled"]);
}

const OWN: &str = "{\n  \"n\": {\n    \"secret\": \"old\",\n    \"script\": \"a.sh\"\n  }\n}";
const OURS: &str = "{\n  \"n\": {\n    \"secret\": \"ours\"\n  }\n}";

/// Records that the subscription becomes that of the text, and writes it unless the installation is interrupted.
fn subscribe(home: &TempDir, text: &str, is_interrupted: bool) {
    let file = home.path().join("webhook_subscriptions.json");
    let before = crate::hermes::file::read(&file).unwrap();
    let newline = fs::read(&file).ok().map(|text| text.ends_with(b"\n"));
    let after: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
    let change = Change { before: before.get("n").map(AsRef::as_ref), after: &after["n"], newline };
    record(home.path(), "n", &change).unwrap();
    if !is_interrupted {
        fs::write(&file, text).unwrap();
    }
}

#[test]
fn a_subscription_of_the_operators_own_is_put_back() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("webhook_subscriptions.json");
    let text = || fs::read_to_string(&file).unwrap();
    for interrupted in [false, true] {
        fs::write(&file, OWN).unwrap();
        subscribe(&home, OURS, interrupted);
        subscribe(&home, OURS, false);
        install_in(&home, "n");
        let removed = removal::uninstall(home.path(), "n").unwrap();
        assert!(removed.restored && removed.left.is_empty(), "{removed:?}");
        assert_eq!(text(), OWN, "byte for byte");
    }
    // Before anything was written.
    subscribe(&home, OURS, true);
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert!(!removed.restored && removed.left[0].ends_with("which was there before"), "{removed:?}");
    // Changed since.
    subscribe(&home, OURS, false);
    let changed = OURS.replace("ours", "changed");
    fs::write(&file, &changed).unwrap();
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert!(!removed.restored && removed.left[0].ends_with("which was changed since"), "{removed:?}");
    assert_eq!(text(), changed);
}

#[test]
fn a_subscription_alone_is_taken_out_after_an_interruption_too() {
    let home = tempfile::tempdir().unwrap();
    subscribe(&home, OURS, false);
    // The installation ends here, and is repeated. Or the route runs no agent.
    subscribe(&home, OURS, false);
    let removed = removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(removed, Removed { any: true, ..Removed::default() });
    assert_eq!(all(home.path()), BTreeMap::new());

    // The extension goes with the last route that runs an agent.
    subscribe(&home, OURS, false);
    install_in(&home, "m");
    let removed = removal::uninstall(home.path(), "m").unwrap();
    assert!(removed.extension && removed.left.is_empty(), "{removed:?}");
    assert!(!home.path().join("hooks").exists() && !home.path().join(FILES[0].0).exists());
    removal::uninstall(home.path(), "n").unwrap();
    assert_eq!(all(home.path()), BTreeMap::new());
}
