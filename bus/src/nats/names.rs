//! Every name on NATS: streams, subjects, headers. docs/nats.md lists them.

use std::fmt::Write as _;

/// The longest type that stands in a subject; a longer one is cut off there, and whole in `ce-type`.
const LONGEST_TYPE: usize = 200;

/// Headers of JetStream that async-nats has no name for where we need one.
pub(super) const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
pub(super) const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// The names behind one prefix, so that several Talarias can share a NATS.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The stream of events.
    pub(super) fn events(&self) -> String {
        format!("{}-events", self.prefix)
    }

    /// The stream of commits.
    pub(super) fn journal(&self) -> String {
        format!("{}-journal", self.prefix)
    }

    pub(super) fn events_subjects(&self) -> String {
        format!("{}.events.>", self.prefix)
    }

    pub(super) fn journal_subjects(&self) -> String {
        format!("{}.journal.>", self.prefix)
    }

    /// Where an event goes: its tenant, and its type with a token for each of its words.
    pub(super) fn event(&self, tenant: &str, kind: &str) -> String {
        format!("{}.events.{tenant}.{}", self.prefix, type_tokens(kind))
    }

    /// What an ingress journals.
    pub(super) fn journal_ingress(&self) -> String {
        format!("{}.journal.ingress", self.prefix)
    }

    /// What a relay did.
    pub(super) fn journal_relay(&self, name: &str) -> String {
        format!("{}.journal.relay.{name}", self.prefix)
    }

    /// The planning of events.
    pub(super) fn journal_planning(&self) -> String {
        format!("{}.journal.planning", self.prefix)
    }

    /// What operators decide.
    pub(super) fn journal_control(&self) -> String {
        format!("{}.journal.control", self.prefix)
    }

    /// Which relays work together.
    pub(super) fn journal_membership(&self) -> String {
        format!("{}.journal.membership", self.prefix)
    }

    /// Where a relay announces itself.
    pub(super) fn announcement(&self, name: &str) -> String {
        format!("{}.relays.{name}", self.prefix)
    }

    /// Where all do.
    pub(super) fn announcements(&self) -> String {
        format!("{}.relays.*", self.prefix)
    }
}

/// What a commit's subject says of who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    Ingress,
    Relay,
    Planning,
    Membership,
    Control,
}

impl Names {
    /// Who writes to a subject of the journal; `None` for a subject that has no meaning.
    pub(super) fn author(&self, subject: &str) -> Option<Author> {
        let rest = subject.strip_prefix(&self.prefix)?.strip_prefix(".journal.")?;
        match rest {
            "ingress" => Some(Author::Ingress),
            "planning" => Some(Author::Planning),
            "membership" => Some(Author::Membership),
            "control" => Some(Author::Control),
            _ => rest.starts_with("relay.").then_some(Author::Relay),
        }
    }
}

/// An event's type as tokens of a subject. Whatever a token cannot hold is written %XX.
fn type_tokens(kind: &str) -> String {
    let mut tokens = String::new();
    for (index, word) in kind.split('.').enumerate() {
        if tokens.len() > LONGEST_TYPE {
            break;
        }
        if index > 0 {
            tokens.push('.');
        }
        if word.is_empty() {
            tokens.push('%');
        }
        for byte in word.bytes().take(LONGEST_TYPE) {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => tokens.push(char::from(byte)),
                // Writing into a String cannot fail.
                _ => drop(write!(tokens, "%{byte:02X}")),
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_subject_has_a_token_for_each_word_of_its_type() {
        let names = Names::new("talaria");
        assert_eq!(
            names.event("acme", "video.generation.completed"),
            "talaria.events.acme.video.generation.completed"
        );
        assert_eq!(names.event("acme", "a b.*.>..ü"), "talaria.events.acme.a%20b.%2A.%3E.%.%C3%BC");
        assert_eq!(names.event("acme", ""), "talaria.events.acme.%");
        for long in ["x".repeat(100_000), "x.".repeat(100_000), ".".repeat(100_000)] {
            assert!(names.event("acme", &long).len() < 1_000);
        }
    }
}
