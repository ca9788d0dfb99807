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
    let (edited, edits) = enable(text, &server(), &[]).unwrap_or_else(|why| panic!("{why}:\n{text}"));
    assert_eq!(enabled(&edited), Ok((true, true)), "{edited}");
    assert_eq!(take_back(&edited, &edits).unwrap(), text, "byte for byte");
    let again = enable(&edited, &server(), &edits).unwrap();
    assert_eq!(again, (edited.clone(), edits), "twice is as once");
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
    assert!(enable("", &with_env, &[]).unwrap().0.ends_with("    env: {TALARIA_TOKEN_FILE: \"/t\"}\n"));
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
        match enable(text, &server(), &[]) {
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
    let (edited, edits) = enable("a: 1\nplugins:\n  enabled: [x]\n", &server(), &[]).unwrap();
    // Changes elsewhere do not matter.
    let grown = format!("# new\n{edited}b: 2\n");
    assert_eq!(take_back(&grown, &edits).unwrap(), "# new\na: 1\nplugins:\n  enabled: [x]\nb: 2\n");
    let beside = edited.replace("[x, talaria]", "[x, talaria, y]");
    assert_eq!(take_back(&beside, &edits).unwrap(), "a: 1\nplugins:\n  enabled: [x, y]\n");
    let changed = edited.replace("mcp\"]", "mcp\", \"-v\"]");
    assert!(take_back(&changed, &edits).unwrap_err().contains("were changed"));
    let (edited, edits) = enable("plugins:\n  enabled:\n  - x\n", &server(), &[]).unwrap();
    let changed = edited.replace("- talaria\n", "- talaria # keep\n");
    assert!(take_back(&changed, &edits).unwrap_err().contains("were changed"));
}

/// As after runs that recorded edits and could not write the file.
#[test]
fn edits_that_are_not_in_the_text_are_dropped() {
    for text in ["", "a: 1\n", "plugins:\n  enabled: [x]\n"] {
        let (_, first) = enable(text, &server(), &[]).unwrap();
        let (_, second) = enable(text, &server(), &first).unwrap();
        assert_eq!(second, first);
        let (edited, edits) = enable(text, &server(), &second).unwrap();
        assert_eq!(edits, first, "each edit once");
        assert_eq!(take_back(&edited, &edits).as_deref(), Ok(text));
        assert_eq!(take_back(text, &edits).as_deref(), Ok(text), "nothing is to be taken back");
        // The entry of the plugin is gone, and comes back; that of the server stays.
        let gone = edited.replace("plugins:\n  enabled: [talaria]\n", "").replace("x, talaria", "x");
        let (edited, again) = enable(&gone, &server(), &edits).unwrap();
        assert_eq!((again.len(), enabled(&edited)), (2, Ok((true, true))));
        assert_eq!(enabled(&take_back(&edited, &again).unwrap()), Ok((false, false)));
    }
}

#[test]
fn lines_that_others_added_below_ours_stay() {
    let (edited, edits) = enable("a: 1\n", &server(), &[]).unwrap();
    let below = edited.replace("[talaria]\n", "[talaria]\n  disabled: [x]\n") + "  other:\n    command: x\n";
    assert_eq!(
        take_back(&below, &edits).as_deref(),
        Ok("a: 1\nplugins:\n  enabled: []\n  disabled: [x]\nmcp_servers:\n  other:\n    command: x\n")
    );
    let (edited, edits) = enable("", &server(), &[]).unwrap();
    let alias = edited.replace("enabled: [talaria]", "enabled: &all [talaria]\nall: *all");
    let why = take_back(&alias, &edits).unwrap_err();
    assert!(!why.contains("not YAML"), "{why}");
}

/// As Hermes writes it: in blocks, ordered by their keys.
#[test]
fn entries_are_taken_out_of_a_file_that_hermes_has_laid_out() {
    let (_, edits) = enable("b: 2\n", &server(), &[]).unwrap();
    let entry = "  talaria:\n    args:\n    - --config\n    - /etc/it's \"x\".yaml\n    - mcp\n    command: /opt/talaria\n";
    for (written, expected) in [
        (
            format!("b: 2\nmcp_servers:\n{entry}plugins:\n  enabled:\n  - talaria\n"),
            "b: 2\nplugins:\n  enabled: []\n",
        ),
        (
            format!(
                "mcp_servers:\n  a:\n    command: x\n{entry}\n  z:\n    command: x\nplugins:\n  disabled: []\n  enabled:\n    - talaria\n    - y\n  x: 1\nb: 2\n"
            ),
            "mcp_servers:\n  a:\n    command: x\n\n  z:\n    command: x\nplugins:\n  disabled: []\n  enabled:\n    - y\n  x: 1\nb: 2\n",
        ),
        (format!("mcp_servers:\n{entry}# mine\nb: 2\n"), "# mine\nb: 2\n"),
    ] {
        assert_eq!(take_back(&written, &edits).as_deref(), Ok(expected), "{written}");
    }
}

#[test]
fn an_entry_of_ours_is_replaced_and_one_of_others_stays() {
    let with_env = Server { env: vec![("TALARIA_TOKEN_FILE", "/t".into())], ..server() };
    for text in ["", "a: 1", "mcp_servers:\n  other: {command: x}\nplugins: {}\n"] {
        let (edited, edits) = enable(text, &server(), &[]).unwrap();
        let (again, edits) = enable(&edited, &with_env, &edits).unwrap();
        assert_eq!((is(&again, &with_env), is(&again, &server())), (Ok(true), Ok(false)), "{again}");
        assert_eq!(take_back(&again, &edits).as_deref(), Ok(text), "byte for byte");
    }
    let own = "plugins:\n  enabled: [talaria]\nmcp_servers:\n  talaria: {command: own}\n";
    assert_eq!(enable(own, &with_env, &[]).unwrap().0, own);
}

#[test]
fn a_key_that_is_there_is_not_to_be_written_twice() {
    assert_eq!(by_hand("", &server())[..3], ["plugins:", "  enabled: [talaria]", "mcp_servers:"]);
    let there = by_hand("plugins: {enabled: [x]}\nmcp_servers: {y: {command: z}}\n", &server());
    assert_eq!(there[0], "# add talaria to the list plugins.enabled");
    assert_eq!(there[1..3], ["# below mcp_servers, beside its other entries", "  talaria:"]);
}
