//! The one writer: group commit.
//!
//! Whoever wants to write sends a piece of work and waits. The thread takes everything that has gathered, does
//! it in one transaction, commits, and answers everybody. While a commit waits for the disk the next group
//! gathers, so the group is as large as the load asks for and nobody waits when there is none.

use super::{Signals, store::Store};
use crate::Error;
use std::{
    mem,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::oneshot;

/// A group is closed at this many pieces of work, so that nobody waits for ever under load.
const LARGEST_GROUP: usize = 1024;

/// What waits in front of the writer. Senders wait when it is full: memory is bounded.
pub(super) const QUEUE: usize = 4096;

pub(super) struct Writer {
    /// Taken out to end the thread.
    work: Option<mpsc::SyncSender<Box<dyn Work>>>,
    thread: Option<thread::JoinHandle<()>>,
    places: Arc<tokio::sync::Semaphore>,
}

trait Work: Send {
    fn run(&mut self, store: &mut Store) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

/// A piece of work, and then its result.
struct Piece<F, T> {
    todo: Option<F>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
    /// Its place in the queue.
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl<F, T> Work for Piece<F, T>
where
    F: FnOnce(&mut Store) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, store: &mut Store) -> rusqlite::Result<()> {
        if let Some(todo) = self.todo.take() {
            self.done = Some(todo(store)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let answer = match (outcome, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Ok(()), None) => Err(Error::new("the work was not reached")),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone; what was done stays done.
        let _ = self.reply.send(answer);
    }
}

impl Writer {
    pub(super) fn start(store: Store, signals: Arc<Signals>) -> std::io::Result<Self> {
        let (work, inbox) = mpsc::sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("bus-writer".into())
            .spawn(move || write_groups(store, &inbox, &signals))?;
        let places = Arc::new(tokio::sync::Semaphore::new(QUEUE));
        Ok(Self { work: Some(work), thread: Some(thread), places })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        todo: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let stopped = || Error::new("the bus has stopped");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let piece = Piece { todo: Some(todo), done: None, reply, _place: place };
        // The semaphore has as many places as the channel, so this never blocks.
        self.work.as_ref().ok_or_else(stopped)?.send(Box::new(piece)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
impl Writer {
    pub(super) fn free_places(&self) -> usize {
        self.places.available_permits()
    }
}

impl Drop for Writer {
    /// Finishes what was accepted, then closes the file.
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_groups(mut store: Store, inbox: &mpsc::Receiver<Box<dyn Work>>, signals: &Signals) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(LARGEST_GROUP - 1));
        let outcome = write_group(&mut store, &mut group);
        if let Err(error) = &outcome {
            tracing::error!(%error, "could not commit {} pieces of work", group.len());
        }
        if outcome.is_ok() {
            announce(&mut store, signals);
        }
        for work in group {
            work.answer(outcome.clone());
        }
    }
}

/// All of the group is committed, or none of it.
fn write_group(store: &mut Store, group: &mut [Box<dyn Work>]) -> Result<(), Error> {
    let mut attempt = || {
        store.begin()?;
        for work in group.iter_mut() {
            work.run(store)?;
        }
        store.commit()
    };
    attempt().map_err(|error| {
        store.roll_back();
        Error::new(error)
    })
}

fn announce(store: &mut Store, signals: &Signals) {
    for (signal, place) in [
        (&signals.events, store.last_event),
        (&signals.planned, store.last_planned),
        (&signals.journal, store.last_fact),
    ] {
        signal.send_if_modified(|announced| mem::replace(announced, place) != place);
    }
    if mem::take(&mut store.deliveries_changed) {
        signals.deliveries.notify_waiters();
    }
}
