//! Files of completed jobs. Each appears whole under its name, or not at all. See invariant 15.

use crate::{Error, dispatch, embedded, nats};
use bytes::Bytes;
use std::pin::Pin;
use tokio::io::AsyncRead;

/// The files that are kept. Clones share them.
#[derive(Clone)]
pub enum Files {
    /// In a directory beside the bus.
    Embedded(embedded::Files),
    /// In an object store of JetStream.
    Nats(Box<nats::Files>),
}

/// A file that is being written. It is gone if it is dropped before it is finished.
pub enum NewFile {
    /// A temporary file.
    Embedded(embedded::NewFile),
    /// An object with a temporary name.
    Nats(nats::NewFile),
}

/// A file that is read from its beginning.
pub struct OpenFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes.
    pub bytes: Pin<Box<dyn AsyncRead + Send>>,
}

impl Files {
    /// Begins a file under a name of letters, digits and `-`.
    pub async fn create(&self, name: &str) -> Result<NewFile, Error> {
        match self {
            Self::Embedded(files) => files.create(name).await.map(NewFile::Embedded),
            Self::Nats(files) => files.create(name).await.map(NewFile::Nats),
        }
    }

    /// Opens the file of this name at a position; `None` if there is none.
    pub async fn open(&self, name: &str, from: u64) -> Result<Option<OpenFile>, Error> {
        dispatch!(self, files => files.open(name, from).await)
    }

    /// Removes the file of this name, if there is one.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        dispatch!(self, files => files.remove(name).await)
    }
}

impl NewFile {
    /// Adds bytes at the end.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        dispatch!(self, file => file.write(bytes).await)
    }

    /// Makes it durable, and gives it its name. A file that has the name already is as good.
    pub async fn finish(self) -> Result<(), Error> {
        dispatch!(self, file => file.finish().await)
    }
}
