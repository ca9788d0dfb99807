//! Restoring a backup of NATS. Nothing is changed before the whole backup was checked and no relay runs.
//!
//! The events come first: a relay that starts in between finds no journal without its events. Streams that are there are backed up
//! beside the restored directory before they are removed. When a restore fails, the streams that it created are removed again.

use super::{
    backup::{NatsStream, connect, set_last_backup, write},
    connection::Connection,
    manifest::{self, Manifest, Stream},
    names::Names,
    relays,
    snapshot::{self, Extent, META, digest},
};
use crate::{BackupError, embedded::backup::cannot};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use talaria_core::config::Nats as Config;
use tokio::time::sleep;

/// How often to try to remove a stream that was not restored, once a second: the connection may be lost.
const REMOVALS: u32 = 30;

/// A finished restore of NATS.
#[derive(Debug)]
pub struct NatsRestored {
    /// When the backup was begun.
    pub time: Timestamp,
    /// The restored streams.
    pub streams: Vec<NatsStream>,
    /// The backup of the streams that were there.
    pub kept: Option<PathBuf>,
}

/// Restores a directory that [`backup_nats`](super::backup::backup_nats) wrote. Fails while a relay runs, and if there are streams
/// with messages and `may_replace` is not set.
pub async fn restore_nats(
    config: &Config,
    from: &Path,
    may_replace: bool,
) -> Result<NatsRestored, BackupError> {
    let names = Names::new(&config.prefix);
    let backup = checked(from, &config.prefix, &names).await.map_err(|why| cannot("restore", from, &why))?;
    let connection = connect(config).await?;
    refuse_relays(&connection).await?;
    let present = present(&connection).await?;
    let with_messages = present.iter().filter(|(_, extent)| !extent.is_new()).map(|(name, _)| name.as_str());
    let with_messages: Vec<_> = with_messages.collect();
    if !with_messages.is_empty() && !may_replace {
        let why = format!(
            "there are messages in {} already; --force backs them up beside it, and replaces them",
            with_messages.join(" and ")
        );
        return Err(cannot("restore", from, &why));
    }
    let kept =
        if with_messages.is_empty() { None } else { Some(keep(&connection, config, &present, from).await?) };
    let restored = async {
        for (name, _) in &present {
            remove(&connection, name).await?;
        }
        load(&connection, config, from, &backup).await
    };
    restored.await.map_err(|error| match &kept {
        None => error,
        Some(kept) => BackupError(format!(
            "{error}; the streams that were there are in {kept}: `talaria restore {kept}` goes back to them",
            kept = kept.display()
        )),
    })?;
    let streams = backup.manifest.streams.into_iter().map(NatsStream::from).collect();
    Ok(NatsRestored { time: backup.manifest.time, streams, kept })
}

/// A backup whose files are as they were written.
struct Checked {
    manifest: Manifest,
    /// The streams in the order in which they are restored, with their settings.
    streams: [(Stream, Value); 2],
}

async fn checked(from: &Path, prefix: &str, names: &Names) -> Result<Checked, String> {
    let file = from.join(manifest::FILE);
    let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("there is no {}, so it is no whole backup of NATS", manifest::FILE)
        }
        _ => format!("cannot read {}: {error}", file.display()),
    })?;
    let manifest = Manifest::parse(&text)?;
    if manifest.prefix != prefix {
        let of = &manifest.prefix;
        return Err(format!("it has the prefix {of}, and bus.nats.prefix is {prefix}"));
    }
    let mut streams = Vec::new();
    for name in [names.events(), names.journal()] {
        let stream = manifest.streams.iter().find(|stream| stream.name == name);
        let stream = stream.ok_or_else(|| format!("the stream {name} is not in it"))?;
        let directory = from.join(&name);
        for (file, expected) in &stream.files {
            let path = directory.join(file);
            let found =
                digest(&path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if found != *expected {
                return Err(format!(
                    "{} is damaged: its SHA-256 is not that in {}",
                    path.display(),
                    manifest::FILE
                ));
            }
        }
        let meta = fs::read(directory.join(META)).map_err(|error| error.to_string())?;
        let meta: Value = serde_json::from_slice(&meta).map_err(|error| error.to_string())?;
        streams.push((stream.clone(), meta));
    }
    let streams = streams.try_into().map_err(|_| "it has not two streams".to_owned())?;
    Ok(Checked { manifest, streams })
}

