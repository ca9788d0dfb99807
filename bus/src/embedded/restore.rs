//! A backup in place of the embedded bus, which no process may use meanwhile; and a look at the bus that is there.
//!
//! The copy is checked and durable before anything is moved, and the bus that was there is put aside and not removed. Like each
//! copy that is taken, what is put in place gets an identity of its own: what was derived from the bus before, or from an earlier
//! restore of the same file, does not fit it.

use super::{
    FILE,
    backup::{Backup, BackupError, finish},
    schema::VERSION,
};
use crate::{identity, private::SQLITE_SUFFIXES};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use std::{
    error::Error,
    fmt::Display,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Whether a process works with a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// One does.
    Yes,
    /// None does.
    No,
}

/// A backup that is in place. Keeps processes out of the data directory until it is dropped.
#[derive(Debug)]
pub struct Restored {
    /// What it has.
    pub has: Backup,
    /// Where the bus is now that was there before.
    pub kept: Option<PathBuf>,
    _lock: File,
}

fn cannot(what: &str, at: &Path, why: &dyn Display) -> BackupError {
    BackupError(format!("cannot {what} {}: {why}", at.display()))
}

/// The bus in a directory: `None` where there is none; an error where it is not one of this version, or cannot be read. Does not
/// read it through, so it is quick.
pub fn inspect(directory: &Path) -> Result<Option<InUse>, BackupError> {
    let file = directory.join(FILE);
    if !file.exists() {
        return Ok(None);
    }
    // Before it is opened: a process that looks for its own lock must not take this one for another.
    let in_use = if identity::is_locked(directory) { InUse::Yes } else { InUse::No };
    let look = || -> Result<(), Box<dyn Error>> {
        // As a writer, because only one may look into the log of a process that was killed.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        is_bus(&Connection::open_with_flags(&file, flags)?)
    };
    look().map_err(|error| cannot("read", &file, &error))?;
    Ok(Some(in_use))
}

/// Puts a backup into a data directory. Refuses where a process uses that; and where there is a bus already, unless that may be
/// put aside.
pub fn restore(from: &Path, directory: &Path, may_replace: bool) -> Result<Restored, BackupError> {
    let lock = identity::lock(directory).map_err(|error| BackupError(error.to_string()))?;
    let there = directory.join(FILE);
    // Also what a restore that was killed left: a log beside the new file would be taken for its own.
    let is_there = SQLITE_SUFFIXES.iter().any(|suffix| beside(&there, suffix).symlink_metadata().is_ok());
    if is_there && !may_replace {
        let why = "there is a bus already; --force puts that aside and keeps it";
        return Err(cannot("restore into", &there, &why));
    }
    let (copy, has) = checked_copy(from, directory).map_err(|why| cannot("restore", from, &why))?;
    let kept = if is_there {
        Some(put_aside(&there).map_err(|error| cannot("put aside", &there, &error))?)
    } else {
        None
    };
    let place = || -> io::Result<()> {
        copy.persist_noclobber(&there)?;
        // The name has to be durable, too.
        File::open(directory)?.sync_all()
    };
    place().map_err(|error| match &kept {
        Some(kept) => {
            let why = format!("{error}; the bus that was there is {}", kept.display());
            cannot("write", &there, &why)
        }
        None => cannot("write", &there, &error),
    })?;
    Ok(Restored { has, kept, _lock: lock })
}

/// A durable copy in the directory, readable by its owner alone, of a file that is a whole bus.
fn checked_copy(from: &Path, directory: &Path) -> Result<(tempfile::NamedTempFile, Backup), Box<dyn Error>> {
    let mut source = File::open(from)?;
    if !source.metadata()?.is_file() {
        return Err("it is no file".into());
    }
    if beside(from, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
        return Err(
            "there is a log beside it, so it is a bus in use and no backup: `talaria backup` copies one"
                .into(),
        );
    }
    let mut copy = tempfile::Builder::new().prefix(FILE).suffix(".partial").tempfile_in(directory)?;
    let bytes = io::copy(&mut source, copy.as_file_mut())?;
    is_bus(&Connection::open_with_flags(copy.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?)?;
    let (events, commits) = finish(copy.path())?;
    copy.as_file().sync_all()?;
    Ok((copy, Backup { events, commits, bytes }))
}

/// Whether it is a bus of this version.
fn is_bus(connection: &Connection) -> Result<(), Box<dyn Error>> {
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

/// Renames the bus and what SQLite keeps beside it.
fn put_aside(there: &Path) -> io::Result<PathBuf> {
    let stem = Timestamp::now().strftime("-replaced-%Y%m%dT%H%M%SZ").to_string();
    let free = |name: &PathBuf| name.symlink_metadata().is_err();
    let names = (0..)
        .map(|number| beside(there, &if number == 0 { stem.clone() } else { format!("{stem}-{number}") }));
    let Some(aside) = names.take(100).find(free) else { return Err(io::ErrorKind::AlreadyExists.into()) };
    for suffix in SQLITE_SUFFIXES {
        match fs::rename(beside(there, suffix), beside(&aside, suffix)) {
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
        let event =
            talaria_proto::v1::Event { id: "evt_x".into(), tenant: "acme".into(), ..Default::default() };
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

        for _ in 0..2 {
            let restored = restore(&copy, &data, true).unwrap();
            assert_eq!((restored.has.events, restored.has.commits), (1, 0));
            let kept = restored.kept.clone().unwrap();
            assert!(kept.exists() && kept != data.join(FILE));
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
    async fn a_log_without_its_bus_is_put_aside_too() {
        let directory = tempfile::tempdir().unwrap();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy.db"));
        bus(&data).await;
        backup(&data, &copy).unwrap();
        fs::remove_file(data.join(FILE)).unwrap();
        fs::write(beside(&data.join(FILE), "-wal"), "of another bus").unwrap();
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
        let text = directory.path().join("text");
        fs::write(&text, "no database, and long enough to be looked at").unwrap();
        for (file, why) in [
            (&foreign, "no bus of Talaria's"),
            (&newer, "schema 3, and this Talaria knows 2"),
            (&cut, ""),
            (&text, "not a database"),
            (&directory.path().join("nowhere"), "No such file"),
            (&directory.path().to_path_buf(), "no file"),
        ] {
            let error = restore(file, &data, true).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", file.display());
        }
        assert_eq!(fs::read(data.join(FILE)).unwrap(), before);
        fs::write(beside(&copy, "-wal"), "x").unwrap();
        assert!(restore(&copy, &data, true).unwrap_err().to_string().contains("a bus in use and no backup"));
    }
}
