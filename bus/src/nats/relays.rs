//! Announcements and questions over core NATS, which stores none of them and may lose any.

use super::{
    connection::{ANSWER_DEADLINE, Connection},
    names::is_token,
};
use crate::{Error, Question};
use async_nats::{Client, Request, RequestErrorKind, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::fmt::Display;

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
    let failed = |why: &dyn Display| connection.error(&"cannot listen to the others", why);
    let client = &connection.client;
    let subscriber = client.subscribe(subject).await.map_err(|error| failed(&error))?;
    // The server handles a client's messages in order. The subject has no subscriber, so it answers at once.
    match client.request(client.new_inbox(), Bytes::new()).await {
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

/// The questions of other relays.
pub(crate) struct Questions {
    subscriber: Subscriber,
    client: Client,
}

impl Questions {
    pub(crate) async fn next(&mut self) -> Result<Question, Error> {
        loop {
            let message = self.subscriber.next().await.ok_or_else(ended)?;
            // Without a reply subject no answer is expected.
            if let Some(to) = message.reply {
                let reply = Reply { client: self.client.clone(), to };
                return Ok(Question { question: message.payload, reply });
            }
        }
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
        sent.map_err(|error| Error::new(format_args!("cannot answer another relay: {error}")))
    }
}
