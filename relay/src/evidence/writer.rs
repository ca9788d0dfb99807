//! The writer: a thread of low priority that masks, compresses and writes the queue.

use super::file::{self, File};
use crate::decisions::evidence::Observed;
use jiff::Timestamp;
use metrics::counter;
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};
use talaria_bus::sqlite;
use talaria_telemetry::LogLimiter;
use tokio::sync::oneshot;

/// As the writer of the view, for the same reason.
const NICENESS: i32 = 5;

/// The time to wait for more attempts. The thread sleeps meanwhile, so that not every attempt wakes it.
const GATHERING: Duration = Duration::from_millis(100);

/// The largest file, in bytes without its log. The oldest evidence is removed for newer one.
const LARGEST_FILE: u64 = 256 << 20;

pub(super) enum Work {
    Write(Box<Observed>),
    Order(Order),
}

pub(super) enum Order {
    /// Removes evidence from before this time.
    Remove(Timestamp),
    /// Removes the file.
    RemoveAll,
    /// Answers when all earlier work is done.
    Reply(oneshot::Sender<()>),
}

pub(super) struct Writer {
    path: Arc<Path>,
    waiting: Arc<AtomicUsize>,
    /// Opened by the next write, if it is not open.
    file: Option<File>,
    /// While a removal is under way.
    remove_before: Option<Timestamp>,
}

impl Writer {
    /// Opens the file, if evidence is kept.
    pub(super) fn new(path: Arc<Path>, waiting: Arc<AtomicUsize>, is_kept: bool) -> Self {
        let mut writer = Self { path, waiting, file: None, remove_before: None };
        if is_kept {
            // The first write tries it again.
            let _ = writer.with_file(|_| Ok(()));
        }
        writer
    }

    /// Starts the thread, with a queue of this length. It ends when the queue has no more senders.
    pub(super) fn start(self, length: usize) -> io::Result<SyncSender<Work>> {
        let (sender, queue) = sync_channel(length);
        let run = move || {
            // Of this thread alone, on Linux.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::nice(NICENESS);
            self.run(&queue);
        };
        thread::Builder::new().name("evidence-writer".into()).spawn(run)?;
        Ok(sender)
    }

    fn run(mut self, queue: &Receiver<Work>) {
        loop {
            let work = if self.remove_before.is_none() {
                queue.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                queue.try_recv()
            };
            match work {
                Ok(Work::Write(first)) => self.write(first, queue),
                Ok(Work::Order(order)) => self.order(order),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            // A step after each batch, so that neither waits for long.
            if let Some(before) = self.remove_before {
                let step = self.with_file(|file| file.remove_some(before));
                if !matches!(step, Ok(false)) {
                    self.remove_before = None;
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Remove(before) => self.remove_before = self.path.exists().then_some(before),
            Order::RemoveAll => {
                (self.file, self.remove_before) = (None, None);
                file::remove(&self.path);
            }
            // The caller may have gone.
            Order::Reply(reply) => drop(reply.send(())),
        }
    }

    /// Writes this attempt and those that follow soon, in one transaction.
    fn write(&mut self, first: Box<Observed>, queue: &Receiver<Work>) {
        thread::sleep(GATHERING);
        let (mut batch, mut then) = (vec![first], None);
        while let Ok(work) = queue.try_recv() {
            match work {
                Work::Write(observed) => batch.push(observed),
                Work::Order(order) => {
                    then = Some(order);
                    break;
                }
            }
        }
        let (count, size) = (batch.len(), batch.iter().map(|observed| observed.size()).sum());
        let written = self.with_file(|file| {
            file.append(batch.into_iter())?;
            while file.size()? > LARGEST_FILE {
                file.remove_oldest()?;
            }
            Ok(())
        });
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        if written.is_err() {
            counter!("talaria_evidence_dropped_total").increment(count as u64);
        }
        if let Some(order) = then {
            self.order(order);
        }
    }

    /// Opens the file if it is not open. After a failure it is opened again, and created again if it is damaged.
    fn with_file<T>(
        &mut self,
        work: impl FnOnce(&mut File) -> rusqlite::Result<T>,
    ) -> Result<T, sqlite::Error> {
        let opened = match &mut self.file {
            Some(file) => Ok(file),
            closed => File::open(&self.path).map(|file| closed.insert(file)),
        };
        let done = opened.and_then(work).map_err(sqlite::Error::from);
        if let Err(error) = &done {
            static FAILED: LogLimiter = LogLimiter::new();
            if let Some(left_out) = FAILED.admit() {
                tracing::warn!(%error, left_out, "evidence write failed");
            }
            self.file = None;
            if error.is_damage() {
                file::remove(&self.path);
            }
        }
        done
    }
}
