//! Reads a request's message, calls the method through the relay's gate, and answers.

use crate::{
    codec::Messages,
    contracts, envelope,
    fault::{self, Fault},
    json,
    request::{self, Asked, Form, Message},
    stream::{self, Answer},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use std::time::Duration;
use talaria_relay::{Admitted, Api};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, body::Body, client::Grpc};

/// The longest message, as of gRPC.
const LONGEST: usize = 4 * 1024 * 1024;

/// The longest form: a page's rows, each selected.
const LONGEST_FORM: usize = 64 * 1024;

/// For a body to arrive whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request for a method, which has the extension of its connection.
pub(crate) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let is_enveloped = request::is_enveloped(request.headers());
    match answered(api, request).await {
        Ok(response) => response,
        Err(fault) if is_enveloped && !fault.is_of_http() => stream::refused(&fault),
        Err(fault) => fault.response(),
    }
}

async fn answered(api: &Api, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    // First, so that no body of a client without a token is read.
    let admitted = api.admit(&request)?;
    let (head, body) = request.into_parts();
    // The health service, which the gate admits, has no JSON.
    let not_found = || Fault::new(Code::Unimplemented, "this relay has no such method");
    let method = contracts::method(head.uri.path()).ok_or_else(not_found)?;
    let Asked { form, message, timeout } = request::read(&method, &head)?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let called = async {
        let json = match message {
            Message::Query(json) => json,
            Message::Body => read(body, form).await?,
        };
        let message = json::read(method.input(), &json)?;
        call(admitted, method, message, form, deadline).await
    };
    match deadline {
        Some(deadline) => timeout_at(deadline, called).await.unwrap_or_else(|_| Err(Fault::timed_out())),
        None => called.await,
    }
}

/// The JSON in a body.
async fn read(body: Incoming, form: Form) -> Result<Bytes, Fault> {
    if form == Form::Enveloped {
        return envelope::only(&whole(body, LONGEST + envelope::HEAD).await?);
    }
    whole(body, LONGEST).await
}

/// The fields of a form of HTML, encoded.
pub(crate) async fn read_form(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Fault> {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let form = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !form.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        let message = "a form is application/x-www-form-urlencoded";
        return Err(Fault::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, message));
    }
    whole(body, LONGEST_FORM).await
}

async fn whole(body: Incoming, most: usize) -> Result<Bytes, Fault> {
    let Ok(body) = timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await else {
        let message = format!("the body did not arrive within {BODY_TIMEOUT:?}");
        return Err(Fault::new(Code::DeadlineExceeded, message));
    };
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the message has more than {most} bytes");
            Fault::http(StatusCode::PAYLOAD_TOO_LARGE, None, message).with(Code::ResourceExhausted)
        } else {
            Fault::invalid("the body ended early")
        }
    })?;
    Ok(body.to_bytes())
}

async fn call(
    admitted: Admitted,
    method: MethodDescriptor,
    message: DynamicMessage,
    form: Form,
    deadline: Option<Instant>,
) -> Result<Response<Body>, Fault> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse::<PathAndQuery>();
    let path = path.map_err(|error| Fault::new(Code::Internal, format!("no path: {error}")))?;
    let mut services = Grpc::new(admitted);
    let request = tonic::Request::new(message);
    if form == Form::Unary {
        let answer = services.unary(request, path, Messages(method)).await?;
        return Ok(fault::answer(json::write(answer.get_ref())?));
    }
    let answer = services.server_streaming(request, path, Messages(method)).await?;
    Ok(Answer { messages: answer.into_inner(), form, deadline }.response())
}
