//! The streams: made where they are missing, brought up to date where that harms nothing, and refused
//! where they are something else.

use super::connection::{Connection, START_DEADLINE, START_PAUSE};
use crate::Error;
use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Config as Stream, DiscardPolicy, RetentionPolicy, StorageType},
};
use std::time::{Duration, Instant};
use talaria_core::config::Nats as Config;

/// How long the server remembers message ids. It costs memory for each message of that time; what comes later is found
/// by whoever plans.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Makes what there has to be.
pub(super) async fn set_up(connection: &Connection, config: &Config) -> Result<(), Error> {
    let names = &connection.names;
    let events = Stream {
        description: Some("OpenRouter's callbacks, verified and normalized, as CloudEvents".into()),
        max_bytes: config.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        ..stream(names.events(), names.events_subjects(), config)
    };
    let journal = Stream {
        description: Some("What relays did, in order".into()),
        ..stream(names.journal(), names.journal_subjects(), config)
    };
    ensure(connection, events, config.max_bytes.is_some()).await?;
    ensure(connection, journal, false).await
}

/// Makes a stream, or brings it up to date. A server or a cluster that has just started is asked again for a while.
async fn ensure(connection: &Connection, wanted: Stream, limit_bytes: bool) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        match ensure_once(connection, wanted.clone(), limit_bytes).await {
            Err(Failed { may_pass: true, .. }) if start.elapsed() < START_DEADLINE => {
                tokio::time::sleep(START_PAUSE).await;
            }
            done => return done.map_err(|failed| failed.error),
        }
    }
}

/// Why a stream is not as it should be.
struct Failed {
    error: Error,
    /// Whether the next try may have another outcome.
    may_pass: bool,
}

fn stream(name: String, subjects: String, config: &Config) -> Stream {
    Stream {
        name,
        subjects: vec![subjects],
        retention: RetentionPolicy::Limits,
        // Full means that publishing fails, and never that something old is lost.
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: DUPLICATE_WINDOW,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Stream::default()
    }
}

async fn ensure_once(connection: &Connection, wanted: Stream, limit_bytes: bool) -> Result<(), Failed> {
    let name = wanted.name.clone();
    let what = format!("cannot set up the stream {name}");
    let failed = |error: &CreateStreamError| {
        let may_pass = match error.kind() {
            CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => true,
            CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
            _ => false,
        };
        Failed { error: connection.error(&what, error), may_pass }
    };
    let found = match connection.jetstream.get_stream(&name).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) => {
            let (missing, may_pass) = match error.kind() {
                GetStreamErrorKind::JetStream(error) => (
                    error.error_code() == ErrorCode::STREAM_NOT_FOUND,
                    error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
                ),
                GetStreamErrorKind::Request => (false, true),
                _ => (false, false),
            };
            if !missing {
                return Err(Failed { error: connection.error(&what, &explain(&error)), may_pass });
            }
            // Somebody else may make the same one at the same time, which is well.
            let created = connection.jetstream.create_stream(wanted).await;
            return created.map(drop).map_err(|error| failed(&error));
        }
    };
    if let Some(difference) = incompatible(&found, &wanted) {
        let error = Error::new(format_args!(
            "the stream {name} exists and {difference}; it was left as it is. Set it back \
             with `nats stream edit`; another bus.nats.prefix, or removing the stream, begins with nothing; see \
             docs/errors/nats-stream-differs.md"
        ));
        return Err(Failed { error, may_pass: false });
    }
    let mut updated = Stream {
        num_replicas: wanted.num_replicas,
        duplicate_window: wanted.duplicate_window,
        allow_direct: true,
        allow_atomic_publish: true,
        ..found.clone()
    };
    if limit_bytes {
        updated.max_bytes = wanted.max_bytes;
    }
    if updated == found {
        return Ok(());
    }
    tracing::info!(stream = name, "bringing the stream up to date with bus.nats");
    connection.jetstream.update_stream(updated).await.map(drop).map_err(|error| failed(&error))
}

/// What of a stream makes it something else than ours, in a few words.
fn incompatible(found: &Stream, wanted: &Stream) -> Option<String> {
    let differs = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
        Some(format!("its {what} is {found:?} instead of {wanted:?}"))
    };
    if found.mirror.is_some() || found.sources.is_some() {
        return Some("is a copy of another one (mirror or sources)".to_owned());
    }
    if found.subjects != wanted.subjects {
        return differs("list of subjects", &found.subjects, &wanted.subjects);
    }
    if found.retention != wanted.retention {
        return differs("retention", &found.retention, &wanted.retention);
    }
    if found.storage != wanted.storage {
        return differs("storage", &found.storage, &wanted.storage);
    }
    if found.discard != wanted.discard {
        return differs("discard policy", &found.discard, &wanted.discard);
    }
    [
        (!found.max_age.is_zero(), "drops messages by age (max_age)"),
        (found.max_messages_per_subject > 0, "drops messages by subject (max_msgs_per_subject)"),
        (found.subject_transform.is_some(), "renames subjects (subject_transform)"),
        (found.no_ack, "does not acknowledge (no_ack)"),
        (found.sealed, "is sealed"),
        (found.deny_purge, "cannot be purged (deny_purge)"),
        (
            matches!(found.persist_mode, Some(async_nats::jetstream::stream::PersistenceMode::Async)),
            "acknowledges before it writes (persist_mode)",
        ),
    ]
    .into_iter()
    .find_map(|(is, what)| is.then(|| what.to_owned()))
}

/// An error that says what to do about the one cause that everybody meets once.
fn explain(error: &async_nats::jetstream::context::GetStreamError) -> String {
    let text = error.to_string();
    let causes = ["no responders", "resource does not exist", "not enabled"];
    if causes.iter().any(|cause| text.contains(cause)) {
        return format!("{text}; does the server have JetStream enabled, and this account too?");
    }
    text
}

/// Whether the events stream takes anything now.
pub(super) async fn check(connection: &Connection) -> Result<(), Error> {
    connection.has_room()?;
    connection.extent(&connection.names.events()).await.map(drop)
}
