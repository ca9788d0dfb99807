//! The writer thread, with group commit.
//!
//! A caller queues a [`Write`] and waits. The thread applies all queued writes, and those that come meanwhile, in one
//! transaction, commits, and answers all of them. While a commit waits for the disk the next group gathers, so the load decides
//! the size of a group. Callers encode their messages before they queue them.
//!
//! Before it begins, a group waits up to [`GATHERING`] until it has the size of the last one: callers that were answered
//! together are likely to write again together, and two half groups need two fsyncs. After a small group there is no wait, so a
//! bus without load adds no delay.

use super::{Streams, checkpoint::Checkpointer, store::Store};
use crate::{AppendError, Error, Floors, Incoming};
use bytes::Bytes;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use talaria_proto::v1::Commit;
use tokio::sync::{mpsc, oneshot};

/// The most writes in one transaction, so that the first of them does not wait long for the others.
pub(super) const LARGEST_GROUP: usize = 1024;

/// The size of a group from which on the next one is likely to be large, too.
const MANY: usize = 8;

/// Measured with 64 callers that write again as soon as they are answered: a third fewer fsyncs, and a tenth less of CPU time.
const GATHERING: Duration = Duration::from_millis(1);

/// The most queued writes. Further callers wait for room, so memory is bounded.
const QUEUE: usize = 4096;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The column `kind` of a row in `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Kind {
    Event = 0,
    Quarantined = 1,
}

/// A queued write.
pub(super) enum Write {
    /// An entry of the events stream; gets `seq`.
    Store { kind: Kind, received_at: i64, bytes: Vec<u8>, stored: Incoming, seq: u64, reply: Reply<()> },
    /// A commit after `expected`; gets `outcome`.
    Append {
        bytes: Bytes,
        commit: Arc<Commit>,
        expected: u64,
        outcome: Option<Result<u64, AppendError>>,
        reply: Reply<Result<u64, AppendError>>,
    },
    /// One step of trimming; gets `outcome`.
    Trim { floors: Floors, outcome: Trimmed, reply: Reply<Trimmed> },
    /// A health check that writes.
    Check { reply: Reply<()> },
    /// Uses the writer's connection.
    #[cfg(test)]
    Inspect { look: Option<super::tests::Look>, reply: Reply<()> },
}

/// The result of a step of trimming.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trimmed {
    pub(super) events: u64,
    pub(super) commits: u64,
    /// Whether another step is needed.
    pub(super) more: bool,
}

impl Write {
    /// Sends the answer; the caller may be gone.
    fn answer(self, committed: Result<(), Error>) {
        match self {
            Self::Store { reply, .. } | Self::Check { reply } => drop(reply.send(committed)),
            Self::Append { outcome, reply, .. } => {
                let reached = outcome.ok_or_else(|| Error::new("the write was not reached"));
                drop(reply.send(committed.and(reached)));
            }
            Self::Trim { outcome, reply, .. } => drop(reply.send(committed.map(|()| outcome))),
            #[cfg(test)]
            Self::Inspect { reply, .. } => drop(reply.send(committed)),
        }
    }
}

pub(super) struct Writer {
    writes: Option<mpsc::Sender<Write>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        store: Store,
        checkpointer: Checkpointer,
        streams: Arc<Streams>,
    ) -> std::io::Result<Self> {
        let (sender, writes) = mpsc::channel(QUEUE);
        let work = move || write_groups(store, &checkpointer, writes, &streams);
        let thread = thread::Builder::new().name("bus-writer".into()).spawn(work)?;
        Ok(Self { writes: Some(sender), thread: Some(thread) })
    }

    /// Queues a write, and waits for its answer. `None` when the thread has stopped.
    pub(super) async fn write<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Option<Result<T, Error>> {
        let (reply, answer) = oneshot::channel();
        self.writes.as_ref()?.send(write(reply)).await.ok()?;
        answer.await.ok()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.writes.as_ref().map_or(0, |writes| writes.max_capacity() - writes.capacity())
    }
}

impl Drop for Writer {
    /// Finishes the queued writes, then closes the file.
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_groups(
    mut store: Store,
    checkpointer: &Checkpointer,
    mut writes: mpsc::Receiver<Write>,
    streams: &Streams,
) {
    let mut group = Vec::with_capacity(LARGEST_GROUP);
    let mut last_group = 0;
    while let Some(first) = writes.blocking_recv() {
        group.push(first);
        gather(&writes, last_group);
        let committed = store.write(&mut group, || writes.try_recv().ok());
        last_group = group.len();
        if committed.is_ok() {
            streams.publish(&store, &group);
        }
        for write in group.drain(..) {
            write.answer(committed.clone());
        }
        checkpointer.after_commit(&store.connection);
    }
}

fn gather(writes: &mpsc::Receiver<Write>, last_group: usize) {
    let start = Instant::now();
    // Polls, because a wake-up for each write would cost more.
    while last_group >= MANY && writes.len() + 1 < last_group && start.elapsed() < GATHERING {
        thread::sleep(GATHERING / 10);
    }
}

impl Streams {
    /// Publishes the changes of a group to readers. A woken reader finds all of them.
    fn publish(&self, store: &Store, group: &[Write]) {
        let events = group.iter().filter_map(|write| match write {
            Write::Store { seq, stored, bytes, .. } => Some((*seq, stored.clone(), bytes.len())),
            _ => None,
        });
        self.events.advance(store.events, events);
        let commits = group.iter().filter_map(|write| match write {
            Write::Append { outcome: Some(Ok(seq)), commit, bytes, .. } => {
                Some((*seq, Arc::clone(commit), bytes.len()))
            }
            _ => None,
        });
        self.commits.advance(store.commits, commits);
    }
}
