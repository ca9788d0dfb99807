//! The one writer: group commit.
//!
//! A caller hands in a [`Write`] and waits. The thread does all writes that wait, and those that come meanwhile, in one
//! transaction, commits, and answers all of them. While a commit waits for the disk the next group gathers, so a group is as
//! large as the load makes it. Callers encode their messages before they hand them in.
//!
//! Before it begins, a group waits up to [`GATHERING`] for as many writes as the last one had: callers that were answered
//! together are likely to write again together, and two half groups need two fsyncs. After a small group nothing is waited
//! for, so a bus with little to do adds no delay.

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

/// A smaller group says nothing about the next one.
const MANY: usize = 8;

/// Measured with 64 callers that write again as soon as they are answered: a third fewer fsyncs, and a tenth less of CPU time.
const GATHERING: Duration = Duration::from_millis(1);

/// How many writes wait for the thread. Callers beyond that wait outside, so memory is bounded.
const QUEUE: usize = 4096;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The column `kind` of a row in `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Kind {
    Event = 0,
    Quarantined = 1,
}

/// Something to be written.
pub(super) enum Write {
    /// Something that an ingress stored; gets `seq`.
    Store { kind: Kind, received_at: i64, bytes: Vec<u8>, stored: Incoming, seq: u64, reply: Reply<()> },
    /// A commit that is to follow `expected`; gets `outcome`.
    Append {
        bytes: Bytes,
        commit: Arc<Commit>,
        expected: u64,
        outcome: Option<Result<u64, AppendError>>,
        reply: Reply<Result<u64, AppendError>>,
    },
    /// One step of trimming; gets `outcome`.
    Trim { floors: Floors, outcome: Trimmed, reply: Reply<Trimmed> },
    /// Changes nothing, and shows whether writing works.
    Check { reply: Reply<()> },
    /// Uses the writer's connection.
    #[cfg(test)]
    Inspect { look: Option<super::tests::Look>, reply: Reply<()> },
}

/// What a step of trimming removed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trimmed {
    pub(super) events: u64,
    pub(super) commits: u64,
    /// There is more to be removed.
    pub(super) more: bool,
}

impl Write {
    /// The caller may be gone; what was done stays done.
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

    /// Hands in a write, and waits for its answer. `None` when the thread has stopped.
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
    /// Finishes the writes that were handed in, then closes the file.
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
    // Not woken by each write: that would cost more than a few looks.
    while last_group >= MANY && writes.len() + 1 < last_group && start.elapsed() < GATHERING {
        thread::sleep(GATHERING / 10);
    }
}

impl Streams {
    /// Makes readable what a group changed. Readers that are woken find all of it.
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
