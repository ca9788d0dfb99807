//! A request whose answer is read piece by piece, because it is too long for memory.

use crate::{
    Clients, Policy,
    exchange::{Exchange, Timings, describe},
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use std::{
    fmt,
    pin::pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

/// An answer whose body has not been read. Dropping it closes the connection.
pub struct Opened {
    /// The status.
    pub status: u16,
    /// The headers. The body is as they say: no content coding is undone.
    pub headers: HeaderMap,
    body: Incoming,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Clients {
    /// Sends a request and reads the head of the answer. Redirects are not followed. The error is never [`Exchange::Answered`].
    pub async fn open(
        &self,
        policy: &Policy,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Opened, Exchange> {
        let start = Instant::now();
        let response =
            self.send(start, policy, request, (start + timeout, timeout), &mut Timings::default()).await?;
        let (head, body) = response.into_parts();
        Ok(Opened { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Opened {
    /// The next bytes of the body; `None` at its end. An error if the connection broke off before.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        loop {
            let frame = match ready!(pin!(self.body.frame()).poll(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(describe(&error)))),
            };
            // Trailers are no part of the body.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}
