//! `talaria.json`: the contents of a backup of NATS.

use super::snapshot::{DATA, Extent, META, Saved};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The file in the directory of a backup.
pub(super) const FILE: &str = "talaria.json";

/// The version of the format. Another one is refused.
const FORMAT: u64 = 1;

/// The contents of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The prefix of all names.
    pub prefix: String,
    /// When it was begun.
    pub time: Timestamp,
    pub streams: Vec<Stream>,
}

/// A stream of a backup. Its files are in a directory of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub name: String,
    pub extent: Extent,
    /// The names of the files, and their SHA-256 in hexadecimal digits.
    pub files: [(&'static str, String); 2],
}

impl Stream {
    pub(super) fn new(name: String, saved: Saved) -> Self {
        Self { name, extent: saved.extent, files: [(META, saved.meta), (DATA, saved.data)] }
    }
}

impl Manifest {
    pub(super) fn text(&self) -> String {
        let streams: Vec<Value> = self.streams.iter().map(stream).collect();
        let document = json!({
            "format": FORMAT,
            "talaria": env!("CARGO_PKG_VERSION"),
            "prefix": self.prefix,
            "time": self.time.to_string(),
            "streams": streams,
        });
        format!("{document:#}\n")
    }

    /// Reads it. An error names the part that is missing.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("{FILE} is damaged: {error}"))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        match document.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => {}
            Some(other) => {
                let by = text("talaria").unwrap_or("another version");
                return Err(format!(
                    "it has format {other}, of Talaria {by}, and this Talaria knows {FORMAT}"
                ));
            }
            None => return Err(format!("{FILE} has no format")),
        }
        let part = |name: &str| format!("{FILE} is damaged: {name}");
        Ok(Self {
            prefix: text("prefix").ok_or_else(|| part("prefix"))?.to_owned(),
            time: text("time").and_then(|time| time.parse().ok()).ok_or_else(|| part("time"))?,
            streams: document
                .get("streams")
                .and_then(Value::as_array)
                .and_then(|streams| streams.iter().map(parsed).collect())
                .ok_or_else(|| part("streams"))?,
        })
    }
}

fn stream(stream: &Stream) -> Value {
    let Extent { messages, first, last, bytes } = stream.extent;
    let hashes: serde_json::Map<_, _> =
        stream.files.iter().map(|(name, hash)| ((*name).to_owned(), hash.as_str().into())).collect();
    json!({
        "name": stream.name, "messages": messages, "first_seq": first, "last_seq": last, "bytes": bytes,
        "sha256": hashes,
    })
}

fn parsed(stream: &Value) -> Option<Stream> {
    let hashes = stream.get("sha256")?;
    let hash = |name: &'static str| Some((name, hashes.get(name)?.as_str()?.to_owned()));
    Some(Stream {
        name: stream.get("name")?.as_str()?.to_owned(),
        extent: Extent::of(&json!({"state": stream}))?,
        files: [hash(META)?, hash(DATA)?],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_every_fault_is_named() {
        let stream = Stream {
            name: "talaria-events".into(),
            extent: Extent { messages: 9, first: 2, last: 10, bytes: 9000 },
            files: [(META, "aa".into()), (DATA, "bb".into())],
        };
        let time = "2026-11-29T03:17:00Z".parse().unwrap();
        let manifest = Manifest { prefix: "talaria".into(), time, streams: vec![stream] };
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text), Ok(manifest));
        for (from, to, why) in [
            ("{", "", "talaria.json is damaged: "),
            ("\"format\": 1", "\"format\": 2", "it has format 2, of Talaria "),
            ("\"format\"", "\"other\"", "no format"),
            ("\"prefix\"", "\"other\"", "damaged: prefix"),
            ("2026-11-29", "yesterday", "damaged: time"),
            ("\"bytes\"", "\"other\"", "damaged: streams"),
            ("\"backup.json\"", "\"other\"", "damaged: streams"),
        ] {
            let error = Manifest::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(why), "{from}: {error}");
        }
    }
}
