//! Warnings of template tokens without a value in any callback.
//!
//! Hermes' templates leave such a token in the text, so the agent or a chat gets the braces. The check uses the callbacks that
//! OpenRouter documents; types are open, so a finding is a warning and not a problem.

use super::{EventPattern, media, problem::Problems, route};
use crate::{
    hermes::{
        filter::Filter,
        template::{OURS, Template},
    },
    json::{Text, Value},
    notice::NoticeKind,
    openrouter::documented::{TYPES, examples},
};
use regex::Regex;
use serde_saphyr::Spanned;
use std::{collections::BTreeSet, sync::LazyLock};

/// The type of the callback of a job that ended well.
const COMPLETED: &str = "video.generation.completed";

/// A documented callback: its type and its payload.
type Example = (&'static str, Value);

/// The documented callbacks that a route matches; empty if it is for other types alone.
pub(super) fn matching_examples(events: &[EventPattern], filter: Option<&Filter>) -> Vec<Example> {
    let mut matching = examples();
    matching.retain(|(event_type, _)| {
        events.is_empty() || events.iter().any(|pattern| pattern.matches(event_type))
    });
    // An example has one value of many, so a filter that holds for no example excludes none.
    let holds = |(event_type, payload): &Example| {
        filter.is_none_or(|filter| filter.matches(payload, &Text::from(*event_type)))
    };
    if matching.iter().any(holds) {
        matching.retain(holds);
    }
    matching
}

/// Warns of patterns for videos that match none of the documented types, and of those for notices that match none.
pub(super) fn check_types(warnings: &mut Problems, written: &[Spanned<String>], patterns: &[EventPattern]) {
    for (written, pattern) in written.iter().zip(patterns) {
        let is_known = TYPES.iter().any(|known| pattern.matches(known));
        if written.value.starts_with("video.") && !is_known {
            let what = format!("{} is none of the types that OpenRouter documents for videos", written.value);
            warnings.add(written, what, format!("they are {}", TYPES.join(", ")));
        }
        if pattern.takes_notices() && !NoticeKind::ALL.iter().any(|kind| pattern.matches(kind.event_type())) {
            let what = format!("{} is none of the types of notices", written.value);
            let types = NoticeKind::ALL.map(NoticeKind::event_type).join(", ");
            warnings.add(written, what, format!("they are {types}"));
        }
    }
}

/// Warns of tokens without a value in a route's prompt and in its `extra`.
pub(super) fn check_route(warnings: &mut Problems, route: route::Written<'_>, matching: &[Example]) {
    let links = route.media_tokens;
    if let Some(written) = &route.raw.prompt {
        check(warnings, written, &format!("the prompt of {route}"), &written.value, matching, links);
    }
    if let Some(written) = &route.raw.extra {
        for (key, value) in written.value.as_object().into_iter().flatten() {
            let of = format!("extra.{} of {route}", key.to_str_lossy());
            check(warnings, written, &of, value.as_str().unwrap_or_default(), matching, links);
        }
    }
}

/// `of` names the template. `links` are the media tokens that completed jobs have.
fn check<T>(
    warnings: &mut Problems,
    written: &Spanned<T>,
    of: &str,
    text: &str,
    matching: &[Example],
    links: &[&str],
) {
    let template = Template::new(&text.into());
    let all = examples();
    let finds = |path: &str, (event_type, payload): &Example| {
        is_among(path, links) && *event_type == COMPLETED
            || Template::finds(path, &Value::Null, payload, &Text::from(*event_type))
    };
    let tokens: BTreeSet<&str> = template.tokens().collect();
    for token in tokens.into_iter().filter(|token| !is_ours(token)) {
        let lacking: Vec<&str> = matching
            .iter()
            .filter(|example| !finds(token, example))
            .map(|(event_type, _)| *event_type)
            .collect();
        if lacking.is_empty() {
            continue;
        }
        if lacking.len() < matching.len() {
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
            let help = if is_among(token, media::LINK_TOKENS) && links.is_empty() {
                "write media: {mode: link} beside openrouter of the tenant, which gives links".into()
            } else if is_among(token, media::KEEP_TOKENS) && links != media::KEEP_TOKENS {
                "write media: {mode: keep, directory: …} beside openrouter of the tenant, which keeps files"
                    .into()
            } else {
                suggestion(token, matching)
            };
            warnings.add(written, what, help);
        }
    }
    for (written_so, path) in lookalikes(text) {
        if all.iter().any(|example| finds(path, example)) {
            let what = format!(
                "{of} has {written_so}, which Hermes' templates do not read: it stays as it is written"
            );
            warnings.add(written, what, format!("write {{{path}}}"));
        }
    }
}

/// Whether a token has a value that Talaria gives: always, or for a job that was submitted through it.
fn is_ours(token: &str) -> bool {
    token.strip_prefix(OURS).is_some_and(|path| {
        matches!(path, "event_id" | "delivery_id" | "tenant" | "route" | "attempt" | "generation")
            || path == "job"
            || path.starts_with("job.")
    })
}

fn is_among(token: &str, media_tokens: &[&str]) -> bool {
    token.strip_prefix(OURS).is_some_and(|path| media_tokens.contains(&path))
}

/// The probably intended token in place of one without a value.
fn suggestion(token: &str, matching: &[Example]) -> String {
    let is_there = |path: &str| {
        matching.iter().any(|(event_type, payload)| {
            Template::finds(path, &Value::Null, payload, &Text::from(*event_type))
        })
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

/// Text that looks like a token and is none, with its path: `{ data.id }`, `{data.urls[0]}`, `${data.id}`, `{{data.id}}`.
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
        warned_with(text, events, &[])
    }

    fn warned_with(text: &str, events: &[EventPattern], links: &[&str]) -> Vec<String> {
        let mut warnings = Problems::default();
        let written: Spanned<String> = serde_saphyr::from_str("x").unwrap();
        check(&mut warnings, &written, "p", text, &matching_examples(events, None), links);
        warnings.0.into_iter().map(|warning| format!("{} / {}", warning.what, warning.help)).collect()
    }

    fn completed() -> Vec<EventPattern> {
        vec![EventPattern::Exactly(COMPLETED.into())]
    }

    #[test]
    fn tokens_of_every_callback_are_fine() {
        for text in [
            "",
            "{data.id} {data.status} {data.model} {data} {type} {created_at} {__raw__} {event_type}",
            "{\"a\": 1} { } {}",
            "{talaria.route} {talaria.job.context.chat_id}",
        ] {
            assert_eq!(warned(text, &[]), Vec::<String>::new(), "{text}");
        }
        assert_eq!(warned("{data.unsigned_urls} {data.usage.cost}", &completed()), Vec::<String>::new());
    }

    #[test]
    fn a_token_without_a_value_is_warned_of_with_a_suggestion() {
        for (text, help) in [
            ("{payload}", "write {__raw__} for the whole payload"),
            ("{payload.data.id}", "write {data.id}"),
            ("{id}", "write {data.id}"),
            ("{data.unsigned_urls.0}", "write {data.unsigned_urls}: an item of a list cannot be named"),
            ("{talaria.rout}", "`talaria render` shows the prompt"),
            ("{data.error}", "`talaria render` shows the prompt"),
        ] {
            let found = warned(text, &completed());
            assert!(
                found.len() == 1 && found[0].contains("no callback has") && found[0].contains(help),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn a_token_without_a_value_in_some_callbacks_names_them() {
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
    fn a_link_is_there_for_completed_jobs_of_a_tenant_that_gives_links() {
        let text = "{talaria.media.url} {talaria.media.files}";
        assert_eq!(warned_with(text, &completed(), media::LINK_TOKENS), Vec::<String>::new());
        let without = warned(text, &completed());
        assert!(without.len() == 2 && without[0].contains("write media: {mode: link}"), "{without:?}");
        let of_all = warned_with("{talaria.media.url}", &[], media::LINK_TOKENS);
        assert!(of_all.len() == 1 && of_all[0].contains("video.generation.failed"), "{of_all:?}");
        assert_eq!(warned_with("{talaria.media.uri}", &completed(), media::LINK_TOKENS).len(), 1);
    }

    #[test]
    fn a_path_is_there_for_a_tenant_that_keeps_files() {
        let text = "{talaria.media.path} {talaria.media.note}";
        assert_eq!(warned_with(text, &completed(), media::KEEP_TOKENS), Vec::<String>::new());
        let without = warned_with(text, &completed(), media::LINK_TOKENS);
        assert!(without.len() == 2 && without[0].contains("write media: {mode: keep"), "{without:?}");
    }

    #[test]
    fn lookalikes_of_tokens_are_warned_of() {
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
    fn a_filter_excludes_examples_unless_it_holds_for_none() {
        let filter =
            |text: &str| Filter::compile(crate::json::parse(text.as_bytes()).unwrap().root()).unwrap();
        let failed = filter(r#"{"field": "data.status", "in": ["failed", "expired"]}"#);
        let types: Vec<_> =
            matching_examples(&[], Some(&failed)).into_iter().map(|(event_type, _)| event_type).collect();
        assert_eq!(types, ["video.generation.failed", "video.generation.expired"]);
        let model = filter(r#"{"field": "data.model", "equals": "another"}"#);
        assert_eq!(matching_examples(&[], Some(&model)).len(), 4);
    }
}