/// Fails if a relay announces itself.
async fn refuse_relays(connection: &Connection) -> Result<(), BackupError> {
    let running = relays::running(connection).await.map_err(|error| BackupError(error.reason))?;
    if running.is_empty() {
        return Ok(());
    }
    let running: Vec<_> = running.into_iter().collect();
    Err(BackupError(format!(
        "cannot restore while relays run: {}; stop them first, and start them when it is done",
        running.join(", ")
    )))
}

/// The streams that exist, with their extent.
async fn present(connection: &Connection) -> Result<Vec<(String, Extent)>, BackupError> {
    let mut present = Vec::new();
    // As in a backup, the journal first.
    for name in [connection.names.journal(), connection.names.events()] {
        let failed = |why: &dyn Display| {
            BackupError(connection.error(&format_args!("cannot ask for the stream {name}"), why).reason)
        };
        match snapshot::ask(connection, &format!("STREAM.INFO.{name}"), &json!({})).await {
            Ok(info) => {
                let extent =
                    Extent::of(&info).ok_or_else(|| failed(&"the server did not say what is in it"))?;
                present.push((name, extent));
            }
            Err(refused) if refused.is_missing => {}
            Err(refused) => return Err(failed(&refused.why)),
        }
    }
    Ok(present)
}

/// Backs up the streams that exist, beside the directory that is restored.
async fn keep(
    connection: &Connection,
    config: &Config,
    present: &[(String, Extent)],
    from: &Path,
) -> Result<PathBuf, BackupError> {
    // Its own name also for `.` and for paths that end with `..`.
    let from = fs::canonicalize(from).map_err(|error| cannot("restore", from, &error))?;
    let mut name = from.into_os_string();
    name.push(Timestamp::now().strftime("-replaced-%Y%m%dT%H%M%SZ").to_string());
    let kept = PathBuf::from(name);
    let streams: Vec<_> = present.iter().map(|(name, _)| name.clone()).collect();
    write(connection, &config.prefix, &streams, &kept).await?;
    Ok(kept)
}

async fn load(
    connection: &Connection,
    config: &Config,
    from: &Path,
    backup: &Checked,
) -> Result<(), BackupError> {
    let mut created = Vec::new();
    for (stream, meta) in &backup.streams {
        let meta = adapted(meta, config.replicas, stream.name == connection.names.journal(), backup);
        let loaded = snapshot::load(connection, &stream.name, &from.join(&stream.name), &meta).await;
        let error = match loaded {
            Ok(extent) if extent.has_the_same(stream.extent) => {
                created.push(&stream.name);
                continue;
            }
            Ok(extent) => {
                created.push(&stream.name);
                BackupError(format!(
                    "the stream {} has {extent:?} after it was restored, and the backup has {:?}",
                    stream.name, stream.extent
                ))
            }
            Err(failed) => {
                if failed.has_begun {
                    created.push(&stream.name);
                }
                failed.error
            }
        };
        for name in created {
            if let Err(left) = remove_for_certain(connection, name).await {
                return Err(BackupError(format!(
                    "{error}; and {left}: remove it with `nats stream rm {name}`, because it is not whole"
                )));
            }
        }
        return Err(BackupError(format!(
            "{error}; what was restored so far was removed, so you can try again"
        )));
    }
    Ok(())
}

/// The settings of a stream that is restored: as many replicas as are configured, and the backup is its last one.
fn adapted(meta: &Value, replicas: usize, is_journal: bool, backup: &Checked) -> Value {
    let mut meta = meta.clone();
    let Some(config) = meta.get_mut("config") else { return meta };
    if let Some(config) = config.as_object_mut() {
        config.insert("num_replicas".to_owned(), replicas.into());
    }
    if is_journal {
        set_last_backup(config, backup.manifest.time);
    }
    meta
}

async fn remove(connection: &Connection, name: &str) -> Result<(), BackupError> {
    match snapshot::ask(connection, &format!("STREAM.DELETE.{name}"), &json!({})).await {
        Ok(_) => Ok(()),
        Err(refused) if refused.is_missing => Ok(()),
        Err(refused) => {
            let what = format_args!("cannot remove the stream {name}");
            Err(BackupError(connection.error(&what, &refused.why).reason))
        }
    }
}

async fn remove_for_certain(connection: &Connection, name: &str) -> Result<(), BackupError> {
    let mut removed = remove(connection, name).await;
    for _ in 1..REMOVALS {
        if removed.is_ok() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        removed = remove(connection, name).await;
    }
    removed
}
