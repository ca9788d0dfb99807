//! Tokens of a template that stay as they are written, because no callback has what they name.
//!
//! Hermes' templates leave such a token in the text, so the agent, or a chat, would be sent the braces. Judged by the
//! callbacks that OpenRouter documents; types are open, so what is found is warned of and not refused.

use super::{EventPattern, problem::Problems, raw};
use crate::{
    hermes::{filter::Filter, template::Template},
    json::{Text, Value},
    openrouter::documented::{TYPES, examples},
};
use regex::Regex;
use serde_saphyr::Spanned;
use std::{collections::BTreeSet, sync::LazyLock};

/// The documented callbacks that a route takes; none where it is for other types alone.
pub(super) fn taken(events: &[EventPattern], filter: Option<&Filter>) -> Vec<(&'static str, Value)> {
    let mut taken = examples();
    taken.retain(|(event_type, _)| {
        events.is_empty() || events.iter().any(|pattern| pattern.matches(event_type))
    });
    // An example has one value of many, so a filter that holds for none of them says nothing.
    let holds = |(event_type, payload): &(&str, Value)| {
        filter.is_none_or(|filter| filter.matches(payload, &Text::from(*event_type)))
    };
    if taken.iter().any(holds) {
        taken.retain(holds);
    }
    taken
}

/// Warns of patterns for OpenRouter's videos that match none of its documented types.
pub(super) fn check_types(warnings: &mut Problems, written: &[Spanned<String>], patterns: &[EventPattern]) {
    for (written, pattern) in written.iter().zip(patterns) {
        let is_known = TYPES.iter().any(|known| pattern.matches(known));
        if written.value.starts_with("video.") && !is_known {
            let what = format!("{} is none of the types that OpenRouter documents for videos", written.value);
            warnings.add(written, what, format!("they are {}", TYPES.join(", ")));
        }
    }
}

