//! Announcements and questions over core NATS, which stores none of them and may lose any.

use super::{
    connection::{ANSWER_DEADLINE, Connection},
    names::is_token,
};
use crate::{Error, Question, relays};
use async_nats::{Client, Request, RequestErrorKind, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::{collections::BTreeSet, fmt::Display, time::Duration};

pub(super) async fn announce(connection: &Connection, relay: &str, announcement: Bytes) -> Result<(), Error> {
    connection.is_connected()?;
    let sent = connection.client.publish(connection.names.announcement(relay), announcement).await;
    sent.map_err(|error| connection.error(&"cannot announce this relay", &error))
}

pub(super) async fn announcements(connection: &Connection) -> Result<crate::Announcements, Error> {
    let subscriber = subscribe(connection, connection.names.announcements()).await?;
    Ok(crate::Announcements(Announcements(subscriber)))
}

pub(super) async fn announce_refusals(
    connection: &Connection,
    ingress: &str,
    announcement: Bytes,
) -> Result<(), Error> {
    connection.is_connected()?;
    let sent = connection.client.publish(connection.names.refusals(ingress), announcement).await;
    sent.map_err(|error| connection.error(&"cannot announce what was refused", &error))
}

pub(super) async fn refusals(connection: &Connection) -> Result<Announcements, Error> {
    subscribe(connection, connection.names.refusals("*")).await.map(Announcements)
}

pub(super) async fn ask(connection: &Connection, relay: &str, question: Bytes) -> Result<Bytes, Error> {
    if !is_token(relay) {
        return Err(Error::new(format_args!("{relay:?} is not the id of a relay")));
    }
    connection.is_connected()?;
    let request = Request::new().payload(question).timeout(Some(ANSWER_DEADLINE));
    let answer = connection.client.send_request(connection.names.ask(relay), request);
    let answer = connection.unless_lost(answer).await?;
    let failed = |error| connection.error(&format_args!("cannot ask relay {relay}"), &error);
    answer.map(|message| message.payload).map_err(failed)
}

pub(super) async fn questions(connection: &Connection, relay: &str) -> Result<crate::Questions, Error> {
    let subscriber = subscribe(connection, connection.names.ask(relay)).await?;
    Ok(crate::Questions(Questions { subscriber, client: connection.client.clone() }))
}

/// Subscribes, and returns after the server knows the subscription: a message that is sent later is received.
async fn subscribe(connection: &Connection, subject: String) -> Result<Subscriber, Error> {
    connection.is_connected()?;
    let client = &connection.client;
    let subscriber = client.subscribe(subject).await;
    confirmed(connection, subscriber, client.new_inbox()).await
}

/// A subscription that the server knows. `silent` is a subject without a subscriber that this client may publish to.
pub(super) async fn confirmed(
    connection: &Connection,
    subscriber: Result<Subscriber, SubscribeError>,
    silent: String,
) -> Result<Subscriber, Error> {
    let failed = |why: &dyn Display| connection.error(&"cannot listen to the others", why);
    let subscriber = subscriber.map_err(|error| failed(&error))?;
    // The server handles a client's messages in order, and answers this one at once.
    match connection.client.request(silent, Bytes::new()).await {
        Err(error) if error.kind() != RequestErrorKind::NoResponders => Err(failed(&error)),
        _ => Ok(subscriber),
    }
}

/// The announcements of relays, or of ingresses.
pub struct Announcements(Subscriber);

impl Announcements {
    pub(crate) async fn next(&mut self) -> Result<(String, Bytes), Error> {
        let message = self.0.next().await.ok_or_else(ended)?;
        let whose = message.subject.rsplit('.').next().unwrap_or_default();
        Ok((whose.to_owned(), message.payload))
    }
}

/// The questions of relays.
pub struct Questions {
    pub(super) subscriber: Subscriber,
    pub(super) client: Client,
}

impl Questions {
    pub(crate) async fn next(&mut self) -> Result<Question, Error> {
        loop {
            let message = self.subscriber.next().await.ok_or_else(ended)?;
            // Without a reply subject no answer is expected.
            if let Some(to) = message.reply {
                let reply = relays::Reply::Nats(Reply { client: self.client.clone(), to });
                return Ok(Question { question: message.payload, reply });
            }
        }
    }

    /// Unsubscribes. The messages that came already are still there.
    pub(crate) async fn close(&mut self) {
        // It fails without a client, and then there are no messages.
        let _ = self.subscriber.drain().await;
    }
}

fn ended() -> Error {
    Error::new("the subscription at NATS ended")
}

/// The return address of a question.
pub(crate) struct Reply {
    client: Client,
    to: Subject,
}

impl Reply {
    pub(crate) async fn send(self, answer: Bytes) -> Result<(), Error> {
        let sent = self.client.publish(self.to, answer).await;
        sent.map_err(|error| Error::new(format_args!("cannot answer a relay: {error}")))
    }
}

/// How long to listen for relays, which announce themselves once a second.
const LISTENING_TIME: Duration = Duration::from_secs(3);

/// The relays that announce themselves; an error if the connection is lost meanwhile.
pub(super) async fn running(connection: &Connection) -> Result<BTreeSet<String>, Error> {
    let crate::Announcements(mut announcements) = announcements(connection).await?;
    let mut running = BTreeSet::new();
    let listening = async {
        loop {
            match announcements.next().await {
                Ok((relay, _)) => running.insert(relay),
                Err(error) => return error,
            };
        }
    };
    match tokio::time::timeout(LISTENING_TIME, listening).await {
        Ok(error) => Err(error),
        Err(_) => Ok(running),
    }
}
