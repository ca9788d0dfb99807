//! Log lines on a terminal: one line for a delivery, text for everything else, times as in all commands.
//!
//! ```text
//! 2026-11-28 15:40:12Z  DELIVERED  me/video    video.generation.completed  dlv_25m74olgq62h-zovl  after 35 ms: queued for the agent
//! 2026-11-28 15:40:19Z  warning: the route is shut: 401: Invalid signature (tenant me, route video, until 2026-11-28 15:40:49Z)
//! ```
//!
//! A delivery has a line when it ends, and one after its first attempt if that does not end it. `talaria status` shows the others.
//! Callbacks have lines only in a process without deliveries. The JSON lines are complete.

use crate::print::{self, ALERT, Cell, Column, DIM, Rows, Screen, moment, one_line};
use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use std::{
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use talaria_proto::v1::DeliveryState;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

const COLUMNS: [Column; 6] = [
    Column::new("TIME"),
    Column::new("STATE"),
    Column::new("ROUTE"),
    Column::new("TYPE"),
    Column::new("DELIVERY"),
    Column::new("WHAT"),
];

/// The first widths.
const FIRST_WIDTHS: [usize; 6] = [20, 9, 10, 26, 21, 0];

/// Fields with a reason, which follows the message.
const REASON_FIELDS: [&str; 3] = ["because", "error", "reason"];

/// A field is left out if the message contains its value and that has at least this length.
const MIN_REPEATED: usize = 8;

/// Formats events.
pub(super) struct Lines {
    deliveries: Mutex<Rows<6>>,
    /// Whether callbacks have lines.
    with_callbacks: bool,
}

impl Lines {
    pub(super) fn new(with_callbacks: bool) -> Self {
        // The terminal wraps longer lines, so that no reason is cut.
        let rows = Rows::new(COLUMNS, FIRST_WIDTHS, Screen { width: None });
        Self { deliveries: Mutex::new(rows), with_callbacks }
    }

    /// The line of an event, if it has one.
    fn line(&self, level: Level, fields: &Fields, now: Timestamp) -> Option<String> {
        match (level, fields.message.as_str()) {
            (Level::INFO, "attempt") => self.delivery(fields, now),
            (Level::INFO, "callback") if !self.with_callbacks => None,
            _ => Some(plain(level, fields, now)),
        }
    }

    /// The line of a delivery after an attempt.
    fn delivery(&self, fields: &Fields, now: Timestamp) -> Option<String> {
        let field = |name| fields.get(name).unwrap_or_default();
        let state =
            DeliveryState::from_str_name(&format!("DELIVERY_STATE_{}", field("state").to_uppercase()))
                .unwrap_or_default();
        let waits = state == DeliveryState::Waiting;
        if waits && field("attempt") != "1" {
            return None;
        }
        let after =
            field("age_ms").parse().map(Duration::from_millis).map(print::duration).unwrap_or_default();
        let again = if waits { "; it is tried again" } else { "" };
        // No code panics under this lock.
        let mut rows = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        Some(rows.row([
            Cell::styled(moment(now), DIM),
            Cell::state(state),
            Cell::from(format!("{}/{}", field("tenant"), field("route"))),
            Cell::from(field("kind")),
            Cell::styled(talaria_core::short_id::short(field("delivery")), DIM),
            Cell::from(format!("after {after}: {}{again}", field("detail"))),
        ]))
    }
}

/// The message of an event, its reason, and in parentheses the other fields.
fn plain(level: Level, fields: &Fields, now: Timestamp) -> String {
    let coloured = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
    let (name, style) = match level {
        Level::ERROR => ("error: ", ALERT.bold()),
        Level::WARN => ("warning: ", coloured(AnsiColor::Yellow)),
        Level::INFO => ("", Style::new()),
        Level::DEBUG => ("debug: ", DIM),
        _ => ("trace: ", DIM),
    };
    let mut line =
        format!("{DIM}{}{DIM:#}  {style}{name}{style:#}{}", moment(now), one_line(&fields.message));
    let why = REASON_FIELDS.iter().find_map(|name| Some((*name, fields.get(name)?)));
    // Writing into a String cannot fail.
    if let Some((_, why)) = why {
        let _ = write!(line, ": {}", one_line(why));
    }
    let is_omitted = |name: &str, value: &str| {
        let nothing =
            value.is_empty() || (name, value) == ("left_out", "0") || (name, value) == ("line", "0");
        let why = why.is_some_and(|(why, _)| why == name);
        let in_the_message = value.len() >= MIN_REPEATED && fields.message.contains(value);
        nothing || why || ["trace", "help"].contains(&name) || in_the_message
    };
    let rest = fields.others.iter().filter(|(name, value)| !is_omitted(name, value));
    let rest: Vec<String> = rest
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), one_line(&readable(value))))
        .collect();
    if !rest.is_empty() {
        let _ = write!(line, " {DIM}({}){DIM:#}", rest.join(", "));
    }
    if let Some(help) = fields.get("help").filter(|help| !help.is_empty()) {
        let _ = write!(line, "\n  help: {}", one_line(help));
    }
    line
}

