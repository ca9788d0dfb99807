//! Filters with the semantics of Hermes' `WebhookRouteProcessor.filter_matches`.
//!
//! A filter tests one field, which it names by its dotted path; `all`, `any` and `not` combine filters. Hermes logs and drops a
//! meaningless filter; here its compilation fails.

pub(crate) mod explain;

use super::pattern::Pattern;
use crate::json::{
    Text, Value,
    print::{dump_sorted, python_str},
};

/// The operators, in Hermes' order.
const OPERATORS: [&str; 10] =
    ["all", "any", "not", "exists", "missing", "equals", "not_equals", "contains", "in", "regex"];

/// A compiled filter.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Every one of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A test of a field.
    Field(Field, Test),
}

/// The test of a field.
#[derive(Clone, Debug)]
pub enum Test {
    /// It exists, or is missing.
    Exists(bool),
    /// It exists and equals this, by Python's `==`.
    Equals(Value),
    /// It is missing or differs.
    NotEquals(Value),
    /// A list has this item, an object this key, any other value this substring of its text.
    Contains(Value),
    /// It exists and equals one of these.
    In(Vec<Value>),
    /// It exists and the pattern matches in its text.
    Regex(Pattern),
}

/// A dotted path and where it starts.
#[derive(Clone, Debug)]
pub struct Field {
    root: Root,
    path: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    Payload,
    /// After `payload.`: the payload's own `payload` member, if it has one.
    Unwrapped,
    EventType,
}

impl Field {
    fn new(path: &str) -> Result<Self, String> {
        let mut parts = path.trim().split('.').filter(|part| !part.is_empty()).map(str::to_owned).peekable();
        let root = match parts.peek().map(String::as_str) {
            None => return Err("field must be a dotted path such as data.status".into()),
            Some("headers") => {
                return Err(
                    "headers are not covered by OpenRouter's signature, so no filter can rest on them".into(),
                );
            }
            Some("payload") => Root::Unwrapped,
            Some("event" | "event_type") => Root::EventType,
            Some(_) => Root::Payload,
        };
        if !matches!(root, Root::Payload) {
            parts.next();
        }
        Ok(Self { root, path: parts.collect() })
    }

    fn resolve<'a>(&self, payload: &'a Value, event_type: &'a Value) -> Option<&'a Value> {
        let start = match self.root {
            Root::Payload => payload,
            Root::Unwrapped => payload.get("payload").unwrap_or(payload),
            Root::EventType => event_type,
        };
        self.path.iter().try_fold(start, |value, key| match value {
            Value::Object(_) => value.get(key),
            Value::Array(items) if key.bytes().all(|b| b.is_ascii_digit()) => {
                items.get(key.parse::<usize>().ok()?)
            }
            _ => None,
        })
    }
}

impl Filter {
    /// Compiles the value of `filters`: a filter, or a list of which all must match.
    pub fn compile(filters: &Value) -> Result<Self, String> {
        match filters {
            Value::Array(items) => Ok(Self::All(compile_each(items)?)),
            _ => Self::compile_one(filters),
        }
    }

    fn compile_one(spec: &Value) -> Result<Self, String> {
        let Value::Object(members) = spec else {
            return Err("a filter is a map such as {field: data.status, equals: completed}".into());
        };
        let mut operator = None;
        for key in members.keys() {
            let key = key.to_str_lossy();
            if let Some(name) = OPERATORS.iter().find(|name| **name == key) {
                if let Some(other) = operator.replace(*name) {
                    return Err(format!("a filter has one operator, and this has {other} and {name}"));
                }
            } else if key == "in_file" {
                return Err("in_file reads Hermes' files; list the values under in".into());
            } else if key != "field" {
                let operators = OPERATORS.join(", ");
                return Err(format!(
                    "unknown key {key:?} in a filter; expected field and one of {operators}"
                ));
            }
        }
        let Some(operator) = operator else {
            return Err(format!("a filter needs one of {}", OPERATORS.join(", ")));
        };
        let operand = spec.get(operator).unwrap_or(&Value::Null);
        if matches!(operator, "all" | "any" | "not") {
            if members.len() > 1 {
                return Err(format!("{operator} stands alone in its filter"));
            }
            return match (operator, operand) {
                ("all", Value::Array(items)) => Ok(Self::All(compile_each(items)?)),
                ("any", Value::Array(items)) => Ok(Self::Any(compile_each(items)?)),
                ("not", inner) => Ok(Self::Not(Box::new(Self::compile_one(inner)?))),
                _ => Err(format!("{operator} takes a list of filters")),
            };
        }
        let Some(path) = spec.get("field").and_then(Value::as_str) else {
            return Err(format!("{operator} needs a field, such as field: data.status"));
        };
        Ok(Self::Field(Field::new(path)?, Test::compile(operator, operand)?))
    }

