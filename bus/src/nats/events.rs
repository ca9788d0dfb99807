//! Reading events back.

use super::{cloudevent, connection::Connection};
use crate::Error;
use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use bytes::Bytes;
use talaria_proto::v1::Event;

/// The event at a place; `None` when it is not kept any more.
///
/// Any replica may answer the first question, and one that lags does not know the newest events; so only the leader is
/// believed when it says that there is none.
pub(super) async fn read(connection: &Connection, seq: u64) -> Result<Option<Event>, Error> {
    let failed = |error: &dyn std::fmt::Display| connection.error(&format!("cannot read event {seq}"), error);
    connection.is_connected()?;
    let stream = connection.jetstream.get_stream_no_info(connection.names.events()).await;
    let stream = stream.map_err(|error| failed(&error))?;
    match stream.direct_get(seq).await {
        Ok(message) => return Ok(decoded(seq, message.payload)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    match stream.get_raw_message(seq).await {
        Ok(message) => Ok(decoded(seq, message.payload)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(failed(&error)),
        },
    }
}

/// What is not an event is somebody else's, and none of ours.
fn decoded(seq: u64, data: Bytes) -> Option<Event> {
    let event = cloudevent::decode(data);
    event
        .inspect_err(|error| tracing::error!(%error, seq, "a message in the events stream is not an event"))
        .ok()
}
