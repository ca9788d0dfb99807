//! All names on NATS: streams, subjects, headers, metadata. docs/nats.md lists them.

use crate::{Partition, partition::NATS_PARTITIONS};
use std::fmt::Write as _;

/// The longest type in a subject; a longer one is truncated there, and whole in `ce-type`.
const LONGEST_TYPE: usize = 200;

/// Key of a stream's metadata: the number of partitions.
pub(super) const PARTITIONS: &str = "talaria-partitions";

/// Key of the journal's metadata: when the last backup was begun, in seconds since 1970.
pub(super) const LAST_BACKUP: &str = "talaria-backup";

/// The value of [`PARTITIONS`] while a bus moves in.
pub(super) const MOVING_IN: &str = "a bus moves in";

/// The queue group of ingresses: the server gives a question to one of them.
pub(super) const INGRESSES: &str = "ingresses";

/// Header of each commit: a random number that identifies it to its writer.
pub(super) const COMMIT: &str = "Talaria-Commit";

// Headers of JetStream.
pub(super) const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
pub(super) const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
pub(super) const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";
pub(super) const SEQUENCE: &str = "Nats-Sequence";
pub(super) const LAST_SEQUENCE: &str = "Nats-Last-Sequence";

/// The names behind one prefix, so that several installations can share a NATS.
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

    /// The object store of kept files; its stream is `OBJ_` and this.
    pub(super) fn media(&self) -> String {
        format!("{}-media", self.prefix)
    }

    /// All subjects of the stream of events.
    pub(super) fn events_subjects(&self) -> Vec<String> {
        vec![format!("{}.events.*.*.>", self.prefix), format!("{}.quarantine.*.*", self.prefix)]
    }

    /// All subjects of the stream of commits.
    pub(super) fn journal_subjects(&self) -> Vec<String> {
        vec![format!("{}.journal.*", self.prefix)]
    }

    /// Every subject behind the prefix.
    pub(super) fn everything(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// The subjects of a stream while a bus moves in, by its own ones: the stream stores messages that come there under these.
    pub(super) fn moving(&self, subjects: &[String]) -> Vec<String> {
        subjects.iter().map(|subject| self.moving_to(subject)).collect()
    }

    /// The subject for a message that a moving bus brings, by its own one.
    pub(super) fn moving_to(&self, subject: &str) -> String {
        let rest = subject.strip_prefix(&self.prefix).unwrap_or(subject);
        format!("{}.moving{rest}", self.prefix)
    }

    /// The subjects that the streams had before there were partitions.
    pub(super) fn unpartitioned(&self) -> [String; 2] {
        ["events", "journal"].map(|stream| format!("{}.{stream}.>", self.prefix))
    }

    /// The subject of an event: its partition and tenant, and its type with a token for each of its words.
    pub(super) fn event(&self, tenant: &str, kind: &str) -> String {
        let partition = Partition::of(tenant, NATS_PARTITIONS);
        let mut subject = format!("{}.events.{partition}.{tenant}.", self.prefix);
        append_type(&mut subject, kind);
        subject
    }

    /// The subjects of notices, which are events of types of Talaria's own.
    pub(super) fn notices(&self) -> String {
        format!("{}.events.*.*.talaria.>", self.prefix)
    }

    /// The subject of a signed callback that is not an event.
    pub(super) fn quarantined(&self, tenant: &str) -> String {
        let partition = Partition::of(tenant, NATS_PARTITIONS);
        format!("{}.quarantine.{partition}.{tenant}", self.prefix)
    }

    /// The subjects of a partition in the events stream.
    pub(super) fn incoming(&self, partition: Partition) -> Vec<String> {
        vec![
            format!("{}.events.{partition}.>", self.prefix),
            format!("{}.quarantine.{partition}.*", self.prefix),
        ]
    }

    /// Whether a subject of the events stream is for callbacks that are not events.
    pub(super) fn is_quarantine(&self, subject: &str) -> bool {
        subject.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(".quarantine."))
    }

    /// The subject of a partition's journal.
    pub(super) fn commits(&self, partition: Partition) -> String {
        format!("{}.journal.{partition}", self.prefix)
    }

    /// The partition of a journal's subject; `None` for any other subject.
    pub(super) fn partition(&self, subject: &str) -> Option<Partition> {
        let number = subject.strip_prefix(&self.prefix)?.strip_prefix(".journal.")?;
        Partition::new(number.parse().ok()?, NATS_PARTITIONS)
    }

    /// The subject of a relay's announcements.
    pub(super) fn announcement(&self, relay: &str) -> String {
        format!("{}.relays.{relay}", self.prefix)
    }

    /// The subjects of all relays' announcements.
    pub(super) fn announcements(&self) -> String {
        self.announcement("*")
    }

    /// The subject of questions to a relay.
    pub(super) fn ask(&self, relay: &str) -> String {
        format!("{}.ask.{relay}", self.prefix)
    }

    /// The subject of an ingress' refusals.
    pub(super) fn refusals(&self, ingress: &str) -> String {
        format!("{}.refusals.{ingress}", self.prefix)
    }

    /// The subject of questions about OpenRouter, which an ingress answers.
    pub(super) fn openrouter(&self) -> String {
        format!("{}.openrouter", self.prefix)
    }

    /// The subject of the answer to one of these questions, which has a number of its own. Different from a relay's other
    /// answers, so that an ingress, which sends this one, can send no other.
    pub(super) fn openrouter_inbox(&self, number: &str) -> String {
        format!("_INBOX_{}_openrouter.{number}", self.prefix)
    }

    /// The prefix of the subjects of answers to an ingress. Different from a relay's, so that permissions can keep an
    /// ingress from the answers to relays, which have events and commits.
    pub(super) fn ingress_inbox(&self) -> String {
        format!("_INBOX_{}_ingress", self.prefix)
    }

    /// The prefix of the subjects of answers to a backup, and of what it reads.
    pub(super) fn backup_inbox(&self) -> String {
        format!("_INBOX_{}_backup", self.prefix)
    }

    /// The prefix of the subjects of answers to a relay.
    pub(super) fn relay_inbox(&self) -> String {
        format!("_INBOX_{}_relay", self.prefix)
    }
}

