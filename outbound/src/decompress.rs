//! Compressed answers, by their header Content-Encoding.
//!
//! Requests ask for no compression. A proxy in front of the server may compress anyway, so the two usual codings are decompressed, to
//! at most the longest answer.

use crate::exchange::{Answer, CutShort};
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use std::io::{ErrorKind, Read};

/// Decompresses an answer's body. Keeps at most `cap` bytes.
pub(crate) fn decompress(answer: &mut Answer, codings: &str, cap: usize) {
    let codings: Vec<String> = codings
        .split(',')
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    // A 204 has no body.
    if codings.is_empty() || answer.body.is_empty() {
        return;
    }
    let body = std::mem::take(&mut answer.body);
    let decoded = match codings.join(", ").as_str() {
        "gzip" | "x-gzip" => inflate(GzDecoder::new(&*body), cap),
        // In zlib's format, as in the standard of HTTP, or without it, as some servers send it.
        "deflate" => match inflate(ZlibDecoder::new(&*body), cap) {
            zlib @ Inflated { fault: true, .. } if zlib.body.is_empty() => {
                inflate(DeflateDecoder::new(&*body), cap)
            }
            zlib => zlib,
        },
        other => {
            answer.cut_short = Some(CutShort::Unreadable(format!("it is encoded as {other}")));
            return;
        }
    };
    answer.body = decoded.body;
    if decoded.is_longer {
        answer.cut_short = Some(CutShort::TooLong(cap));
    } else if decoded.fault {
        // If the body broke off, its coding is incomplete, too.
        let damaged = || CutShort::Unreadable(format!("it is said to be {}, and is not", codings.join(", ")));
        answer.cut_short.get_or_insert_with(damaged);
    }
}

struct Inflated {
    body: Vec<u8>,
    is_longer: bool,
    fault: bool,
}

fn inflate(mut from: impl Read, cap: usize) -> Inflated {
    let mut body = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Inflated { body, is_longer: false, fault: false },
            Ok(read) => {
                let room = (cap - body.len()).min(read);
                body.extend_from_slice(chunk.get(..room).unwrap_or_default());
                if read > room {
                    return Inflated { body, is_longer: true, fault: false };
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Inflated { body, is_longer: false, fault: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use std::io::Write as _;

    const CAP: usize = 1000;
    const ANSWER: &[u8] = br#"{"status":"accepted"}"#;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(codings: &str, body: &[u8]) -> (Vec<u8>, Option<CutShort>) {
        let mut answer = Answer { body: body.into(), ..Answer::default() };
        decompress(&mut answer, codings, CAP);
        (answer.body, answer.cut_short)
    }

    #[test]
    fn the_usual_codings_are_decompressed() {
        for (codings, body) in [
            ("", ANSWER.to_vec()),
            ("identity", ANSWER.to_vec()),
            ("gzip", gzip(ANSWER)),
            ("GZIP", gzip(ANSWER)),
            ("x-gzip", gzip(ANSWER)),
            ("identity, gzip", gzip(ANSWER)),
            ("deflate", zlib(ANSWER)),
            ("deflate", deflate(ANSWER)),
        ] {
            assert_eq!(decompressed(codings, &body), (ANSWER.to_vec(), None), "{codings}");
        }
        assert_eq!(decompressed("gzip", b""), (vec![], None), "nothing is encoded in no body");
    }

    #[test]
    fn others_are_named() {
        for codings in ["br", "zstd", "gzip, gzip", "compress"] {
            let expected = CutShort::Unreadable(format!("it is encoded as {codings}"));
            assert_eq!(decompressed(codings, b"\x1b\x00\xff"), (vec![], Some(expected)));
        }
        for codings in ["gzip", "deflate"] {
            let expected = CutShort::Unreadable(format!("it is said to be {codings}, and is not"));
            assert_eq!(decompressed(codings, ANSWER).1, Some(expected));
        }
    }

    #[test]
    fn a_body_that_grows_beyond_the_cap_is_cut() {
        let (body, cut) = decompressed("gzip", &gzip(&b"<".repeat(100 * CAP)));
        assert_eq!((body.len(), cut), (CAP, Some(CutShort::TooLong(CAP))));
        let (body, cut) = decompressed("gzip", &gzip(&[b'<'; CAP]));
        assert_eq!((body.len(), cut), (CAP, None));
    }

    #[test]
    fn a_body_that_broke_off_is_decompressed_up_to_there() {
        let whole = gzip(&(0..900_u32).flat_map(|n| n.to_string().into_bytes()).collect::<Vec<_>>()[..CAP]);
        let early = CutShort::BrokenOff("reset".into());
        let mut answer = Answer {
            body: whole[..whole.len() - 12].into(),
            cut_short: Some(early.clone()),
            ..Answer::default()
        };
        decompress(&mut answer, "gzip", CAP);
        assert_eq!(answer.cut_short, Some(early));
        assert!(answer.body.starts_with(b"0123456789101112"), "{:?}", answer.body);
    }
}