/// A value, with times in the format of all commands.
fn readable(value: &str) -> String {
    let looks_like_a_time =
        value.len() >= 20 && value.ends_with('Z') && value.starts_with(|c: char| c.is_ascii_digit());
    match value.parse::<Timestamp>() {
        Ok(time) if looks_like_a_time => moment(time),
        _ => value.to_owned(),
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }

    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // The source location in another crate.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(line) = self.line(*event.metadata().level(), &fields, Timestamp::now()) else {
            return Ok(());
        };
        if writer.has_ansi_escapes() {
            writeln!(writer, "{line}")
        } else {
            writeln!(writer, "{}", anstream::adapter::strip_str(&line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_032_000).unwrap()
    }

    fn formatted(
        lines: &Lines,
        level: Level,
        message: &str,
        others: &[(&'static str, &str)],
    ) -> Option<String> {
        let others = others.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let fields = Fields { message: message.into(), others };
        lines.line(level, &fields, now()).map(|line| anstream::adapter::strip_str(&line).to_string())
    }

    fn attempt<'a>(number: &'a str, state: &'a str, detail: &'a str) -> Vec<(&'static str, &'a str)> {
        vec![
            ("delivery", "dlv_25m74olgq62heqt2gyhnio2unzditsxszovlkmaj"),
            ("tenant", "me"),
            ("route", "video"),
            ("kind", "video.generation.completed"),
            ("attempt", number),
            ("ms", "12"),
            ("detail", detail),
            ("state", state),
            ("age_ms", "1540"),
        ]
    }

    #[test]
    fn a_delivery_is_one_line_with_its_state_and_age() {
        let lines = Lines::new(false);
        let delivery = |fields: Vec<(&'static str, &str)>| formatted(&lines, Level::INFO, "attempt", &fields);
        assert_eq!(
            delivery(attempt("1", "delivered", "queued for the agent")).unwrap(),
            "2026-04-24 12:00:00Z  DELIVERED  me/video    video.generation.completed  dlv_25m74olgq62h-zovl  \
             after 1.5 s: queued for the agent"
        );
        // Further attempts of a waiting delivery have no line.
        let first = delivery(attempt("1", "waiting", "500: no room")).unwrap();
        assert!(
            first.contains("  WAITING    me/video") && first.ends_with("500: no room; it is tried again"),
            "{first}"
        );
        assert_eq!(delivery(attempt("2", "waiting", "500: no room")), None);
        assert!(delivery(attempt("3", "parked", "500: no room")).unwrap().contains("  PARKED     "));
    }

    #[test]
    fn payload_text_makes_no_line_and_no_control_characters() {
        let lines = Lines::new(true);
        let forged = "x\n2026-04-24 12:00:00Z  DELIVERED\u{1b}[2J\u{202e}";
        for line in [
            formatted(&lines, Level::INFO, "attempt", &attempt("1", "delivered", forged)),
            formatted(&lines, Level::WARN, forged, &[("reason", forged), ("path", forged), ("help", forged)]),
        ] {
            let line = line.unwrap();
            assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line}");
            assert!(line.lines().skip(1).all(|line| line.starts_with("  help: ")), "{line}");
        }
    }

    #[test]
    fn warnings_and_errors_are_text() {
        let lines = Lines::new(false);
        let shut = [
            ("tenant", "me"),
            ("route", "video"),
            ("reason", "401: Invalid signature"),
            ("until", "2026-04-24T12:00:30.123456789Z"),
        ];
        assert_eq!(
            formatted(&lines, Level::WARN, "the route is shut", &shut).unwrap(),
            "2026-04-24 12:00:00Z  warning: the route is shut: 401: Invalid signature (tenant me, route video, until \
             2026-04-24 12:00:30Z)"
        );
        let refused =
            [("tenant", "me"), ("reason", "mismatch"), ("because", "it does not match"), ("left_out", "0")];
        assert_eq!(
            formatted(&lines, Level::ERROR, "callback refused", &refused).unwrap(),
            "2026-04-24 12:00:00Z  error: callback refused: it does not match (tenant me, reason mismatch)"
        );
        let wrong = [("line", "3"), ("column", "7"), ("help", "chmod 600 s"), ("path", "")];
        assert_eq!(
            formatted(&lines, Level::WARN, "every user can read s", &wrong).unwrap(),
            "2026-04-24 12:00:00Z  warning: every user can read s (line 3, column 7)\n  help: chmod 600 s"
        );
        let listening = [("ingress", "127.0.0.1:8080")];
        assert_eq!(
            formatted(
                &lines,
                Level::INFO,
                "listening: callbacks on http://127.0.0.1:8080/callbacks/{tenant}",
                &listening
            )
            .unwrap(),
            "2026-04-24 12:00:00Z  listening: callbacks on http://127.0.0.1:8080/callbacks/{tenant}",
            "repeated values are left out"
        );
    }

    #[test]
    fn callbacks_have_lines_in_a_process_without_deliveries() {
        let callback = [("event", "evt_x"), ("tenant", "me"), ("result", "accepted")];
        assert_eq!(formatted(&Lines::new(false), Level::INFO, "callback", &callback), None);
        let line = formatted(&Lines::new(true), Level::INFO, "callback", &callback).unwrap();
        assert!(line.ends_with("  callback (event evt_x, tenant me, result accepted)"), "{line}");
    }
}
