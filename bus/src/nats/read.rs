//! Reading single messages and a partition's commits, and decoding them.
//!
//! A partition's commits are read with *batched direct gets* (ADR 31 of NATS): a request names the subject, the first
//! sequence and a count, and a replica sends them in a row. Unlike a consumer, a request leaves no state in the server,
//! has an end, and does not wait when commits are trimmed meanwhile. Any replica may answer, and one that lags does not know
//! the newest commits; so only the leader is trusted about the end.
//! Each answer names the one before it, so that a lost one is noticed.

use super::{
    connection::{ANSWER_DEADLINE, Connection},
    names::{LAST_SEQUENCE, Names, SEQUENCE},
};
use crate::{Committed, Error, Incoming, Partition, Stored, partition::NATS_PARTITIONS};
use async_nats::{
    StatusCode,
    jetstream::{
        message::StreamMessage,
        stream::{DirectGetErrorKind, LastRawMessageErrorKind, RawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message;
use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};
use talaria_telemetry::LogLimiter;

static UNREADABLE: LogLimiter = LogLimiter::new();

/// The most commits that a replica sends in a row.
const LARGEST_READ: usize = 1000;

/// The most bytes that a replica sends in a row, or one commit.
const LARGEST_READ_BYTES: usize = 4 << 20;

/// The pause before the next request, which another replica may answer.
const LAG_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Status of a message that ends a row.
const END_OF_ROW: u16 = 204;

async fn stream(connection: &Connection, name: &str) -> Result<Stream<()>, Error> {
    connection.is_connected()?;
    connection
        .jetstream
        .get_stream_no_info(name)
        .await
        .map_err(|error| connection.error(&"cannot read", &error))
}

/// The message at a sequence; `None` when it was trimmed.
pub(super) async fn at(
    connection: &Connection,
    name: &str,
    seq: u64,
) -> Result<Option<StreamMessage>, Error> {
    if seq == 0 {
        return Ok(None);
    }
    let failed =
        |why: &dyn Display| connection.error(&format_args!("cannot read message {seq} of {name}"), why);
    let stream = stream(connection, name).await?;
    match connection.unless_lost(stream.direct_get(seq)).await? {
        Ok(message) => return Ok(Some(message)),
        // This replica may lag.
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    match connection.unless_lost(stream.get_raw_message(seq)).await? {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(failed(&error)),
        },
    }
}

/// The last message of a subject, as the stream's leader knows it.
pub(super) async fn last(
    connection: &Connection,
    name: &str,
    subject: &str,
) -> Result<Option<StreamMessage>, Error> {
    let stream = stream(connection, name).await?;
    match connection.unless_lost(stream.get_last_raw_message_by_subject(subject)).await? {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(connection.error(&format_args!("cannot read the last message of {subject}"), &error)),
        },
    }
}

/// Whether the stream's leader has a message of one of these subjects after `after` and up to `last`.
pub(super) async fn is_between(
    connection: &Connection,
    name: &str,
    subjects: &[String],
    after: u64,
    last: u64,
) -> Result<bool, Error> {
    let stream = stream(connection, name).await?;
    for subject in subjects {
        let next =
            stream.raw_message_builder().sequence(after.saturating_add(1)).next_by_subject(subject).send();
        match connection.unless_lost(next).await? {
            Ok(message) if message.sequence <= last => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {}
            Err(error) => return Err(connection.error(&format_args!("cannot read {subject}"), &error)),
        }
    }
    Ok(false)
}

/// A partition's commits after a sequence; empty if the leader has no more.
pub(super) async fn commits(
    connection: &Connection,
    partition: Partition,
    after: u64,
    max: usize,
) -> Result<Vec<Committed>, Error> {
    let (name, subject) = (connection.names.journal(), connection.names.commits(partition));
    let start = Instant::now();
    loop {
        let found = row(connection, &name, &subject, after, max).await?;
        if !found.is_empty() {
            return Ok(found.into_iter().map(|(seq, data)| committed(partition, seq, data)).collect());
        }
        let last = last(connection, &name, &subject).await?;
        if last.is_none_or(|last| last.sequence <= after) {
            return Ok(Vec::new());
        }
        if start.elapsed() >= ANSWER_DEADLINE {
            let why = "the replicas that answer lag behind the leader";
            return Err(connection.error(&format_args!("cannot read {subject}"), &why));
        }
        tokio::time::sleep(LAG_RETRY_DELAY).await;
    }
}

/// Messages of a subject after a sequence, as some replica knows them.
async fn row(
    connection: &Connection,
    name: &str,
    subject: &str,
    after: u64,
    max: usize,
) -> Result<Vec<(u64, Bytes)>, Error> {
    let failed = |why: &dyn Display| connection.error(&format_args!("cannot read {subject}"), why);
    connection.is_connected()?;
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    let request = serde_json::json!({
        "seq": after.saturating_add(1),
        "next_by_subj": subject,
        "batch": max.clamp(1, LARGEST_READ),
        "max_bytes": LARGEST_READ_BYTES,
    });
    let api = format!("$JS.API.DIRECT.GET.{name}");
    let sent = client.publish_with_reply(api, inbox, request.to_string().into()).await;
    sent.map_err(|error| failed(&error))?;
    let mut found: Vec<(u64, Bytes)> = Vec::new();
    loop {
        let next = tokio::time::timeout(ANSWER_DEADLINE, answers.next());
        let Some(message) = connection.unless_lost(next).await?.map_err(|_| failed(&"timed out"))? else {
            return Err(failed(&"the connection was closed"));
        };
        let number = |name: &str| message.headers.as_ref()?.get(name)?.as_str().parse::<u64>().ok();
        // Names the message before it in the row: routes between servers may lose some of a row and not its end.
        let is_next = number(LAST_SEQUENCE) == Some(found.last().map_or(0, |(seq, _)| *seq));
        match message.status {
            None => match number(SEQUENCE) {
                Some(seq) if seq > after && is_next => found.push((seq, message.payload)),
                _ => return Err(failed(&"an answer was lost on its way")),
            },
            Some(StatusCode::NOT_FOUND) => return Ok(found),
            Some(status) if status.as_u16() == END_OF_ROW => {
                return if is_next { Ok(found) } else { Err(failed(&"an answer was lost on its way")) };
            }
            Some(StatusCode::NO_RESPONDERS) => return Err(failed(&"no responders (allow_direct)")),
            Some(status) => {
                return Err(failed(&format_args!("{status} {}", message.description.unwrap_or_default())));
            }
        }
    }
}

/// A commit with its sequence. A message that is no commit becomes an empty one, because the next commit expects its sequence.
pub(super) fn committed(partition: Partition, seq: u64, data: Bytes) -> Committed {
    let commit = Commit::decode(data).unwrap_or_else(|error| {
        if let Some(left_out) = UNREADABLE.admit() {
            tracing::error!(%error, seq, %partition, left_out, "journal message is not a commit; skipped");
        }
        Commit::default()
    });
    Committed { seq, partition, commit: Arc::new(commit) }
}

/// Decodes a message of the events stream.
pub(super) fn incoming(
    names: &Names,
    partition: Partition,
    seq: u64,
    message: async_nats::jetstream::Message,
) -> Stored {
    let message = message.message;
    let decoded = if names.is_quarantine(&message.subject) {
        QuarantinedCallback::decode(message.payload)
            .map(|callback| (callback.tenant.clone(), Incoming::Quarantined(Arc::new(callback))))
    } else {
        Event::decode(message.payload).map(|event| (event.tenant.clone(), Incoming::Event(Arc::new(event))))
    };
    let what = match decoded {
        Ok((tenant, what)) if Partition::of(&tenant, NATS_PARTITIONS) == partition => what,
        Ok((tenant, _)) => {
            unreadable(seq, &format_args!("its tenant {tenant:?} belongs to another partition"))
        }
        Err(error) => unreadable(seq, &error),
    };
    Stored { seq, what }
}

fn unreadable(seq: u64, why: &dyn Display) -> Incoming {
    if let Some(left_out) = UNREADABLE.admit() {
        tracing::error!(seq, %why, left_out, "event message was not written by Talaria; skipped");
    }
    Incoming::Unreadable
}

/// Decodes the message at a sequence; `None` if Talaria did not write it.
pub(super) fn decode_at<M: Message + Default>(seq: u64, data: Bytes) -> Option<M> {
    let decoded = M::decode(data).inspect_err(|error| {
        if let Some(left_out) = UNREADABLE.admit() {
            tracing::error!(%error, seq, left_out, "message cannot be decoded");
        }
    });
    decoded.ok()
}
