//! The one writer: group commit.
//!
//! Whoever wants to write hands in a piece of work and waits. The thread takes what has gathered, does it in one
//! transaction, commits, and answers everybody. While a commit waits for the disk the next group gathers, so the
//! group is as large as the load asks for and nobody waits when there is none.
//!
//! Callbacks wait for their answer, the relay can wait: every group takes all the urgent work there is, and other
//! work only for [`ORDINARY_SHARE`], so that neither starves the other. Deliveries that are put off wait longest: when a
//! hundred routes' timeouts end in the same moment, what is planned and taken for others does not stand behind them.

use super::{Signals, checkpoint::Checkpointer, store::Store};
use crate::Error;
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// A group is closed at this many pieces of work, so that nobody waits for ever under load.
const LARGEST_GROUP: usize = 1024;

/// How long a group works on ordinary work.
const ORDINARY_SHARE: Duration = Duration::from_millis(1);

/// How long a group waits for as much urgent work as the last one had. Those who were answered together are
/// likely to ask again together, and two half groups cost two fsyncs.
const GATHERING: Duration = Duration::from_micros(500);

/// What may wait in front of the writer. Whoever comes after that waits outside: memory is bounded.
pub(super) const QUEUE: usize = 4096;

/// How soon something has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody outside waits for his answer.
    Urgent,
    /// Only we wait.
    Ordinary,
    /// Nobody waits: it is for later anyway.
    Patient,
}

/// One piece of other work in so many is patient, as long as there is any, so that none waits for ever.
const PATIENT_TURN: usize = 8;

pub(super) struct Writer {
    inbox: Arc<Inbox>,
    thread: Option<thread::JoinHandle<()>>,
    places: Arc<Semaphore>,
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
    _place: OwnedSemaphorePermit,
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

/// What waits for the writer.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Box<dyn Work>>,
    ordinary: VecDeque<Box<dyn Work>>,
    patient: VecDeque<Box<dyn Work>>,
    /// Ordinary pieces since the last patient one.
    ahead: usize,
    closed: bool,
    /// How much urgent work the last group had.
    last_group: usize,
}

impl Waiting {
    fn len(&self) -> usize {
        self.urgent.len() + self.ordinary.len() + self.patient.len()
    }

    /// The next piece of work that is not urgent.
    fn next(&mut self) -> Option<Box<dyn Work>> {
        if self.ahead + 1 < PATIENT_TURN
            && let Some(work) = self.ordinary.pop_front()
        {
            self.ahead += 1;
            return Some(work);
        }
        self.ahead = 0;
        self.patient.pop_front().or_else(|| self.ordinary.pop_front())
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, urgency: Urgency, work: Box<dyn Work>) {
        let mut waiting = self.lock();
        match urgency {
            Urgency::Urgent => waiting.urgent.push_back(work),
            Urgency::Ordinary => waiting.ordinary.push_back(work),
            Urgency::Patient => waiting.patient.push_back(work),
        }
        let first = waiting.len() == 1;
        let enough = first || waiting.urgent.len() >= waiting.last_group;
        drop(waiting);
        if enough {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for work, and takes what is urgent. `None` when there is none and there will be none.
    fn urgent(&self) -> Option<Vec<Box<dyn Work>>> {
        let idle = |waiting: &mut Waiting| waiting.len() == 0 && !waiting.closed;
        let few = |waiting: &mut Waiting| waiting.urgent.len() < waiting.last_group && !waiting.closed;
        let waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        // One alone is not waited for: a quiet bus adds no delay.
        let gathering = if waiting.last_group > 1 { GATHERING } else { Duration::ZERO };
        let (mut waiting, _) =
            self.changed.wait_timeout_while(waiting, gathering, few).unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == 0 {
            return None;
        }
        let group = waiting.urgent.len().min(LARGEST_GROUP);
        waiting.last_group = group;
        Some(waiting.urgent.drain(..group).collect())
    }

    fn next(&self) -> Option<Box<dyn Work>> {
        self.lock().next()
    }
}

impl Writer {
    pub(super) fn start(
        store: Store,
        checkpointer: Checkpointer,
        signals: Arc<Signals>,
    ) -> std::io::Result<Self> {
        let inbox = Arc::<Inbox>::default();
        let work = Arc::clone(&inbox);
        let write = move || write_groups(store, &checkpointer, &work, &signals);
        let thread = thread::Builder::new().name("bus-writer".into()).spawn(write)?;
        Ok(Self { inbox, thread: Some(thread), places: Arc::new(Semaphore::new(QUEUE)) })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        todo: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let stopped = || Error::new("the bus has stopped");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let piece = Piece { todo: Some(todo), done: None, reply, _place: place };
        self.inbox.push(urgency, Box::new(piece));
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
        self.inbox.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_groups(mut store: Store, checkpointer: &Checkpointer, inbox: &Inbox, signals: &Signals) {
    while let Some(mut group) = inbox.urgent() {
        let outcome = write_group(&mut store, &mut group, inbox);
        match &outcome {
            Ok(()) => announce(&mut store, signals),
            Err(error) => tracing::error!(%error, "could not commit {} pieces of work", group.len()),
        }
        for work in group {
            work.answer(outcome.clone());
        }
        checkpointer.after_commit(&store.connection);
    }
}

/// All of the group is committed, or none of it.
fn write_group(store: &mut Store, group: &mut Vec<Box<dyn Work>>, inbox: &Inbox) -> Result<(), Error> {
    let mut attempt = || {
        store.begin()?;
        for work in group.iter_mut() {
            work.run(store)?;
        }
        let start = Instant::now();
        while start.elapsed() < ORDINARY_SHARE
            && group.len() < LARGEST_GROUP
            && let Some(mut work) = inbox.next()
        {
            let done = work.run(store);
            group.push(work);
            done?;
        }
        store.commit()
    };
    attempt().map_err(|error| {
        store.roll_back();
        Error::new(error)
    })
}

fn announce(store: &mut Store, signals: &Signals) {
    // Before the signals: whoever they wake finds it there.
    signals.newest_events.extend(store.new_events.drain(..), store.last_event);
    signals.newest_facts.extend(store.new_facts.drain(..), store.last_fact);
    for (signal, place) in [
        (&signals.events, store.last_event),
        (&signals.planned, store.last_planned),
        (&signals.journal, store.last_fact),
    ] {
        signal.send_if_modified(|announced| mem::replace(announced, place) != place);
    }
    if mem::take(&mut store.queue.changed) {
        signals.deliveries.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says its number when it is answered.
    struct Numbered(u32, Arc<Mutex<Vec<u32>>>);

    impl Work for Numbered {
        fn run(&mut self, _: &mut Store) -> rusqlite::Result<()> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Result<(), Error>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn what_is_for_later_goes_behind_the_rest_and_never_waits_for_ever() {
        let (inbox, order) = (Inbox::default(), Arc::default());
        for number in 0..20 {
            inbox.push(Urgency::Patient, Box::new(Numbered(100 + number, Arc::clone(&order))));
            inbox.push(Urgency::Ordinary, Box::new(Numbered(number, Arc::clone(&order))));
        }
        while let Some(work) = inbox.next() {
            work.answer(Ok(()));
        }
        let order = order.lock().unwrap();
        assert_eq!(order[..10], [0, 1, 2, 3, 4, 5, 6, 100, 7, 8]);
        assert_eq!((order.len(), order[39]), (40, 119), "and when nothing else is there, one after another");
    }
}
