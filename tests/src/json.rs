//! A client of JSON over HTTP, by the descriptors of the contracts.

use crate::http;
use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use std::{net::SocketAddr, sync::LazyLock};
use talaria_proto::FILE_DESCRIPTOR_SET;
use tonic::Code;

static CONTRACTS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap());

/// Connect's names of the codes, from 1 as gRPC numbers them.
const CODES: [&str; 16] = [
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// Every method of the contracts, with its path.
pub fn methods() -> Vec<(String, MethodDescriptor)> {
    let of = |service: prost_reflect::ServiceDescriptor| {
        let path = |method: &MethodDescriptor| format!("/{}/{}", service.full_name(), method.name());
        service.methods().map(|method| (path(&method), method)).collect::<Vec<_>>()
    };
    CONTRACTS.services().flat_map(of).collect()
}

/// The method at a path; one of another path has the messages of none.
fn method(path: &str) -> Option<MethodDescriptor> {
    methods().into_iter().find(|(known, _)| known == path).map(|(_, method)| method)
}

fn to_json(descriptor: MessageDescriptor, bytes: &[u8]) -> String {
    serde_json::to_string(&DynamicMessage::decode(descriptor, bytes).unwrap()).unwrap()
}

/// The message in a JSON document.
pub fn from_json(descriptor: MessageDescriptor, json: &[u8]) -> DynamicMessage {
    let mut json = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize(descriptor, &mut json).unwrap()
}

/// The code and the text of an error.
pub fn error(json: &Value) -> (Code, String) {
    let name = json["code"].as_str().unwrap_or_else(|| panic!("no error: {json}"));
    let number = CODES.iter().position(|code| *code == name).unwrap() + 1;
    let text = json["message"].as_str().unwrap_or_default().to_owned();
    (Code::from_i32(i32::try_from(number).unwrap()), text)
}

/// A client, with a token or without one.
#[derive(Clone, Debug)]
pub struct Json {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// The answer of a method.
#[derive(Debug)]
pub struct Answer {
    /// As gRPC would carry them.
    pub messages: Vec<Bytes>,
    /// The code of the error, if there is one.
    pub code: Code,
    /// The text of the error.
    pub text: String,
}

impl Answer {
    fn failed(messages: Vec<Bytes>, error: (Code, String)) -> Self {
        Self { messages, code: error.0, text: error.1 }
    }
}

impl Json {
    /// A client of this address.
    pub fn new(console: SocketAddr, token: Option<&str>) -> Self {
        Self { http: http(), url: format!("http://{console}"), token: token.map(str::to_owned) }
    }

    /// A request of this verb, with the token.
    pub fn request(&self, verb: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(verb.parse().unwrap(), format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends this body as JSON, and returns the status and the JSON that is answered.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.request("POST", path).header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body:?}")))
    }

    /// Calls any method with the bytes of its request, and reads up to the first message that is the last one wanted.
    pub async fn call(&self, path: &str, request: &[u8], is_last: impl Fn(&Bytes) -> bool) -> Answer {
        let Some(method) = method(path) else {
            let (_, json) = self.post(path, "{}").await;
            return Answer::failed(Vec::new(), error(&json));
        };
        let json = to_json(method.input(), request);
        if method.is_server_streaming() {
            return self.stream(path, &method, json, is_last).await;
        }
        let request = self.request("POST", path).header("content-type", "application/json");
        let response = request.body(json).send().await.unwrap();
        let is_success = response.status().is_success();
        let body = response.bytes().await.unwrap();
        if !is_success {
            return Answer::failed(Vec::new(), error(&serde_json::from_slice(&body).unwrap()));
        }
        let messages = vec![from_json(method.output(), &body).encode_to_vec().into()];
        Answer { messages, code: Code::Ok, text: String::new() }
    }

    async fn stream(
        &self,
        path: &str,
        method: &MethodDescriptor,
        json: String,
        is_last: impl Fn(&Bytes) -> bool,
    ) -> Answer {
        let mut body = vec![0];
        body.extend(u32::try_from(json.len()).unwrap().to_be_bytes());
        body.extend(json.as_bytes());
        let request = self.request("POST", path).header("content-type", "application/connect+json");
        let mut response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
        loop {
            while let Some((flags, message)) = enveloped(&mut buffer) {
                if flags == 2 {
                    let end: Value = serde_json::from_slice(&message).unwrap();
                    return match end.get("error") {
                        Some(json) => Answer::failed(messages, error(json)),
                        None => Answer { messages, code: Code::Ok, text: String::new() },
                    };
                }
                assert_eq!(flags, 0, "{path}");
                let message = Bytes::from(from_json(method.output(), &message).encode_to_vec());
                let last = is_last(&message);
                messages.push(message);
                if last {
                    return Answer { messages, code: Code::Ok, text: String::new() };
                }
            }
            let chunk = response.chunk().await.unwrap();
            buffer.extend_from_slice(&chunk.unwrap_or_else(|| panic!("{path}: the stream has no end")));
        }
    }
}

/// The next message of a Connect stream, if it is there whole.
fn enveloped(buffer: &mut BytesMut) -> Option<(u8, Bytes)> {
    let length = buffer.get(1..5)?.try_into().map(u32::from_be_bytes).ok()?;
    let length = usize::try_from(length).ok()?;
    if buffer.len() < 5 + length {
        return None;
    }
    let flags = buffer.get_u8();
    buffer.advance(4);
    Some((flags, buffer.split_to(length).freeze()))
}
