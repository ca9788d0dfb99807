//! The case of header names on the wire.
//!
//! Hermes' filters compare header names exactly, and a name in a `HeaderMap` has no case. For proxies, hyper keeps the case of a
//! message that it reads in an extension, which only hyper can make, and writes the message by it. So hyper reads the names once,
//! as the head of a request. The alternative, writing heads ourselves, would be a second HTTP client.

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

/// The extensions that give headers the case of these names, each of which is a valid header name.
pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Extensions {
    let lines: String = names.clone().map(|name| format!("{name}: -\r\n")).collect();
    let io = TokioIo::new(join(Cursor::new(format!("GET / HTTP/1.1\r\n{lines}\r\n")), sink()));
    let read = Mutex::new(Extensions::new());
    let service = service_fn(|request: Request<Incoming>| {
        read.lock().unwrap_or_else(PoisonError::into_inner).clone_from(request.extensions());
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let mut server = http1::Builder::new();
    server.preserve_header_case(true).max_headers(names.count()).header_read_timeout(None::<Duration>);
    // The input is in memory, so one poll reads the head and calls the service.
    let _ = pin!(server.serve_connection(io, service)).poll(&mut Context::from_waker(Waker::noop()));
    read.into_inner().unwrap_or_else(PoisonError::into_inner)
}
