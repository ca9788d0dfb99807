//! Output of commands: coloured states, times, untrusted text, JSON.
//!
//! - [`layout`]: the width of columns. [`table`]: rows in columns. [`wrap`]: long lines.
//! - [`delivery`], [`changes`], [`action`], [`route`], [`job`]: these, in lines of text.

pub(crate) mod action;
pub(crate) mod changes;
pub(crate) mod delivery;
pub(crate) mod job;
mod layout;
pub(crate) mod route;
mod table;
mod wrap;

pub(crate) use layout::{Column, Screen};
pub(crate) use table::{Cell, Rows, table};
pub(crate) use talaria_core::invisible::{one_line, visible};
pub(crate) use talaria_core::time::rounded as duration;
pub(crate) use wrap::{wrapped, write_wrapped};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::{
    io::{self, Write},
    sync::LazyLock,
};
use talaria_proto::{FILE_DESCRIPTOR_SET, time::from_proto, v1::DeliveryState};

/// Faint text.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Red, for what needs an operator.
pub(crate) const ALERT: Style = AnsiColor::Red.on_default();
/// A heading.
pub(crate) const BOLD: Style = Style::new().bold();

/// Indentation of lines below a time.
pub(crate) const UNDER_TIME: &str = "                        ";

static CONTRACTS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// A message in protobuf's JSON: names in lowerCamelCase, times in RFC 3339, bytes in base64.
pub(crate) fn json<M: Message + Name>(message: &M) -> anyhow::Result<serde_json::Value> {
    let known = CONTRACTS.as_ref().and_then(|contracts| contracts.get_message_by_name(&M::full_name()));
    let descriptor = known.ok_or_else(|| anyhow::anyhow!("{} is not in the contracts", M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    // With empty lists and zeros, so that every field is visible.
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Adds the members of an object to another.
pub(crate) fn merge(document: &mut serde_json::Value, more: serde_json::Value) {
    if let (Some(document), serde_json::Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
}

/// Prints a JSON document with indentation.
pub(crate) fn json_document<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{:#}", json(message)?)?)
}

/// Prints a JSON document on one line.
pub(crate) fn json_line<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{}", json(message)?)?)
}

/// Warns if an answer is incomplete.
pub(crate) fn warn_if_incomplete(incomplete: bool) -> io::Result<()> {
    if incomplete {
        warn(
            "something is missing: some partitions have no owner at the moment, or it does not answer; ask again soon",
        )?;
    }
    Ok(())
}

/// Prints how to get the next page, if there is one.
pub(crate) fn note_next_page(token: &str) -> io::Result<()> {
    if !token.is_empty() {
        let token = one_line(token);
        writeln!(
            anstream::stdout(),
            "{DIM}There are more: --page {token} shows the next, --limit up to 1000 at once.{DIM:#}"
        )?;
    }
    Ok(())
}

/// "1 route", "2 routes".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Warns on standard error.
pub(crate) fn warn(text: &str) -> io::Result<()> {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    let text = format!("{style}warning:{style:#} {text}\n");
    anstream::stderr().write_all(wrapped(&text, Screen::stderr()).as_bytes())
}

pub(crate) fn state_name(state: DeliveryState) -> &'static str {
    state.as_str_name().trim_start_matches("DELIVERY_STATE_")
}

pub(crate) fn state_style(state: DeliveryState) -> Style {
    let colour = match state {
        DeliveryState::Delivered => AnsiColor::Green,
        DeliveryState::Waiting => AnsiColor::Yellow,
        DeliveryState::Parked | DeliveryState::Ambiguous => AnsiColor::Red,
        DeliveryState::Ignored | DeliveryState::Cancelled | DeliveryState::Unspecified => return DIM,
    };
    Style::new().fg_color(Some(colour.into()))
}

pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> String {
    moment(from_proto(time))
}

pub(crate) fn moment(time: Timestamp) -> String {
    talaria_core::time::for_people(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::Delivery;

    #[test]
    fn messages_have_their_canonical_json() {
        let delivery = Delivery {
            id: "dlv_x".into(),
            state: DeliveryState::Parked.into(),
            received_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Delivery::default()
        };
        let json = json(&delivery).unwrap();
        assert_eq!(json["id"], "dlv_x");
        assert_eq!(json["state"], "DELIVERY_STATE_PARKED");
        assert_eq!(json["receivedAt"], "1970-01-01T00:00:00Z");
        assert_eq!(json["attempts"], 0, "zeros are there");
        assert!(json.get("nextAttemptAt").is_none(), "unknown values are missing");
    }

    #[test]
    fn times_are_in_one_zone_and_one_format_which_options_take() {
        let time = prost_types::Timestamp { seconds: 1_777_032_000, nanos: 987_654_321 };
        assert_eq!(super::time(Some(&time)), "2026-04-24 12:00:00Z");
        assert_eq!("2026-04-24 12:00:00Z".parse::<Timestamp>().unwrap().as_second(), time.seconds);
    }

    #[test]
    fn untrusted_text_has_no_control_characters() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
        assert_eq!(one_line("me\u{200b}\u{ad}"), "me\\u{200b}\\u{ad}");
        assert_eq!(one_line("a\nb\u{202e}c\u{2028}é"), "a\\nb\\u{202e}c\\u{2028}é");
    }
}
