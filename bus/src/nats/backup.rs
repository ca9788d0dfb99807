//! Backup of both streams into a directory, while ingresses and relays work.
//!
//! ```text
//! DIRECTORY/talaria.json                       its contents, with hashes
//! DIRECTORY/talaria-journal/backup.json        as `nats stream backup` writes it
//!                           stream.tar.s2
//! DIRECTORY/talaria-events/…
//! ```
//!
//! The journal comes first, so that the events of all its records are in the backup. Later events have no records in it, and
//! are planned after a restore.

use super::{
    connection::Connection,
    manifest::{self, Manifest, Stream},
    names::{LAST_BACKUP, Names},
    snapshot::{self, Writer},
};
use crate::{
    BackupError,
    embedded::backup::{EXISTS, cannot},
    private,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use talaria_core::config::Nats as Config;

/// A backup of NATS.
#[derive(Debug)]
pub struct NatsBackup {
    /// When it was begun: everything that was acknowledged before is in it.
    pub time: Timestamp,
    /// Its streams.
    pub streams: Vec<NatsStream>,
    /// Why the time could not be recorded.
    pub unrecorded: Option<BackupError>,
}

/// A stream that was backed up or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsStream {
    /// Its name.
    pub name: String,
    /// The number of messages.
    pub messages: u64,
    /// The first sequence; 0 or 1 if it never had a message.
    pub first_seq: u64,
    /// The last sequence.
    pub last_seq: u64,
    /// The size of the messages at the server.
    pub bytes: u64,
}

impl From<Stream> for NatsStream {
    fn from(Stream { name, extent, .. }: Stream) -> Self {
        let snapshot::Extent { messages, first, last, bytes } = extent;
        Self { name, messages, first_seq: first, last_seq: last, bytes }
    }
}

/// Copies both streams into a new directory. When this returns, the copy is complete and durable, and only its owner can read it:
/// it has payloads. Until then it has another name.
pub async fn backup_nats(config: &Config, to: &Path) -> Result<NatsBackup, BackupError> {
    refuse_existing(to)?;
    let connection = connect(config).await?;
    let streams = [connection.names.journal(), connection.names.events()];
    let manifest = write(&connection, &config.prefix, &streams, to).await?;
    let unrecorded = record(&connection, manifest.time).await.err();
    let streams = manifest.streams.into_iter().map(NatsStream::from).collect();
    Ok(NatsBackup { time: manifest.time, streams, unrecorded })
}

pub(super) async fn connect(config: &Config) -> Result<Connection, BackupError> {
    let names = Names::new(&config.prefix);
    let inbox = names.backup_inbox();
    Connection::open(config, names, inbox).await.map_err(|error| BackupError(error.reason))
}

fn refuse_existing(to: &Path) -> Result<(), BackupError> {
    // A link whose target does not exist counts as an existing file.
    if to.symlink_metadata().is_ok() { Err(cannot("write", to, &EXISTS)) } else { Ok(()) }
}

/// Writes these streams into a new directory, one after the other.
pub(super) async fn write(
    connection: &Connection,
    prefix: &str,
    streams: &[String],
    to: &Path,
) -> Result<Manifest, BackupError> {
    let failed = |why: &dyn std::fmt::Display| cannot("back up NATS into", to, why);
    let time = Timestamp::now();
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = to.file_name().ok_or_else(|| failed(&"this is no directory's name"))?.to_owned();
    name.push(".");
    // Removed when this returns an error.
    let partial = tempfile::Builder::new()
        .prefix(&name)
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|error| failed(&error))?;
    let mut saved = Vec::new();
    for stream in streams {
        let of_it = snapshot::save(connection, stream, &partial.path().join(stream)).await?;
        saved.push(Stream::new(stream.clone(), of_it));
    }
    let manifest = Manifest { prefix: prefix.to_owned(), time, streams: saved };
    let finish = async {
        let mut file = Writer::create(partial.path().join(manifest::FILE)).await?;
        file.write(manifest.text().as_bytes()).await?;
        file.finish().await?;
        private::sync(partial.path())
    };
    finish.await.map_err(|error| failed(&error))?;
    // Renaming replaces an empty directory.
    refuse_existing(to)?;
    fs::rename(partial.path(), to).map_err(|error| failed(&error))?;
    // There is nothing to remove any more.
    let _ = partial.keep();
    private::sync(parent).map_err(|error| failed(&error))?;
    Ok(manifest)
}

/// Records the time in the journal's metadata. Other settings stay as they are.
async fn record(connection: &Connection, time: Timestamp) -> Result<(), BackupError> {
    let journal = connection.names.journal();
    let failed = |refused: snapshot::Refused| {
        let what = format_args!("cannot record the time of the backup in the stream {journal}");
        BackupError(connection.error(&what, &refused.why).reason)
    };
    let info = snapshot::ask(connection, &format!("STREAM.INFO.{journal}"), &json!({})).await;
    let mut config = info.map_err(failed)?.get_mut("config").map(Value::take).unwrap_or_default();
    set_last_backup(&mut config, time);
    snapshot::ask(connection, &format!("STREAM.UPDATE.{journal}"), &config).await.map_err(failed)?;
    Ok(())
}

/// Writes the time of the last backup into the journal's settings.
pub(super) fn set_last_backup(config: &mut Value, time: Timestamp) {
    let Some(config) = config.as_object_mut() else { return };
    let metadata = config.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(LAST_BACKUP.to_owned(), time.as_second().to_string().into());
    }
}

/// The time of the last backup, out of the journal's metadata.
pub(super) fn last_backup(metadata: &std::collections::HashMap<String, String>) -> Option<Timestamp> {
    Timestamp::from_second(metadata.get(LAST_BACKUP)?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_recorded_beside_other_metadata() {
        let time = "2026-11-29T03:17:00Z".parse().unwrap();
        let mut config =
            json!({"name": "talaria-journal", "metadata": {"owner": "platform"}, "new_setting": 1});
        set_last_backup(&mut config, time);
        assert_eq!(config["metadata"]["owner"], "platform");
        assert_eq!(config["new_setting"], 1);
        let metadata = serde_json::from_value(config["metadata"].take()).unwrap();
        assert_eq!(last_backup(&metadata), Some(time));
        for text in ["", "x", "99999999999999999"] {
            assert_eq!(last_backup(&[(LAST_BACKUP.to_owned(), text.to_owned())].into()), None, "{text}");
        }
        let mut without = json!({"name": "talaria-journal"});
        set_last_backup(&mut without, time);
        assert_eq!(without["metadata"][LAST_BACKUP], "1795922220");
    }
}
