//! Patterns of event types, for routes and questions.

use crate::notice;
use std::{fmt, str::FromStr};
use thiserror::Error;

/// A pattern of event types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPattern {
    /// `*`: every type.
    Every,
    /// One type.
    Exactly(String),
    /// `video.generation.*`: the types with this prefix, which ends with a dot.
    Below(String),
}

/// Not an event pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a type, or the beginning of types with .* as in video.generation.*, or * for all")]
pub struct NotAPattern;

impl FromStr for EventPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Every),
            Some(prefix) if prefix.ends_with('.') && !prefix.contains('*') => {
                Ok(Self::Below(prefix.to_owned()))
            }
            None if !text.is_empty() && !text.contains('*') => Ok(Self::Exactly(text.to_owned())),
            _ => Err(NotAPattern),
        }
    }
}

impl EventPattern {
    /// Whether a type matches. `*` matches no notice: a route gets these only where it names them.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Every => !notice::is_notice(event_type),
            Self::Exactly(exact) => event_type == exact,
            Self::Below(prefix) => {
                event_type.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }

    /// Whether it matches notices of any kind.
    pub fn takes_notices(&self) -> bool {
        match self {
            Self::Every => false,
            Self::Exactly(text) | Self::Below(text) => notice::is_notice(text),
        }
    }
}

/// The form in the configuration.
impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Exactly(exact) => f.write_str(exact),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}
