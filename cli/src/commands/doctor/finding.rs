//! The result of a check.

use crate::print::one_line;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    /// It works, but perhaps not for long or not for all.
    Warning,
    /// Callbacks do not arrive.
    Fault,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Self::Ok => AnsiColor::Green,
            Self::Warning => AnsiColor::Yellow,
            Self::Fault => AnsiColor::Red,
        };
        Style::new().fg_color(Some(colour.into()))
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The name of the check: "hermes".
    pub check: &'static str,
    pub level: Level,
    /// One sentence, with the name of its subject.
    pub what: String,
    /// Advice; empty if nothing has to be done.
    pub help: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, what: what.into(), help: String::new() }
    }

    pub(super) fn warning(check: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, what: what.into(), help: help.into() }
    }

    pub(super) fn fault(check: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { check, level: Level::Fault, what: what.into(), help: help.into() }
    }

    /// From an error, which may end with advice.
    pub(super) fn of_error(check: &'static str, level: Level, error: &str) -> Self {
        let (what, help) = error.split_once("\n  help: ").unwrap_or((error, ""));
        Self { check, level, what: what.trim().to_owned(), help: help.to_owned() }
    }

    pub(super) fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let (style, level) = (self.level.style(), self.level.name());
        writeln!(out, "{style}{level:<8}{style:#}{}: {}", self.check, one_line(&self.what))?;
        if !self.help.is_empty() {
            writeln!(out, "        help: {}", one_line(&self.help))?;
        }
        Ok(())
    }

    pub(super) fn json(&self) -> Value {
        json!({"check": self.check, "level": self.level.name(), "what": self.what, "help": self.help})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_on_a_line_of_its_own() {
        let shown = |finding: &Finding| {
            let mut out = anstream::StripStream::new(Vec::new());
            finding.show(&mut out).unwrap();
            String::from_utf8(out.into_inner()).unwrap()
        };
        assert_eq!(shown(&Finding::ok("disk", "9 GB free")), "ok      disk: 9 GB free\n");
        let fault = Finding::of_error("bus", Level::Fault, "it is away\nand\u{1b}[2J\n  help: start it");
        assert_eq!(shown(&fault), "fault   bus: it is away\\nand\\u{1b}[2J\n        help: start it\n");
        assert_eq!(
            fault.json(),
            json!({"check": "bus", "level": "fault", "what": "it is away\nand\u{1b}[2J", "help": "start it"})
        );
    }
}
