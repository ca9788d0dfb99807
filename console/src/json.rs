//! Messages from JSON and to JSON, by protobuf's mapping: names in lowerCamelCase, times in RFC 3339, 64-bit numbers as text, bytes in
//! base64.

use crate::fault::Fault;
use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::Code;

/// The message in a client's JSON. A field that the message does not have is an error with its name.
pub(crate) fn read(descriptor: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::invalid("the request has no message: send a JSON object, {} for an empty one"));
    }
    let name = descriptor.full_name().to_owned();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(descriptor, &mut reader);
    message
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| Fault::invalid(format!("this is no {name} in JSON: {error}")))
}

/// With empty lists and zeros, so that every field is visible.
pub(crate) fn write(message: &DynamicMessage) -> Result<Bytes, Fault> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut json = serde_json::Serializer::new(Vec::new());
    let written = message.serialize_with_options(&mut json, &options);
    // Only a time that is out of range cannot be written.
    written
        .map_err(|error| Fault::new(Code::Internal, format!("the answer has no form in JSON: {error}")))?;
    Ok(json.into_inner().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::contracts;
    use prost::Message as _;
    use serde_json::{Value, json};
    use talaria_proto::v1::{
        DeliveryFilter, DeliveryState, ListDeliveriesRequest, PauseRequest, QuarantinedCallback, StateCount,
    };

    fn descriptor(name: &str) -> MessageDescriptor {
        contracts().get_message_by_name(&format!("talaria.v1.{name}")).unwrap()
    }

    fn fault(name: &str, json: &str) -> String {
        let fault = read(descriptor(name), json.as_bytes()).unwrap_err();
        assert_eq!(fault.code, Code::InvalidArgument);
        fault.message
    }

    #[test]
    fn json_becomes_the_message_that_grpc_would_carry() {
        let json = json!({
            "filter": {"tenant": "acme", "states": ["DELIVERY_STATE_PARKED", 1], "since": "2026-04-24T12:00:00.5Z"},
            "page_size": 3, "pageToken": null,
        });
        let message = read(descriptor("ListDeliveriesRequest"), json.to_string().as_bytes()).unwrap();
        let since = prost_types::Timestamp { seconds: 1_777_032_000, nanos: 500_000_000 };
        let expected = ListDeliveriesRequest {
            filter: Some(DeliveryFilter {
                tenant: "acme".into(),
                states: vec![DeliveryState::Parked.into(), 1],
                since: Some(since),
                ..DeliveryFilter::default()
            }),
            page_size: 3,
            page_token: String::new(),
        };
        assert_eq!(ListDeliveriesRequest::decode(message.encode_to_vec().as_slice()).unwrap(), expected);
        let pause = read(descriptor("PauseRequest"), br#"{"duration": "90.5s"}"#).unwrap();
        let pause = PauseRequest::decode(pause.encode_to_vec().as_slice()).unwrap();
        assert_eq!(pause.duration, Some(prost_types::Duration { seconds: 90, nanos: 500_000_000 }));
    }

    #[test]
    fn answers_show_every_field() {
        let write = |name: &str, bytes: Vec<u8>| {
            let message = DynamicMessage::decode(descriptor(name), bytes.as_slice()).unwrap();
            serde_json::from_slice::<Value>(&write(&message).unwrap()).unwrap()
        };
        let count = StateCount { state: DeliveryState::Parked.into(), count: u64::MAX };
        let expected = json!({"state": "DELIVERY_STATE_PARKED", "count": "18446744073709551615"});
        assert_eq!(write("StateCount", count.encode_to_vec()), expected);
        let empty = write("ListDeliveriesResponse", Vec::new());
        assert_eq!(empty, json!({"deliveries": [], "nextPageToken": "", "incomplete": false}));
        let callback =
            QuarantinedCallback { payload: b"\xff<".as_slice().into(), ..QuarantinedCallback::default() };
        assert_eq!(write("QuarantinedCallback", callback.encode_to_vec())["payload"], "/zw=");
    }

    #[test]
    fn a_fault_names_the_field_or_the_line() {
        assert_eq!(
            fault("GetSummaryRequest", r#"{"tennant": "acme"}"#),
            "this is no talaria.v1.GetSummaryRequest in JSON: unrecognized field name 'tennant' at line 1 column 10"
        );
        let nested = fault("ListDeliveriesRequest", r#"{"filter": {"colour": 1}}"#);
        assert!(nested.contains("unrecognized field name 'colour'"), "{nested}");
        let state = fault("ListDeliveriesRequest", r#"{"filter": {"states": ["LOST"]}}"#);
        assert!(state.contains("unrecognized enum value 'LOST'"), "{state}");
        for json in ["", " \n", "[]", "null", "\"x\"", "{", "{} {}", "{\"tenant\": 1}", "\u{feff}{}"] {
            fault("GetSummaryRequest", json);
        }
        let two = fault("ExplainRequest", r#"{"eventId": "evt_x", "jobId": "y"}"#);
        assert!(two.contains("multiple fields"), "{two}");
        fault("GetSummaryRequest", &"[".repeat(100_000));
    }
}
