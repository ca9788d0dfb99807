//! Reading of request bodies within a limit, a deadline and a budget for all bodies; detection of compression.

use crate::budget::Share;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_ENCODING};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long, and how much, a refused client may continue before the connection is closed. Closing at once would reset the
/// connection, and many clients then never read the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge,
    TooSlow,
    /// The budget for all bodies is used up.
    NoRoom,
    /// The client closed the connection or violated HTTP.
    Broken,
}

/// Reads the whole body. A declared length over the limit is refused at once, but reserves nothing: a client may declare a
/// megabyte and send a byte. `share` grows with the buffer, up to `room` bytes for all bodies.
pub(crate) async fn read(
    mut body: Body,
    limit: usize,
    deadline: Duration,
    share: &mut Share<'_>,
    room: usize,
) -> Result<Bytes, Unread> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let refused = if declared > limit {
        Some(Unread::TooLarge)
    } else {
        (declared > share.room(room)).then_some(Unread::NoRoom)
    };
    if let Some(refused) = refused {
        linger(body);
        return Err(refused);
    }
    let end = Instant::now() + deadline;
    let mut read = BytesMut::new();
    loop {
        let Ok(frame) = timeout_at(end, body.frame()).await else { return Err(Unread::TooSlow) };
        let Some(frame) = frame else { return Ok(read.freeze()) };
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if read.len() + data.len() > limit {
            linger(body);
            return Err(Unread::TooLarge);
        }
        read.extend_from_slice(&data);
        if !share.grow_to(read.capacity(), room) {
            linger(body);
            return Err(Unread::NoRoom);
        }
    }
}

/// The compression of a body, by its head or its first bytes, with which no JSON begins.
pub(crate) fn compression(headers: &HeaderMap, body: &[u8]) -> Option<&'static str> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings =
        lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let is_coding = |coding: &&[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
    // The last coding was applied last.
    let declared = codings.rfind(is_coding).map(|coding| {
        let known =
            [("gzip", "gzip"), ("x-gzip", "gzip"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")];
        let is_name = |(name, _): &&(&str, &'static str)| coding.eq_ignore_ascii_case(name.as_bytes());
        known.iter().find(is_name).map_or("another coding", |(_, name)| name)
    });
    declared.or_else(|| {
        let magic: [(&[u8], _); 2] = [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")];
        magic.into_iter().find(|(magic, _)| body.starts_with(magic)).map(|(_, name)| name)
    })
}

/// Discards a body for a while, so that its client reads the answer.
pub(crate) fn linger(mut body: Body) {
    tokio::spawn(timeout(LINGER, async move {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_compressed_body_is_known_by_its_head_or_by_its_first_bytes() {
        let found = |lines: &[&str], body: &[u8]| {
            let line = |line: &&str| (CONTENT_ENCODING, HeaderValue::from_str(line).unwrap());
            compression(&lines.iter().map(line).collect(), body)
        };
        for (lines, body, expected) in [
            (&[][..], &b"{}"[..], None),
            (&["identity"], b"{}", None),
            (&[""], b"{}", None),
            (&["gzip"], b"{}", Some("gzip")),
            (&["X-GZIP"], b"{}", Some("gzip")),
            (&["deflate"], b"", Some("deflate")),
            (&["gzip, br"], b"", Some("br")),
            (&["gzip", "zstd"], b"", Some("zstd")),
            (&["pied-piper"], b"", Some("another coding")),
            (&[], b"\x1f\x8b\x08", Some("gzip")),
            (&["identity"], b"\x28\xb5\x2f\xfd\x04", Some("zstd")),
        ] {
            assert_eq!(found(lines, body), expected, "{lines:?}");
        }
    }
}
