//! One stream as two files, by the server's own snapshots: the files of `nats stream backup` and `nats stream restore`.
//!
//! What nats-server 2.15.1 does, as tried with a client that shows every message:
//!
//! - It answers the request for a snapshot with the stream's configuration and state. The chunks that follow hold this state,
//!   although other messages are stored meanwhile.
//! - Each chunk has a reply subject that ends with the chunk's size and number, except the only chunk of an empty stream. An
//!   empty message ends the snapshot: with status 204, or without a status after the chunk of an empty stream.
//! - After 8 MiB without an acknowledgement it waits for 5 s, and ends the snapshot with `408 No Flow Response`.
//! - Between two chunks up to 12 s passed while its disk was busy.
//! - While it restores, the stream exists with the messages that arrived so far, and takes no others: a publisher gets no
//!   responders. If chunks are damaged or stop, **this part of the stream stays**, and has to be removed.
//! - A restored stream has the same sequences, also where messages were removed, and another time of creation. An empty stream has
//!   a first sequence of 0 in the snapshot and of 1 when it is restored.
//! - The archive is one of its own, and no tar archive as before 2.15.

use super::connection::Connection;
use crate::{BackupError, private};
use async_nats::{Message, Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// The file with the stream's configuration and state.
pub(super) const META: &str = "backup.json";

/// The file with its messages.
pub(super) const DATA: &str = "stream.tar.s2";

/// The size of chunks. Any `max_payload` that Talaria works with is larger.
const CHUNK: usize = 128 * 1024;

/// How long the next chunk, or the answer to one, may take.
const CHUNK_DEADLINE: Duration = Duration::from_secs(60);

/// How long the server may take before the first chunk and after the last one. A server before 2.15 reads the whole stream then.
const STREAM_DEADLINE: Duration = Duration::from_secs(600);

/// How long a subject may be unknown that another server of a cluster named.
const SUBJECT_DEADLINE: Duration = Duration::from_secs(5);

/// The number of JetStream's error for a stream that does not exist.
const NOT_FOUND: u64 = 10059;

/// Why a question to JetStream has no good answer.
#[derive(Debug)]
pub(super) struct Refused {
    /// Whether the stream does not exist.
    pub is_missing: bool,
    pub why: String,
}

/// The messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub messages: u64,
    pub first: u64,
    pub last: u64,
    pub bytes: u64,
}

impl Extent {
    /// Reads the state out of an answer about a stream.
    pub(super) fn of(answer: &Value) -> Option<Self> {
        let state = answer.get("state")?;
        let number = |name: &str| state.get(name)?.as_u64();
        Some(Self {
            messages: number("messages")?,
            first: number("first_seq")?,
            last: number("last_seq")?,
            bytes: number("bytes")?,
        })
    }

    /// Whether a stream with this extent never had a message.
    pub(super) fn is_new(self) -> bool {
        self.messages == 0 && self.last == 0
    }

    /// Whether both have the same messages. The first sequence of an empty stream means nothing.
    pub(super) fn has_the_same(self, other: Self) -> bool {
        let first = |extent: Self| if extent.messages == 0 { 0 } else { extent.first };
        (self.messages, first(self), self.last) == (other.messages, first(other), other.last)
    }
}

/// A stream that was written into files.
#[derive(Debug)]
pub(super) struct Saved {
    pub extent: Extent,
    /// The SHA-256 of the files, in hexadecimal digits.
    pub meta: String,
    pub data: String,
}

/// Why a stream was not restored.
#[derive(Debug)]
pub(super) struct NotRestored {
    /// Whether a part of it may exist now.
    pub has_begun: bool,
    pub error: BackupError,
}

/// Asks JetStream. The answer is not decoded into async-nats' types, which would drop settings that they do not know.
pub(super) async fn ask(connection: &Connection, what: &str, question: &Value) -> Result<Value, Refused> {
    ask_for(connection, what, question, CHUNK_DEADLINE).await
}

async fn ask_for(
    connection: &Connection,
    what: &str,
    question: &Value,
    deadline: Duration,
) -> Result<Value, Refused> {
    let refused = |why: &dyn Display| Refused { is_missing: false, why: why.to_string() };
    let subject = format!("$JS.API.{what}");
    let not_permitted = connection.refused(&subject);
    let request = Request::new().payload(question.to_string().into()).timeout(Some(deadline));
    let answer = connection.unless_lost(connection.client.send_request(subject, request));
    let answer = tokio::select! {
        answer = answer => answer.map_err(|error| refused(&error.reason))?,
        why = not_permitted => return Err(refused(&why)),
    };
    let answer = answer.map_err(|error| refused(&error))?;
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| refused(&error))?;
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let is_missing = error.get("err_code").and_then(Value::as_u64) == Some(NOT_FOUND);
    let why = error.get("description").and_then(Value::as_str).unwrap_or("an error without a description");
    Err(Refused { is_missing, why: why.to_owned() })
}

