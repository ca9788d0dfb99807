//! What many pages show: times, ids, states, tables.

use super::form::{Fields, url};
use maud::{Markup, html};
use prost_types::{Duration, Timestamp};
use talaria_core::{
    invisible::{one_line, visible},
    short_id::short,
    time::{for_people, rounded},
};
use talaria_proto::{
    time::{duration_from_proto, from_proto},
    v1::{DeliveryState, JobState},
};

/// The longest text of others that is shown whole, in characters, so that pages stay small.
const LONGEST: usize = 1_000;

/// The most characters of a text with lines.
const LONGEST_LINES: usize = 32 * 1024;

/// Untrusted text on one line. What would change how the rest is shown is escaped.
pub(super) fn text(text: &str) -> Markup {
    let beginning = beginning(text, LONGEST);
    html! { (one_line(beginning)) @if beginning.len() < text.len() { "…" } }
}

fn beginning(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A sentence of the relay's, with its `commands` as code.
pub(super) fn sentence(sentence: &str) -> Markup {
    html! {
        @for (at, part) in sentence.split('`').enumerate() {
            @if at % 2 == 0 { (one_line(part)) } @else { code { (one_line(part)) } }
        }
    }
}

/// Untrusted text with its lines.
pub(super) fn lines(text: &str) -> Markup {
    let beginning = beginning(text, LONGEST_LINES);
    html! { (visible(beginning)) @if beginning.len() < text.len() { "…" } }
}

/// A time in UTC, which the script shows in the browser's zone.
pub(super) fn time(time: Option<&Timestamp>) -> Markup {
    let Some(time) = time else { return html! { span.none { "–" } } };
    let time = from_proto(Some(time));
    let shown = for_people(time);
    html! { time datetime=(time) title=(shown) { (shown) } }
}

/// A duration, rounded.
pub(super) fn duration(duration: Option<&Duration>) -> Markup {
    match duration {
        Some(_) => html! { (rounded(duration_from_proto(duration))) },
        None => html! { span.none { "–" } },
    }
}

/// A text, or a sign that there is none.
pub(super) fn or_none(shown: &str) -> Markup {
    if shown.is_empty() {
        html! { span.none { "–" } }
    } else {
        text(shown)
    }
}

/// A link with the short form of an id.
pub(super) fn id(page: &str, id: &str) -> Markup {
    html! { a.id href={ "/" (page) "/" (id) } title=(id) { (short(id)) } }
}

/// A whole id, which the script lets copy.
pub(super) fn whole_id(id: &str) -> Markup {
    html! { code.id data-copy=(id) { (text(id)) } }
}

pub(super) fn state(state: DeliveryState) -> Markup {
    let name = state.as_str_name().trim_start_matches("DELIVERY_STATE_");
    let kind = match state {
        DeliveryState::Delivered => "good",
        DeliveryState::Waiting => "busy",
        DeliveryState::Parked | DeliveryState::Ambiguous => "bad",
        DeliveryState::Ignored | DeliveryState::Cancelled | DeliveryState::Unspecified => "still",
    };
    badge(kind, name)
}

pub(super) fn job_state(state: JobState) -> Markup {
    let name = state.as_str_name().trim_start_matches("JOB_STATE_");
    let kind = match state {
        JobState::Completed => "good",
        JobState::Submitting | JobState::Running => "busy",
        JobState::Unknown
        | JobState::Failed
        | JobState::Expired
        | JobState::Refused
        | JobState::Abandoned => "bad",
        JobState::Cancelled | JobState::Stopped | JobState::Unspecified => "still",
    };
    badge(kind, name)
}

/// A word with the colour of its kind: good, busy, bad or still.
pub(super) fn badge(kind: &str, name: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (name) } }
}

/// The head of boxes that select rows, which says nothing to those who see them.
pub(super) const SELECT: &str = "Select";

/// A table that scrolls by itself where it is wider than the page. A head that begins with `#` is that of numbers.
pub(super) fn table(name: &str, heads: &[&str], rows: &[Markup], empty: &str) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { (empty) } };
    }
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table {
                thead {
                    tr {
                        @for head in heads {
                            @match head.strip_prefix('#') {
                                Some(head) => { th.number scope="col" { (head) } },
                                None if *head == SELECT => { th scope="col" { span.unseen { (head) } } },
                                None => { th scope="col" { (head) } },
                            }
                        }
                    }
                }
                tbody { @for row in rows { tr { (row) } } }
            }
        }
    }
}

/// Links to the first and the next page of a list.
pub(super) fn pager(path: &str, fields: &Fields, kept: &[&str], next: &str) -> Markup {
    let pairs = fields.kept(kept);
    let older = [pairs.as_slice(), &[("page", next)]].concat();
    html! {
        @if fields.get("page").is_some() || !next.is_empty() {
            nav.pager aria-label="Parts of the list" {
                @if fields.get("page").is_some() { a href=(url(path, &pairs)) { "Newest" } }
                @if !next.is_empty() { a href=(url(path, &older)) rel="next" { "Older" } }
            }
        }
    }
}

/// Says that an empty part of a list is not its end: a search looks at a bounded part at once.
pub(super) fn goes_on(shown: usize, next: &str) -> Markup {
    html! {
        @if shown == 0 && !next.is_empty() {
            p.hint { "None is in the part that was looked at. “Older” looks further." }
        }
    }
}

/// Says that an answer lacks something.
pub(super) fn incomplete(incomplete: bool) -> Markup {
    html! {
        @if incomplete {
            p.warning role="status" {
                "Something is missing here: partitions have no owner at the moment, or their owner did not answer."
            }
        }
    }
}

/// A count, with thousands apart.
pub(super) fn count(count: u64) -> Markup {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    html! { (shown) }
}

/// A button that posts these fields and leads back.
pub(super) fn button(action: &str, name: &str, fields: &[(&str, &str)], back: &str) -> Markup {
    html! {
        form.act method="post" action=(action) {
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            input type="hidden" name="back" value=(back);
            button { (name) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text() {
        let hostile = "<script>alert(1)</script>\u{202e}\n\"'&";
        assert_eq!(
            text(hostile).into_string(),
            "&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}\\n&quot;'&amp;"
        );
        assert_eq!(id("events", "\"><b>").into_string().matches('<').count(), 2, "the link's own");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(text(&"é".repeat(LONGEST)).into_string(), "é".repeat(LONGEST));
        assert_eq!(text(&"é".repeat(5_000)).into_string(), format!("{}…", "é".repeat(LONGEST)));
        assert_eq!(lines(&"\n".repeat(50_000)).into_string().len(), LONGEST_LINES + "…".len());
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number).into_string(), shown);
        }
    }
}
