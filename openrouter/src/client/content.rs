//! The file that a job made, piece by piece.
//!
//! OpenRouter's answer may have no length, break off, or be a page or an error. So it is bounded in bytes and in time, and only what
//! looks like media is handed on: by its type, or by its first bytes.

use super::{Call, Client, encoded, is_job_id, policy};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use talaria_core::config::Api;
use talaria_outbound::{Exchange, Opened};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

/// To the head of the answer, and between two pieces.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// For the whole file, however slowly its reader takes it.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// The bytes that say what a file is.
const MAGIC: usize = 8;

/// The type of a file whose own is not known.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Why there is no file, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContentError {
    /// OpenRouter has no such file, or has it no longer.
    #[error("OpenRouter does not have the file: it answers {0}")]
    NotFound(u16),
    /// It is longer than this, in bytes.
    #[error("the file is longer than {0} bytes")]
    TooLong(u64),
    /// OpenRouter was not reached, refused, or sent something else.
    #[error("{0}")]
    Failed(String),
}

/// A file that is being read. Dropping it ends the exchange.
#[derive(Debug)]
pub struct Content {
    /// `video/…`, `audio/…`, `image/…`, or `application/octet-stream`.
    pub media_type: String,
    /// Its length, if OpenRouter says it.
    pub length: Option<u64>,
    /// Pieces that were read already.
    read: VecDeque<Bytes>,
    opened: Opened,
    /// Bytes that may still come.
    left: u64,
    most: u64,
    end: Instant,
    /// Runs while the next piece is awaited.
    idle: Option<Pin<Box<Sleep>>>,
}

impl Client {
    /// Asks for a job's file of this number, of at most so many bytes. The head and the first bytes have come when this returns.
    pub async fn content(
        &self,
        api: &Api,
        openrouter_id: &str,
        index: u8,
        most: u64,
    ) -> Result<Content, ContentError> {
        if !is_job_id(openrouter_id) {
            return Err(ContentError::Failed("this cannot be the id of a job".into()));
        }
        let call = Call::get(&format!("videos/{}/content?index={index}", encoded(openrouter_id)));
        let request = call.request(api).map_err(|why| ContentError::Failed(why.into()))?;
        let opened = match self.clients.open(&policy(api), request, IDLE_TIMEOUT).await {
            Ok(opened) => opened,
            Err(Exchange::NotSent(why) | Exchange::NotAllowed(why)) => {
                return Err(ContentError::Failed(format!("OpenRouter cannot be asked for the file: {why}")));
            }
            Err(Exchange::Lost(why)) => {
                return Err(ContentError::Failed(format!("OpenRouter's answer was lost: {why}")));
            }
            Err(Exchange::Answered(answer)) => {
                return Err(ContentError::Failed(format!("OpenRouter answers {}", answer.status)));
            }
        };
        let (declared, length) = head(opened.status, &opened.headers, most)?;
        let mut content = Content {
            media_type: String::new(),
            length,
            read: VecDeque::new(),
            opened,
            left: most,
            most,
            end: Instant::now() + TIMEOUT,
            idle: None,
        };
        let first = content.first().await?;
        content.media_type = media_type(declared, &first)?;
        Ok(content)
    }
}

impl Content {
    /// Reads the first bytes. They stay to be read.
    async fn first(&mut self) -> Result<Bytes, ContentError> {
        let mut first = BytesMut::new();
        while first.len() < MAGIC {
            let Some(chunk) = poll_fn(|cx| self.poll_next(cx)).await else { break };
            let chunk = chunk?;
            first.extend_from_slice(chunk.get(..MAGIC.min(chunk.len())).unwrap_or_default());
            self.read.push_back(chunk);
        }
        Ok(first.freeze())
    }

    /// The next piece; `None` at the end of the file. After an error the rest is missing.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ContentError>>> {
        match self.read.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None => self.poll_next(cx),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ContentError>>> {
        let Poll::Ready(chunk) = self.opened.poll_chunk(cx) else {
            let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_TIMEOUT)));
            ready!(idle.as_mut().poll(cx));
            return broken(&format!("nothing came for {IDLE_TIMEOUT:?}"));
        };
        self.idle = None;
        let chunk = match chunk {
            None => return Poll::Ready(None),
            Some(Ok(chunk)) => chunk,
            Some(Err(why)) => return broken(&why),
        };
        if Instant::now() > self.end {
            return broken(&format!("the file was not whole within {TIMEOUT:?}"));
        }
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(chunk)))
            }
            None => Poll::Ready(Some(Err(ContentError::TooLong(self.most)))),
        }
    }
}

fn broken(why: &str) -> Poll<Option<Result<Bytes, ContentError>>> {
    Poll::Ready(Some(Err(ContentError::Failed(format!("OpenRouter's answer broke off: {why}")))))
}

/// The declared type of media and the length, by the head of an answer.
fn head(status: u16, headers: &HeaderMap, most: u64) -> Result<(Option<String>, Option<u64>), ContentError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match status {
        200 => {}
        404 | 410 => return Err(ContentError::NotFound(status)),
        300..=399 => {
            let why = format!("OpenRouter answers {status}, a redirect, which is not followed with the key");
            return Err(ContentError::Failed(why));
        }
        _ => return Err(ContentError::Failed(format!("OpenRouter answers {status}"))),
    }
    let coding = text(header::CONTENT_ENCODING).trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return Err(ContentError::Failed("OpenRouter's answer is compressed".into()));
    }
    let length: Option<u64> = text(header::CONTENT_LENGTH).parse().ok();
    if length.is_some_and(|length| length > most) {
        return Err(ContentError::TooLong(most));
    }
    Ok((declared_media(text(header::CONTENT_TYPE)), length))
}

