//! Files in an object store of JetStream, whose layout is NATS' own (ADR-20), so that its tools read them too.
//!
//! A file is put under a temporary name, and gets its own by a change of its description alone. Unfinished ones are removed.

use super::connection::Connection;
use crate::{Error, files::OpenFile};
use async_nats::jetstream::{
    object_store::{
        Config, DeleteErrorKind, GetErrorKind, Object, ObjectMetadata, ObjectStore, UpdateMetadata,
        UpdateMetadataErrorKind,
    },
    stream::StorageType,
};
use bytes::Bytes;
use std::{
    fmt::Display,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, copy, duplex, sink},
    sync::oneshot,
    task::JoinHandle,
    time::{Sleep, sleep},
};

/// The bytes that wait to be sent to the server.
const BUFFER: usize = 512 * 1024;

/// How long the next bytes of a file may take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The files that are kept.
#[derive(Clone)]
pub struct Files {
    connection: Connection,
    replicas: usize,
    retention: Duration,
}

/// A file that is being written.
pub struct NewFile {
    bytes: DuplexStream,
    /// Dropped, it says that the file is not finished.
    finish: oneshot::Sender<()>,
    putting: JoinHandle<Result<(), Error>>,
}

impl Files {
    pub(super) fn new(connection: &Connection, replicas: usize, retention: Duration) -> Self {
        Self { connection: connection.clone(), replicas, retention }
    }

    fn failed(&self, what: &str, name: &str, error: &dyn Display) -> Error {
        let store = self.connection.names.media();
        self.connection
            .error(&format_args!("cannot {what} the file {name} in the object store {store}"), error)
    }

    /// The store, which is created if it is missing. Of an existing one only the age is changed.
    async fn store(&self) -> Result<ObjectStore, Error> {
        self.connection.is_connected()?;
        let (jetstream, name) = (&self.connection.jetstream, self.connection.names.media());
        let what = format!("cannot set up the object store {name}, see docs/nats.md#kept-files");
        let failed = |error: &dyn Display| self.connection.error(&what, error);
        let wanted = Config {
            bucket: name.clone(),
            description: Some("Files of completed jobs".into()),
            max_age: self.retention,
            max_bytes: -1,
            storage: StorageType::File,
            num_replicas: self.replicas,
            ..Config::default()
        };
        let Ok(stream) = jetstream.get_stream(format!("OBJ_{name}")).await else {
            return jetstream.create_object_store(wanted).await.map_err(|error| failed(&error));
        };
        let found = &stream.cached_info().config;
        if found.max_age != self.retention {
            let updated = async_nats::jetstream::stream::Config { max_age: self.retention, ..found.clone() };
            jetstream.update_stream(updated).await.map_err(|error| failed(&error))?;
        }
        jetstream.get_object_store(name).await.map_err(|error| failed(&error))
    }

    pub(crate) async fn create(&self, name: &str) -> Result<NewFile, Error> {
        let store = self.store().await?;
        let (bytes, reader) = duplex(BUFFER);
        let (finish, finished) = oneshot::channel();
        let putting = tokio::spawn(self.clone().put(store, name.to_owned(), reader, finished));
        Ok(NewFile { bytes, finish, putting })
    }

    async fn put(
        self,
        store: ObjectStore,
        name: String,
        mut bytes: DuplexStream,
        finished: oneshot::Receiver<()>,
    ) -> Result<(), Error> {
        let unfinished = format!("unfinished-{:016x}", rand::random::<u64>());
        let metadata = ObjectMetadata { name: unfinished.clone(), ..ObjectMetadata::default() };
        let put = store.put(metadata, &mut bytes).await;
        drop(bytes);
        let finished = finished.await.is_ok();
        put.map_err(|error| self.failed("write", &name, &error))?;
        if !finished {
            return self.delete(&store, &unfinished).await;
        }
        let named = UpdateMetadata { name: name.clone(), ..UpdateMetadata::default() };
        match store.update_metadata(&unfinished, named).await {
            Ok(_) => Ok(()),
            // Another ingress was faster, or the one before was removed and its name is not free yet.
            Err(error) if error.kind() == UpdateMetadataErrorKind::NameAlreadyInUse => {
                self.delete(&store, &unfinished).await?;
                let is_there = self.open(&name, 0).await?.is_some();
                if is_there { Ok(()) } else { Err(self.failed("name", &name, &error)) }
            }
            Err(error) => Err(self.failed("name", &name, &error)),
        }
    }

    pub(crate) async fn open(&self, name: &str, from: u64) -> Result<Option<OpenFile>, Error> {
        let object = match self.store().await?.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", name, &error)),
        };
        let size = object.info().size as u64;
        let mut object = Timed { object, idle: None };
        // The store gives a file from its beginning alone.
        copy(&mut (&mut object).take(from), &mut sink())
            .await
            .map_err(|error| self.failed("read", name, &error))?;
        Ok(Some(OpenFile { size, bytes: Box::pin(object) }))
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let store = self.store().await?;
        self.delete(&store, name).await
    }

    async fn delete(&self, store: &ObjectStore, name: &str) -> Result<(), Error> {
        match store.delete(name).await {
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            deleted => deleted.map_err(|error| self.failed("remove", name, &error)),
        }
    }
}

/// An object whose next bytes come within a time. The client waits for ever for chunks that are gone.
struct Timed {
    object: Object,
    idle: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.object).poll_read(cx, buffer) {
            self.idle = None;
            return Poll::Ready(read);
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_TIMEOUT)));
        ready!(idle.as_mut().poll(cx));
        let why = format!("nothing came from the object store for {IDLE_TIMEOUT:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl NewFile {
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        // It fails if the server does not take the bytes, and then `finish` says why.
        let written = self.bytes.write_all(&bytes).await;
        if written.is_err() && self.putting.is_finished() {
            let why = (&mut self.putting).await;
            why.unwrap_or_else(|error| Err(Error::new(error)))?;
        }
        written.map_err(|error| Error::new(format_args!("cannot write a file to NATS: {error}")))
    }

    pub(crate) async fn finish(self) -> Result<(), Error> {
        let Self { mut bytes, finish, putting } = self;
        let _ = finish.send(());
        let closed = bytes.shutdown().await;
        drop(bytes);
        putting.await.unwrap_or_else(|error| Err(Error::new(error)))?;
        closed.map_err(|error| Error::new(format_args!("cannot write a file to NATS: {error}")))
    }
}
