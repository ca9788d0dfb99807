//! Announcements and questions, which are kept nowhere. See invariant 13.

use crate::{Error, dispatch, embedded, nats};
use bytes::Bytes;
use tokio::sync::oneshot;

/// The announcements of relays.
pub struct Announcements(pub(crate) nats::Announcements);

impl Announcements {
    /// The next one: the relay's id, and its message. An error when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<(String, Bytes), Error> {
        self.0.next().await
    }
}

/// The announcements of refusals by ingresses.
pub enum Refusals {
    /// Those of this process.
    Embedded(embedded::Refusals),
    /// Those of all processes.
    Nats(nats::Announcements),
}

impl Refusals {
    /// The next one: the ingress' id, and its message. An error when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<(String, Bytes), Error> {
        dispatch!(self, refusals => refusals.next().await)
    }
}

/// The questions of other relays.
pub struct Questions(pub(crate) nats::Questions);

impl Questions {
    /// The next one. An error when the subscription ended, and a new one is needed.
    pub async fn next(&mut self) -> Result<Question, Error> {
        self.0.next().await
    }
}

/// A question of a relay.
pub struct Question {
    /// The encoded question.
    pub question: Bytes,
    pub(crate) reply: Reply,
}

/// The way back to the asker.
pub(crate) enum Reply {
    Embedded(oneshot::Sender<Option<Bytes>>),
    Nats(nats::Reply),
}

impl Question {
    /// Sends the answer.
    pub async fn answer(self, answer: Bytes) -> Result<(), Error> {
        match self.reply {
            Reply::Embedded(reply) => reply.send(Some(answer)).map_err(|_| Error::new("the asker is gone")),
            Reply::Nats(reply) => reply.send(answer).await,
        }
    }
}
