//! Set-up of the streams: created if missing, updated if that is safe, and refused if a setting would break a promise.

use super::{
    connection::{Connection, START_DEADLINE, START_RETRY_DELAY},
    names::{MOVING_IN, Names, PARTITIONS},
};
use crate::{Error, partition::NATS_PARTITIONS};
use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{
        Config as Settings, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
        SubjectTransform,
    },
};
use std::{
    fmt::{Debug, Display},
    time::{Duration, Instant},
};
use talaria_core::config::Nats as Config;

/// How long the server remembers message ids. It costs memory for each message of that time; later repeats are found by
/// the partition's owner.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The required settings of a stream.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    settings: Settings,
    /// Whether the configuration limits its size; otherwise the operator may set a limit at the server.
    limits_bytes: bool,
    /// The subjects that streams had before there were partitions.
    unpartitioned: [String; 2],
}

impl Wanted {
    pub(super) fn events(connection: &Connection, config: &Config) -> Self {
        let names = &connection.names;
        let max_bytes = config.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let settings = Settings {
            description: Some("OpenRouter's callbacks, verified and normalized, as CloudEvents".into()),
            max_bytes,
            allow_atomic_publish: true,
            ..settings(names.events(), names.events_subjects(), config)
        };
        Self { settings, limits_bytes: config.max_bytes.is_some(), unpartitioned: names.unpartitioned() }
    }

    pub(super) fn journal(connection: &Connection, config: &Config) -> Self {
        let names = &connection.names;
        let settings = Settings {
            description: Some("What relays recorded, a subject for each partition".into()),
            ..settings(names.journal(), names.journal_subjects(), config)
        };
        Self { settings, limits_bytes: false, unpartitioned: names.unpartitioned() }
    }

    pub(super) fn replicas(&self) -> usize {
        self.settings.num_replicas
    }

