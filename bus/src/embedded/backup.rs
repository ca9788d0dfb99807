//! A copy of the embedded bus, taken while it works.
//!
//! `VACUUM INTO` reads one snapshot in one transaction, so the copy holds everything that was committed before it began
//! and nothing by halves. SQLite's backup interface would begin anew whenever another process writes, and under load it
//! would not come to an end.

use super::FILE;
use rusqlite::{Connection, OpenFlags};
use std::{error::Error, fmt::Display, fs::File, io::ErrorKind, path::Path, time::Duration};

/// Why there is no copy: names the file, and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(String);

/// How long a process that is just beginning its log anew may take.
const PATIENCE: Duration = Duration::from_secs(10);

const THERE: &str = "it is there already, and a backup replaces nothing: name another";

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Events that are kept.
    pub events: u64,
    /// Deliveries that wait.
    pub waiting: u64,
    /// How long the file is.
    pub bytes: u64,
}

/// Copies the bus in a directory into a file that does not exist yet, whether or not a process uses it. The copy is whole
/// and on the disk when this returns, and readable by its owner alone: it holds payloads.
pub fn backup(directory: &Path, to: &Path) -> Result<Backup, BackupError> {
    let cannot = |what: &str, at: &Path, why: &dyn Display| {
        BackupError(format!("cannot {what} {}: {why}", at.display()))
    };
    let file = directory.join(FILE);
    if !file.exists() {
        let why = "there is none; `talaria up` makes it where data_dir says";
        return Err(cannot("back up", &file, &why));
    }
    // A link that leads nowhere is something that is there, too.
    if to.symlink_metadata().is_ok() {
        return Err(cannot("write", to, &THERE));
    }
    let source = open(&file).map_err(|error| cannot("read", &file, &error))?;
    copy(&source, to).map_err(|why| cannot("back up the bus into", to, &why))
}

/// For reading; as a writer because only one may look into the log of a process that was killed.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(PATIENCE)?;
    Ok(source)
}

/// Writes it beside its place and moves it there when it is whole. The name until then is nobody's: what another backup
/// writes, or somebody has left there for it to follow, is not touched.
fn copy(source: &Connection, to: &Path) -> Result<Backup, Box<dyn Error>> {
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = to.file_name().ok_or("this is no file's name")?.to_owned();
    name.push(".");
    // For its owner alone; gone when this returns an error. SQLite takes an empty file as if there were none.
    let partial = tempfile::Builder::new().prefix(&name).suffix(".partial").tempfile_in(directory)?;
    source.execute("VACUUM INTO ?1", [partial.path().to_str().ok_or("the path is not UTF-8")?])?;
    let copy = Connection::open_with_flags(partial.path(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sound: String = copy.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if sound != "ok" {
        return Err(format!("the copy is damaged, and so may be what it was made from: {sound}").into());
    }
    let count = |table: &str| copy.query_row(&format!("SELECT COUNT(*) FROM {table}"), (), |row| row.get(0));
    let (events, waiting) = (count("events")?, count("deliveries")?);
    drop(copy);
    partial.as_file().sync_all()?;
    let bytes = partial.as_file().metadata()?.len();
    partial.persist_noclobber(to).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => THERE.into(),
        _ => Box::<dyn Error>::from(error.error),
    })?;
    // Its name has to last, too.
    File::open(directory)?.sync_all()?;
    Ok(Backup { events, waiting, bytes })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// A bus with nothing in it.
    fn bus() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let tables = "CREATE TABLE events (x); CREATE TABLE deliveries (x); INSERT INTO events VALUES (1)";
        Connection::open(directory.path().join(FILE)).unwrap().execute_batch(tables).unwrap();
        directory
    }

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_link_that_was_laid_for_it_is_not_followed() {
        let (bus, to) = (bus(), tempfile::tempdir().unwrap());
        let [copy, precious] = ["copy.db", "precious"].map(|name| to.path().join(name));
        fs::write(&precious, "somebody's").unwrap();
        symlink(&precious, to.path().join("copy.db.partial")).unwrap();
        assert_eq!(backup(bus.path(), &copy).unwrap().events, 1);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "somebody's");
        assert!(!copy.symlink_metadata().unwrap().is_symlink());

        let nowhere = to.path().join("nowhere.db");
        symlink(to.path().join("gone"), &nowhere).unwrap();
        let error = backup(bus.path(), &nowhere).unwrap_err();
        assert!(error.to_string().contains("it is there already"), "{error}");
        assert!(nowhere.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn of_several_at_once_one_is_the_copy_and_the_others_say_so() {
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
