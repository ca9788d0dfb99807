//! A payload as a tree.

use super::parts::{lines, text};
use maud::{Markup, html};
use talaria_core::json::{Value, parse, print};

/// The most values of a tree; the rest is in the raw text. A long value counts as several.
const MOST: usize = 1_000;

/// So many bytes of a key or a value count as one more value.
const MORE: usize = 64;

/// No more of a value is shown, in characters.
const LONGEST: usize = 1_000;

/// The longest raw text, in bytes, so that a page stays small.
const LONGEST_RAW: usize = 32 * 1024;

/// Values deeper than this begin closed.
const OPEN: usize = 3;

/// The payload, or why it is none. The name distinguishes it from others of the page.
pub(super) fn payload(name: &str, bytes: &[u8]) -> Markup {
    if bytes.is_empty() {
        return html! { p.empty { "The payload is not kept any more." } };
    }
    let raw = String::from_utf8_lossy(bytes.get(..LONGEST_RAW).unwrap_or(bytes));
    html! {
        @match parse(bytes) {
            Ok(document) => { div.tree { (value(None, document.root(), 0, &mut 0)) } },
            Err(error) => { p.fault { "It is not JSON: " (error) } },
        }
        details id={ "raw-" (name) } {
            summary { "As it came, " (bytes.len()) " bytes" }
            pre tabindex="0" data-copy=(raw) { (lines(&raw)) }
            @if bytes.len() > LONGEST_RAW { p.hint { "The first " (LONGEST_RAW) " bytes." } }
        }
    }
}

fn value(key: Option<&str>, of: &Value, depth: usize, shown: &mut usize) -> Markup {
    if *shown >= MOST {
        let first = *shown < usize::MAX;
        *shown = usize::MAX;
        return html! { @if first { p.hint { "The rest is in the raw text." } } };
    }
    *shown += 1 + key.map_or(0, cost);
    let name = html! { @if let Some(key) = key { span.key { (text(key)) } } };
    if let Some(object) = of.as_object().filter(|object| !object.is_empty()) {
        let open = depth < OPEN;
        return html! {
            details open[open] { summary { (name) span.none { (object.len()) " in { }" } }
                @for (key, inner) in object { (value(Some(&key.to_str_lossy()), inner, depth + 1, shown)) } }
        };
    }
    if let Some(array) = of.as_array().filter(|array| !array.is_empty()) {
        let open = depth < OPEN;
        return html! {
            details open[open] { summary { (name) span.none { (array.len()) " in [ ]" } }
                @for (at, inner) in array.iter().enumerate() { (value(Some(&at.to_string()), inner, depth + 1, shown)) } }
        };
    }
    let printed = print::dump_line(of);
    *shown += cost(&printed);
    html! { div.leaf { (name) span.value { (text(&printed)) } } }
}

fn cost(text: &str) -> usize {
    text.len().min(LONGEST) / MORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_bounded_and_its_text_is_text() {
        let shown = payload("x", br#"{"a<b>": ["<script>", {"c": "\u202e"}], "d": {}}"#).into_string();
        assert!(
            !shown.contains("<script>") && !shown.contains("<b>") && !shown.contains('\u{202e}'),
            "{shown}"
        );
        assert!(shown.contains("a&lt;b&gt;"), "{shown}");
        let many = format!("[{}0]", "0,".repeat(100_000));
        let shown = payload("x", many.as_bytes()).into_string();
        assert!(shown.len() < 150_000 && shown.contains("The rest is in the raw text"), "{}", shown.len());
        assert!(payload("x", b"{").into_string().contains("It is not JSON"));
        let long = format!("[{}0]", format!("\"{}\",", "<b>".repeat(1_000)).repeat(300));
        let shown = payload("x", long.as_bytes()).into_string();
        assert!(shown.len() < 700_000 && shown.contains('…'), "{}", shown.len());
        let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
        assert!(payload("x", deep.as_bytes()).into_string().contains("<details"));
    }
}
