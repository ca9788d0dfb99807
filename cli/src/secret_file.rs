//! Files with fresh secrets.

use crate::Failure;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};
use tempfile::NamedTempFile;

/// 256 bits.
const SECRET_BYTES: usize = 32;

/// Creates a file with a fresh secret, as [`create_once`] does. A webhook's secret has the form of Standard Webhooks.
pub(crate) fn create_if_missing(file: &Path, is_webhook: bool) -> Result<bool, Failure> {
    let secret = rand::random::<[u8; SECRET_BYTES]>();
    let text = if is_webhook {
        format!("whsec_{}", BASE64.encode(&secret))
    } else {
        BASE64URL_NOPAD.encode(&secret)
    };
    create_once(file, &text)
}

/// Creates a file with a secret, readable by its owner alone, unless it exists. Returns whether it was created. The file is
/// complete or missing, even if the disk is full, because an existing file is never replaced.
pub(crate) fn create_once(file: &Path, text: &str) -> Result<bool, Failure> {
    if file.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let write = || whole(file, text)?.persist_noclobber(file).map_err(|error| error.error);
    match write() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot_write(file, error)),
    }
}

/// Replaces a file as a whole, unless it holds this text. Returns whether it was written. Readable by its owner alone.
pub(crate) fn replace_if_other(file: &Path, text: &str) -> Result<bool, Failure> {
    if fs::read(file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    let write = || whole(file, text)?.persist(file).map_err(|error| error.error);
    write().map(|_| true).map_err(|error| cannot_write(file, error))
}

/// A file beside this one, with all of the text on the disk.
fn whole(file: &Path, text: &str) -> io::Result<NamedTempFile> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut written = NamedTempFile::new_in(directory)?;
    written.write_all(text.as_bytes())?;
    written.as_file().sync_all()?;
    Ok(written)
}

fn cannot_write(file: &Path, error: io::Error) -> Failure {
    anyhow::Error::from(error).context(format!("cannot write {}", file.display())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt as _, thread};
    use talaria_core::hermes::signature::Scheme;

    #[test]
    fn the_secret_of_a_webhook_is_one_of_standard_webhooks() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ops");
        assert!(create_if_missing(&file, true).unwrap_or_else(|_| panic!()));
        let secret = fs::read_to_string(&file).unwrap();
        assert!(Scheme::STANDARD.check(&secret.into(), &file.display()).is_ok());
    }

    #[test]
    fn a_secret_that_is_visible_is_complete() {
        for _ in 0..100 {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("secrets/acme");
            let write =
                || (create_if_missing(&file, false).unwrap_or_else(|_| panic!()), fs::read(&file).unwrap());
            let found: Vec<(bool, Vec<u8>)> = thread::scope(|scope| {
                let runs: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            assert_eq!(found.iter().filter(|(is_new, _)| *is_new).count(), 1);
            assert!(found.iter().all(|(_, secret)| *secret == found[0].1 && secret.len() == 43), "{found:?}");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(
                fs::read_dir(directory.path().join("secrets")).unwrap().count(),
                1,
                "no temporary file is left"
            );
        }
    }
}
