//! Where the bytes of a file come from: OpenRouter, or the files that are kept.

use bytes::Bytes;
use futures_util::Stream as _;
use std::{
    ops::RangeInclusive,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use talaria_bus::{Files, OpenFile};
use talaria_core::media::{Claims, kept_name};
use talaria_openrouter::{Content, ContentError, known_type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, Take},
    time::Instant,
};
use tokio_util::io::ReaderStream;

/// The bytes by which a file's type is known.
const HEAD: usize = 16;

/// For the whole file, however slowly its reader takes it. As for one that is fetched.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

type Bound = Take<Pin<Box<dyn AsyncRead + Send>>>;

/// The bytes of an answer.
pub(super) enum Source {
    Fetched(Box<Content>),
    Kept(Pin<Box<ReaderStream<Bound>>>, Instant),
}

impl Source {
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ContentError>>> {
        match self {
            Self::Fetched(content) => content.poll_chunk(cx),
            Self::Kept(_, end) if Instant::now() > *end => {
                let why = format!("the file was not whole within {TIMEOUT:?}");
                Poll::Ready(Some(Err(ContentError::Failed(why))))
            }
            Self::Kept(stream, _) => stream
                .as_mut()
                .poll_next(cx)
                .map_err(|error| ContentError::Failed(format!("the kept file cannot be read: {error}"))),
        }
    }
}

/// A file that is kept.
pub(super) struct Kept {
    name: String,
    pub size: u64,
    pub media_type: &'static str,
}

/// `None` if the file is not kept.
pub(super) async fn find(files: &Files, claims: &Claims) -> Result<Option<Kept>, String> {
    let name = kept_name(&claims.tenant, &claims.job_id, claims.index.into());
    let opened = files.open(&name, 0).await.map_err(|error| error.to_string())?;
    let Some(OpenFile { size, bytes }) = opened else { return Ok(None) };
    let mut head = Vec::with_capacity(HEAD);
    bytes.take(HEAD as u64).read_to_end(&mut head).await.map_err(|error| error.to_string())?;
    Ok(Some(Kept { name, size, media_type: known_type(&head) }))
}

impl Kept {
    /// The bytes of a range within the file; all where it is `None`.
    pub(super) async fn read(
        &self,
        files: &Files,
        range: Option<&RangeInclusive<u64>>,
    ) -> Result<Option<Source>, String> {
        let (from, length) = range.map_or((0, self.size), |range| (*range.start(), length(range)));
        let opened = files.open(&self.name, from).await.map_err(|error| error.to_string())?;
        let Some(OpenFile { bytes, .. }) = opened else { return Ok(None) };
        let stream = ReaderStream::with_capacity(bytes.take(length), PIECE);
        Ok(Some(Source::Kept(Box::pin(stream), Instant::now() + TIMEOUT)))
    }
}

/// The number of bytes of a range.
pub(super) fn length(range: &RangeInclusive<u64>) -> u64 {
    (range.end() - range.start()).saturating_add(1)
}
