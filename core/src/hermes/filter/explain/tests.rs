use super::*;
use crate::json::parse;
use proptest::prelude::*;

const PAYLOAD: &str = r#"{"data":{"id":"j1","status":"completed","usage":{"cost":0.5,"is_byok":false},
    "urls":["https://a/0"],"model":null,"error":"a\nb\u202ec"}}"#;

fn explain(filter: &str) -> Option<String> {
    let filter = Filter::compile(parse(filter.as_bytes()).unwrap().root()).unwrap();
    filter.explain(parse(PAYLOAD.as_bytes()).unwrap().root(), &"video.generation.completed".into())
}

#[test]
fn the_explanation_has_the_failed_condition_and_the_value() {
    for (filter, expected) in [
        (
            r#"{"field":"data.status","equals":"failed"}"#,
            r#"data.status should equal "failed", and is "completed""#,
        ),
        (r#"{"field":"data.nope","equals":null}"#, "data.nope should equal null, and is missing"),
        (
            r#"{"field":"data.status","not_equals":"completed"}"#,
            r#"data.status should not equal "completed", and is "completed""#,
        ),
        (
            r#"{"field":"data.usage.cost","equals":"0.5"}"#,
            r#"data.usage.cost should equal "0.5", and is 0.5"#,
        ),
        (
            r#"{"field":"data.status","in":["failed",1]}"#,
            r#"data.status should be in ["failed", 1], and is "completed""#,
        ),
        (
            r#"{"field":"data.urls","contains":"https://a"}"#,
            r#"data.urls should contain "https://a", and is ["https://a/0"]"#,
        ),
        (
            r#"{"field":"data.usage.is_byok","regex":"^false$"}"#,
            r#"data.usage.is_byok should match regex "^false$", and is false, which as text is "False""#,
        ),
        (
            r#"{"field":"data.id","regex":"^\\w+\\Z\\.$"}"#,
            r#"data.id should match regex "^\\w+\\Z\\.$", and is "j1""#,
        ),
        (r#"{"field":"data.model","exists":false}"#, "data.model should be missing, and is null"),
        (r#"{"field":"data.x","exists":true}"#, "data.x should exist, and is missing"),
        (r#"{"field":"data.id","missing":true}"#, r#"data.id should be missing, and is "j1""#),
        (r#"{"field":"data.error","equals":"x"}"#, r#"data.error should equal "x", and is "a\nb\u{202e}c""#),
        (
            r#"{"field":"event_type","equals":"t"}"#,
            r#"event should equal "t", and is "video.generation.completed""#,
        ),
        (r#"{"field":"payload.data.id","equals":"j2"}"#, r#"payload.data.id should equal "j2", and is "j1""#),
        // The first of a list, all of an any, and an inverted not.
        (
            r#"[{"field":"data.id","equals":"j1"},{"field":"data.id","equals":2},{"field":"x","equals":3}]"#,
            r#"data.id should equal 2, and is "j1""#,
        ),
        (
            r#"{"any":[{"field":"data.id","equals":2},{"field":"x","exists":true}]}"#,
            r#"one of these should hold, and none does: data.id should equal 2, and is "j1"; x should exist, and is missing"#,
        ),
        (r#"{"any":[{"field":"data.id","equals":2}]}"#, r#"data.id should equal 2, and is "j1""#),
        (r#"{"any":[]}"#, "its list of conditions is empty"),
        (
            r#"{"not":{"field":"data.status","equals":"completed"}}"#,
            r#"data.status should not equal "completed", and is "completed""#,
        ),
        (
            r#"{"not":{"field":"data.status","in":["completed"]}}"#,
            r#"data.status should not be in ["completed"], and is "completed""#,
        ),
        (r#"{"not":{"field":"data.x","not_equals":1}}"#, "data.x should equal 1, and is missing"),
        (r#"{"not":{"field":"data.id","exists":true}}"#, r#"data.id should be missing, and is "j1""#),
        (r#"{"not":{"field":"data.id","contains":"j"}}"#, r#"data.id should not contain "j", and is "j1""#),
        (
            r#"{"not":{"not":{"field":"data.id","regex":"x"}}}"#,
            r#"data.id should match regex "x", and is "j1""#,
        ),
        (
            r#"{"not":{"any":[{"field":"data.id","equals":2},{"field":"data.id","equals":"j1"}]}}"#,
            r#"data.id should not equal "j1", and is "j1""#,
        ),
        (
            r#"{"not":{"all":[{"field":"data.id","equals":"j1"},{"field":"data.x","missing":true}]}}"#,
            r#"one of these should hold under not, and none does: data.id should not equal "j1", and is "j1"; data.x should exist, and is missing"#,
        ),
        (r#"{"not":{"all":[]}}"#, "its list of conditions is empty"),
    ] {
        assert_eq!(explain(filter).as_deref(), Some(expected), "{filter}");
    }
    for holds in ["[]", r#"{"all":[]}"#, r#"{"not":{"any":[]}}"#, r#"{"field":"data.id","equals":"j1"}"#] {
        assert_eq!(explain(holds), None, "{holds}");
    }
}

#[test]
fn long_values_and_long_lists_are_shortened() {
    let long = format!(r#"{{"a":"{}","b":[{}1]}}"#, "ü".repeat(500), "1,".repeat(500));
    let payload = parse(long.as_bytes()).unwrap();
    let explain = |filter: &str| {
        let filter = Filter::compile(parse(filter.as_bytes()).unwrap().root()).unwrap();
        filter.explain(payload.root(), &"t".into()).unwrap()
    };
    let why = explain(r#"{"field":"a","equals":1}"#);
    assert_eq!(why, format!("a should equal 1, and is \"{}…\"", "ü".repeat(79)));
    let why = explain(r#"{"field":"b","equals":1}"#);
    assert!(why.starts_with("b should equal 1, and is [1, 1, ") && why.ends_with('…'), "{why}");
    assert!(why.chars().count() < 120, "{why}");
    let one = r#"{"field":"a","equals":1}"#;
    let any = |filter: &str| format!(r#"{{"any":[{}{filter}]}}"#, format!("{filter},").repeat(5));
    let why = explain(&any(one));
    assert!(why.ends_with("; and 2 more") && why.matches("a should equal 1").count() == 4, "{why}");
    assert_eq!(explain(&any(&any(&any(&any(one))))).chars().count(), LONGEST);
}

/// JSON of few keys and values, so that filters and payloads meet.
fn value() -> impl Strategy<Value = String> {
    let scalar =
        prop::sample::select(vec!["null", "true", "0", "1", "1.0", r#""a""#, r#""1""#, r#""""#, "NaN"]);
    scalar.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        let key = prop::sample::select(vec!["a", "b", "payload", "0"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key, inner), 0..3).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn filter() -> impl Strategy<Value = String> {
    let field =
        prop::sample::select(vec!["a", "b", "a.b", "a.0", "payload.a", "payload", "event", "event.a"]);
    let scalar = prop::sample::select(vec!["null", "true", "0", "1", r#""a""#, r#""1""#]);
    let test = prop_oneof![
        any::<bool>().prop_map(|there| format!("\"exists\":{there}")),
        Just("\"missing\":true".to_owned()),
        value().prop_map(|value| format!("\"equals\":{value}")),
        value().prop_map(|value| format!("\"not_equals\":{value}")),
        scalar.prop_map(|value| format!("\"contains\":{value}")),
        prop::collection::vec(value(), 1..3).prop_map(|values| format!("\"in\":[{}]", values.join(","))),
        prop::sample::select(vec!["a", "^1$", "", "True", "x"])
            .prop_map(|regex| format!("\"regex\":\"{regex}\"")),
    ];
    let leaf = (field, test).prop_map(|(field, test)| format!("{{\"field\":\"{field}\",{test}}}"));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            list.clone().prop_map(|filters| format!("{{\"all\":[{}]}}", filters.join(","))),
            list.prop_map(|filters| format!("{{\"any\":[{}]}}", filters.join(","))),
            inner.prop_map(|filter| format!("{{\"not\":{filter}}}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn there_is_a_reason_exactly_if_the_filter_does_not_match(filter in filter(), payload in value()) {
        let compiled = Filter::compile(parse(filter.as_bytes()).unwrap().root()).unwrap();
        let payload = parse(payload.as_bytes()).unwrap();
        let why = compiled.explain(payload.root(), &"a".into());
        prop_assert_eq!(why.is_none(), compiled.matches(payload.root(), &"a".into()), "{:?}", why);
        prop_assert!(why.is_none_or(|why| !why.is_empty() && !why.contains(char::is_control)));
    }
}