    /// Whether the payload matches.
    pub fn matches(&self, payload: &Value, event_type: &Text) -> bool {
        self.decide(payload, &Value::String(event_type.clone()))
    }

    fn decide(&self, payload: &Value, event_type: &Value) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.decide(payload, event_type)),
            Self::Any(filters) => filters.iter().any(|filter| filter.decide(payload, event_type)),
            Self::Not(filter) => !filter.decide(payload, event_type),
            Self::Field(field, test) => test.holds(field.resolve(payload, event_type)),
        }
    }
}

fn compile_each(specs: &[Value]) -> Result<Vec<Filter>, String> {
    specs.iter().map(Filter::compile_one).collect()
}

impl Test {
    fn compile(operator: &str, operand: &Value) -> Result<Self, String> {
        Ok(match (operator, operand) {
            ("exists", Value::Bool(wanted)) => Self::Exists(*wanted),
            ("exists", _) => return Err("exists takes true or false".into()),
            ("missing", Value::Bool(true)) => Self::Exists(false),
            ("missing", _) => return Err("missing takes true; write exists: true for the opposite".into()),
            ("equals", value) => Self::Equals(value.clone()),
            ("not_equals", value) => Self::NotEquals(value.clone()),
            ("contains", Value::Array(_) | Value::Object(_)) => {
                return Err("contains takes a single value, not a list or map".into());
            }
            ("contains", value) => Self::Contains(value.clone()),
            ("in", Value::Array(items)) if items.is_empty() => {
                return Err("in: [] never holds: name at least one value".into());
            }
            ("in", Value::Array(items)) => Self::In(items.clone()),
            ("in", _) => return Err("in takes a list of values".into()),
            (_, Value::String(pattern)) => Self::Regex(Pattern::new(&pattern.to_str_lossy())?),
            _ => return Err("regex takes a pattern in quotes".into()),
        })
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Exists(wanted), value) => value.is_some() == *wanted,
            (Self::NotEquals(_), None) => true,
            (_, None) => false,
            (Self::Equals(wanted), Some(value)) => value.python_eq(wanted),
            (Self::NotEquals(unwanted), Some(value)) => !value.python_eq(unwanted),
            (Self::In(wanted), Some(value)) => wanted.iter().any(|wanted| value.python_eq(wanted)),
            (Self::Contains(needle), Some(value)) => match value {
                Value::Array(items) => items.iter().any(|item| item.python_eq(needle)),
                Value::Object(members) => {
                    needle.as_text().is_some_and(|key| members.contains_key(key.as_bytes()))
                }
                scalar => python_str(scalar).contains(&python_str(needle)),
            },
            (Self::Regex(pattern), Some(value)) => match value {
                Value::Array(_) | Value::Object(_) => pattern.is_match(&dump_sorted(value)),
                scalar => pattern.is_match(&python_str(scalar).to_str_lossy()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    const PAYLOAD: &str = r#"{"type":"video.generation.completed","data":{"id":"j1","status":"completed",
        "usage":{"cost":0.5,"is_byok":false},"unsigned_urls":["https://a/0","https://a/1"],"model":null}}"#;

    fn compile(filter: &str) -> Result<Filter, String> {
        Filter::compile(parse(filter.as_bytes()).unwrap().root())
    }

    fn matches(filter: &str) -> bool {
        compile(filter)
            .unwrap()
            .matches(parse(PAYLOAD.as_bytes()).unwrap().root(), &"video.generation.completed".into())
    }

