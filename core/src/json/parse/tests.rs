use super::*;
use proptest::prelude::*;

fn fault(text: &str) -> (usize, &'static str) {
    let error = parse(text.as_bytes()).unwrap_err();
    (error.offset, error.what)
}

#[test]
fn errors_name_the_byte_and_what_was_expected() {
    assert_eq!(fault(""), (0, "expected a JSON value"));
    assert_eq!(fault("{\"a\":1,}"), (7, "expected a key in double quotes"));
    assert_eq!(fault("[1,]"), (3, "expected a JSON value"));
    assert_eq!(fault("[1 2]"), (3, "expected ',' or ']'"));
    assert_eq!(fault("{\"a\" 1}"), (5, "expected ':'"));
    assert_eq!(fault("{} {}"), (3, "more than one JSON value"));
    assert_eq!(fault("01"), (1, "more than one JSON value"));
    assert_eq!(fault("[1.]"), (2, "expected ',' or ']'"));
    assert_eq!(fault("-"), (1, "expected a digit"));
    assert_eq!(fault("\"a\nb\""), (2, "a control character in a string"));
    assert_eq!(fault("\"\\x\""), (1, "an unknown escape in a string"));
    assert_eq!(fault("\"\\u12g4\""), (1, "expected four hexadecimal digits behind \\u"));
    assert_eq!(fault("\"abc"), (4, "a string without end"));
    assert_eq!(parse(b"\"\xFF\"").unwrap_err(), ParseError { offset: 1, what: "not UTF-8" });
}

#[test]
fn depth_is_measured_at_any_depth_and_kept_to_the_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(MAX_DEPTH).as_bytes()).unwrap().unreadable_for_hermes().is_none());
    let deep = format!("{{\"a\":{},\"b\":{{\"c\":[1,{{}}]}}}}", nested(200_000));
    let document = parse(deep.as_bytes()).unwrap();
    assert_eq!(document.depth, 200_001);
    assert!(document.unreadable_for_hermes().unwrap().contains("200001 levels"));
    assert!(document.root().get("b").unwrap().get("c").is_some(), "what is behind the deep part is kept");
    assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    let objects = format!("{}1{}", "{\"k\":".repeat(5_000), "}".repeat(5_000));
    assert_eq!(parse(objects.as_bytes()).unwrap().depth, 5_000);
}

#[test]
fn long_integers_are_kept_and_reported() {
    assert!(parse("9".repeat(4300).as_bytes()).unwrap().unreadable_for_hermes().is_none());
    assert!(parse(format!("-{}", "9".repeat(4300)).as_bytes()).unwrap().unreadable_for_hermes().is_none());
    assert!(parse("9".repeat(4301).as_bytes()).unwrap().unreadable_for_hermes().is_some());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn nothing_json_like_panics(text in r#"[\[\]{}:,"\\u0-9a-fED8.+\-ntN I]{0,40}"#) {
        let _ = parse(text.as_bytes());
    }

    /// Whatever a strict JSON reader takes, we take too, and see the same keys.
    #[test]
    fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\/u0-9abE.+\- truefalsnk]{0,24}"#) {
        if let Ok(serde_json::Value::Object(theirs)) = serde_json::from_str(&text) {
            let document = parse(text.as_bytes()).unwrap();
            let ours = document.root().as_object().unwrap();
            prop_assert_eq!(ours.len(), theirs.len());
        }
    }
}