/// Writes a stream into a directory, which is created.
pub(super) async fn save(
    connection: &Connection,
    stream: &str,
    directory: &Path,
) -> Result<Saved, BackupError> {
    let failed = |why: &dyn Display| {
        let what = format_args!("cannot back up the stream {stream}");
        BackupError(connection.error(&what, why).reason)
    };
    private::directory(directory).map_err(|error| failed(&error))?;
    let to = connection.client.new_inbox();
    // Before the request: the server handles a client's messages in order.
    let mut chunks = connection.client.subscribe(to.clone()).await.map_err(|error| failed(&error))?;
    let question = json!({"deliver_subject": to, "no_consumers": true, "chunk_size": CHUNK, "jsck": true});
    let answer = ask_for(connection, &format!("STREAM.SNAPSHOT.{stream}"), &question, STREAM_DEADLINE).await;
    let answer = answer.map_err(|refused| {
        let help = if refused.is_missing { "; the first `talaria relay` that starts creates it" } else { "" };
        failed(&format_args!("{}{help}", refused.why))
    })?;
    let extent = Extent::of(&answer).ok_or_else(|| failed(&"the server did not say what is in it"))?;
    let mut data = Writer::create(directory.join(DATA)).await.map_err(|error| failed(&error))?;
    let mut numbers = 0;
    loop {
        let next = connection.unless_lost(timeout(CHUNK_DEADLINE, chunks.next())).await;
        let next = next.map_err(|error| failed(&error.reason))?;
        let next = next.map_err(|_| failed(&format_args!("nothing came for {CHUNK_DEADLINE:?}")))?;
        let chunk = next.ok_or_else(|| failed(&"the subscription ended"))?;
        if chunk.payload.is_empty() {
            end(&chunk).map_err(|why| failed(&why))?;
            break;
        }
        data.write(&chunk.payload).await.map_err(|error| failed(&error))?;
        if let Some(reply) = chunk.reply {
            numbers += 1;
            if number(&reply).is_some_and(|number| number != numbers) {
                return Err(failed(&"a part of it did not arrive"));
            }
            // Only now, so that at most the server's window waits in memory.
            let sent = connection.client.publish(reply, Bytes::new()).await;
            sent.map_err(|error| failed(&error))?;
        }
    }
    let data = data.finish().await.map_err(|error| failed(&error))?;
    let mut meta = Writer::create(directory.join(META)).await.map_err(|error| failed(&error))?;
    meta.write(format!("{answer:#}\n").as_bytes()).await.map_err(|error| failed(&error))?;
    let meta = meta.finish().await.map_err(|error| failed(&error))?;
    private::sync(directory).map_err(|error| failed(&error))?;
    Ok(Saved { extent, meta, data })
}

/// Whether the message that ends a snapshot says that it is complete.
fn end(message: &Message) -> Result<(), String> {
    match message.status.map(|status| status.as_u16()) {
        None | Some(204) => Ok(()),
        Some(408) => {
            Err("the server had no acknowledgement for 5 s, because this disk or the network is too slow \
                          (408 No Flow Response)"
                .to_owned())
        }
        Some(status) => Err(format!(
            "the server ended it with {status} {}",
            message.description.as_deref().unwrap_or_default()
        )),
    }
}

/// The number of a chunk, as the end of its reply subject has it.
fn number(reply: &str) -> Option<u64> {
    reply.rsplit('.').next()?.parse().ok()
}

/// Creates a stream with these settings from the file in a directory. Returns its extent.
pub(super) async fn load(
    connection: &Connection,
    stream: &str,
    directory: &Path,
    meta: &Value,
) -> Result<Extent, NotRestored> {
    let has_begun = |has_begun: bool| {
        move |why: &dyn Display| {
            let what = format_args!("cannot restore the stream {stream}");
            NotRestored { has_begun, error: BackupError(connection.error(&what, why).reason) }
        }
    };
    let (not_begun, failed) = (has_begun(false), has_begun(true));
    let mut data = File::open(directory.join(DATA)).await.map_err(|error| not_begun(&error))?;
    let question = json!({"config": meta.get("config"), "state": meta.get("state")});
    let answer = ask(connection, &format!("STREAM.RESTORE.{stream}"), &question).await;
    let answer = answer.map_err(|refused| not_begun(&refused.why))?;
    let to = answer.get("deliver_subject").and_then(Value::as_str);
    let to = to.ok_or_else(|| failed(&"the server names no subject"))?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut part = (&mut data).take(CHUNK as u64);
        let size = part.read_to_end(&mut chunk).await.map_err(|error| failed(&error))?;
        let deadline = if size == 0 { STREAM_DEADLINE } else { CHUNK_DEADLINE };
        let answer = send(connection, to, chunk.into(), deadline).await.map_err(|why| failed(&why))?;
        if size == 0 {
            return Extent::of(&answer).ok_or_else(|| failed(&"the server did not say what is in it"));
        }
    }
}