/// Warns of what stays as it is written in a route's prompt and in its `extra`, for the callbacks that it takes.
pub(super) fn check_route(
    warnings: &mut Problems,
    route: &str,
    raw: &raw::Route,
    taken: &[(&'static str, Value)],
) {
    if let Some(written) = &raw.prompt {
        check(warnings, written, &format!("the prompt of {route}"), &written.value, taken);
    }
    if let Some(written) = &raw.extra {
        for (key, value) in written.value.as_object().into_iter().flatten() {
            let of = format!("extra.{} of {route}", key.to_str_lossy());
            check(warnings, written, &of, value.as_str().unwrap_or_default(), taken);
        }
    }
}

/// `of` says whose template it is.
fn check<T>(
    warnings: &mut Problems,
    written: &Spanned<T>,
    of: &str,
    text: &str,
    taken: &[(&'static str, Value)],
) {
    let template = Template::new(&text.into());
    let of_all = examples();
    let finds = |path: &str, (event_type, payload): &(&str, Value)| {
        Template::finds(path, payload, &Text::from(*event_type))
    };
    let tokens: BTreeSet<&str> = template.tokens().collect();
    for token in tokens {
        let lacking: Vec<&str> = taken
            .iter()
            .filter(|example| !finds(token, example))
            .map(|(event_type, _)| *event_type)
            .collect();
        if lacking.is_empty() {
            continue;
        }
        if lacking.len() < taken.len() {
            let what = format!(
                "{of} names {{{token}}}, which callbacks of the types {} do not have: there it stays as it is written",
                lacking.join(", ")
            );
            let help = "write {data}, which is all that there is, or have a route for these types of its own";
            warnings.add(written, what, help);
        } else {
            let what = format!(
                "{of} names {{{token}}}, which no callback has that it takes, as OpenRouter documents them: it stays as it is written"
            );
            warnings.add(written, what, instead(token, taken));
        }
    }
    for (written_so, path) in lookalikes(text) {
        if of_all.iter().any(|example| finds(path, example)) {
            let what = format!(
                "{of} has {written_so}, which Hermes' templates do not read: it stays as it is written"
            );
            warnings.add(written, what, format!("write {{{path}}}"));
        }
    }
}

/// What was probably meant by a token that is nowhere.
fn instead(token: &str, taken: &[(&'static str, Value)]) -> String {
    let is_there = |path: &str| {
        taken.iter().any(|(event_type, payload)| Template::finds(path, payload, &Text::from(*event_type)))
    };
    let without_root = token.strip_prefix("payload.").filter(|path| is_there(path)).map(str::to_owned);
    let below_data = Some(format!("data.{token}")).filter(|path| is_there(path));
    let of_a_list = token
        .rsplit_once('.')
        .filter(|(list, item)| item.bytes().all(|b| b.is_ascii_digit()) && is_there(list))
        .map(|(list, _)| list.to_owned());
    if ["payload", "body", "raw", "json", "event"].contains(&token) {
        return "write {__raw__} for the whole payload".into();
    }
    match (without_root.or(below_data), of_a_list) {
        (Some(path), _) => format!("write {{{path}}}"),
        (_, Some(list)) => format!("write {{{list}}}: an item of a list cannot be named"),
        _ => "`talaria render` shows the prompt; {data} is all that a callback says of its job".into(),
    }
}

/// What looks like a token and is none, with the path in it: `{ data.id }`, `{data.urls[0]}`, `${data.id}`, `{{data.id}}`.
fn lookalikes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    #[expect(clippy::expect_used, reason = "a constant that compiles, as a test shows")]
    static LOOKALIKE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"\{\{[ \t]*(?P<two>[A-Za-z0-9_.]+)[ \t]*\}\}",
            r"|\$\{(?P<shell>[A-Za-z0-9_.]+)\}",
            r"|\{(?P<item>[A-Za-z0-9_.]+)\[[^\]{}]*\][^{}]*\}",
            r"|\{[ \t]+(?P<blank>[A-Za-z0-9_.]+)[ \t]*\}",
            r"|\{(?P<after>[A-Za-z0-9_.]+)[ \t]+\}",
        ))
        .expect("a pattern")
    });
    LOOKALIKE.captures_iter(text).filter_map(|found| {
        let path =
            ["two", "shell", "item", "blank", "after"].into_iter().find_map(|name| found.name(name))?;
        Some((found.get(0)?.as_str(), path.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(text: &str, events: &[EventPattern]) -> Vec<String> {
        let mut warnings = Problems::default();
        let written: Spanned<String> = serde_saphyr::from_str("x").unwrap();
        check(&mut warnings, &written, "p", text, &taken(events, None));
        warnings.0.into_iter().map(|warning| format!("{} / {}", warning.what, warning.help)).collect()
    }

    const COMPLETED: fn() -> Vec<EventPattern> =
        || vec![EventPattern::Exactly("video.generation.completed".into())];

    #[test]
    fn what_every_callback_has_is_fine() {
        for text in [
            "",
            "{data.id} {data.status} {data.model} {data} {type} {created_at} {__raw__} {event_type}",
            "{\"a\": 1} { } {}",
        ] {
            assert_eq!(warned(text, &[]), Vec::<String>::new(), "{text}");
        }
        assert_eq!(warned("{data.unsigned_urls} {data.usage.cost}", &COMPLETED()), Vec::<String>::new());
    }

    #[test]
    fn what_no_callback_has_is_warned_of_with_what_was_meant() {
        for (text, help) in [
            ("{payload}", "write {__raw__} for the whole payload"),
            ("{payload.data.id}", "write {data.id}"),
            ("{id}", "write {data.id}"),
            ("{data.unsigned_urls.0}", "write {data.unsigned_urls}: an item of a list cannot be named"),
            ("{talaria.route}", "`talaria render` shows the prompt"),
            ("{data.error}", "`talaria render` shows the prompt"),
        ] {
            let found = warned(text, &COMPLETED());
            assert!(
                found.len() == 1 && found[0].contains("no callback has") && found[0].contains(help),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn what_some_callbacks_lack_names_them() {
        let found = warned("{data.unsigned_urls} {data.error}", &[]);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].contains(
                "{data.error}, which callbacks of the types video.generation.completed do not have"
            ),
            "{found:?}"
        );
        assert!(
            found[1]
                .contains("video.generation.failed, video.generation.cancelled, video.generation.expired"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_token_and_looks_like_one_is_warned_of() {
        for text in ["{ data.id }", "{data.id }", "${data.id}", "{{data.id}}", "{{ data.id }}"] {
            let found = warned(text, &[]);
            assert!(
                found.iter().any(|found| found.contains(text) && found.ends_with("write {data.id}")),
                "{text}: {found:?}"
            );
        }
        assert!(warned("{data.unsigned_urls[0]}", &[])[0].ends_with("write {data.unsigned_urls}"));
        assert_eq!(warned("{ x } {{ y }} {z[0]}", &[]), Vec::<String>::new(), "these are not the payload's");
    }

    #[test]
    fn a_route_for_other_types_may_name_what_it_likes() {
        let images = [EventPattern::Below("image.".into())];
        assert_eq!(warned("{data.pixels}", &images), Vec::<String>::new());
        assert_eq!(warned("{ data.id }", &images).len(), 1, "but this is a token nowhere");
    }

    #[test]
    fn a_filter_narrows_what_is_taken_unless_it_holds_for_no_example() {
        let filter =
            |text: &str| Filter::compile(crate::json::parse(text.as_bytes()).unwrap().root()).unwrap();
        let failed = filter(r#"{"field": "data.status", "in": ["failed", "expired"]}"#);
        let types: Vec<_> = taken(&[], Some(&failed)).into_iter().map(|(event_type, _)| event_type).collect();
        assert_eq!(types, ["video.generation.failed", "video.generation.expired"]);
        let model = filter(r#"{"field": "data.model", "equals": "another"}"#);
        assert_eq!(taken(&[], Some(&model)).len(), 4);
    }
}
