//! Files in a directory of the data directory. Unfinished files have other names, and are removed at the next start.

use crate::{Error, files::OpenFile, private};
use bytes::Bytes;
use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempPath;
use tokio::{
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    task::spawn_blocking,
};

/// The directory in the data directory.
const DIRECTORY: &str = "media";

/// What the names of unfinished files begin with.
const UNFINISHED: &str = ".unfinished-";

/// Bytes on the disk that files leave free: a full one would stop the bus beside them.
const LEFT_FREE: u64 = 512 << 20;

/// After how many bytes the room on the disk is looked at again.
const LOOKS_AFTER: usize = 64 << 20;

fn has_room(path: &Path) -> io::Result<()> {
    let disk = rustix::fs::statvfs(path)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < LEFT_FREE {
        return Err(io::Error::other("less than 512 MiB are free on the disk, which are left to the bus"));
    }
    Ok(())
}

/// The files that are kept.
#[derive(Clone)]
pub struct Files {
    directory: Arc<Path>,
}

/// A file that is being written.
pub struct NewFile {
    file: tokio::fs::File,
    unfinished: TempPath,
    name: PathBuf,
    /// Bytes that were written since the room on the disk was looked at.
    unlooked: usize,
}

impl Files {
    /// Removes unfinished files.
    pub(super) fn new(data_directory: &Path) -> Self {
        let directory = data_directory.join(DIRECTORY);
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, "an unfinished file stays in {}", directory.display());
            }
        }
        Self { directory: directory.into() }
    }

    fn failed(&self, what: &str, name: &str, error: &dyn Display) -> Error {
        Error::new(format_args!("cannot {what} the file {}: {error}", self.directory.join(name).display()))
    }

    pub(crate) async fn create(&self, name: &str) -> Result<NewFile, Error> {
        let directory = Arc::clone(&self.directory);
        let begin = move || {
            private::directory(&directory)?;
            has_room(&directory)?;
            tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&directory)
        };
        let begun = spawn_blocking(begin).await.map_err(io::Error::other).flatten();
        let (file, unfinished) = begun.map_err(|error| self.failed("begin", name, &error))?.into_parts();
        Ok(NewFile { file: file.into(), unfinished, name: self.directory.join(name), unlooked: 0 })
    }

    pub(crate) async fn open(&self, name: &str, from: u64) -> Result<Option<OpenFile>, Error> {
        let opened = async {
            let mut file = tokio::fs::File::open(self.directory.join(name)).await?;
            let size = file.metadata().await?.len();
            file.seek(io::SeekFrom::Start(from)).await?;
            Ok(OpenFile { size, bytes: Box::pin(file) })
        };
        match opened.await {
            Ok(file) => Ok(Some(file)),
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", name, &error)),
        }
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        match tokio::fs::remove_file(self.directory.join(name)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", name, &error)),
            _ => Ok(()),
        }
    }
}

impl NewFile {
    fn failed(&self, error: &dyn Display) -> Error {
        Error::new(format_args!("cannot write the file {}: {error}", self.name.display()))
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.unlooked += bytes.len();
        if self.unlooked > LOOKS_AFTER {
            self.unlooked = 0;
            has_room(&self.unfinished).map_err(|error| self.failed(&error))?;
        }
        self.file.write_all(&bytes).await.map_err(|error| self.failed(&error))
    }

    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced.await.map_err(|error| self.failed(&error))?;
        let Self { unfinished, name, .. } = self;
        let target = name.clone();
        let rename = move || {
            unfinished.persist(&target)?;
            target.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
        };
        let renamed = spawn_blocking(rename).await.map_err(io::Error::other).flatten();
        renamed.map_err(|error| Error::new(format_args!("cannot name the file {}: {error}", name.display())))
    }
}
