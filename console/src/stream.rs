//! Answers with more than one message, as Connect's enveloped messages or as server-sent events.
//!
//! Both end with one last message: `{}`, or the error under `error`. As an event, its name is `end`.

use crate::{
    envelope,
    fault::{self, Fault},
    json,
    request::Form,
};
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use std::{convert::Infallible, future::pending, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Streaming, body::Body};

/// After this time without a message, a comment is sent, so that a client that is gone is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

const COMMENT: &[u8] = b": \n\n";

/// The answer of a method, on its way to the client.
pub(crate) struct Answer {
    pub messages: Streaming<DynamicMessage>,
    pub form: Form,
    pub deadline: Option<Instant>,
}

impl Answer {
    pub(crate) fn response(self) -> Response<Body> {
        let form = self.form;
        let frames = stream::unfold(Some(self), |answer| async {
            let (bytes, rest) = answer?.next().await;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), rest))
        });
        response(form, Body::new(StreamBody::new(frames)))
    }

    /// The next bytes, and the rest of the answer.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        let (form, deadline) = (self.form, self.deadline);
        let expires = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let next = tokio::select! {
            message = self.messages.message() => message.map_err(Fault::from),
            () = expires => Err(Fault::timed_out()),
            () = sleep(KEEPALIVE_INTERVAL), if form == Form::Events => {
                return (Bytes::from_static(COMMENT), Some(self));
            }
        };
        let json = next.and_then(|message| message.as_ref().map(json::write).transpose());
        match json {
            Ok(Some(json)) => (message(form, &json), Some(self)),
            Ok(None) => (end(form, &json!({})), None),
            Err(fault) => (end(form, &json!({"error": fault.json()})), None),
        }
    }
}

/// A stream that ends with this error, and has no message.
pub(crate) fn refused(fault: &Fault) -> Response<Body> {
    let end = end(Form::Enveloped, &json!({"error": fault.json()}));
    response(Form::Enveloped, Body::new(http_body_util::Full::new(end)))
}

fn response(form: Form, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = if form == Form::Events { "text/event-stream" } else { "application/connect+json" };
    fault::guard(&mut response, content_type);
    response
}

fn message(form: Form, json: &[u8]) -> Bytes {
    match form {
        // JSON has no line breaks of its own.
        Form::Events => [b"data: ", json, b"\n\n"].concat().into(),
        Form::Enveloped | Form::Unary => envelope::message(json),
    }
}

fn end(form: Form, json: &Value) -> Bytes {
    match form {
        Form::Events => format!("event: end\ndata: {json}\n\n").into(),
        Form::Enveloped | Form::Unary => envelope::end(json.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_ends_differ_in_both_forms() {
        assert_eq!(message(Form::Events, b"{\"a\":1}"), "data: {\"a\":1}\n\n");
        assert_eq!(end(Form::Events, &json!({})), "event: end\ndata: {}\n\n");
        assert_eq!(message(Form::Enveloped, b"{}")[..], *b"\0\0\0\0\x02{}");
        assert_eq!(end(Form::Enveloped, &json!({}))[..], *b"\x02\0\0\0\x02{}");
    }
}
