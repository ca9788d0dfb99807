//! Header names on the wire in the case in which they were written.
//!
//! Hermes' filters compare the names of headers exactly, and HTTP's clients do not care about case: a name in a `HeaderMap` has
//! none. For proxies hyper keeps the case of a message that it reads, in an extension which it writes the message by and which
//! no one else can make. So the names are read once, by hyper, as the head of a request. Writing heads ourselves was the
//! alternative, and would have been a second HTTP client.

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::{Future as _, ready},
    io::Cursor,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Context, Waker},
    time::Duration,
};
use tokio::io::{join, sink};

/// The extensions of a request whose headers are to have these names, each of which is a header's.
pub(super) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Extensions {
    let lines: String = names.clone().map(|name| format!("{name}: -\r\n")).collect();
    let io = TokioIo::new(join(Cursor::new(format!("GET / HTTP/1.1\r\n{lines}\r\n")), sink()));
    let read = Mutex::new(Extensions::new());
    let service = service_fn(|request: Request<Incoming>| {
        read.lock().unwrap_or_else(PoisonError::into_inner).clone_from(request.extensions());
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let mut server = http1::Builder::new();
    server.preserve_header_case(true).max_headers(names.count()).header_read_timeout(None::<Duration>);
    // All of it is in memory, so the head is read and the service called before there is anything to wait for.
    let _ = pin!(server.serve_connection(io, service)).poll(&mut Context::from_waker(Waker::noop()));
    read.into_inner().unwrap_or_else(PoisonError::into_inner)
}
