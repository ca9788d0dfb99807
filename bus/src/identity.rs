//! A relay's identity and the lock of its data directory.
//!
//!  1. The file `lock` is locked while a process uses the directory.
//!  2. The file `relay-id` contains the relay's name and the number of its latest run. The number rises with each start. It is
//!     at least the time in microseconds, so that two copies of one directory do not start with the same number.

use crate::{Error, private};
use jiff::Timestamp;
use std::{
    fmt::Display,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

const LOCK: &str = "lock";
const RELAY_ID: &str = "relay-id";

/// The identity of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The same after a restart in the same data directory. Valid as a token of a NATS subject.
    pub relay: String,
    /// The number of this run; larger with each start.
    pub run: u64,
}

fn cannot(action: &str, path: &Path, why: &dyn Display) -> Error {
    Error::new(format_args!("cannot {action} {}: {why}", path.display()))
}

/// Creates the directory if it is missing, locks it, and begins a run. The lock ends when the file is dropped.
pub(crate) fn open(directory: &Path) -> Result<(Identity, File), Error> {
    let lock = lock(directory)?;
    let identity = match read(&directory.join(RELAY_ID))? {
        Some(Identity { relay, run }) => Identity { relay, run: next_run(run) },
        None => Identity { relay: format!("relay-{:08x}", rand::random::<u32>()), run: next_run(0) },
    };
    write(directory, &identity).map_err(|error| cannot("write relay-id in", directory, &error))?;
    Ok((identity, lock))
}

/// Creates the directory if it is missing and locks it. The lock ends when the file is dropped.
pub(crate) fn lock(directory: &Path) -> Result<File, Error> {
    private::directory(directory).map_err(|error| cannot("create", directory, &error))?;
    let lock = private::file(&directory.join(LOCK)).map_err(|error| cannot("write in", directory, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(cannot("use", directory, &"another Talaria is running in this data directory"))
        }
        Err(TryLockError::Error(error)) => Err(cannot("lock", directory, &error)),
    }
}

/// Whether a process uses the directory; false too if its file `lock` is missing or cannot be opened. Changes nothing.
pub(crate) fn is_locked(directory: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(directory.join(LOCK));
    // Released at once, or a process that starts meanwhile might find it locked.
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

fn next_run(last: u64) -> u64 {
    let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
    now.max(last.saturating_add(1))
}

fn read(file: &Path) -> Result<Option<Identity>, Error> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("read", file, &error)),
    };
    parse(&text).map(Some).ok_or_else(|| {
        let file = file.display();
        Error::new(format_args!(
            "the file {file} is damaged; delete that file: the relay only gets a new name"
        ))
    })
}

fn parse(text: &str) -> Option<Identity> {
    let (relay, run) = text.trim_end().split_once(' ')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_name = (1..=64).contains(&relay.len()) && relay.bytes().all(fits);
    Some(Identity { relay: is_name.then(|| relay.to_owned())?, run: run.parse().ok()? })
}

/// Replaces the file atomically.
fn write(directory: &Path, identity: &Identity) -> io::Result<()> {
    // Readable by the file's owner alone.
    let mut file = tempfile::Builder::new().prefix(RELAY_ID).tempfile_in(directory)?;
    writeln!(file, "{} {}", identity.relay, identity.run)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(RELAY_ID))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_and_the_run_rises() {
        let directory = tempfile::tempdir().unwrap();
        let (first, lock) = open(directory.path()).unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("another Talaria is running in this data directory"), "{error}");
        drop(lock);
        let (second, lock) = open(directory.path()).unwrap();
        assert_eq!(first.relay, second.relay);
        assert!(second.run > first.run);
        drop(lock);

        // The clock was far ahead in the previous run.
        let ahead = u64::MAX / 2;
        write(directory.path(), &Identity { run: ahead, ..first }).unwrap();
        assert_eq!(open(directory.path()).unwrap().0.run, ahead + 1);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "relay-1", "relay.1 2", "relay-1 x", " 7"] {
            fs::write(directory.path().join(RELAY_ID), text).unwrap();
            let error = open(directory.path()).unwrap_err().to_string();
            assert!(error.contains("/relay-id is damaged; delete that file"), "{text:?}: {error}");
        }
        fs::remove_file(directory.path().join(RELAY_ID)).unwrap();
        open(directory.path()).unwrap();
    }
}
