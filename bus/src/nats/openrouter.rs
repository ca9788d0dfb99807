//! Questions about OpenRouter over core NATS: the server gives each to one ingress of the queue group.

use super::{
    connection::Connection,
    names::INGRESSES,
    relays::{Questions, confirmed},
};
use crate::{AskError, Error, openrouter::DEADLINE};
use async_nats::{Request, RequestErrorKind};
use bytes::Bytes;

pub(super) async fn ask(connection: &Connection, question: Bytes) -> Result<Bytes, AskError> {
    let (size, limit) = (question.len(), connection.largest_data());
    if size > limit {
        return Err(AskError::TooLarge { size, limit });
    }
    connection.is_connected().map_err(|error| AskError::NotSent(error.reason))?;
    let subject = connection.names.openrouter();
    let inbox = connection.names.openrouter_inbox(&number(connection));
    let refused = connection.refused(&subject);
    let request = Request::new().payload(question).inbox(inbox).timeout(Some(DEADLINE));
    let answer = connection.client.send_request(subject.clone(), request);
    let answer = tokio::select! {
        biased;
        answer = connection.unless_lost(answer) => answer.map_err(|error| AskError::no_answer(error.reason))?,
        error = refused => {
            return Err(AskError::NotSent(format!("{error}; see docs/nats.md#permissions")));
        }
    };
    answer.map(|message| message.payload).map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => AskError::NoIngress {
            detail: format!(
                "on {subject}: an ingress does whose configuration has an openrouter.api_key, and which may subscribe there"
            ),
        },
        RequestErrorKind::TimedOut => AskError::timed_out(),
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
            AskError::NotSent(error.to_string())
        }
        RequestErrorKind::Other => AskError::no_answer(error),
    })
}

pub(super) async fn questions(connection: &Connection) -> Result<Questions, Error> {
    connection.is_connected()?;
    let client = &connection.client;
    let subscriber = client.queue_subscribe(connection.names.openrouter(), INGRESSES.to_owned()).await;
    let silent = connection.names.openrouter_inbox(&number(connection));
    let subscriber = confirmed(connection, subscriber, silent).await?;
    Ok(Questions { subscriber, client: client.clone() })
}

/// A token of a subject that is used once.
fn number(connection: &Connection) -> String {
    let inbox = connection.client.new_inbox();
    inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
}