/// Whether a text is one token of a subject, without wildcards.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Appends an event's type as tokens of a subject. Bytes that a token cannot hold are written %XX.
fn append_type(subject: &mut String, kind: &str) {
    let start = subject.len();
    for (index, word) in kind.split('.').enumerate() {
        if subject.len() - start > LONGEST_TYPE {
            break;
        }
        if index > 0 {
            subject.push('.');
        }
        if word.is_empty() {
            subject.push('%');
        }
        for byte in word.bytes().take(LONGEST_TYPE) {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => subject.push(char::from(byte)),
                // Writing into a String cannot fail.
                _ => drop(write!(subject, "%{byte:02X}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_subject_has_its_partition_and_a_token_for_each_word_of_its_type() {
        let names = Names::new("talaria");
        assert_eq!(
            names.event("acme", "video.generation.completed"),
            "talaria.events.25.acme.video.generation.completed"
        );
        assert_eq!(names.event("acme", "a b.*.>..ü"), "talaria.events.25.acme.a%20b.%2A.%3E.%.%C3%BC");
        assert_eq!(names.event("acme", ""), "talaria.events.25.acme.%");
        assert_eq!(names.quarantined("acme"), "talaria.quarantine.25.acme");
        for long in ["x".repeat(100_000), "x.".repeat(100_000), ".".repeat(100_000)] {
            assert!(names.event("acme", &long).len() < 1_000);
        }
    }

    #[test]
    fn a_partition_is_read_from_a_journals_subject() {
        let names = Names::new("talaria");
        for partition in Partition::all(NATS_PARTITIONS) {
            assert_eq!(names.partition(&names.commits(partition)), Some(partition));
        }
        for subject in ["talaria.journal.64", "talaria.journal.", "talaria.journal.x", "other.journal.00"] {
            assert_eq!(names.partition(subject), None, "{subject}");
        }
    }

    #[test]
    fn a_moving_bus_has_subjects_of_its_own() {
        let names = Names::new("acme");
        assert_eq!(names.moving_to("acme.journal.07"), "acme.moving.journal.07");
        let moving = names.moving(&names.events_subjects());
        assert_eq!(moving, ["acme.moving.events.*.*.>", "acme.moving.quarantine.*.*"]);
    }

    #[test]
    fn a_relays_id_is_one_token() {
        assert!(is_token("0123456789abcdef"));
        for text in ["", "a.b", "*", ">", "a b"] {
            assert!(!is_token(text), "{text}");
        }
    }
}
