//! Private files: the data directory has payloads, so only its owner can read it.
//!
//! New files are created with these permissions, whatever the umask is, and those of earlier versions get them. A directory of
//! another user, such as the root of a volume in Kubernetes, is left alone: its files are private by themselves.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Suffixes of a SQLite file and of the files that SQLite writes beside it.
pub const SQLITE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Creates a directory and its missing parents, and keeps other users out of it.
pub fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(path)?;
    mend(path);
    Ok(())
}

/// Opens a file for writing, which is created if it is missing, and keeps other users out of it. Its contents stay.
pub fn file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE).open(path)?;
    mend(path);
    Ok(file)
}

/// The same for a SQLite file before SQLite opens it, which then creates the files beside it with the same permissions. SQLite
/// reports a file that cannot be opened.
pub(crate) fn sqlite_file(path: &Path) {
    drop(file(path));
    for suffix in SQLITE_SUFFIXES {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        mend(Path::new(&name));
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes all permissions of other users. A path that is missing or belongs to another user stays as it is.
fn mend(path: &Path) {
    let Ok(found) = fs::metadata(path) else { return };
    let mode = found.permissions().mode();
    if mode & OTHERS == 0 {
        return;
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)) {
        Ok(()) => tracing::info!("others than its owner have no access to {} any more", path.display()),
        Err(_) if found.is_dir() => {}
        Err(error) => {
            tracing::warn!(%error, "others than its owner have access to {}; give it to the user that runs Talaria", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_created_and_what_was_there_can_be_read_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("new/data");
        super::directory(&data).unwrap();
        assert_eq!([mode(&data), mode(&directory.path().join("new"))], [0o700; 2]);
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        super::directory(&data).unwrap();
        assert_eq!(mode(&data), 0o700);

        let old = data.join("old");
        fs::write(&old, "payload").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for path in [&old, &data.join("fresh")] {
            drop(file(path).unwrap());
            assert_eq!(mode(path), 0o600);
        }
        assert_eq!(fs::read_to_string(&old).unwrap(), "payload");
    }

    #[test]
    fn what_sqlite_writes_beside_a_file_is_private_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let beside = |suffix: &str| directory.path().join(format!("a.db{suffix}"));
        let write = || {
            let connection = crate::sqlite::open(&path).unwrap();
            connection.execute_batch("CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (1)").unwrap();
            connection
        };
        let connection = write();
        assert_eq!(SQLITE_SUFFIXES.map(|suffix| mode(&beside(suffix))), [0o600; 3]);
        for suffix in SQLITE_SUFFIXES {
            fs::set_permissions(beside(suffix), Permissions::from_mode(0o644)).unwrap();
        }
        let again = write();
        assert_eq!(SQLITE_SUFFIXES.map(|suffix| mode(&beside(suffix))), [0o600; 3]);
        drop((connection, again));
    }
}
