//! Appending to a partition's journal: one commit under way, which expects the one before it to be the partition's last.
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
use crate::{AppendError, Error, LogLimit, Partition};
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use prost::Message as _;
use std::time::{Duration, Instant};
use talaria_proto::v1::Commit;

/// The first pause before a commit is sent again; each one is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often the log says that a commit is still not appended.
const REMINDER: Duration = Duration::from_secs(60);

/// With replicas, a server that is cut off from the others believes for some 20 s that it still leads, and what it knows
/// is old. So the end of a stream counts as lost when it looks so for longer.
const LOST_FOR_SURE: Duration = Duration::from_secs(30);

/// Appends to one partition's journal.
pub struct Journal {
    bus: Nats,
    partition: Partition,
    subject: String,
    /// The partition's last commit, as far as it is known here.
    acknowledged: u64,
    /// What the next commit expects: the same, or 0 when all of the partition's commits were trimmed.
    expected: u64,
    /// Whether a commit is under way.
    appending: bool,
}

impl Journal {
    pub(crate) fn new(bus: &Nats, partition: Partition, last: u64) -> Self {
        let subject = bus.connection.names.commits(partition);
        Self { bus: bus.clone(), partition, subject, acknowledged: last, expected: last, appending: false }
    }

    pub(crate) async fn append(&mut self, commit: &Commit) -> Result<u64, AppendError> {
        let data = Bytes::from(commit.encode_to_vec());
        let too_large = AppendError::TooLarge { size: data.len(), limit: self.bus.largest_commit() };
        if data.len() > self.bus.largest_commit() {
            return Err(too_large);
        }
        debug_assert!(
            !self.appending,
            "one commit is under way, or was dropped before it was known to be stored"
        );
        self.appending = true;
        // 128 random bits: no other commit has them.
        let number = format!("{:032x}", rand::random::<u128>());
        let mut trouble = Trouble::new(self.partition);
        let appended = loop {
            let sent = self.send(&number, data.clone()).await;
            match answer(&sent) {
                Answer::Stored(seq) => break Ok(seq),
                Answer::TooLarge => break Err(too_large),
                // Resolved at once: most probably another relay has the partition, or it was trimmed.
                Answer::Unexpected if trouble.is_new() => {}
                Answer::Unexpected | Answer::Unknown => trouble.pause(&reason(sent)).await,
            }
            match self.resolve(&number, &mut trouble).await {
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
            trouble.is_over();
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

    /// Reads the partition's end until it says what became of the commit.
    async fn resolve(&self, number: &str, trouble: &mut Trouble) -> Verdict {
        let mut lost_since = None;
        loop {
            let verdict = match self.end(number).await {
                Ok(end) => resolve(end, self.acknowledged),
                Err(error) => {
                    trouble.pause(&error).await;
                    continue;
                }
            };
            let Verdict::LostEnd { last } = verdict else { return verdict };
            let since = *lost_since.get_or_insert_with(Instant::now);
            if self.bus.replicas == 1 || since.elapsed() >= LOST_FOR_SURE {
                return verdict;
            }
            let acknowledged = self.acknowledged;
            let error =
                Error::new(format!("the journal ends at {last}, and {acknowledged} was acknowledged"));
            trouble.pause(&error).await;
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

/// Pauses between tries, and lines in the log: one at once, and then few.
struct Trouble {
    partition: Partition,
    pause: Duration,
    begin: Option<Instant>,
    said: Option<Instant>,
}

impl Trouble {
    fn new(partition: Partition) -> Self {
        Self { partition, pause: FIRST_PAUSE, begin: None, said: None }
    }

    fn is_new(&self) -> bool {
        self.begin.is_none()
    }

    async fn pause(&mut self, error: &Error) {
        // All partitions have the same trouble at once.
        static TROUBLE: LogLimit = LogLimit::new();
        let begin = *self.begin.get_or_insert_with(Instant::now);
        if self.said.is_none_or(|said| said.elapsed() >= REMINDER) {
            self.said = Some(Instant::now());
            let (partition, seconds) = (self.partition, begin.elapsed().as_secs());
            if let Some(left_out) = TROUBLE.admit() {
                tracing::warn!(%error, %partition, seconds, left_out, "cannot append to the journal; trying until it succeeds");
            }
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn is_over(&self) {
        static OVER: LogLimit = LogLimit::new();
        if let Some(begin) = self.begin
            && let Some(left_out) = OVER.admit()
        {
            let (partition, milliseconds) = (self.partition, begin.elapsed().as_millis());
            tracing::info!(%partition, milliseconds, left_out, "the journal takes commits again");
        }
    }
}
