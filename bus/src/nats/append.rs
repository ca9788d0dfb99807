//! Appending to a partition's journal: one commit is in flight, and expects the one before it to be the partition's last.
//!
//! The server checks the expectation (`Nats-Expected-Last-Subject-Sequence`) when it orders messages, so of two relays that
//! append at most one succeeds. A message id would not help: it makes a repeat look like a success before the
//! expectation is checked. So a commit without an acknowledgement is resolved by reading the partition's last commit from
//! the stream's leader ([`super::resolve`]).

use super::{
    Nats,
    names::{COMMIT, EXPECTED_LAST_SUBJECT_SEQUENCE},
    read,
    resolve::{Answer, End, Verdict, answer, resolve},
    store::{Message, NotStored},
    streams,
};
use crate::{AppendError, Error, Partition};
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use prost::Message as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_proto::v1::Commit;
use talaria_telemetry::LogLimiter;

/// The first pause before a commit is sent again; each pause is twice the one before.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);

const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(2);

/// How often a failing append is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// With replicas, a server that is cut off from the others believes for some 20 s that it still leads, and has old data. So the
/// end of a stream counts as lost only when it is missing for longer.
const LOSS_TIMEOUT: Duration = Duration::from_secs(30);

/// Appends to one partition's journal.
pub struct Journal {
    bus: Nats,
    partition: Partition,
    subject: String,
    /// The partition's last commit that was acknowledged to this writer.
    acknowledged: u64,
    /// The next commit's expectation: the same, or 0 when all of the partition's commits were trimmed.
    expected: u64,
    /// Whether a commit is in flight.
    appending: bool,
}

impl Journal {
    pub(crate) fn new(bus: &Nats, partition: Partition, last: u64) -> Self {
        let subject = bus.connection.names.commits(partition);
        Self { bus: bus.clone(), partition, subject, acknowledged: last, expected: last, appending: false }
    }

    pub(crate) async fn append(&mut self, commit: Arc<Commit>) -> Result<u64, AppendError> {
        let data = Bytes::from(commit.encode_to_vec());
        let too_large = AppendError::TooLarge { size: data.len(), limit: self.bus.largest_commit() };
        if data.len() > self.bus.largest_commit() {
            return Err(too_large);
        }
        debug_assert!(
            !self.appending,
            "one commit is in flight, or was dropped before it was known to be stored"
        );
        self.appending = true;
        // 128 random bits: no other commit has them.
        let number = format!("{:032x}", rand::random::<u128>());
        let mut retries = Retries::new(self.partition);
        let appended = loop {
            let sent = self.send(&number, data.clone()).await;
            match answer(&sent) {
                Answer::Stored(seq) => break Ok(seq),
                Answer::TooLarge => break Err(too_large),
                // Resolved at once: most probably another relay has the partition, or it was trimmed.
                Answer::Unexpected if retries.is_new() => {}
                Answer::Unexpected | Answer::Unknown => retries.pause(&reason(sent)).await,
            }
            match self.resolve(&number, &mut retries).await {
                Verdict::Stored(seq) => break Ok(seq),
                Verdict::SendAgain { expected } => self.expected = expected,
                Verdict::Overtaken => break Err(AppendError::Overtaken),
                Verdict::LostEnd { last } => {
                    break Err(AppendError::LostEnd { last, acknowledged: self.acknowledged });
                }
            }
        };
        self.appending = false;
        if let Ok(seq) = appended {
            retries.log_recovery();
            self.acknowledged = seq;
            self.expected = seq;
        }
        appended
    }

    async fn send(&self, number: &str, data: Bytes) -> Result<u64, NotStored> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(COMMIT), number);
        headers.insert(HeaderName::from_static(EXPECTED_LAST_SUBJECT_SEQUENCE), self.expected.to_string());
        self.bus.journal.send(Message { subject: self.subject.clone(), headers, data }).await
    }

    /// Reads the partition's end until the commit's outcome is known.
    async fn resolve(&self, number: &str, retries: &mut Retries) -> Verdict {
        let mut lost_since = None;
        loop {
            let verdict = match self.end(number).await {
                Ok(end) => resolve(end, self.acknowledged),
                Err(error) => {
                    retries.pause(&error).await;
                    continue;
                }
            };
            let Verdict::LostEnd { last } = verdict else { return verdict };
            let since = *lost_since.get_or_insert_with(Instant::now);
            if self.bus.replicas == 1 || since.elapsed() >= LOSS_TIMEOUT {
                return verdict;
            }
            let acknowledged = self.acknowledged;
            let error =
                Error::new(format!("the journal ends at {last}, and {acknowledged} was acknowledged"));
            retries.pause(&error).await;
        }
    }

    async fn end(&self, number: &str) -> Result<End, Error> {
        let connection = &self.bus.connection;
        let stream = &self.bus.journal.stream;
        match read::last(connection, stream, &self.subject).await? {
            Some(last) if last.headers.get(COMMIT).is_some_and(|found| found.as_str() == number) => {
                Ok(End::Ours(last.sequence))
            }
            Some(last) => Ok(End::Other(last.sequence)),
            None => {
                let info = streams::info(connection, stream).await?;
                Ok(End::None { first_of_stream: info.state.first_sequence })
            }
        }
    }
}

fn reason(sent: Result<u64, NotStored>) -> Error {
    sent.err().map_or_else(|| Error::new("it was stored"), NotStored::into_error)
}

/// The pauses and log lines of a failing append: one line at once, and then few.
struct Retries {
    partition: Partition,
    delay: Duration,
    begin: Option<Instant>,
    logged: Option<Instant>,
}

impl Retries {
    fn new(partition: Partition) -> Self {
        Self { partition, delay: FIRST_RETRY_DELAY, begin: None, logged: None }
    }

    fn is_new(&self) -> bool {
        self.begin.is_none()
    }

    async fn pause(&mut self, error: &Error) {
        // All partitions fail at once.
        static FAILED: LogLimiter = LogLimiter::new();
        let begin = *self.begin.get_or_insert_with(Instant::now);
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            let (partition, seconds) = (self.partition, begin.elapsed().as_secs());
            if let Some(left_out) = FAILED.admit() {
                tracing::warn!(%error, %partition, seconds, left_out, "journal append failed; retrying");
            }
        }
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(LONGEST_RETRY_DELAY);
    }

    fn log_recovery(&self) {
        static RECOVERED: LogLimiter = LogLimiter::new();
        if let Some(begin) = self.begin
            && let Some(left_out) = RECOVERED.admit()
        {
            let (partition, milliseconds) = (self.partition, begin.elapsed().as_millis());
            tracing::info!(%partition, milliseconds, left_out, "journal append works again");
        }
    }
}
