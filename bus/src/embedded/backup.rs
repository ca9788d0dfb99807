//! A copy of the embedded bus, taken while it works.
//!
//! `VACUUM INTO` reads one snapshot in one transaction, so the copy holds everything that was committed before it began
//! and nothing by halves. SQLite's backup interface would begin anew whenever another process writes, and under load it
//! would not come to an end.

use super::FILE;
use rusqlite::{Connection, OpenFlags};
use std::{
    error::Error,
    fmt::Display,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
/// Why there is no copy: names the file, and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(String);

/// How long a process that is just beginning its log anew may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
    if to.exists() {
        return Err(cannot("write", to, &"it is there already, and a backup replaces nothing: name another"));
    }
    let source = open(&file).map_err(|error| cannot("read", &file, &error))?;
    let partial = beside(to, ".partial");
    copy(&source, &partial).and_then(|saved| keep(&partial, to).map(|()| saved)).map_err(|why| {
        // Whatever there is of it is worth nothing.
        let _ = fs::remove_file(&partial);
        cannot("back up the bus into", to, &why)
    })
}

/// For reading; as a writer because only one may look into the log of a process that was killed.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(PATIENCE)?;
    Ok(source)
}

fn copy(source: &Connection, to: &Path) -> Result<Backup, Box<dyn Error>> {
    // SQLite takes an empty file as if there were none, and this one has its permissions already.
    let file = private(to)?;
    source.execute("VACUUM INTO ?1", [to.to_str().ok_or("the path is not UTF-8")?])?;
    let copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sound: String = copy.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if sound != "ok" {
        return Err(format!("the copy is damaged, and so may be what it was made from: {sound}").into());
    }
    let count = |table: &str| copy.query_row(&format!("SELECT COUNT(*) FROM {table}"), (), |row| row.get(0));
    let (events, waiting) = (count("events")?, count("deliveries")?);
    file.sync_all()?;
    Ok(Backup { events, waiting, bytes: file.metadata()?.len() })
}

/// Gives it its name, durably.
fn keep(partial: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::rename(partial, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

#[cfg(unix)]
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).open(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
