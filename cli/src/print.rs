//! How things are shown: tables, states in colour, messages as JSON.

use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, tz::TimeZone};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::{
    fmt,
    io::{self, Write},
    sync::LazyLock,
    time::Duration,
};
use talaria_bus::time::from_proto;
use talaria_proto::{FILE_DESCRIPTOR_SET, v1::DeliveryState};

/// Faint text.
pub(crate) const DIM: Style = Style::new().dimmed();
/// A heading.
pub(crate) const BOLD: Style = Style::new().bold();

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

/// A time of day on this machine, or with its date where that is another.
pub(crate) fn clock_time(time: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let zone = TimeZone::system();
    let (time, now) = (from_proto(time).to_zoned(zone.clone()), now.to_zoned(zone));
    let format = if time.date() == now.date() { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

/// A duration in one or two units.
pub(crate) fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 if millis == 0 && !duration.is_zero() => format!("{} µs", duration.as_micros()),
        0 => format!("{millis} ms"),
        1..=9 => format!("{seconds}.{} s", millis / 100),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long a cell is at most, and the last one of a row, in characters.
const LONGEST_CELL: usize = 60;
const LONGEST_LAST: usize = 400;

/// A cell of a table, and how it looks.
pub(crate) struct Cell(String, Style);

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.to_string(), Style::new())
    }
}

impl Cell {
    pub(crate) fn styled(text: impl fmt::Display, style: Style) -> Self {
        Self(text.to_string(), style)
    }

    pub(crate) fn state(state: DeliveryState) -> Self {
        Self::styled(state_name(state), state_style(state))
    }
}

/// Columns as wide as what stands in them; the last one as long as it is. Each cell is one line of no great length,
/// whoever wrote it.
pub(crate) fn table(heads: &[&str], mut rows: Vec<Vec<Cell>>) -> io::Result<()> {
    for row in &mut rows {
        let last = row.len().saturating_sub(1);
        for (index, Cell(text, _)) in row.iter_mut().enumerate() {
            *text = shortened(&one_line(text), if index == last { LONGEST_LAST } else { LONGEST_CELL });
        }
    }
    let mut all = vec![heads.iter().map(|head| Cell::styled(head, DIM)).collect::<Vec<_>>()];
    all.extend(rows);
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            all.iter().filter_map(|row| row.get(column)).map(|cell| cell.0.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = anstream::stdout().lock();
    for row in &all {
        let last = row.len().saturating_sub(1);
        for (index, (Cell(text, style), width)) in row.iter().zip(&widths).enumerate() {
            if index == last && text.is_empty() {
                writeln!(out)?;
            } else if index == last {
                writeln!(out, "{style}{text}{style:#}")?;
            } else {
                let padding = width.saturating_sub(text.chars().count()) + 2;
                write!(out, "{style}{text}{style:#}{:padding$}", "")?;
            }
        }
    }
    out.flush()
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

/// Control characters, line separators, and what changes the direction of writing (Unicode's Bidi_Control).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters, the last of them … if there were more.
fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
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
    fn durations_are_short() {
        for (millis, text) in [
            (0, "0 ms"),
            (7, "7 ms"),
            (1_540, "1.5 s"),
            (59_000, "59 s"),
            (3_600_000, "60 min"),
            (90_000_000, "25 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(Duration::from_micros(12)), "12 µs");
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
        assert_eq!(one_line("a\nb\u{202e}c\u{2028}é"), "a\\nb\\u{202e}c\\u{2028}é");
        assert_eq!((shortened("äbc", 3), shortened("äbcd", 3)), ("äbc".into(), "äb…".into()));
    }
}
