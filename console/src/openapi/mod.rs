//! The OpenAPI document: every method and message of the contracts, with the comments of the `.proto` files.
//!
//! Streams in Connect's envelopes have no form in OpenAPI, so a method with a stream is described with server-sent events.

mod comments;
mod schema;

use crate::{
    contracts::{contracts, only_reads},
    fault::NAMES,
};
use bytes::Bytes;
use comments::Comments;
use prost_reflect::{MethodDescriptor, ServiceDescriptor};
use schema::{Schemas, reference};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const ABOUT: &str = "\
The services of a Talaria relay as JSON over HTTP, by the Connect protocol. A method is called with `POST`, and one that only reads \
with `GET`, too. Messages are protobuf's in JSON: names in lowerCamelCase, times in RFC 3339, durations in seconds such as `90s`, \
64-bit numbers as text, bytes in base64. In requests each field may be left out, and one that is not known is an error.

The codes in capitals, such as NOT_FOUND, are gRPC's. An error has the same code in lower case, such as `not_found`.";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| build().to_string().into());

/// The document, the same with each call.
pub(crate) fn document() -> Bytes {
    DOCUMENT.clone()
}

fn build() -> Value {
    let comments = Comments::of(contracts());
    let mut services: Vec<_> = contracts().services().collect();
    services.sort_by(|one, other| one.full_name().cmp(other.full_name()));
    let (mut schemas, mut paths, mut tags) = (Schemas::new(&comments), Map::new(), Vec::new());
    for service in &services {
        tags.push(json!({"name": service.name(), "description": comments.at(&service.parent_file(), service.path())}));
        for method in service.methods() {
            schemas.request(&method.input());
            schemas.answer(&method.output());
            let path = format!("/{}/{}", service.full_name(), method.name());
            paths.insert(path, operations(service, &method, &comments));
        }
    }
    let mut schemas = schemas.finish();
    schemas.insert("Error".into(), error());
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Talaria", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": tags,
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Error": {
                "description": "An error. Its code decides the HTTP status.",
                "content": {"application/json": {"schema": reference("Error")}},
            }},
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of `relay.tokens`. None is needed where none are configured.",
            }},
        },
    })
}

fn operations(service: &ServiceDescriptor, method: &MethodDescriptor, comments: &Comments) -> Value {
    let mut operations = Map::new();
    let request = json!({"application/json": {"schema": reference(method.input().full_name())}});
    let mut post = operation(service, method, comments);
    post.insert("operationId".into(), json!(format!("{}_{}", service.name(), method.name())));
    post.insert("requestBody".into(), json!({"required": true, "content": request}));
    operations.insert("post".into(), post.into());
    if only_reads(method) {
        let mut get = operation(service, method, comments);
        get.insert("operationId".into(), json!(format!("{}_{}_by_GET", service.name(), method.name())));
        let message =
            json!({"name": "message", "in": "query", "description": "The request.", "content": request});
        get.insert("parameters".into(), json!([message]));
        operations.insert("get".into(), get.into());
    }
    operations.into()
}

fn operation(
    service: &ServiceDescriptor,
    method: &MethodDescriptor,
    comments: &Comments,
) -> Map<String, Value> {
    let description = comments.at(&method.parent_file(), method.path());
    let answer = reference(method.output().full_name());
    let (what, content) = if method.is_server_streaming() {
        let what = "A stream of events. The data of each is one such message; the last event has the name `end` and the data `{}`, or \
                    an error under `error`. Connect's clients get the same in envelopes, as application/connect+json.";
        (what, json!({"text/event-stream": {"schema": answer}}))
    } else {
        ("The answer.", json!({"application/json": {"schema": answer}}))
    };
    let operation = json!({
        "tags": [service.name()],
        "summary": summary(&description),
        "description": description,
        "responses": {
            "200": {"description": what, "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        },
    });
    match operation {
        Value::Object(operation) => operation,
        _ => Map::new(),
    }
}

/// The first sentence, on one line.
fn summary(description: &str) -> String {
    let line = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.find(". ").unwrap_or(line.len());
    line.get(..end).unwrap_or_default().trim_end_matches('.').to_owned()
}

fn error() -> Value {
    let codes: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
    json!({
        "type": "object",
        "description": "Why a request was not carried out.",
        "properties": {
            "code": {"type": "string", "enum": codes, "description": "The kind of the error."},
            "message": {"type": "string", "description": "The error in one sentence, with a remedy where there is one."},
        },
        "required": ["code"],
    })
}

#[cfg(test)]
mod tests;