    #[test]
    fn every_operator_decides_as_hermes_does() {
        for (filter, expected) in [
            (r#"{"field":"data.status","equals":"completed"}"#, true),
            (r#"{"field":"data.status","equals":"failed"}"#, false),
            (r#"{"field":"data.usage.is_byok","equals":0}"#, true),
            (r#"{"field":"data.nope","equals":null}"#, false),
            (r#"{"field":"data.model","equals":null}"#, true),
            (r#"{"field":"data.nope","not_equals":1}"#, true),
            (r#"{"field":"data.status","not_equals":"completed"}"#, false),
            (r#"{"field":"data.unsigned_urls","contains":"https://a/1"}"#, true),
            (r#"{"field":"data.unsigned_urls","contains":"https://a"}"#, false),
            (r#"{"field":"data.usage","contains":"cost"}"#, true),
            (r#"{"field":"data.usage","contains":0.5}"#, false),
            (r#"{"field":"data.usage.cost","contains":".5"}"#, true),
            (r#"{"field":"data.usage.is_byok","contains":"als"}"#, true),
            (r#"{"field":"data.nope","contains":""}"#, false),
            (r#"{"field":"data.status","in":["failed","completed"]}"#, true),
            (r#"{"field":"data.nope","in":[null]}"#, false),
            (r#"{"field":"data.model","exists":true}"#, true),
            (r#"{"field":"data.model.x","exists":false}"#, true),
            (r#"{"field":"data.error","missing":true}"#, true),
            (r#"{"field":"data.unsigned_urls.1","regex":"^https://a/1$"}"#, true),
            (r#"{"field":"data.unsigned_urls.2","exists":true}"#, false),
            (r#"{"field":"data.usage","regex":"\"cost\": 0.5"}"#, true),
            (r#"{"field":"event","equals":"video.generation.completed"}"#, true),
            (r#"{"field":"event_type","regex":"completed$"}"#, true),
            (r#"{"field":"payload.data.id","equals":"j1"}"#, true),
            (r#"{"field":" .data..id. ","equals":"j1"}"#, true),
            (r#"{"all":[]}"#, true),
            (r#"{"any":[]}"#, false),
            (r#"{"not":{"field":"data.id","exists":true}}"#, false),
            (
                r#"{"any":[{"field":"data.id","equals":"x"},{"all":[{"field":"type","contains":"video"}]}]}"#,
                true,
            ),
            (r#"[{"field":"data.id","equals":"j1"},{"field":"data.id","equals":"j2"}]"#, false),
            ("[]", true),
        ] {
            assert_eq!(matches(filter), expected, "{filter}");
        }
    }

    #[test]
    fn the_root_payload_is_a_member_of_that_name_if_there_is_one() {
        let filter = compile(r#"{"field":"payload.x","equals":1}"#).unwrap();
        let body = parse(br#"{"x":2,"payload":{"x":1}}"#).unwrap();
        assert!(filter.matches(body.root(), &"t".into()));
    }

    #[test]
    fn a_meaningless_filter_is_refused_with_the_reason() {
        for (filter, why) in [
            ("1", "a filter is a map"),
            ("{}", "needs one of"),
            (r#"{"field":"a"}"#, "needs one of"),
            (r#"{"equals":1}"#, "needs a field"),
            (r#"{"field":"...","equals":1}"#, "dotted path"),
            (r#"{"field":"headers.X-Kind","equals":1}"#, "not covered by OpenRouter's signature"),
            (r#"{"field":"a","equals":1,"in":[1]}"#, "one operator"),
            (r#"{"field":"a","equal":1}"#, "unknown key \"equal\""),
            (r#"{"field":"a","missing":false}"#, "exists: true"),
            (r#"{"field":"a","in_file":"x"}"#, "in_file"),
            (r#"{"field":"a","in":"x"}"#, "in takes a list"),
            (r#"{"field":"a","contains":[1]}"#, "single value"),
            (r#"{"field":"a","regex":"("}"#, "unclosed"),
            (r#"{"all":{}}"#, "list of filters"),
            (r#"{"all":[],"field":"a"}"#, "stands alone"),
            (r#"{"not":[]}"#, "a filter is a map"),
        ] {
            let error = compile(filter).unwrap_err();
            assert!(error.contains(why), "{filter}: {error}");
        }
    }
}
