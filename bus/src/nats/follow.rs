//! Following a stream from a place on, without a gap.

use super::connection::Connection;
use crate::Error;
use async_nats::jetstream::{
    ErrorCode, Message,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    context::GetStreamErrorKind,
};
use futures_util::{FutureExt as _, StreamExt as _};
use std::time::Duration;

/// How often the server says that it is still there when there is nothing to send. Two times without it and the
/// consumer is made anew: one in memory does not outlive its server.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

/// How long one request for messages stands.
const EXPIRY: Duration = Duration::from_secs(30);

/// The server forgets a consumer that nobody asked for so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What is asked for at once has no more bytes than this. A server hangs up on a client that lets 64 MiB wait.
const AHEAD: usize = 32 << 20;

/// And no more messages than this.
const MOST_AHEAD: usize = 256;

/// Messages of a stream behind a place, in order.
pub(super) struct Following {
    connection: Connection,
    stream: String,
    /// The last message that was given out.
    position: u64,
    messages: Option<(pull::Stream, u64)>,
}

/// A message and its place.
pub(super) type Placed = (u64, Message);

impl Following {
    pub(super) fn new(connection: &Connection, stream: String, behind: u64) -> Self {
        Self { connection: connection.clone(), stream, position: behind, messages: None }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next messages, at least one and at most `max`; waits for the first. After an error it can be asked again and
    /// goes on where it was.
    pub(super) async fn next(&mut self, max: usize) -> Result<Vec<Placed>, Error> {
        let next = self.next_or_error(max).await;
        if next.is_err() {
            self.messages = None;
        }
        next
    }

    /// The next messages that are here already, at most `max`.
    pub(super) fn waiting(&mut self, max: usize) -> Result<Vec<Placed>, Error> {
        if self.messages.is_none() {
            return Ok(Vec::new());
        }
        self.next(max).now_or_never().unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn next_or_error(&mut self, max: usize) -> Result<Vec<Placed>, Error> {
        let (messages, delivered) = match &mut self.messages {
            Some(messages) => messages,
            missing => missing.insert((self.connection.follow(&self.stream, self.position).await?, 0)),
        };
        let broken = |why: &dyn std::fmt::Display| {
            self.connection.error(&format!("cannot follow the stream {}", self.stream), why)
        };
        let mut next = messages.next().await;
        let mut placed = Vec::new();
        while let Some(message) = next {
            let message = message.map_err(|error| broken(&error))?;
            let info = message.info().map_err(|error| broken(&error))?;
            *delivered += 1;
            if info.consumer_sequence != *delivered {
                return Err(broken(&"a message was lost on its way"));
            }
            let place = info.stream_sequence;
            placed.push((place, message));
            next = if placed.len() < max { messages.next().now_or_never().flatten() } else { None };
        }
        let (last, _) = placed.last().ok_or_else(|| broken(&"the consumer is gone"))?;
        self.position = *last;
        Ok(placed)
    }
}

impl Connection {
    async fn follow(&self, stream: &str, behind: u64) -> Result<pull::Stream, Error> {
        let failed =
            |why: &dyn std::fmt::Display| self.error(&format!("cannot follow the stream {stream}"), why);
        self.is_connected()?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: behind + 1 },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN,
            ..pull::Config::default()
        };
        let consumer: PullConsumer =
            self.jetstream.create_consumer_on_stream(config, stream).await.map_err(|error| failed(&error))?;
        consumer
            .stream()
            .max_messages_per_batch((AHEAD / self.client.max_payload().max(1)).clamp(2, MOST_AHEAD))
            .heartbeat(HEARTBEAT)
            .expires(EXPIRY)
            .messages()
            .await
            .map_err(|error| failed(&error))
    }

    /// The places of a stream's first and last message, and what tells the stream from others of its name.
    pub(super) async fn extent(&self, stream: &str) -> Result<(u64, u64, String), Error> {
        let failed =
            |why: &dyn std::fmt::Display| self.error(&format!("cannot ask for the stream {stream}"), why);
        self.is_connected()?;
        let found = self.jetstream.get_stream(stream).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                failed(&"it is gone; restart a relay, which makes it anew")
            }
            _ => failed(&error),
        })?;
        let info = found.cached_info();
        let source = format!("{stream} of {}", info.created.unix_timestamp_nanos());
        Ok((info.state.first_sequence, info.state.last_sequence, source))
    }
}
