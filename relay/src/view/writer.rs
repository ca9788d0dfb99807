//! The writer: the only connection that writes the view, on its own thread.
//!
//! The thread has a low priority, so that deliveries go first when the processors are busy.

use rusqlite::Connection;
use std::{io, thread};
use talaria_bus::sqlite::Error;
use tokio::sync::{mpsc, oneshot};

/// For `nice`, from 0 to 19. On a busy processor the thread gets about a third of another one's time.
const NICENESS: i32 = 5;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// Clones share the thread. It ends, and closes the file, when all of them are gone.
#[derive(Clone)]
pub(super) struct Writer(mpsc::UnboundedSender<Work>);

impl Writer {
    pub(super) fn start(mut connection: Connection) -> io::Result<Self> {
        let (sender, mut works) = mpsc::unbounded_channel::<Work>();
        let run = move || {
            // Of this thread alone, on Linux. Elsewhere it would be that of the whole process.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::nice(NICENESS);
            while let Some(work) = works.blocking_recv() {
                work(&mut connection);
            }
        };
        thread::Builder::new().name("view-writer".into()).spawn(run)?;
        Ok(Self(sender))
    }

    /// Runs `work` on the thread, after all earlier work.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        // The caller may have gone; the work is done anyway.
        let work: Work = Box::new(move |connection| drop(reply.send(work(connection))));
        let _ = self.0.send(work);
        Ok(answer.await.map_err(|_| Error::Stopped)??)
    }
}
