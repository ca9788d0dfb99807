//! What a request asks for: the form of the answer, the deadline, and where the message is.

use crate::{contracts::only_reads, fault::Fault};
use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use prost_reflect::MethodDescriptor;
use std::time::Duration;
use tonic::Code;
use url::form_urlencoded;

const JSON: &str = "application/json";
const CONNECT_STREAM: &str = "application/connect+json";
const EVENT_STREAM: &str = "text/event-stream";

/// The most digits of a timeout in milliseconds, by Connect's protocol.
const TIMEOUT_DIGITS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One message.
    Unary,
    /// Enveloped messages, as Connect's clients take them.
    Enveloped,
    /// Server-sent events, for browsers and curl.
    Events,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// In the body, in an envelope if the answer is.
    Body,
    /// In the URL.
    Query(Bytes),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub form: Form,
    pub message: Message,
    pub timeout: Option<Duration>,
}

/// Reads the head of a request for a method.
pub(crate) fn read(method: &MethodDescriptor, head: &Parts) -> Result<Asked, Fault> {
    let timeout = timeout(&head.headers)?;
    let (form, message) = match head.method {
        Method::POST => (posted(method, &head.headers)?, Message::Body),
        Method::GET if only_reads(method) => got(method, head)?,
        _ => {
            let allow = if only_reads(method) { "GET, POST" } else { "POST" };
            let message = format!("{} takes {allow}", method.name());
            return Err(Fault::http(StatusCode::METHOD_NOT_ALLOWED, Some((header::ALLOW, allow)), message));
        }
    };
    Ok(Asked { form, message, timeout })
}

/// Whether the client takes the answer, and its errors, in envelopes.
pub(crate) fn is_enveloped(headers: &HeaderMap) -> bool {
    content_type(headers).as_deref() == Some(CONNECT_STREAM)
}

fn posted(method: &MethodDescriptor, headers: &HeaderMap) -> Result<Form, Fault> {
    let (name, takes_events) = (method.name(), takes_events(headers));
    let form = match (method.is_server_streaming(), content_type(headers).as_deref()) {
        (false, Some(JSON)) => Form::Unary,
        (true, Some(CONNECT_STREAM)) => Form::Enveloped,
        (true, Some(JSON)) if takes_events => Form::Events,
        (is_stream, _) => {
            let (takes, message) = if is_stream {
                let message = format!(
                    "{name} answers with a stream: send Content-Type: {JSON} and Accept: {EVENT_STREAM}, or Content-Type: \
                     {CONNECT_STREAM} and an enveloped message"
                );
                (CONNECT_STREAM, message)
            } else {
                (JSON, format!("{name} takes Content-Type: {JSON}"))
            };
            let accept = header::HeaderName::from_static("accept-post");
            return Err(Fault::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some((accept, takes)), message));
        }
    };
    if let Some(version) = headers.get("connect-protocol-version")
        && version != "1"
    {
        return Err(Fault::invalid("Connect-Protocol-Version is not 1"));
    }
    let encoding = if form == Form::Enveloped { "connect-content-encoding" } else { "content-encoding" };
    match headers.get(encoding) {
        Some(encoding) if encoding != "identity" => Err(compressed()),
        _ => Ok(form),
    }
}

/// By Connect's rules for GET, with each parameter optional.
fn got(method: &MethodDescriptor, head: &Parts) -> Result<(Form, Message), Fault> {
    let (mut message, mut is_base64) = (None, false);
    for (name, value) in form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()) {
        match (&*name, &*value) {
            ("message", value) => message = Some(value.to_owned()),
            ("base64", value) => is_base64 = value == "1",
            ("encoding", "json") | ("connect", "v1") | ("compression", "" | "identity") => {}
            ("encoding", _) => {
                let message = format!("{} is asked with encoding=json", method.name());
                return Err(Fault::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, message));
            }
            ("connect", _) => return Err(Fault::invalid("the parameter connect is not v1")),
            ("compression", _) => return Err(compressed()),
            // Such as what a client adds against caches.
            _ => {}
        }
    }
    let message = match message {
        Some(text) if is_base64 => {
            let bytes = text.into_bytes();
            let decoded = [BASE64URL_NOPAD, BASE64URL, BASE64, BASE64_NOPAD]
                .iter()
                .find_map(|encoding| encoding.decode(&bytes).ok());
            decoded.ok_or_else(|| Fault::invalid("the parameter message is no base64"))?.into()
        }
        Some(text) => text.into(),
        None => Bytes::from_static(b"{}"),
    };
    let form = if method.is_server_streaming() { Form::Events } else { Form::Unary };
    Ok((form, Message::Query(message)))
}

fn compressed() -> Fault {
    Fault::new(Code::Unimplemented, "compressed requests are not taken: send it without a Content-Encoding")
}

/// The media type in lower case, without parameters. `None` for another charset than UTF-8.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';');
    let essence = parts.next()?.trim().to_ascii_lowercase();
    let is_utf8 = |parameter: &str| {
        let parameter = parameter.trim().to_ascii_lowercase();
        !parameter.starts_with("charset=")
            || parameter.trim_start_matches("charset=").trim_matches('"') == "utf-8"
    };
    parts.all(is_utf8).then_some(essence)
}

fn takes_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let mut types = accepts.flat_map(|accept| accept.split(','));
    types.any(|accepted| {
        accepted.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case(EVENT_STREAM))
    })
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(written) = headers.get("connect-timeout-ms") else { return Ok(None) };
    let digits = written.to_str().ok().filter(|text| {
        (1..=TIMEOUT_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    });
    let milliseconds = digits.and_then(|text| text.parse().ok());
    let milliseconds =
        milliseconds.ok_or_else(|| Fault::invalid("Connect-Timeout-Ms is no number of at most 10 digits"))?;
    Ok(Some(Duration::from_millis(milliseconds)))
}

#[cfg(test)]
mod tests;
