//! Storing one message in a stream, and the meaning of the server's answer.

use super::connection::{ANSWER_DEADLINE, Connection};
use crate::Error;
use async_nats::{
    HeaderMap, Request, RequestErrorKind,
    jetstream::{ErrorCode, publish::PublishAck, response::Response},
};
use bytes::Bytes;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a stream counts as failing after it had no room for a message, or did not answer. The server does not report its
/// free room, and does not answer at all when its disk is full, so only the next message finds out.
const FAILING_TIME: Duration = Duration::from_secs(10);

/// Errors of a server without room: the stream's own limit, the server's, the account's.
const NO_ROOM: [ErrorCode; 3] = [
    ErrorCode::STREAM_STORE_FAILED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
];

/// A message to store.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub subject: String,
    pub headers: HeaderMap,
    pub data: Bytes,
}

/// Why a message is not known to be stored.
#[derive(Clone, Debug)]
pub(super) enum NotStored {
    /// The server refused it.
    Refused(ErrorCode, Error),
    /// There was no answer: it may be stored, now or later, or never.
    Unknown(Error),
}

impl NotStored {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(_, error) | Self::Unknown(error) => error,
        }
    }
}

/// Stores messages in one stream. Clones share its state.
#[derive(Clone)]
pub(super) struct Store {
    pub connection: Connection,
    pub stream: String,
    failing: Arc<Failing>,
}

#[derive(Default)]
struct Failing {
    /// Whether there is a last failure, so that a success costs no lock.
    is_set: AtomicBool,
    last: Mutex<Option<(Instant, Error)>>,
}

impl Store {
    pub(super) fn new(connection: &Connection, stream: String) -> Self {
        Self { connection: connection.clone(), stream, failing: Arc::default() }
    }

    /// Sends a message and waits until the server has stored it. Returns its sequence.
    pub(super) async fn send(&self, message: Message) -> Result<u64, NotStored> {
        self.connection.is_connected().map_err(NotStored::Unknown)?;
        let request =
            Request::new().headers(message.headers).payload(message.data).timeout(Some(ANSWER_DEADLINE));
        let answer = self.connection.client.send_request(message.subject, request);
        let answer = self.connection.unless_lost(answer).await.map_err(NotStored::Unknown)?;
        let answer = answer.map_err(|error| {
            let why = self.error(&error);
            // Without a stream there are no responders, which is another fault.
            if error.kind() == RequestErrorKind::TimedOut {
                self.fails(Error::new(format_args!(
                    "{}; the server's log says why, such as `no space left on device`, after which it needs a restart",
                    why.reason
                )));
            }
            NotStored::Unknown(why)
        })?;
        match read(&answer.payload) {
            Ok(Ok(ack)) => {
                self.works();
                Ok(ack.sequence)
            }
            Ok(Err(error)) => {
                if NO_ROOM.contains(&error.error_code()) {
                    let stream = &self.stream;
                    self.fails(Error::new(format_args!(
                        "the stream {stream} is full, or its server: {error}"
                    )));
                }
                Err(NotStored::Refused(error.error_code(), self.error(&error)))
            }
            Err(error) => Err(NotStored::Unknown(self.error(&error))),
        }
    }

    pub(super) fn error(&self, why: &dyn std::fmt::Display) -> Error {
        self.connection.error(&format_args!("NATS did not store a message in {}", self.stream), why)
    }

    /// Fails for [`FAILING_TIME`] after a message found no room, or had no answer.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &*self.failing.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, why)) if at.elapsed() < FAILING_TIME => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn fails(&self, why: Error) {
        *self.failing.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why));
        self.failing.is_set.store(true, Ordering::Relaxed);
    }

    fn works(&self) {
        if self.failing.is_set.swap(false, Ordering::Relaxed) {
            self.failing.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

/// Decodes an answer. The answer of an error has a sequence of 0, so only a larger one is an acknowledgement.
fn read(answer: &[u8]) -> Result<Result<PublishAck, async_nats::jetstream::Error>, serde_json::Error> {
    // Much cheaper than decoding the enum, and right for nearly every answer.
    if let Ok(ack) = serde_json::from_slice::<PublishAck>(answer)
        && ack.sequence > 0
    {
        return Ok(Ok(ack));
    }
    Ok(match serde_json::from_slice(answer)? {
        Response::Ok(ack) => Ok(ack),
        Response::Err { error } => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_acknowledgement_though_it_looks_like_one() {
        let stored = read(br#"{"stream":"s","seq":7}"#).unwrap().unwrap();
        assert_eq!((stored.sequence, stored.duplicate), (7, false));
        assert!(read(br#"{"stream":"s","seq":7,"duplicate":true}"#).unwrap().unwrap().duplicate);
        let error = br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"s","seq":0}"#;
        let error = read(error).unwrap().unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::STREAM_WRONG_LAST_SEQUENCE);
        assert!(read(b"no").is_err());
    }
}
