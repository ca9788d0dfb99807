//! Why a filter does not hold, in words.
//!
//! It walks the filter as the decision does, with the outcome that was wanted turned round under each `not`. Where one
//! condition decides, it tells of that one; where every one had to fail, of the first few.

use super::{Field, Filter, Root, Test};
use crate::json::{
    Text, Value,
    print::{dump_start, python_str},
};
use std::fmt;

/// How much of a value is told, in characters.
const SHOWN: usize = 80;

/// How many conditions are told of where all of them had to fail.
const CONDITIONS: usize = 4;

/// How long the whole may be, in characters: such conditions nest.
const LONGEST: usize = 1000;

impl Filter {
    /// Why the payload is not wanted: the first condition that decided so, and what the payload has there. `None`
    /// where it is wanted, which is exactly where [`Self::matches`] is true.
    pub fn explain(&self, payload: &Value, event_type: &Text) -> Option<String> {
        let why = self.why_not(true, payload, &Value::String(event_type.clone()))?;
        Some(shortened(&why, LONGEST))
    }

    /// Why it does not come to this; `None` where it does.
    fn why_not(&self, wanted: bool, payload: &Value, event_type: &Value) -> Option<String> {
        let each = |filter: &Self| filter.why_not(wanted, payload, event_type);
        match (self, wanted) {
            (Self::Not(filter), _) => filter.why_not(!wanted, payload, event_type),
            (Self::Field(field, test), _) => {
                let value = field.resolve(payload, event_type);
                (test.holds(value) != wanted).then(|| tell(field, test, wanted, value))
            }
            (Self::All(filters), true) | (Self::Any(filters), false) => filters.iter().find_map(each),
            (Self::Any(filters), true) => {
                Some(every("one of these should hold, and none does", &each_of(filters, each)?))
            }
            (Self::All(filters), false) => {
                Some(every("one of these should hold under not, and none does", &each_of(filters, each)?))
            }
        }
    }
}

/// What all of them say, unless one of them has nothing to say.
fn each_of(filters: &[Filter], say: impl Fn(&Filter) -> Option<String>) -> Option<Vec<String>> {
    filters.iter().map(say).collect()
}

fn every(what: &str, whys: &[String]) -> String {
    let shown = whys.iter().take(CONDITIONS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match whys.len() {
        0 => "its list of conditions is empty".to_owned(),
        1 => shown,
        n if n > CONDITIONS => format!("{what}: {shown}; and {} more", n - CONDITIONS),
        _ => format!("{what}: {shown}"),
    }
}

/// "data.status should equal "failed", and is "completed"".
fn tell(field: &Field, test: &Test, wanted: bool, value: Option<&Value>) -> String {
    let not = if wanted { "" } else { "not " };
    let asked = match (test, wanted) {
        (Test::Exists(there), _) if *there == wanted => "exist".to_owned(),
        (Test::Exists(_), _) => "be missing".to_owned(),
        (Test::Equals(value), true) | (Test::NotEquals(value), false) => format!("equal {}", show(value)),
        (Test::Equals(value), false) | (Test::NotEquals(value), true) => format!("not equal {}", show(value)),
        (Test::Contains(value), _) => format!("{not}contain {}", show(value)),
        (Test::In(values), _) => format!("{not}be in {}", show(&Value::Array(values.clone()))),
        (Test::Regex(pattern), _) => format!("{not}match regex {}", quoted(pattern.as_written())),
    };
    let Some(value) = value else { return format!("{field} should {asked}, and is missing") };
    let as_text = match (test, value) {
        (Test::Contains(_) | Test::Regex(_), Value::Null | Value::Bool(_) | Value::Float(_)) => {
            format!(", which as text is {}", quoted(&python_str(value).to_str_lossy()))
        }
        _ => String::new(),
    };
    format!("{field} should {asked}, and is {}{as_text}", show(value))
}

/// As the operator writes it.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Payload => None,
            Root::Unwrapped => Some("payload"),
            Root::EventType => Some("event"),
        };
        let parts: Vec<&str> = root.into_iter().chain(self.path.iter().map(String::as_str)).collect();
        f.write_str(&parts.join("."))
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(&text.to_str_lossy()),
        // JSON, and so without control characters.
        _ => shortened(&dump_start(value, SHOWN + 1), SHOWN),
    }
}

/// In quotes, and with what would steer a terminal escaped.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, SHOWN))
}

/// At most so many characters, the last of them … if there were more.
fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
