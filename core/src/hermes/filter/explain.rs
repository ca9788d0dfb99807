//! Explanations of filters that do not hold.
//!
//! Walks the filter as the decision does, and inverts the wanted outcome under each `not`. If one condition decides, the
//! explanation has that one; if all had to fail, the first few.

use super::{Field, Filter, Root, Test};
use crate::json::{
    Text, Value,
    print::{dump_start, python_str},
};
use std::fmt;

/// The longest form of a value, in characters.
const LONGEST_VALUE: usize = 80;

/// The most conditions in a list.
const CONDITIONS: usize = 4;

/// The longest explanation, in characters: lists of conditions nest.
const LONGEST: usize = 1000;

impl Filter {
    /// Why the payload does not match: the first deciding condition, and the payload's value. `None` exactly if
    /// [`Self::matches`] is true.
    pub fn explain(&self, payload: &Value, event_type: &Text) -> Option<String> {
        let why = self.why_not(true, payload, &Value::String(event_type.clone()))?;
        Some(shortened(&why, LONGEST))
    }

    /// Why the outcome is not the wanted one; `None` if it is.
    fn why_not(&self, wanted: bool, payload: &Value, event_type: &Value) -> Option<String> {
        let each = |filter: &Self| filter.why_not(wanted, payload, event_type);
        match (self, wanted) {
            (Self::Not(filter), _) => filter.why_not(!wanted, payload, event_type),
            (Self::Field(field, test), _) => {
                let value = field.resolve(payload, event_type);
                (test.holds(value) != wanted).then(|| describe(field, test, wanted, value))
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

/// The explanations of all filters; `None` if one of them has none.
fn each_of(filters: &[Filter], explain: impl Fn(&Filter) -> Option<String>) -> Option<Vec<String>> {
    filters.iter().map(explain).collect()
}

fn every(heading: &str, whys: &[String]) -> String {
    let list = whys.iter().take(CONDITIONS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match whys.len() {
        0 => "its list of conditions is empty".to_owned(),
        1 => list,
        n if n > CONDITIONS => format!("{heading}: {list}; and {} more", n - CONDITIONS),
        _ => format!("{heading}: {list}"),
    }
}

/// "data.status should equal "failed", and is "completed"".
fn describe(field: &Field, test: &Test, wanted: bool, value: Option<&Value>) -> String {
    let not = if wanted { "" } else { "not " };
    let asked = match (test, wanted) {
        (Test::Exists(there), _) if *there == wanted => "exist".to_owned(),
        (Test::Exists(_), _) => "be missing".to_owned(),
        (Test::Equals(value), true) | (Test::NotEquals(value), false) => format!("equal {}", short(value)),
        (Test::Equals(value), false) | (Test::NotEquals(value), true) => {
            format!("not equal {}", short(value))
        }
        (Test::Contains(value), _) => format!("{not}contain {}", short(value)),
        (Test::In(values), _) => format!("{not}be in {}", short(&Value::Array(values.clone()))),
        (Test::Regex(pattern), _) => format!("{not}match regex {}", quoted(pattern.as_written())),
    };
    let Some(value) = value else { return format!("{field} should {asked}, and is missing") };
    let as_text = match (test, value) {
        (Test::Contains(_) | Test::Regex(_), Value::Null | Value::Bool(_) | Value::Float(_)) => {
            format!(", which as text is {}", quoted(&python_str(value).to_str_lossy()))
        }
        _ => String::new(),
    };
    format!("{field} should {asked}, and is {}{as_text}", short(value))
}

/// The form in the configuration.
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

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(&text.to_str_lossy()),
        // JSON, and so without control characters.
        _ => shortened(&dump_start(value, LONGEST_VALUE + 1), LONGEST_VALUE),
    }
}

/// The text in quotes, with control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, LONGEST_VALUE))
}

/// The text, truncated to a length with … at its end.
fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
