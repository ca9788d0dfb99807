//! Online backup of the embedded bus.
//!
//! `VACUUM INTO` reads one snapshot in one transaction, so the copy has everything that was committed before it began, and
//! no part of a later transaction. SQLite's backup interface starts again whenever another process writes, and would not end
//! under load.
//!
//! The copy gets its own identity: a bus that is restored from it gives sequences again that the original gave too, so a
//! view of the original does not fit it.

use super::{FILE, restore::change_owner, schema};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use std::{
    error::Error,
    fmt::Display,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
    time::Duration,
};

/// Why a backup or a restore failed: names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(pub(crate) String);

pub(crate) fn cannot(action: &str, path: &Path, why: &dyn Display) -> BackupError {
    BackupError(format!("cannot {action} {}: {why}", path.display()))
}

/// How long to wait for another process' lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The file in the data directory with the time of the last backup, in seconds since 1970.
const LAST_BACKUP: &str = "last-backup";

pub(crate) const EXISTS: &str = "it is there already, and a backup replaces nothing: name another";

/// The contents of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Events and quarantined callbacks.
    pub events: u64,
    /// Commits of the journal.
    pub commits: u64,
    /// The file's length.
    pub bytes: u64,
}

/// Copies the bus in a directory into a new file, whether or not a process uses it. When this returns, the copy is complete and
/// durable, and only its owner can read it: it has payloads.
pub fn backup(directory: &Path, to: &Path) -> Result<Backup, BackupError> {
    let file = directory.join(FILE);
    if !file.exists() {
        let why = "there is none; `talaria up` makes it where data_dir says";
        return Err(cannot("back up", &file, &why));
    }
    // A link whose target does not exist counts as an existing file.
    if to.symlink_metadata().is_ok() {
        return Err(cannot("write", to, &EXISTS));
    }
    let source = open(&file).map_err(|error| cannot("read", &file, &error))?;
    copy(&source, to).map_err(|why| cannot("back up the bus into", to, &why))
}

/// Opens for writing, because only a writer may recover the log of a process that was killed.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    Ok(source)
}

/// Writes a file with a random name beside `to`, and renames it when it is complete. Other files, such as those of a concurrent
/// backup or a planted link, are not touched.
fn copy(source: &Connection, to: &Path) -> Result<Backup, Box<dyn Error>> {
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = to.file_name().ok_or("this is no file's name")?.to_owned();
    name.push(".");
    // Readable by its owner alone; removed when this returns an error. SQLite treats an empty file as a missing one.
    let partial = tempfile::Builder::new().prefix(&name).suffix(".partial").tempfile_in(directory)?;
    source.execute("VACUUM INTO ?1", [partial.path().to_str().ok_or("the path is not UTF-8")?])?;
    let (events, commits) = finish(partial.path())?;
    partial.as_file().sync_all()?;
    let bytes = partial.as_file().metadata()?.len();
    partial.persist_noclobber(to).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => EXISTS.into(),
        _ => Box::<dyn Error>::from(error.error),
    })?;
    // The new name must be durable, too.
    File::open(directory)?.sync_all()?;
    Ok(Backup { events, commits, bytes })
}

/// Records in the directory of the bus when a backup was begun.
pub fn record_backup(directory: &Path, begun: Timestamp) -> Result<(), BackupError> {
    let file = directory.join(LAST_BACKUP);
    let record = || -> std::io::Result<()> {
        let mut new = tempfile::Builder::new().prefix(LAST_BACKUP).tempfile_in(directory)?;
        writeln!(new, "{}", begun.as_second())?;
        // Root may make backups, and Talaria's own user has to read the time.
        change_owner(&[new.as_file()], &directory.metadata()?)?;
        new.as_file().sync_all()?;
        new.persist(&file)?;
        Ok(())
    };
    record().map_err(|error| cannot("record the time of the backup in", &file, &error))
}

/// The recorded time. A file that has none counts as missing.
pub(super) fn last_backup(directory: &Path) -> std::io::Result<Option<Timestamp>> {
    match fs::read_to_string(directory.join(LAST_BACKUP)) {
        Ok(text) => Ok(text.trim_end().parse().ok().and_then(|second| Timestamp::from_second(second).ok())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks the copy, gives it a new identity, and counts its events and commits.
pub(super) fn finish(file: &Path) -> Result<(u64, u64), Box<dyn Error>> {
    let copy = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let check: String = copy.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if check != "ok" {
        return Err(format!("the copy is damaged, and so may be the bus: {check}").into());
    }
    // Without a journal file beside it: if this fails, the copy is removed.
    copy.execute_batch("PRAGMA journal_mode = MEMORY")?;
    copy.execute(schema::RENAME, ())?;
    let count = |table: &str| copy.query_row(&format!("SELECT COUNT(*) FROM {table}"), (), |row| row.get(0));
    Ok((count("events")?, count("commits")?))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A bus with one event in it.
    fn bus() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open(&directory.path().join(FILE)).unwrap();
        connection.execute("INSERT INTO events VALUES (1, 0, 0, x'')", ()).unwrap();
        directory
    }

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn links_are_not_followed() {
        let (bus, to) = (bus(), tempfile::tempdir().unwrap());
        let [copy, precious] = ["copy.db", "precious"].map(|name| to.path().join(name));
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, to.path().join("copy.db.partial")).unwrap();
        assert_eq!(backup(bus.path(), &copy).unwrap().events, 1);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(!copy.symlink_metadata().unwrap().is_symlink());

        let nowhere = to.path().join("nowhere.db");
        symlink(to.path().join("gone"), &nowhere).unwrap();
        let error = backup(bus.path(), &nowhere).unwrap_err();
        assert!(error.to_string().contains("it is there already"), "{error}");
        assert!(nowhere.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn the_time_of_the_last_backup_is_recorded_and_a_damaged_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(last_backup(directory.path()).unwrap(), None);
        for time in ["2026-11-29T03:17:00Z", "2026-11-30T03:17:00Z"] {
            let time = time.parse().unwrap();
            record_backup(directory.path(), time).unwrap();
            assert_eq!(last_backup(directory.path()).unwrap(), Some(time));
        }
        assert_eq!(names(directory.path()), ["last-backup"]);
        fs::write(directory.path().join(LAST_BACKUP), "yesterday").unwrap();
        assert_eq!(last_backup(directory.path()).unwrap(), None);
        let error = record_backup(&directory.path().join("gone"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("last-backup"), "{error}");
    }

    #[test]
    fn of_concurrent_backups_one_writes_the_copy_and_the_others_are_refused() {
        let bus = bus();
        for _ in 0..20 {
            let to = tempfile::tempdir().unwrap();
            let copy = to.path().join("copy.db");
            let saved: Vec<_> = std::thread::scope(|scope| {
                let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| backup(bus.path(), &copy))).collect();
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            let (done, refused): (Vec<_>, Vec<_>) = saved.into_iter().partition(Result::is_ok);
            assert_eq!(done.len(), 1, "{done:?} {refused:?}");
            for error in refused.into_iter().filter_map(Result::err) {
                assert!(error.to_string().contains("it is there already"), "{error}");
            }
            let read = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let count = |row: &rusqlite::Row<'_>| row.get::<_, u64>(0);
            assert_eq!(read.query_row("SELECT COUNT(*) FROM events", (), count).unwrap(), 1);
            assert_eq!(names(to.path()), ["copy.db"]);
        }
    }
}
