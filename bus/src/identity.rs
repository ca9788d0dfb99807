//! Which relay this is: a file in its data directory.

use crate::{Error, Identity};
use std::{
    fmt::Display,
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::SystemTime,
};

/// The file: the relay's id and the number of its last run.
const FILE: &str = "relay-id";

/// Keeps a second process out of the directory.
const LOCK: &str = "lock";

/// Locks the directory, which is created if need be, and counts this run of its relay. The lock is held until the file is
/// dropped.
pub(crate) fn open(directory: &Path) -> Result<(Identity, File), Error> {
    let at = |what: &str, why: &dyn Display| {
        Error::new(format_args!("cannot {what} {}: {why}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(|error| at("create", &error))?;
    let lock = File::create(directory.join(LOCK)).map_err(|error| at("write in", &error))?;
    if lock.try_lock().is_err() {
        return Err(at("use", &"another Talaria is running in this data directory; give this one its own"));
    }
    let last = match fs::read_to_string(directory.join(FILE)) {
        Ok(text) => parse(&text).ok_or_else(|| at("use", &format_args!("{FILE} is damaged; remove it")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Identity { relay: format!("{:016x}", rand::random::<u64>()), run: 0 }
        }
        Err(error) => return Err(at(&format!("read {FILE} in"), &error)),
    };
    // The time, so that a directory that was restored from a copy does not repeat a run.
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis());
    let run = u64::try_from(now).unwrap_or_default().max(last.run + 1);
    let identity = Identity { run, ..last };
    write(directory, &identity).map_err(|error| at(&format!("write {FILE} in"), &error))?;
    Ok((identity, lock))
}

fn parse(text: &str) -> Option<Identity> {
    let (relay, run) = text.trim_end().split_once(' ')?;
    let is_id = relay.len() == 16 && relay.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let run = run.parse().ok().filter(|run| *run < u64::MAX)?;
    is_id.then(|| Identity { relay: relay.to_owned(), run })
}

/// Replaces the file as a whole, durably.
fn write(directory: &Path, identity: &Identity) -> std::io::Result<()> {
    let temporary = directory.join(format!("{FILE}.new"));
    let mut file = File::create(&temporary)?;
    writeln!(file, "{} {}", identity.relay, identity.run)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FILE))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_run_rises() {
        let directory = tempfile::tempdir().unwrap();
        let (first, lock) = open(directory.path()).unwrap();
        assert!(open(directory.path()).is_err(), "it is locked");
        drop(lock);
        let (second, lock) = open(directory.path()).unwrap();
        assert_eq!(first.relay, second.relay);
        assert!(first.run < second.run);
        drop(lock);
        fs::remove_file(directory.path().join(FILE)).unwrap();
        let (other, _lock) = open(directory.path()).unwrap();
        assert_ne!(first.relay, other.relay);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "x 1", "0123456789abcdef", "0123456789abcdef -1", "0123456789ABCDEF 1"] {
            fs::write(directory.path().join(FILE), text).unwrap();
            assert!(open(directory.path()).unwrap_err().to_string().contains(FILE), "{text}");
        }
    }
}
