use super::*;

fn server() -> Server {
    Server {
        command: "/opt/talaria".into(),
        args: vec!["--config".into(), "/etc/it's \"x\".yaml".into(), "mcp".into()],
        env: Vec::new(),
    }
}

const SERVER: &str = "  talaria:\n    command: \"/opt/talaria\"\n    args: [\"--config\", \"/etc/it's \\\"x\\\".yaml\", \"mcp\"]\n";

/// Enables both, and takes it back.
fn enabled_text(text: &str) -> String {
    let (edited, edits) = enable(text, &server()).unwrap_or_else(|why| panic!("{why}:\n{text}"));
    assert_eq!(enabled(&edited), Ok((true, true)), "{edited}");
    assert_eq!(take_back(&edited, &edits).unwrap(), text, "byte for byte");
    let again = enable(&edited, &server()).unwrap();
    assert_eq!(again, (edited.clone(), Vec::new()), "twice is as once");
    edited
}

#[test]
fn missing_keys_are_added_at_the_end() {
    let both = format!("plugins:\n  enabled: [talaria]\nmcp_servers:\n{SERVER}");
    for text in
        ["", "# nothing\n", "model: x # mine\n\nplatforms: {webhook: {enabled: true}}\n", "---\na: 1\n"]
    {
        assert_eq!(enabled_text(text), format!("{text}{both}"));
    }
    let without_end = enabled_text("a: 1");
    assert_eq!(without_end, format!("a: 1\n{both}"));
    let windows = enabled_text("a: 1\r\n");
    assert_eq!(windows, format!("a: 1\r\n{both}").replace("\r\n", "\n").replace('\n', "\r\n"));
}

#[test]
fn entries_are_added_beside_others() {
    for (text, expected) in [
        (
            "plugins:\n  enabled: [a, b]  # mine\nx: 1\n",
            "plugins:\n  enabled: [a, b, talaria]  # mine\nx: 1\n",
        ),
        ("plugins:\n  enabled: []\n", "plugins:\n  enabled: [talaria]\n"),
        (
            "plugins:\n  enabled:\n  - a\n  # why\n  - b\n\n  disabled: []\n",
            "plugins:\n  enabled:\n  - a\n  # why\n  - b\n  - talaria\n\n  disabled: []\n",
        ),
        (
            "plugins:\n    enabled:\n      - a\n      -\n        b\nx: 1\n",
            "plugins:\n    enabled:\n      - a\n      -\n        b\n      - talaria\nx: 1\n",
        ),
        ("plugins:\n  enabled:  # none\nx: 1\n", "plugins:\n  enabled:  # none\n    - talaria\nx: 1\n"),
        (
            "plugins:  # all\n   # mine\n   disabled: [z]\nx: 1\n",
            "plugins:  # all\n   enabled: [talaria]\n   # mine\n   disabled: [z]\nx: 1\n",
        ),
        ("plugins: {}  # none\nx: 1\n", "plugins:  # none\n  enabled: [talaria]\nx: 1\n"),
        ("plugins:\nx: 1\n", "plugins:\n  enabled: [talaria]\nx: 1\n"),
    ] {
        assert_eq!(enabled_text(text), format!("{expected}mcp_servers:\n{SERVER}"));
    }
    let text = "mcp_servers:\n  other:\n    command: x\nplugins: {}\n";
    let expected =
        format!("mcp_servers:\n{SERVER}  other:\n    command: x\nplugins:\n  enabled: [talaria]\n");
    assert_eq!(enabled_text(text), expected);
    let there = "plugins:\n  enabled: [talaria]\nmcp_servers:\n  talaria: {command: own}\n";
    assert_eq!(enabled_text(there), there, "an entry of the operator's own stays");
    let with_env = Server { env: vec![("TALARIA_TOKEN_FILE", "/t".into())], ..server() };
    assert!(enable("", &with_env).unwrap().0.ends_with("    env: {TALARIA_TOKEN_FILE: \"/t\"}\n"));
}

#[test]
fn shapes_that_cannot_be_edited_safely_are_refused() {
    for (text, why) in [
        ("{a: 1}", "not YAML"),
        ("plugins: {enabled: [a]}\n", "not written as a block"),
        ("plugins:\n  enabled: &all [a]\n", "can be edited safely"),
        ("plugins:\n  enabled: [\n    a]\n", "can"),
        ("plugins: &p\n  enabled: [a]\ncopy: *p\n", "be edited safely"),
        ("base: &p\n  enabled: [a]\nplugins: *p\n", "not written as a block"),
        ("\"plugins\":\n  enabled: [a]\n", "not written as a block"),
        ("plugins:\n  enabled: [a]\nplugins:\n  enabled: [b]\n", "not YAML"),
        ("plugins:\n  disabled: [talaria]\n", "plugins.disabled names talaria"),
        ("plugins: [", "not YAML"),
        ("a: 1\n...\n", ""),
        ("a: |+\n  text", "safely"),
        ("a: |\n  text\n  plugins:\n", ""),
    ] {
        match enable(text, &server()) {
            Err(found) => assert!(found.contains(why), "{text}: {found}"),
            Ok((edited, edits)) => {
                assert_eq!(why, "", "{text}: {edited}");
                assert_eq!(take_back(&edited, &edits).unwrap(), text);
            }
        }
    }
}

#[test]
fn what_was_changed_since_is_not_taken_back() {
    let (edited, edits) = enable("a: 1\nplugins:\n  enabled: [x]\n", &server()).unwrap();
    // Changes elsewhere do not matter.
    let grown = format!("# new\n{edited}b: 2\n");
    assert_eq!(take_back(&grown, &edits).unwrap(), "# new\na: 1\nplugins:\n  enabled: [x]\nb: 2\n");
    for changed in
        [edited.replace("[x, talaria]", "[x, talaria, y]"), edited.replace("mcp\"]", "mcp\", \"-v\"]")]
    {
        assert!(take_back(&changed, &edits).unwrap_err().contains("were changed"));
    }
}