/// The type without its parameters, if it is one of media. A browser runs scripts in SVG.
fn declared_media(content_type: &str) -> Option<String> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, format) = essence.split_once('/')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
    let is_media = matches!(kind, "video" | "audio" | "image")
        && !format.is_empty()
        && format.bytes().all(is_token)
        && format != "svg+xml";
    is_media.then_some(essence)
}

/// The type of a file by its first 16 bytes; `application/octet-stream` where they do not tell.
pub fn known_type(first: &[u8]) -> &'static str {
    let at = |from: usize, bytes: &[u8]| first.get(from..).is_some_and(|rest| rest.starts_with(bytes));
    match () {
        () if at(4, b"ftypqt") => "video/quicktime",
        () if at(4, b"ftypavif") => "image/avif",
        () if at(4, b"ftypM4A") => "audio/mp4",
        // The head of a box of MP4.
        () if at(4, b"ftyp") => "video/mp4",
        // EBML's, which Matroska has too.
        () if at(0, b"\x1a\x45\xdf\xa3") => "video/webm",
        () if at(0, b"\x89PNG\r\n\x1a\n") => "image/png",
        () if at(0, b"\xff\xd8\xff") => "image/jpeg",
        () if at(0, b"GIF8") => "image/gif",
        () if at(0, b"RIFF") && at(8, b"WEBP") => "image/webp",
        () if at(0, b"RIFF") && at(8, b"WAVE") => "audio/wav",
        () if at(0, b"ID3") || at(0, b"\xff\xfb") => "audio/mpeg",
        () if at(0, b"OggS") => "audio/ogg",
        () => UNKNOWN_TYPE,
    }
}

/// The type of a file with these first bytes.
fn media_type(declared: Option<String>, first: &[u8]) -> Result<String, ContentError> {
    if first.is_empty() {
        return Err(ContentError::Failed("OpenRouter's answer is empty".into()));
    }
    if let Some(declared) = declared {
        return Ok(declared);
    }
    // MP4 and QuickTime begin with a box of this type, WebM and Matroska with EBML's header.
    if first.get(4..8) == Some(b"ftyp") || first.starts_with(b"\x1a\x45\xdf\xa3") {
        return Ok(UNKNOWN_TYPE.to_owned());
    }
    Err(ContentError::Failed("OpenRouter's answer is no file of media".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn media_is_known_by_its_type_or_its_first_bytes() {
        let read = |content_type: &str, first: &[u8]| media_type(declared_media(content_type), first).ok();
        let (mp4, webm) = (b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3....");
        for (content_type, first, expected) in [
            ("video/mp4", &b"x"[..], Some("video/mp4")),
            ("Video/MP4; codecs=\"avc1\"", b"x", Some("video/mp4")),
            ("audio/mpeg", b"x", Some("audio/mpeg")),
            ("image/png", b"x", Some("image/png")),
            ("video/mp4", b"", None),
            ("application/octet-stream", mp4, Some(UNKNOWN_TYPE)),
            ("", webm, Some(UNKNOWN_TYPE)),
            ("text/html", mp4, Some(UNKNOWN_TYPE)),
            ("image/svg+xml", b"<svg xmlns", None),
            ("text/html; charset=utf-8", b"<!DOCTYPE", None),
            ("application/json", b"{\"error\":", None),
            ("application/octet-stream", b"{\"error\":", None),
            ("application/octet-stream", b"\x1a\x45", None),
            ("video/", b"x", None),
            ("video/a b", b"x", None),
            ("videos/mp4", b"x", None),
        ] {
            assert_eq!(read(content_type, first).as_deref(), expected, "{content_type}");
        }
    }

    #[test]
    fn the_type_of_a_kept_file_is_in_its_first_bytes() {
        for (first, expected) in [
            (&b"\0\0\0\x18ftypisom\0\0\0\0"[..], "video/mp4"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0", "video/quicktime"),
            (b"\x1a\x45\xdf\xa3....", "video/webm"),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
            (b"RIFF\0\0\0\0AVI LIST", UNKNOWN_TYPE),
            (b"<!DOCTYPE html>", UNKNOWN_TYPE),
            (b"", UNKNOWN_TYPE),
        ] {
            assert_eq!(known_type(first), expected, "{first:?}");
        }
    }

    #[test]
    fn a_head_says_whether_there_is_a_file() {
        let read = |status, name: &'static str, value: &'static str| {
            let headers = [(name.parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect();
            head(status, &headers, 1_000)
        };
        assert_eq!(read(200, "content-length", "1000"), Ok((None, Some(1_000))));
        assert_eq!(read(200, "content-type", "video/mp4"), Ok((Some("video/mp4".into()), None)));
        assert_eq!(read(200, "content-encoding", "identity"), Ok((None, None)));
        assert_eq!(read(200, "content-length", "1001"), Err(ContentError::TooLong(1_000)));
        for (status, expected) in
            [(404, "does not have the file"), (410, "does not have the file"), (307, "a redirect")]
        {
            assert!(read(status, "a", "b").unwrap_err().to_string().contains(expected), "{status}");
        }
        for status in [201, 206, 400, 401, 403, 429, 500, 502] {
            let failed = ContentError::Failed(format!("OpenRouter answers {status}"));
            assert_eq!(read(status, "a", "b"), Err(failed));
        }
        assert!(read(200, "content-encoding", "gzip").unwrap_err().to_string().contains("compressed"));
    }
}
