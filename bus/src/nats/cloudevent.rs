//! Events as CloudEvents on NATS, in binary mode: attributes in headers, the event as protobuf in the data.
//!
//! Source: the CloudEvents NATS protocol binding, version 1.0.2, section 3.1; values are percent-encoded as its
//! section 3.1.3 says.

use super::names::{MESSAGE_ID, Names};
use crate::{Error, time};
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use prost::Message as _;
use std::fmt::Write as _;
use talaria_proto::v1::Event;

/// What an event's `ce-source` begins with; its tenant follows.
const SOURCE: &str = "/talaria/callbacks/";

/// The longest attribute in bytes, as it would stand in the header; a longer one is left out there.
const LONGEST_ATTRIBUTE: usize = 1024;

/// An event as a message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub subject: String,
    pub headers: HeaderMap,
    pub data: Bytes,
}

pub(super) fn encode(names: &Names, event: &Event) -> Message {
    let mut headers = HeaderMap::new();
    // A name that is only a text would be copied.
    let name = HeaderName::from_static;
    headers.insert(MESSAGE_ID, event.id.as_str());
    headers.insert(name("ce-specversion"), "1.0");
    headers.insert(name("ce-id"), event.id.as_str());
    headers.insert(name("ce-source"), format!("{SOURCE}{}", event.tenant));
    headers.insert(name("ce-time"), time::from_proto(event.received_at.as_ref()).to_string());
    headers.insert(name("content-type"), "application/protobuf");
    headers.insert(name("ce-dataschema"), "talaria.v1.Event");
    for (attribute, value) in [("ce-type", &event.r#type), ("ce-subject", &event.job_id)] {
        let value = percent_encoded(value);
        if (1..=LONGEST_ATTRIBUTE).contains(&value.len()) {
            headers.insert(name(attribute), value);
        }
    }
    if !event.traceparent.is_empty() {
        headers.insert(name("traceparent"), event.traceparent.as_str());
    }
    Message {
        subject: names.event(&event.tenant, &event.r#type),
        headers,
        data: event.encode_to_vec().into(),
    }
}

pub(super) fn decode(data: Bytes) -> Result<Event, Error> {
    Event::decode(data).map_err(|error| Error::new(format_args!("an event cannot be read: {error}")))
}

/// Whatever is not printable ASCII, and the space, the quotation mark and the percent sign.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes().take(LONGEST_ATTRIBUTE + 1) {
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

    #[test]
    fn an_event_is_a_cloudevent_whatever_its_type_is() {
        let event = Event {
            id: "evt_x".into(),
            tenant: "acme".into(),
            r#type: "a \"b\"\r\nNats-Rollup: all 100% ü".into(),
            job_id: "j".repeat(5_000),
            payload: "{}".into(),
            ..Event::default()
        };
        let message = encode(&Names::new("talaria"), &event);
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("ce-type").unwrap(), "a%20%22b%22%0D%0ANats-Rollup:%20all%20100%25%20%C3%BC");
        assert_eq!(header("ce-subject"), None, "too long for a header");
        assert_eq!(header("ce-source").unwrap(), "/talaria/callbacks/acme");
        assert_eq!(header("ce-time").unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(decode(message.data).unwrap(), event);
    }
}
