//! How things are shown: states in colour, times, text of strangers, messages as JSON.
//!
//! - [`layout`]: which columns fit, and how wide each is. [`table`]: rows in columns.

mod layout;
mod table;

pub(crate) use layout::{Column, Screen};
pub(crate) use table::{Cell, Rows, table};
pub(crate) use talaria_core::time::rounded as duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::{
    io::{self, Write},
    sync::LazyLock,
};
use talaria_core::invisible::is_invisible;
use talaria_proto::{FILE_DESCRIPTOR_SET, time::from_proto, v1::DeliveryState};

/// Faint text.
pub(crate) const DIM: Style = Style::new().dimmed();
/// A heading.
pub(crate) const BOLD: Style = Style::new().bold();

/// Where what belongs to a time stands, in the lines below it: as wide as a time and the spaces around it.
pub(crate) const UNDER_TIME: &str = "                        ";

static CONTRACTS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// A message in protobuf's own JSON: names in lowerCamelCase, times in RFC 3339, bytes in base64.
pub(crate) fn json<M: Message + Name>(message: &M) -> anyhow::Result<serde_json::Value> {
    let known = CONTRACTS.as_ref().and_then(|contracts| contracts.get_message_by_name(&M::full_name()));
    let descriptor = known.ok_or_else(|| anyhow::anyhow!("{} is not in the contracts", M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    // With empty lists and zeros: a reader should not have to know which fields there could be.
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Adds the members of one object to another.
pub(crate) fn merge(document: &mut serde_json::Value, more: serde_json::Value) {
    if let (Some(document), serde_json::Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
}

/// One JSON document, laid out for reading.
pub(crate) fn json_document<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{:#}", json(message)?)?)
}

/// One JSON document on one line.
pub(crate) fn json_line<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{}", json(message)?)?)
}

/// Warns on standard error where something is missing in an answer.
pub(crate) fn warn_if_incomplete(incomplete: bool) -> io::Result<()> {
    if incomplete {
        warn(
            "something is missing: some partitions have no owner at the moment, or it does not answer; ask again soon",
        )?;
    }
    Ok(())
}

/// Warns on standard error.
pub(crate) fn warn(what: &str) -> io::Result<()> {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    writeln!(anstream::stderr(), "{style}warning:{style:#} {what}")
}

/// A state's name.
pub(crate) fn state_name(state: DeliveryState) -> &'static str {
    state.as_str_name().trim_start_matches("DELIVERY_STATE_")
}

/// A state's colour.
pub(crate) fn state_style(state: DeliveryState) -> Style {
    let colour = match state {
        DeliveryState::Delivered => AnsiColor::Green,
        DeliveryState::Waiting => AnsiColor::Yellow,
        DeliveryState::Parked | DeliveryState::Ambiguous => AnsiColor::Red,
        DeliveryState::Ignored | DeliveryState::Cancelled | DeliveryState::Unspecified => return DIM,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A time as people read it.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> String {
    moment(from_proto(time))
}

/// The same of a time that is no message.
pub(crate) fn moment(time: Timestamp) -> String {
    talaria_core::time::for_people(time)
}

/// A stranger's text as it may stand on a terminal: what would steer it is shown and not obeyed.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |c| c != '\n' && steers(c))
}

/// The same on one line, so that no text looks like several.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, steers)
}

fn escaped(text: &str, which: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| if which(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Control characters, line separators, what changes the direction of writing, and what is not seen, by which one name looks
/// like another.
fn steers(c: char) -> bool {
    c.is_control() || is_invisible(c)
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
        assert!(json.get("nextAttemptAt").is_none(), "what is not known is not");
    }

    #[test]
    fn times_are_in_one_zone_and_one_format_which_options_take() {
        let time = prost_types::Timestamp { seconds: 1_777_032_000, nanos: 987_654_321 };
        assert_eq!(super::time(Some(&time)), "2026-04-24 12:00:00Z");
        assert_eq!("2026-04-24 12:00:00Z".parse::<Timestamp>().unwrap().as_second(), time.seconds);
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
        assert_eq!(one_line("me\u{200b}\u{ad}"), "me\\u{200b}\\u{ad}");
        assert_eq!(one_line("a\nb\u{202e}c\u{2028}é"), "a\\nb\\u{202e}c\\u{2028}é");
    }
}
