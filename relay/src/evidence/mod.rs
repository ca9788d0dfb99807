//! The evidence of attempts: each request as it went out, and its answer, in a SQLite file beside the view, for `relay.evidence`.
//!
//! It is no account: nothing is decided by it, the journal has none of it, and it stays with the relay that made the attempt. So the
//! delivery path never waits for it. An attempt that finds no room in the queue is counted and has no evidence.
//!
//! - [`writer`]: the thread that masks, compresses and writes. [`file`](mod@file): the file.
//! - [`decisions::evidence`](crate::decisions::evidence): the kept part of an attempt.

mod file;
#[cfg(test)]
mod tests;
mod writer;

use crate::{clock::Clock, decisions::evidence::Observed};
use metrics::counter;
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};
use talaria_bus::sqlite;
use talaria_core::{config::Config, time::before};
use talaria_proto::v1::AttemptEvidence;
use tokio::sync::{oneshot, watch};
use writer::{Order, Work, Writer};

/// The file in the data directory.
const FILE: &str = "evidence.db";

/// The most attempts that wait to be written, and their bytes.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 32 << 20;

/// The pause after an order to the writer that found no room in the queue.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Clones share the queue. The writer ends when all of them are gone.
#[derive(Clone)]
pub(crate) struct Evidence {
    config: watch::Receiver<Arc<Config>>,
    file: Arc<Path>,
    queue: SyncSender<Work>,
    /// The bytes of the attempts in the queue.
    waiting: Arc<AtomicUsize>,
}

impl Evidence {
    /// Starts the writer. Removes the file if no evidence is to be kept.
    pub(crate) fn start(directory: &Path, config: watch::Receiver<Arc<Config>>) -> io::Result<Self> {
        let file: Arc<Path> = directory.join(FILE).into();
        let is_kept = config.borrow().relay.evidence.is_some();
        if !is_kept {
            file::remove(&file);
        }
        let waiting = Arc::default();
        let writer = Writer::new(Arc::clone(&file), Arc::clone(&waiting), is_kept);
        let queue = writer.start(QUEUE)?;
        Ok(Self { config, file, queue, waiting })
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.config.borrow().relay.evidence.is_some()
    }

    /// Keeps an attempt, unless too many wait to be written. Never blocks.
    pub(crate) fn keep(&self, observed: Observed) {
        if !self.is_kept() {
            return;
        }
        let size = observed.size();
        let fits = self.waiting.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES;
        if !fits || self.queue.try_send(Work::Write(Box::new(observed))).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            counter!("talaria_evidence_dropped_total").increment(1);
        }
    }

    /// The evidence of a delivery's attempts that this relay has, newest first; of one attempt, unless that is 0.
    pub(crate) async fn read(
        &self,
        delivery: &str,
        attempt: u32,
        sees: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Vec<AttemptEvidence>, sqlite::Error> {
        self.written().await;
        let (file, delivery) = (Arc::clone(&self.file), delivery.to_owned());
        let read = tokio::task::spawn_blocking(move || file::read(&file, &delivery, attempt, &sees)).await;
        Ok(read.map_err(|_| sqlite::Error::Stopped)??)
    }

    /// Returns once everything in the queue is written, as far as that is possible.
    pub(crate) async fn written(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.try_send(Work::Order(Order::Reply(reply))).is_ok() {
            let _ = done.await;
        }
    }

    /// Has the writer remove old evidence, or all of it if evidence is not kept any more.
    pub(crate) async fn retain(self, clock: Clock) {
        let mut config = self.config.clone();
        loop {
            let kept = kept_for(&config.borrow_and_update());
            let order = kept.map_or(Order::RemoveAll, |kept| Order::Remove(before(clock.now(), kept)));
            let pause = match (self.queue.try_send(Work::Order(order)), kept) {
                (Err(_), _) => RETRY_DELAY,
                // Evidence is kept at most a hundredth longer.
                (Ok(()), kept) => (kept.unwrap_or(Duration::MAX) / 100)
                    .clamp(Duration::from_secs(1), Duration::from_secs(600)),
            };
            tokio::select! {
                () = clock.sleep(pause) => {}
                Ok(()) = config.changed() => {}
            }
        }
    }
}

/// Never longer than payloads.
fn kept_for(config: &Config) -> Option<Duration> {
    config.relay.evidence.map(|kept| kept.min(config.retention))
}
