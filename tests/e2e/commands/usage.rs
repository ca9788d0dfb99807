//! Exit codes, help, completions and manual pages.

use super::{err, works};
use std::fs;
use talaria_tests::{
    binary::{run, workspace},
    stack::stack,
};

#[test]
#[expect(clippy::too_many_lines, reason = "a table of wrong usages")]
fn exit_codes_depend_on_the_failure() {
    let written = stack()
        .tenant("acme", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", ""))
        .tenant("other", |t| t.route("r", "http://127.0.0.1:1/webhooks/r", "body: raw"))
        .write();
    let directory = written.path();
    for (args, code, why) in [
        (&["nonsense"][..], 2, "unrecognized subcommand"),
        (&["send"], 2, "--tenant takes one of: acme, other"),
        (&["send", "--tenant", "nobody"], 4, "no tenant nobody"),
        (&["render", "acme/nowhere"], 4, "there is: acme/r, other/r"),
        (&["render", "other/r"], 1, "raw bodies"),
        (&["hermes"], 2, "which route?"),
        (&["hermes", "acme/r", "--install", "nowhere"], 1, "Hermes home"),
        (&["status", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["stats", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["stats", "--since", "yesterday"], 2, "how long ago, such as 2h"),
        (&["explain", "j", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["watch", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["send", "--tenant", "acme", "--url", "http://127.0.0.1:1/"], 5, "cannot reach the ingress"),
        (
            &["send", "--tenant", "acme", "--url", "http://u:hunter2@127.0.0.1:1/"],
            5,
            "cannot reach the ingress at http://127.0.0.1:1/",
        ),
        (
            &["status", "--relay", "http://u:hunter2@127.0.0.1:1"],
            5,
            "cannot reach the relay at http://127.0.0.1:1/",
        ),
        (
            &["healthcheck", "--url", "http://u:hunter2@127.0.0.1:1"],
            5,
            "no answer at http://127.0.0.1:1/readyz",
        ),
        (&["status", "--relay", "127.0.0.1:1"], 2, "begins with http:// or https://"),
        (&["explain", "rpl_1"], 2, "talaria replays rpl_1 shows it"),
        (&["models"], 2, "--tenant takes one of: acme, other"),
        (&["submit", "--model", "m", "a cat"], 2, "--tenant takes one of: acme, other"),
        (&["submit", "a cat"], 2, "--model"),
        (
            &["submit", "--tenant", "acme", "--model", "m", "--first-frame", "nowhere"],
            2,
            "cannot read nowhere",
        ),
        (
            &["submit", "--route", "acme/r", "--model", "m", "--provider-options", "[1]"],
            2,
            "not a JSON object",
        ),
        (&["submit", "--route", "acme/r", "--model", "m", "--context", "chat"], 2, "expected KEY=VALUE"),
        (
            &["submit", "--tenant", "acme", "--model", "m", "p", "--relay", "http://127.0.0.1:1"],
            5,
            "`talaria relay` running there?",
        ),
        (&["track", "gen-vid-1"], 2, "--tenant takes one of: acme, other"),
        (&["jobs", "--state", "waiting"], 2, "possible values: submitting, running"),
        (&["jobs", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["stop-job", "gen-vid-1", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["fetch"], 2, "<JOB>"),
        (&["fetch", "gen-vid-1", "--relay", "http://127.0.0.1:1"], 5, "`talaria relay` running there?"),
        (&["costs", "--since", "yesterday"], 2, "how long ago, such as 2h"),
        (&["mcp", "--allow", "everything"], 2, "possible values: read, submit, control"),
        (&["status", "--since", "yesterday"], 2, "how long ago, such as 2h"),
        (&["status", "--limit", "0"], 2, "1..=1000"),
        (&["secrets", "--show", "nobody"], 4, "there is: acme, acme/r, other, other/r"),
        (&["healthcheck", "--url", "http://127.0.0.1:1"], 5, "no answer at http://127.0.0.1:1/readyz"),
        (&["check", "--role", "bystander"], 2, "possible values: ingress, relay"),
        (&["check", "--config", "nowhere"], 3, "cannot read nowhere"),
        (&["render", "acme/r", "--payload", "nowhere"], 1, "cannot read nowhere"),
        (&["help", "nonsense"], 4, "no command nonsense"),
        (&["help", "error", "callbak-401"], 4, "there is: callback-401"),
        (&["help", "error", "qqqq"], 4, "talaria help error lists them"),
        (&["completions", "basic"], 2, "possible values"),
    ] {
        let output = run(directory, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(why), "{args:?}: {}", err(&output));
        assert!(!err(&output).contains("hunter2"), "{args:?}: {}", err(&output));
    }
    let help = works(directory, &["--help"]);
    assert!(help.contains("Exit codes: 0 done") && help.contains("talaria demo"), "{help}");
    for command in [
        "init",
        "check",
        "up",
        "ingress",
        "relay",
        "demo",
        "send",
        "status",
        "stats",
        "explain",
        "watch",
        "render",
        "hermes",
        "secrets",
        "healthcheck",
        "doctor",
        "probe",
        "replays",
        "models",
        "submit",
        "jobs",
        "track",
        "stop-job",
        "fetch",
        "costs",
        "mcp",
        "backup",
        "restore",
        "completions",
        "man",
        "help",
    ] {
        assert_eq!(works(directory, &["help", command]), works(directory, &[command, "--help"]));
        let help = works(directory, &[command, "--help"]);
        assert!(help.contains("--config"), "{help}");
        assert!(command == "up" || command == "demo" || help.contains("Examples:"), "{command}");
    }
}

#[test]
fn the_manual_is_in_the_binary() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let list = works(directory, &["help", "error"]);
    let pages = fs::read_dir(workspace().join("docs/errors")).unwrap().count() - 1;
    assert_eq!(list.lines().count(), pages, "each page but the list of them: {list}");
    assert!(list.lines().any(|line| line.starts_with("hermes-401 ")), "{list}");
    let page = fs::read_to_string(workspace().join("docs/errors/hermes-401.md")).unwrap();
    for name in ["hermes-401", "docs/errors/hermes-401.md"] {
        assert_eq!(works(directory, &["help", "error", name]), page);
    }

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = works(directory, &["completions", shell]);
        assert!(script.contains("doctor") && script.contains("public-url"), "{shell}");
    }
    let said = works(directory, &["man", "manual"]);
    let manual = directory.join("manual");
    let written = fs::read_dir(&manual).unwrap().count();
    assert!(said.starts_with(&format!("Wrote {written} pages into manual")), "{said}");
    let page = fs::read_to_string(manual.join("talaria-doctor.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("public") && manual.join("talaria.1").exists(), "{page}");

    let version = works(directory, &["--version"]);
    assert!(version.starts_with("talaria 0."), "{version}");
}