/// Sends a chunk, and returns the answer, which is empty except for the last one.
async fn send(connection: &Connection, to: &str, chunk: Bytes, deadline: Duration) -> Result<Value, String> {
    let start = Instant::now();
    let answer = loop {
        let request = Request::new().payload(chunk.clone()).timeout(Some(deadline));
        let answer = connection.unless_lost(connection.client.send_request(to.to_owned(), request)).await;
        match answer.map_err(|error| error.reason)? {
            Ok(answer) => break answer,
            Err(error)
                if error.kind() == RequestErrorKind::NoResponders && start.elapsed() < SUBJECT_DEADLINE =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    if answer.payload.is_empty() {
        return Ok(Value::Null);
    }
    let text = String::from_utf8_lossy(&answer.payload);
    let answer: Value = serde_json::from_str(&text).map_err(|_| text.clone().into_owned())?;
    let Some(error) = answer.get("error") else { return Ok(answer) };
    Err(error.get("description").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned))
}

/// The SHA-256 of a file, in hexadecimal digits.
pub(super) async fn digest(file: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut part) = (File::open(file).await?, Sha256::new(), vec![0; CHUNK]);
    loop {
        let size = file.read(&mut part).await?;
        match part.get(..size) {
            Some(part) if !part.is_empty() => hash.update(part),
            _ => return Ok(hexadecimal(&hash.finalize())),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new file that its owner alone can read, with the hash of its contents.
pub(super) struct Writer {
    file: File,
    hash: Sha256,
}

impl Writer {
    pub(super) async fn create(path: PathBuf) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create_new(true).write(true).mode(0o600);
        Ok(Self { file: options.open(path).await?, hash: Sha256::new() })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).await
    }

    /// Makes the file durable. Returns its hash.
    pub(super) async fn finish(mut self) -> std::io::Result<String> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(hexadecimal(&self.hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::StatusCode;

    fn message(status: Option<u16>, description: Option<&str>) -> Message {
        Message {
            subject: "s".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            description: description.map(str::to_owned),
            length: 0,
        }
    }

    #[test]
    fn a_snapshot_is_complete_only_if_its_end_says_nothing_else() {
        assert_eq!(end(&message(None, None)), Ok(()));
        assert_eq!(end(&message(Some(204), None)), Ok(()));
        assert!(end(&message(Some(408), Some("No Flow Response"))).unwrap_err().contains("too slow"));
        let error = end(&message(Some(500), Some("stream snapshot failed"))).unwrap_err();
        assert_eq!(error, "the server ended it with 500 stream snapshot failed");
    }

    #[test]
    fn chunks_have_numbers() {
        assert_eq!(number("$JS.SNAPSHOT.ACK.t-events.NAR5QLnt3Vabsvzkxqjvtl.131072.7"), Some(7));
        assert_eq!(number("$JS.SNAPSHOT.ACK.t-events.x"), None);
    }

    #[test]
    fn streams_are_compared_by_their_messages() {
        let extent = |messages, first, last| Extent { messages, first, last, bytes: messages };
        assert!(extent(0, 0, 0).has_the_same(extent(0, 1, 0)), "an empty one, before and after");
        assert!(extent(0, 101, 100).has_the_same(extent(0, 101, 100)), "one that was trimmed as a whole");
        for other in [extent(8, 2, 10), extent(9, 1, 10), extent(9, 2, 11)] {
            assert!(!extent(9, 2, 10).has_the_same(other), "{other:?}");
        }
        assert!(extent(0, 0, 0).is_new() && !extent(0, 101, 100).is_new());
        let answer = json!({"state": {"messages": 9, "first_seq": 2, "last_seq": 10, "bytes": 9}});
        assert_eq!(Extent::of(&answer), Some(extent(9, 2, 10)));
        assert_eq!(Extent::of(&json!({"state": {}})), None);
    }
}
