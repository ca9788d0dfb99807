//! Appending to the journal: operations that gather while commits are on their way become the next one.
//!
//! A commit that was not acknowledged is sent again under the same message id until it is, so it stands in the journal
//! once; nobody who waits for it is told anything before that.

use super::{
    connection::{ANSWER_DEADLINE, Connection},
    names::{EXPECTED_LAST_SUBJECT_SEQUENCE, MESSAGE_ID},
};
use crate::Error;
use async_nats::{
    HeaderMap,
    jetstream::{ErrorCode, publish::PublishAck, response::Response},
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use talaria_proto::v1::{Commit, Operation, operation::What};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A commit of several operations has no more bytes than this; a single one may be larger.
const LARGEST_COMMIT: usize = 512 * 1024;

/// Operations that may wait; who comes after that waits outside.
const QUEUE: usize = 4096;

/// The pause before a commit is sent again.
const PAUSE: Duration = Duration::from_millis(200);

/// Commits on their way at once. More would be smaller ones.
const IN_FLIGHT: usize = 4;

/// So many tries have one line in the log.
pub(super) const TRIES_A_LINE: u32 = 25;

struct Waiting {
    operation: Operation,
    size: usize,
    reply: oneshot::Sender<u64>,
}

/// Appends commits on one subject, a few at a time. Two that are on their way together may come in either order, which
/// matters to nobody: whoever appends something that depends on what he appended before waits for that first.
pub(super) struct Appender {
    inbox: mpsc::Sender<Waiting>,
    connection: Connection,
}

impl Appender {
    pub(super) fn start(connection: &Connection, subject: String) -> Self {
        let (inbox, waiting) = mpsc::channel(QUEUE);
        // Ends when the appender is gone.
        tokio::spawn(work(connection.clone(), subject, waiting));
        Self { inbox, connection: connection.clone() }
    }

    /// Returns the commit's place once it is durable.
    pub(super) async fn append(&self, what: What) -> Result<u64, Error> {
        let operation = Operation { what: Some(what) };
        let (size, limit) = (operation.encoded_len(), self.connection.largest_data());
        if size > limit {
            return Err(Error::too_large(size, limit));
        }
        let stopped = || Error::new("the bus has stopped");
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Waiting { operation, size, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

async fn work(connection: Connection, subject: String, mut inbox: mpsc::Receiver<Waiting>) {
    let flights = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut left_over = None;
    loop {
        // Never closed. What comes meanwhile goes together.
        let Ok(flight) = Arc::clone(&flights).acquire_owned().await else { return };
        let Some(first) = (match left_over.take() {
            None => inbox.recv().await,
            first => first,
        }) else {
            return;
        };
        let mut size = first.size;
        let (mut operations, mut replies) = (vec![first.operation], vec![first.reply]);
        while let Ok(next) = inbox.try_recv() {
            size += next.size;
            if size > LARGEST_COMMIT {
                left_over = Some(next);
                break;
            }
            operations.push(next.operation);
            replies.push(next.reply);
        }
        let commit = Pending::new(&Commit { operations });
        let (connection, subject) = (connection.clone(), subject.clone());
        tokio::spawn(async move {
            send_until_it_is_there(&connection, &subject, &commit, replies).await;
            drop(flight);
        });
    }
}

async fn send_until_it_is_there(
    connection: &Connection,
    subject: &str,
    commit: &Pending,
    replies: Vec<oneshot::Sender<u64>>,
) {
    let mut tries = 0;
    // When nobody waits any more nobody was told that it was done.
    while replies.iter().any(|reply| !reply.is_closed()) {
        match commit.send(connection, subject, None).await {
            Ok(seq) => {
                for reply in replies {
                    let _ = reply.send(seq);
                }
                return;
            }
            Err(error) => {
                if tries % TRIES_A_LINE == 0 {
                    tracing::warn!(%error, tries, "cannot append to the journal; trying again");
                }
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A commit that is to be sent until it is acknowledged.
pub(super) struct Pending {
    id: String,
    data: bytes::Bytes,
}

impl Pending {
    pub(super) fn new(commit: &Commit) -> Self {
        // 128 random bits: nobody else has them.
        Self { id: format!("{:032x}", rand::random::<u128>()), data: commit.encode_to_vec().into() }
    }

    /// Sends it; `after` is the place that the subject's last message must have, 0 for none.
    pub(super) async fn send(
        &self,
        connection: &Connection,
        subject: &str,
        after: Option<u64>,
    ) -> Result<u64, NotAppended> {
        connection.is_connected().map_err(NotAppended::Failed)?;
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, self.id.as_str());
        if let Some(after) = after {
            headers.insert(EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string());
        }
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(self.data.clone())
            .timeout(Some(ANSWER_DEADLINE));
        let failed = |error: &dyn std::fmt::Display| {
            NotAppended::Failed(connection.error("NATS did not append to the journal", error))
        };
        let answer = connection.client.send_request(subject.to_owned(), request).await;
        let answer = answer.map_err(|error| failed(&error))?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error })
                if matches!(
                    error.error_code(),
                    ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
                ) =>
            {
                Err(NotAppended::Overtaken)
            }
            Ok(Response::Err { error }) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Why a commit is not known to be in the journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAppended {
    /// Another one came before it, and it is not there.
    #[error("another relay came first")]
    Overtaken,
    /// It may be there or not.
    #[error(transparent)]
    Failed(Error),
}
