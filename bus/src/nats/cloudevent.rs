//! Events as CloudEvents on NATS, in binary mode: attributes in headers, the event as protobuf in the data.
//!
//! Source: the CloudEvents NATS protocol binding, version 1.0.2, section 3.1; values are percent-encoded as its
//! section 3.1.3 says. Only the attributes that CloudEvents requires are there: a consumer filters by the subject, which
//! has the tenant and the type, and the other attributes are in the data.

use super::{
    names::{MESSAGE_ID, Names},
    store::Message,
};
use crate::partition::hash;
use async_nats::{HeaderMap, HeaderName};
use prost::Message as _;
use std::fmt::Write as _;
use talaria_proto::v1::{Event, QuarantinedCallback};

/// The prefix of an event's `ce-source`; its tenant follows.
const SOURCE: &str = "/talaria/callbacks/";

/// The longest `ce-type` in bytes, percent-encoded; a longer one is left out of the headers.
const LONGEST_TYPE: usize = 1024;

const CONTENT_TYPE: &str = "application/protobuf";

/// An event as a message.
pub(super) fn event(names: &Names, event: &Event) -> Message {
    let mut message = event_without_id(names, event);
    message.headers.insert(HeaderName::from_static(MESSAGE_ID), message_id(event));
    message
}

/// The same without an id for the server's deduplication.
pub(super) fn event_without_id(names: &Names, event: &Event) -> Message {
    let mut headers = HeaderMap::new();
    // A `HeaderName` from a plain string would be copied.
    let name = HeaderName::from_static;
    headers.insert(name("ce-specversion"), "1.0");
    headers.insert(name("ce-id"), event.id.as_str());
    headers.insert(name("ce-source"), format!("{SOURCE}{}", event.tenant));
    headers.insert(name("content-type"), CONTENT_TYPE);
    let kind = percent_encoded(&event.r#type);
    if (1..=LONGEST_TYPE).contains(&kind.len()) {
        headers.insert(name("ce-type"), kind);
    }
    // Under the name `traceparent` the server would read it too, and be a third slower.
    if !event.traceparent.is_empty() {
        headers.insert(name("ce-traceparent"), event.traceparent.as_str());
    }
    Message {
        subject: names.event(&event.tenant, &event.r#type),
        headers,
        data: event.encode_to_vec().into(),
    }
}

/// A signed callback that is not an event, as a message. It is no CloudEvent.
pub(super) fn quarantined(names: &Names, callback: &QuarantinedCallback) -> Message {
    let mut message = quarantined_without_id(names, callback);
    // The id is a hash of the bytes already.
    message.headers.insert(HeaderName::from_static(MESSAGE_ID), callback.id.as_str());
    message
}

/// The same without an id for the server's deduplication.
pub(super) fn quarantined_without_id(names: &Names, callback: &QuarantinedCallback) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("content-type"), CONTENT_TYPE);
    Message { subject: names.quarantined(&callback.tenant), headers, data: callback.encode_to_vec().into() }
}

/// The id for the server's deduplication: of the event and its bytes, so that another body under the same event id is stored
/// too.
fn message_id(event: &Event) -> String {
    let digest = event
        .payload_sha256
        .first_chunk()
        .map_or_else(|| hash([&event.payload]), |digest: &[u8; 8]| u64::from_be_bytes(*digest));
    format!("{}:{digest:016x}", event.id)
}

/// Percent-encodes all bytes but printable ASCII, and also the space, the quotation mark and the percent sign.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes().take(LONGEST_TYPE + 1) {
        match byte {
            b'"' | b'%' => drop(write!(encoded, "%{byte:02X}")),
            0x21..=0x7E => encoded.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(message: &Message, name: &str) -> Option<String> {
        message.headers.get(name).map(|value| value.as_str().to_owned())
    }

    #[test]
    fn an_event_of_any_type_is_a_cloudevent() {
        let original = Event {
            id: "evt_x".into(),
            tenant: "acme".into(),
            r#type: "a \"b\"\r\nNats-Rollup: all 100% ü".into(),
            payload: "{}".into(),
            ..Event::default()
        };
        let message = event(&Names::new("talaria"), &original);
        assert_eq!(
            header(&message, "ce-type").unwrap(),
            "a%20%22b%22%0D%0ANats-Rollup:%20all%20100%25%20%C3%BC"
        );
        assert_eq!(header(&message, "ce-source").unwrap(), "/talaria/callbacks/acme");
        assert_eq!(header(&message, "ce-id").unwrap(), "evt_x");
        assert_eq!(Event::decode(message.data).unwrap(), original);
        let long = event(&Names::new("talaria"), &Event { r#type: "x".repeat(5_000), ..original });
        assert_eq!(header(&long, "ce-type"), None, "too long for a header");
    }

    #[test]
    fn a_message_id_is_of_the_event_and_its_bytes() {
        let event = |payload: &'static str, payload_sha256: &[u8]| Event {
            id: "evt_x".into(),
            payload: payload.into(),
            payload_sha256: payload_sha256.to_vec().into(),
            ..Event::default()
        };
        let digest: Vec<u8> = (1..=32).collect();
        assert_eq!(message_id(&event("a", &digest)), "evt_x:0102030405060708");
        assert_eq!(message_id(&event("a", &[])), message_id(&event("a", &[])));
        assert_ne!(message_id(&event("a", &[])), message_id(&event("b", &[])));
    }
}
