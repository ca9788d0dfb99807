//! The body of an answer that is a file, and its account: a count and a line in the log when it is over.

use super::{source::Source, turns::Turn};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use metrics::counter;
use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use talaria_core::media::Claims;
use talaria_openrouter::ContentError;
use talaria_telemetry::LogLimiter;
use tokio::time::Instant;

/// What became of a request for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The file went out whole, or its headers, which were asked for alone.
    Ok,
    /// The link gives nothing: 404, or 405 for another method.
    Refused,
    /// A limit was reached: 429.
    Limited,
    /// OpenRouter has no such file, or no longer: 404.
    Gone,
    /// OpenRouter was not reached, refused, or sent something else, or the kept file could not be read: 502.
    Failed,
    /// The file is too long: 502, or it was cut off.
    TooLong,
    /// OpenRouter's answer broke off, and so did ours.
    BrokenOff,
    /// The client went away.
    Left,
}

impl Outcome {
    /// The metric's label.
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::TooLong => "too_long",
            Self::BrokenOff => "broken_off",
            Self::Left => "left",
        }
    }

    pub(super) fn count(self) {
        counter!("talaria_media_requests_total", "outcome" => self.name()).increment(1);
    }
}

/// The account of a file that may go out. It is closed when it is dropped.
pub(super) struct Account {
    tenant: String,
    job: String,
    index: u8,
    client: IpAddr,
    start: Instant,
    bytes: u64,
    outcome: Outcome,
    why: Option<String>,
    _turn: Turn,
}

impl Account {
    pub(super) fn new(claims: &Claims, client: IpAddr, turn: Turn) -> Self {
        Self {
            tenant: claims.tenant.clone(),
            job: claims.job_id.clone(),
            index: claims.index,
            client,
            start: Instant::now(),
            bytes: 0,
            outcome: Outcome::Left,
            why: None,
            _turn: turn,
        }
    }

    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// There is no file, or not all of it.
    pub(super) fn failed(&mut self, error: &ContentError) {
        self.outcome = match error {
            ContentError::NotFound(_) => Outcome::Gone,
            ContentError::TooLong(_) => Outcome::TooLong,
            ContentError::Failed(_) if self.bytes > 0 => Outcome::BrokenOff,
            ContentError::Failed(_) => Outcome::Failed,
        };
        self.why = Some(error.to_string());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.outcome.count();
        let Self { tenant, job, index, client, bytes, why, .. } = self;
        let outcome = self.outcome.name();
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match why {
            None if self.outcome == Outcome::Ok => {
                tracing::info!(%tenant, %job, index, %client, outcome, bytes, ms, "file sent");
            }
            None => tracing::info!(%tenant, %job, index, %client, outcome, bytes, ms, "file not sent"),
            Some(because) => {
                static FAILED: LogLimiter = LogLimiter::new();
                if let Some(left_out) = FAILED.admit() {
                    tracing::warn!(
                        %tenant, %job, index, %client, outcome, because, bytes, ms, left_out, "file not sent"
                    );
                }
            }
        }
    }
}

/// A file on its way.
pub(super) struct File {
    source: Source,
    /// Its length in bytes, if it is known.
    length: Option<u64>,
    account: Account,
}

impl File {
    pub(super) fn new(source: Source, length: Option<u64>, account: Account) -> Self {
        Self { source, length, account }
    }
}

/// Its length stays unknown to the connection, which takes it from the header: see [`crate::listener`].
impl Body for File {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        let Self { source, length, account } = &mut *self;
        let chunk = match ready!(source.poll_chunk(cx)) {
            None => {
                account.ended(Outcome::Ok);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                account.failed(&error);
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(chunk)) => chunk,
        };
        account.bytes += chunk.len() as u64;
        // The connection does not ask for more than the length.
        if *length == Some(account.bytes) {
            account.ended(Outcome::Ok);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

/// The body of an answer to HEAD. Of unknown length, so that no length of 0 is sent.
pub(super) struct HeadOnly;

impl Body for HeadOnly {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}
