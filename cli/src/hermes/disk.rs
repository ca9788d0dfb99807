//! Files and directories that are written into a Hermes home.
//!
//! The home may be another user's, such as where root installs. A file that is replaced keeps its owner, group and mode, and a new
//! file or directory gets the owner and group of the home, so that Hermes can read it. Where this user must not give them away,
//! they are this user's.

use crate::Failure;
use anyhow::Context as _;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown, lchown},
    path::Path,
    time::{Duration, SystemTime},
};

/// The mode of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    new: u32,
    /// The permissions that a file which is replaced may keep.
    kept: u32,
}

impl Mode {
    /// For everyone to read.
    pub(super) const PUBLIC: Self = Self { new: 0o644, kept: 0o777 };
    /// A configuration, which may have secrets of others.
    pub(super) const CONFIG: Self = Self { new: 0o600, kept: 0o777 };
    /// With secrets. A group keeps its permissions, because Hermes may read the file by it.
    pub(super) const SUBSCRIPTIONS: Self = Self { new: 0o600, kept: 0o770 };
    /// With secrets, for the owner alone.
    pub(super) const PRIVATE: Self = Self { new: 0o600, kept: 0o600 };
}

/// Replaces a file atomically, with a later modification time than `old_time`.
pub(super) fn write(
    home: &Path,
    file: &Path,
    content: &str,
    mode: Mode,
    old_time: Option<SystemTime>,
) -> Result<(), Failure> {
    let attempt = || -> anyhow::Result<()> {
        let directory = file.parent().unwrap_or(Path::new("/"));
        let mut temporary = tempfile::Builder::new().prefix(".talaria.").tempfile_in(directory)?;
        let found = fs::metadata(file).ok();
        let owner = match &found {
            Some(found) => (found.uid(), found.gid()),
            None => owner(home)?,
        };
        let mine = temporary.as_file().metadata()?;
        let is_given = (mine.uid(), mine.gid()) == owner
            || fchown(temporary.as_file(), Some(owner.0), Some(owner.1)).is_ok();
        let mut bits = found.map_or(mode.new, |found| found.mode() & mode.kept);
        if !is_given && mode.kept & 0o004 == 0 {
            // The group would be another one, which must not read secrets.
            bits &= 0o700;
        }
        // After the owner, whose change could reset it.
        temporary.as_file().set_permissions(fs::Permissions::from_mode(bits))?;
        temporary.write_all(content.as_bytes())?;
        if let Some(old) = old_time.filter(|old| *old >= SystemTime::now()) {
            temporary.as_file().set_modified(old + Duration::from_millis(10))?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        Ok(())
    };
    Ok(attempt().with_context(|| format!("cannot write {}", file.display()))?)
}

/// Makes the directories of a file that are missing. Returns them, the outermost first, as paths in the home.
pub(super) fn make_directories(home: &Path, file: &Path) -> Result<Vec<String>, Failure> {
    let missing = |directory: &&Path| directory.starts_with(home) && !directory.exists();
    let mut made: Vec<_> = file.ancestors().skip(1).take_while(missing).collect();
    made.reverse();
    if let Some(last) = made.last() {
        fs::create_dir_all(last).with_context(|| format!("cannot make {}", last.display()))?;
        let (user, group) =
            owner(home).with_context(|| format!("cannot read the owner of {}", home.display()))?;
        for directory in &made {
            // Fails where this user must not give it away.
            let _ = lchown(directory, Some(user), Some(group));
        }
    }
    let relative = |directory: &Path| Some(directory.strip_prefix(home).ok()?.display().to_string());
    Ok(made.into_iter().filter_map(relative).collect())
}

fn owner(home: &Path) -> std::io::Result<(u32, u32)> {
    let home = fs::metadata(home)?;
    Ok((home.uid(), home.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    fn bits(file: &Path) -> u32 {
        fs::metadata(file).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_mode_and_secrets_are_for_no_others() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("f");
        for (mode, new, expected) in [
            (Mode::PUBLIC, 0o644, 0o666),
            (Mode::CONFIG, 0o600, 0o666),
            (Mode::SUBSCRIPTIONS, 0o600, 0o660),
            (Mode::PRIVATE, 0o600, 0o600),
        ] {
            write(home.path(), &file, "a", mode, None).unwrap();
            assert_eq!(bits(&file), new);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
            write(home.path(), &file, "b", mode, None).unwrap();
            assert_eq!((bits(&file), fs::read_to_string(&file).unwrap().as_str()), (expected, "b"));
            fs::remove_file(&file).unwrap();
        }
    }

    /// Only root can give files away; for others this is about files of their own.
    #[test]
    fn files_and_directories_are_of_the_owner_of_the_home() {
        let home = tempfile::tempdir().unwrap();
        let _ = chown(home.path(), Some(12_345), Some(12_346));
        let of_home = owner(home.path()).unwrap();
        let file = home.path().join("a/b/f");
        assert_eq!(make_directories(home.path(), &file).unwrap(), ["a", "a/b"]);
        write(home.path(), &file, "", Mode::PRIVATE, None).unwrap();
        for path in [&home.path().join("a"), &home.path().join("a/b"), &file] {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.gid()), of_home, "{}", path.display());
        }
        // A file of another owner than the home's keeps it.
        let _ = chown(&file, Some(12_347), Some(12_348));
        let before = fs::metadata(&file).unwrap();
        write(home.path(), &file, "new", Mode::PRIVATE, None).unwrap();
        let after = fs::metadata(&file).unwrap();
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    }
}
