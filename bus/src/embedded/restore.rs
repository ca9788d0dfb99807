//! Restoring a backup in place of the embedded bus, which no process may use meanwhile; and a check of the existing bus.
//!
//! The copy is checked and durable before any file is moved, and the existing bus is renamed and not removed. Like each backup,
//! the restored bus gets a new identity: a view of the old bus, or of an earlier restore of the same file, does not fit it.

use super::{
    FILE,
    backup::{Backup, BackupError, cannot, finish},
    schema::VERSION,
};
use crate::{identity, private::SQLITE_SUFFIXES};
use jiff::Timestamp;
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use std::{
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};

/// Prefix and suffix of the names of unfinished copies.
const PARTIAL: (&str, &str) = ("restore.", ".partial");

/// Whether a process uses a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// A process uses it.
    Yes,
    /// No process uses it.
    No,
}

/// A finished restore. Locks processes out of the data directory until it is dropped.
#[derive(Debug)]
pub struct Restored {
    /// The contents of the restored bus.
    pub has: Backup,
    /// The new path of the previous bus.
    pub kept: Option<PathBuf>,
    _lock: File,
}

/// Checks the bus in a directory: `None` if there is none; an error if it is not one of this version, or cannot be read. Does
/// not read all rows, so it is fast.
pub fn inspect(directory: &Path) -> Result<Option<InUse>, BackupError> {
    let file = directory.join(FILE);
    if !file.exists() {
        return Ok(None);
    }

    let in_use = if identity::is_locked(directory) { InUse::Yes } else { InUse::No };
    let look = || -> Result<(), Box<dyn Error>> {
        // For writing, because only a writer may recover the log of a process that was killed.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        is_bus(&Connection::open_with_flags(&file, flags)?)
    };
    look().map_err(|error| cannot("read", &file, &error))?;
    Ok(Some(in_use))
}

/// Restores a backup into a data directory. Fails if a process uses the directory, or if it has a bus already and `may_replace`
/// is not set. Whenever this ends, by whatever cause, the directory has the old bus or the new one.
pub fn restore(from: &Path, directory: &Path, may_replace: bool) -> Result<Restored, BackupError> {
    let lock = identity::lock(directory).map_err(|error| BackupError(error.to_string()))?;
    let there = directory.join(FILE);
    // Also a log alone, which SQLite would apply to the new file.
    let is_there = SQLITE_SUFFIXES.iter().any(|suffix| beside(&there, suffix).symlink_metadata().is_ok());
    if is_there && !may_replace {
        let why = "there is a bus already; --force puts that aside and keeps it";
        return Err(cannot("restore into", &there, &why));
    }
    let (copy, has) = checked_copy(from, directory).map_err(|why| cannot("restore", from, &why))?;
    let owner = directory.metadata().and_then(|directory| change_owner(&[copy.as_file(), &lock], &directory));
    owner.map_err(|why| cannot("give the directory's owner", &there, &why))?;
    let kept = if is_there {
        Some(rename_bus(&there).map_err(|error| cannot("put aside", &there, &error))?)
    } else {
        None
    };
    let place = || -> io::Result<()> {
        copy.persist(&there)?;
        // The new name must be durable, too.
        File::open(directory)?.sync_all()
    };
    place().map_err(|error| cannot("write", &there, &error))?;
    Ok(Restored { has, kept, _lock: lock })
}

