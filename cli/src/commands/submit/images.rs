//! Images in local files, as data URLs.

use crate::{Failure, args};
use data_encoding::BASE64;
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};
use talaria_core::config::expand_home;
use talaria_proto::v1::ReferenceKind;

/// Bytes of all files of a request. In base64 they fit into a message of NATS with its default limit, 1 MiB.
const MOST_BYTES: u64 = 560 << 10;

/// The first bytes of an image, and its type.
const TYPES: [(&[u8], &str); 4] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
];

/// The images of a request.
#[derive(Default)]
pub(super) struct Images {
    /// Bytes of the files so far.
    bytes: u64,
}

impl Images {
    /// The URL of an image: as it is, or of the file.
    pub(super) fn url(&mut self, option: &str, location: &str) -> Result<String, Failure> {
        if is_url(location) {
            return Ok(location.to_owned());
        }
        let path = expand_home(location);
        let bytes = self.read(option, &path)?;
        let Some(kind) = image_type(&bytes) else {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "{option}: {path} is not an image in PNG, JPEG, WebP or GIF\n  help: convert it, or give an https:// URL"
            )));
        };
        Ok(format!("data:{kind};base64,{}", BASE64.encode(&bytes)))
    }

    /// The URL of a reference. Only images can be files.
    pub(super) fn reference(&mut self, reference: &args::Reference) -> Result<String, Failure> {
        let location = &reference.location;
        match reference.kind {
            ReferenceKind::Image | ReferenceKind::Unspecified => self.url("--reference", location),
            _ if is_url(location) => Ok(location.clone()),
            _ => Err(Failure::Usage(format!(
                "--reference: {location} is not a URL\n  help: OpenRouter takes sound and videos by an https:// URL alone"
            ))),
        }
    }

    fn read(&mut self, option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        let cannot =
            |error: io::Error| Failure::Usage(format!("{option}: cannot read {}: {error}", path.display()));
        let mut bytes = Vec::new();
        let left = MOST_BYTES.saturating_sub(self.bytes);
        let file = File::open(path).map_err(cannot)?;
        let read = file.take(left + 1).read_to_end(&mut bytes).map_err(cannot)? as u64;
        if read > left {
            return Err(Failure::Usage(format!(
                "{option}: with {} the images in files have more than {} KiB together\n  help: make it smaller, or put it where \
                 OpenRouter can fetch it and give its https:// URL",
                path.display(),
                MOST_BYTES >> 10
            )));
        }
        self.bytes += read;
        Ok(bytes)
    }
}

/// A URL has a scheme; a file may have a colon in its name.
fn is_url(location: &str) -> bool {
    location.contains("://") || location.starts_with("data:")
}

fn image_type(bytes: &[u8]) -> Option<&'static str> {
    let of_riff = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let by_magic = || TYPES.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, kind)| *kind);
    if of_riff { Some("image/webp") } else { by_magic() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_type_of_an_image_is_in_its_first_bytes() {
        for (bytes, kind) in [
            (&b"\x89PNG\r\n\x1a\n\0\0"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Some("image/jpeg")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"GIF89a", Some("image/gif")),
            (b"<svg/>", None),
            (b"", None),
        ] {
            assert_eq!(image_type(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn files_become_data_urls_and_urls_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("a:b.png"), b"\x89PNG\r\n\x1a\n").unwrap();
        fs::write(path("note.txt"), b"hello").unwrap();
        let mut images = Images::default();
        assert_eq!(
            images.url("--first-frame", &path("a:b.png")).unwrap(),
            "data:image/png;base64,iVBORw0KGgo="
        );
        for url in ["https://h/a.png", "data:image/png;base64,AA=="] {
            assert_eq!(images.url("--first-frame", url).unwrap(), url);
        }
        for (name, says) in [("note.txt", "is not an image"), ("nowhere", "cannot read")] {
            let failure = images.url("--first-frame", &path(name)).unwrap_err();
            assert!(failure.code() == 2 && failure.to_string().contains(says), "{failure}");
        }
        let of = |kind, location: &str| args::Reference { kind, location: location.to_owned() };
        assert!(images.reference(&of(ReferenceKind::Video, &path("a:b.png"))).is_err());
        assert!(images.reference(&of(ReferenceKind::Audio, "https://h/a.mp3")).is_ok());
        assert!(images.reference(&of(ReferenceKind::Image, &path("a:b.png"))).is_ok());
    }

    #[test]
    fn all_files_together_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.png").display().to_string();
        let half = usize::try_from(MOST_BYTES / 2).unwrap();
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.resize(half, 0);
        fs::write(&path, &bytes).unwrap();
        let mut images = Images::default();
        images.url("--first-frame", &path).unwrap();
        images.url("--last-frame", &path).unwrap();
        let failure = images.url("--reference", &path).unwrap_err().to_string();
        assert!(
            failure.contains("more than 560 KiB together") && failure.contains("https:// URL"),
            "{failure}"
        );
    }
}