    /// Creates the stream, or updates it. Retries for a while with a server or a cluster that has just started, and with a
    /// cluster whose leader does not know the new stream yet, which another process may have created at the same moment.
    pub(super) async fn set_up(&self, connection: &Connection) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let may_retry = start.elapsed() < START_DEADLINE;
            match self.try_to_set_up(connection).await {
                Ok(Step::Created) if may_retry => {}
                Err(Failed { is_transient: true, .. }) if may_retry => {
                    tokio::time::sleep(START_RETRY_DELAY).await;
                }
                done => return done.map(drop).map_err(|failed| failed.error),
            }
        }
    }

    async fn try_to_set_up(&self, connection: &Connection) -> Result<Step, Failed> {
        let name = &self.settings.name;
        let what = format!("cannot set up the stream {name}");
        let failed = |error: &CreateStreamError| Failed {
            error: connection.error(&what, error),
            is_transient: is_transient(error),
        };
        let found = match connection.jetstream.get_stream(name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) if is_missing(&error) => {
                // No error if another process creates the same one at the same time.
                let created = connection.jetstream.create_stream(self.settings.clone()).await;
                return created.map(|_| Step::Created).map_err(|error| failed(&error));
            }
            Err(error) => {
                let is_transient = match error.kind() {
                    GetStreamErrorKind::JetStream(error) => {
                        error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE
                    }
                    GetStreamErrorKind::Request => true,
                    _ => false,
                };
                return Err(Failed { error: connection.error(&what, &explain(&error)), is_transient });
            }
        };
        self.compare(&found).map_err(|error| Failed { error, is_transient: false })?;
        let updated = self.updated(&found);
        if updated == found {
            return Ok(Step::Found);
        }
        tracing::info!(stream = name, "updating the stream to bus.nats");
        connection.jetstream.update_stream(updated).await.map(|_| Step::Found).map_err(|error| failed(&error))
    }

    /// Fails when the stream is missing, does not have the required settings, or is full.
    pub(super) async fn check(&self, connection: &Connection) -> Result<(), Error> {
        let info = info(connection, &self.settings.name).await?;
        self.compare(&info.config)?;
        let name = &self.settings.name;
        if !info.config.allow_direct {
            return Err(Error::new(format_args!(
                "the stream {name} does not answer direct questions (allow_direct); a restart sets it back"
            )));
        }
        let reached =
            |limit: i64, now: u64| u64::try_from(limit).is_ok_and(|limit| limit > 0 && now >= limit);
        if reached(info.config.max_bytes, info.state.bytes)
            || reached(info.config.max_messages, info.state.messages)
        {
            return Err(Error::new(format_args!("the stream {name} is full")));
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The settings of the stream once a bus has moved in, by those of the present one. Fails when that has a setting that breaks
    /// a promise.
    pub(super) fn after_move(&self, found: Option<&Settings>) -> Result<Settings, Error> {
        let Some(found) = found else { return Ok(self.settings.clone()) };
        self.compare(found)?;
        Ok(self.updated(found))
    }

    fn updated(&self, found: &Settings) -> Settings {
        let mut updated = Settings {
            num_replicas: self.settings.num_replicas,
            duplicate_window: self.settings.duplicate_window,
            allow_direct: true,
            allow_atomic_publish: found.allow_atomic_publish || self.settings.allow_atomic_publish,
            ..found.clone()
        };
        if self.limits_bytes {
            updated.max_bytes = self.settings.max_bytes;
        }
        updated
    }

    /// Fails when a stream has a setting that breaks a promise.
    fn compare(&self, found: &Settings) -> Result<(), Error> {
        let name = &self.settings.name;
        if is_moving(found) {
            return Err(Error::new(format_args!(
                "a bus moves into the stream {name}: wait until `talaria restore` has ended, and if it was killed, run it again; \
                 see docs/errors/bus-move.md"
            )));
        }
        if let [subject] = found.subjects.as_slice()
            && self.unpartitioned.contains(subject)
        {
            return Err(Error::new(format_args!(
                "the stream {name} was made by a version of Talaria from before the first release, whose data cannot be \
                 taken over: choose another bus.nats.prefix, or remove its two streams with `nats stream rm`; see \
                 docs/errors/nats-stream-differs.md"
            )));
        }
        match self.difference(found) {
            None => Ok(()),
            Some(difference) => Err(Error::new(format_args!(
                "the stream {name} exists and {difference}; it was left as it is. Set it back with `nats stream edit`; \
                 another bus.nats.prefix, or removing the stream, begins with nothing; see \
                 docs/errors/nats-stream-differs.md"
            ))),
        }
    }

    fn difference(&self, found: &Settings) -> Option<String> {
        let differs = |what: &str, found: &dyn Debug, wanted: &dyn Debug| {
            Some(format!("its {what} is {found:?} instead of {wanted:?}"))
        };
        let wanted = &self.settings;
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
        let partitions = [found, wanted].map(|stream| stream.metadata.get(PARTITIONS).map(String::as_str));
        if let [found, Some(wanted)] = partitions
            && found != Some(wanted)
        {
            let found = found.unwrap_or("missing");
            return Some(format!(
                "its number of partitions ({PARTITIONS} in its metadata) is {found} instead of {wanted}"
            ));
        }
        [
            (!found.max_age.is_zero(), "drops messages by age (max_age)"),
            (found.max_messages_per_subject > 0, "drops messages by subject (max_msgs_per_subject)"),
            (found.subject_transform.is_some(), "renames subjects (subject_transform)"),
            (found.no_ack, "does not acknowledge (no_ack)"),
            (found.sealed, "is sealed"),
            (found.deny_purge, "cannot be purged (deny_purge)"),
            (
                matches!(found.persist_mode, Some(PersistenceMode::Async)),
                "acknowledges before it writes (persist_mode)",
            ),
        ]
        .into_iter()
        .find_map(|(is, what)| is.then(|| what.to_owned()))
    }
}

/// Whether a bus moves into the stream.
pub(super) fn is_moving(found: &Settings) -> bool {
    found.metadata.get(PARTITIONS).is_some_and(|value| value == MOVING_IN)
}

/// The settings of a stream while a bus moves in, by those that it has afterwards: it takes messages under other subjects, so
/// that no ingress stores one in between, and no process begins to work with it.
pub(super) fn while_moving(names: &Names, after: &Settings) -> Settings {
    let mut moving = Settings {
        subjects: names.moving(&after.subjects),
        subject_transform: Some(SubjectTransform {
            source: names.moving_to(&names.everything()),
            destination: names.everything(),
        }),
        ..after.clone()
    };
    moving.metadata.insert(PARTITIONS.to_owned(), MOVING_IN.to_owned());
    moving
}

/// Whether the next try to create or update a stream may succeed.
pub(super) fn is_transient(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => true,
        CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
        _ => false,
    }
}

/// The result of a try to set up a stream.
enum Step {
    Found,
    /// Created, and not checked since.
    Created,
}

/// A failed try to set up a stream.
struct Failed {
    error: Error,
    /// Whether the next try may succeed.
    is_transient: bool,
}

fn settings(name: String, subjects: Vec<String>, config: &Config) -> Settings {
    Settings {
        name,
        subjects,
        retention: RetentionPolicy::Limits,
        // A full stream refuses new messages and never drops old ones.
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
        metadata: [(PARTITIONS.to_owned(), NATS_PARTITIONS.to_string())].into(),
        ..Settings::default()
    }
}

/// A stream's state and settings, from its leader.
pub(super) async fn info(connection: &Connection, name: &str) -> Result<Info, Error> {
    let failed = |why: &dyn Display| connection.error(&format_args!("cannot ask for the stream {name}"), why);
    connection.is_connected()?;
    match connection.unless_lost(connection.jetstream.get_stream(name)).await? {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) if is_missing(&error) => {
            Err(failed(&"it is gone; a relay that is started creates it, and those that run end soon").gone())
        }
        Err(error) => Err(failed(&error)),
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// An error with a hint: its most frequent cause.
fn explain(error: &GetStreamError) -> String {
    let text = error.to_string();
    let causes = ["no responders", "resource does not exist", "not enabled"];
    if causes.iter().any(|cause| text.contains(cause)) {
        return format!("{text}; does the server have JetStream enabled, and this account too?");
    }
    text
}