/// Gives files to the directory's owner: root may restore, and Talaria's own user has to open them.
#[cfg(unix)]
pub(super) fn change_owner(files: &[&File], directory: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    for file in files {
        if file.metadata()?.uid() != directory.uid() {
            fchown(file, Some(directory.uid()), Some(directory.gid()))?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn change_owner(_: &[&File], _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// A durable copy in the directory, readable by its owner alone, of a file that is a whole bus.
fn checked_copy(from: &Path, directory: &Path) -> Result<(tempfile::NamedTempFile, Backup), Box<dyn Error>> {
    // Reading a pipe would block.
    if !from.metadata()?.is_file() {
        return Err("it is no file".into());
    }
    // Leftovers of restores that were killed.
    for left in fs::read_dir(directory)?.flatten() {
        let name = left.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PARTIAL.0) && name.ends_with(PARTIAL.1) {
            fs::remove_file(left.path())?;
        }
    }
    let mut source = File::open(from)?;
    is_without_log(from)?;
    let mut copy = tempfile::Builder::new().prefix(PARTIAL.0).suffix(PARTIAL.1).tempfile_in(directory)?;
    let bytes = io::copy(&mut source, copy.as_file_mut())?;
    let connection = Connection::open_with_flags(copy.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    is_bus(&connection)?;
    each_is_readable(&connection)?;
    drop(connection);
    let (events, commits) = finish(copy.path())?;
    copy.as_file().sync_all()?;
    Ok((copy, Backup { events, commits, bytes }))
}

/// Fails if a stored message cannot be decoded: SQLite checks pages, not their contents.
fn each_is_readable(copy: &Connection) -> Result<(), Box<dyn Error>> {
    let mut events = copy.prepare("SELECT seq, kind = 0, bytes FROM events")?;
    let mut rows = events.query(())?;
    while let Some(row) = rows.next()? {
        let (seq, is_event): (i64, bool) = (row.get(0)?, row.get(1)?);
        let bytes = row.get_ref(2)?.as_blob()?;
        let read = if is_event {
            Event::decode(bytes).map(drop)
        } else {
            QuarantinedCallback::decode(bytes).map(drop)
        };
        read.map_err(|error| format!("event {seq} in it is damaged: {error}"))?;
    }
    let mut commits = copy.prepare("SELECT seq, bytes FROM commits")?;
    let mut rows = commits.query(())?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let read = Commit::decode(row.get_ref(1)?.as_blob()?);
        read.map_err(|error| format!("commit {seq} in it is damaged: {error}"))?;
    }
    Ok(())
}

/// Fails if a part of the bus is in a log beside the file.
pub(super) fn is_without_log(file: &Path) -> Result<(), Box<dyn Error>> {
    if beside(file, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
        let why = "there is a log beside it, so it is a bus and no backup: `talaria backup` copies one that is whole";
        return Err(why.into());
    }
    Ok(())
}

/// Fails if the file is not a bus of this version.
pub(super) fn is_bus(connection: &Connection) -> Result<(), Box<dyn Error>> {
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let tables =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('events', 'commits', 'marks')";
    let tables: i64 = connection.query_row(tables, (), |row| row.get(0))?;
    if tables != 3 {
        return Err("it is no bus of Talaria's".into());
    }
    if version != VERSION {
        return Err(format!("it has schema {version}, and this Talaria knows {VERSION}").into());
    }
    Ok(())
}

/// Gives the bus a second name, and its log too if that cannot be checkpointed. The bus keeps its first name until the new one
/// replaces it.
fn rename_bus(there: &Path) -> io::Result<PathBuf> {
    // A damaged bus cannot be opened, and keeps its log.
    let _ = Connection::open_with_flags(there, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|bus| bus.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())));
    let stem = Timestamp::now().strftime("-replaced-%Y%m%dT%H%M%SZ").to_string();
    let is_free = |name: &PathBuf| {
        SQLITE_SUFFIXES.iter().all(|suffix| beside(name, suffix).symlink_metadata().is_err())
    };
    let names = (0..)
        .map(|number| beside(there, &if number == 0 { stem.clone() } else { format!("{stem}-{number}") }));
    let Some(aside) = names.take(100).find(is_free) else { return Err(io::ErrorKind::AlreadyExists.into()) };
    let log = beside(there, "-wal");
    for (from, to) in [(there, aside.clone()), (&log, beside(&aside, "-wal"))] {
        match from.metadata() {
            Ok(file) if file.len() == 0 && from == log => {}
            // Not every file system has hard links.
            Ok(_) => fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(directory) = there.parent() {
        File::open(directory)?.sync_all()?;
    }
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(beside(there, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bus, backup};
    use std::os::unix::fs::PermissionsExt as _;

    async fn bus(directory: &Path) {
        let bus = Bus::embedded(directory).await.unwrap();
        let event = Event { id: "evt_x".into(), tenant: "acme".into(), ..Default::default() };
        bus.publisher().publish(event).await.unwrap();
    }

    #[tokio::test]
    async fn a_backup_takes_the_place_of_a_bus_that_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy.db"));
        assert_eq!(inspect(&data).unwrap(), None);
        bus(&data).await;
        assert_eq!(inspect(&data).unwrap(), Some(InUse::No));
        backup(&data, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();

        let refused = restore(&copy, &data, false).unwrap_err().to_string();
        assert!(refused.contains("--force puts that aside"), "{refused}");
        let running = Bus::embedded(&data).await.unwrap();
        assert_eq!(inspect(&data).unwrap(), Some(InUse::Yes));
        let refused = restore(&copy, &data, true).unwrap_err().to_string();
        assert!(refused.ends_with("another Talaria is running in this data directory"), "{refused}");
        drop(running);

        fs::write(data.join("restore.killed.partial"), "payloads").unwrap();
        for _ in 0..2 {
            let restored = restore(&copy, &data, true).unwrap();
            assert_eq!((restored.has.events, restored.has.commits), (1, 0));
            let kept = restored.kept.clone().unwrap();
            assert!(kept.exists() && kept != data.join(FILE));
            assert!(!beside(&kept, "-wal").exists(), "what is kept is whole, and can be restored");
            assert_eq!(checked_copy(&kept, &data).unwrap().1.events, 1);
            assert!(Bus::embedded(&data).await.is_err(), "nothing begins before it is done");
            drop(restored);
        }
        assert_eq!(fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let bounds = Bus::embedded(&data).await.unwrap().bounds().await.unwrap();
        assert_eq!(bounds.last_event, 1);
        let left = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".partial")));
    }

    #[tokio::test]
    async fn a_log_without_its_bus_is_refused_at_the_start_and_put_aside_by_a_restore() {
        let directory = tempfile::tempdir().unwrap();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy.db"));
        bus(&data).await;
        backup(&data, &copy).unwrap();
        fs::remove_file(data.join(FILE)).unwrap();
        fs::write(beside(&data.join(FILE), "-wal"), "of another bus").unwrap();
        let refused = Bus::embedded(&data).await.err().unwrap().to_string();
        assert!(refused.contains("bus.db-wal is there and bus.db is not"), "{refused}");
        assert!(restore(&copy, &data, false).unwrap_err().to_string().contains("--force puts that aside"));
        let kept = restore(&copy, &data, true).unwrap().kept.unwrap();
        assert_eq!(fs::read(beside(&kept, "-wal")).unwrap(), b"of another bus");
        assert_eq!(Bus::embedded(&data).await.unwrap().bounds().await.unwrap().last_event, 1);
    }

    #[tokio::test]
    async fn what_is_no_whole_bus_moves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy.db"));
        bus(&data).await;
        let before = fs::read(data.join(FILE)).unwrap();
        backup(&data, &copy).unwrap();
        let whole = fs::read(&copy).unwrap();
        let foreign = directory.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let newer = directory.path().join("newer.db");
        fs::write(&newer, &whole).unwrap();
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let cut = directory.path().join("cut.db");
        fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let torn = directory.path().join("torn.db");
        fs::write(&torn, &whole).unwrap();
        Connection::open(&torn).unwrap().execute("UPDATE events SET bytes = x'0aff'", ()).unwrap();
        let text = directory.path().join("text");
        fs::write(&text, "no database, and long enough to be looked at").unwrap();
        for (file, why) in [
            (&foreign, "no bus of Talaria's"),
            (&newer, "schema 3, and this Talaria knows 2"),
            (&cut, ""),
            (&torn, "event 1 in it is damaged"),
            (&text, "not a database"),
            (&directory.path().join("nowhere"), "No such file"),
            (&directory.path().to_path_buf(), "no file"),
        ] {
            let error = restore(file, &data, true).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", file.display());
        }
        assert_eq!(fs::read(data.join(FILE)).unwrap(), before);
        fs::write(beside(&copy, "-wal"), "x").unwrap();
        assert!(restore(&copy, &data, true).unwrap_err().to_string().contains("a bus and no backup"));
    }
}
