//! The whole contents of a bus in a file that no process uses: a backup, or the `bus.db` of a stopped Talaria. The file and its
//! directory are only read.

use super::{
    backup::{BackupError, cannot},
    restore::{is_bus, is_without_log},
    store::{Reach, reaches},
};
use crate::{Incoming, Stored, identity};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use std::{
    error::Error,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use talaria_proto::v1::{Commit, Event, QuarantinedCallback};

/// The first bytes of each SQLite file.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The most bytes of one page of messages, or one message.
const PAGE: usize = 4 << 20;

/// Whether a file is one of SQLite's, as an embedded bus is.
pub fn is_bus_file(file: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    File::open(file).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == MAGIC
}

/// A bus in a file.
#[derive(Debug)]
pub struct BusFile {
    path: PathBuf,
    connection: Connection,
    events: Reach,
}

impl BusFile {
    /// Checks that the file is a whole bus of this version that no process uses.
    pub fn open(file: &Path) -> Result<Self, BackupError> {
        Self::try_open(file).map_err(|why| cannot("read", file, &why))
    }

    fn try_open(file: &Path) -> Result<Self, Box<dyn Error>> {
        // Reading a pipe would block.
        if !file.metadata()?.is_file() {
            return Err("it is no file".into());
        }
        if file.parent().is_some_and(identity::is_locked) {
            return Err("a Talaria is running in its directory: stop that first".into());
        }
        is_without_log(file)?;
        // Immutable, or SQLite would create files beside one with a log, which may be in a directory that it may not write.
        let path = file.canonicalize()?;
        let url = format!("file:{}?immutable=1", encoded(path.to_str().ok_or("the path is not UTF-8")?));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(url, flags)?;
        is_bus(&connection)?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if check != "ok" {
            return Err(format!("it is damaged: {check}").into());
        }
        let (events, _) = reaches(&connection)?;
        Ok(Self { path: file.to_owned(), connection, events })
    }

    /// The sequence of the first event that was not trimmed; if there is none, the next one that would be given.
    pub fn first_event(&self) -> u64 {
        self.events.first
    }

    /// Some of the events after a sequence, in order; empty if there are no more.
    pub fn events(&self, after: u64) -> Result<Vec<Stored>, BackupError> {
        let select = "SELECT seq, bytes, kind = 0 FROM events WHERE seq > ? ORDER BY seq";
        let events = self.page(select, after, |seq, bytes, row| {
            let what = if row.get(2)? {
                Incoming::Event(Arc::new(Event::decode(bytes)?))
            } else {
                Incoming::Quarantined(Arc::new(QuarantinedCallback::decode(bytes)?))
            };
            Ok(Stored { seq, what })
        });
        let events = events.map_err(|why| cannot("read", &self.path, &why))?;
        let is_next = |(event, expected): (&Stored, u64)| event.seq == expected;
        let first = self.events.first.max(after.saturating_add(1));
        let has_end = !events.is_empty() || first > self.events.last;
        if has_end && events.iter().zip(first..).all(is_next) {
            Ok(events)
        } else {
            Err(cannot("read", &self.path, &format_args!("events after {after} are missing in it")))
        }
    }

    /// Some of the commits after a sequence, in order; empty if there are no more.
    pub fn commits(&self, after: u64) -> Result<Vec<(u64, Commit)>, BackupError> {
        let select = "SELECT seq, bytes FROM commits WHERE seq > ? ORDER BY seq";
        let commits = self.page(select, after, |seq, bytes, _| Ok((seq, Commit::decode(bytes)?)));
        commits.map_err(|why| cannot("read", &self.path, &why))
    }

    /// Rows from a sequence on, by their first two columns, until they have [`PAGE`] bytes.
    fn page<T>(
        &self,
        select: &str,
        after: u64,
        read: impl Fn(u64, &[u8], &rusqlite::Row<'_>) -> Result<T, Box<dyn Error>>,
    ) -> Result<Vec<T>, Box<dyn Error>> {
        let mut statement = self.connection.prepare_cached(select)?;
        let mut rows = statement.query([after])?;
        let (mut page, mut size) = (Vec::new(), 0);
        while size < PAGE
            && let Some(row) = rows.next()?
        {
            let seq = row.get(0)?;
            let bytes = row.get_ref(1)?.as_blob()?;
            size += bytes.len();
            let message = read(seq, bytes, row);
            page.push(message.map_err(|error| format!("message {seq} in it is damaged: {error}"))?);
        }
        Ok(page)
    }
}

/// A path in a URL of SQLite.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bus, Floors, Partition, backup};
    use std::fs;
    use talaria_proto::v1::Record;

    fn event(number: u64) -> Event {
        Event { id: format!("evt_{number}"), tenant: "acme".into(), ..Event::default() }
    }

    /// A bus of five events and three commits, of which two and one were trimmed.
    async fn bus(directory: &Path) -> Bus {
        let bus = Bus::embedded(directory).await.unwrap();
        for number in 1..=4 {
            bus.publisher().publish(event(number)).await.unwrap();
        }
        let callback = QuarantinedCallback { id: "q".into(), ..QuarantinedCallback::default() };
        bus.publisher().quarantine(callback).await.unwrap();
        let mut journal = bus.journal(Partition::ONLY, 0);
        for event_seq in 1..=3 {
            let record = Record { event_seq, ..Record::default() };
            journal.append(Arc::new(Commit { records: vec![record] })).await.unwrap();
        }
        bus.trim(Floors { events: 3, journal: 2 }).await.unwrap();
        bus
    }

    /// The threads of a bus end after it was dropped, and the last one removes the log.
    async fn until_closed(directory: &Path) {
        let closed = async {
            while directory.join("bus.db-wal").exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), closed).await.expect("the log goes");
    }

    fn read(file: &BusFile) -> (Vec<u64>, Vec<(u64, u64)>) {
        let events = file.events(0).unwrap();
        assert!(file.events(events.last().map_or(5, |last| last.seq)).unwrap().is_empty());
        let commits = file.commits(0).unwrap();
        (
            events.iter().map(|event| event.seq).collect(),
            commits.iter().map(|(seq, commit)| (*seq, commit.records[0].event_seq)).collect(),
        )
    }

    #[tokio::test]
    async fn a_backup_and_a_stopped_bus_are_read_and_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        // The name has what a URL would read otherwise.
        let (data, copy) = (directory.path().join("data"), directory.path().join("a ?b#c%41.db"));
        let running = bus(&data).await;
        backup(&data, &copy).unwrap();
        let refused = BusFile::open(&data.join("bus.db")).unwrap_err().to_string();
        assert!(refused.ends_with("a Talaria is running in its directory: stop that first"), "{refused}");
        drop(running);
        until_closed(&data).await;
        for file in [&copy, &data.join("bus.db")] {
            let before = fs::read(file).unwrap();
            assert!(is_bus_file(file));
            let opened = BusFile::open(file).unwrap();
            assert_eq!(opened.first_event(), 3);
            assert_eq!(read(&opened), (vec![3, 4, 5], vec![(2, 2), (3, 3)]));
            assert!(matches!(opened.events(4).unwrap()[0].what, Incoming::Quarantined(_)));
            drop(opened);
            assert_eq!(fs::read(file).unwrap(), before);
        }
        assert!(!data.join("bus.db-shm").exists());
    }

    #[tokio::test]
    async fn a_bus_of_which_all_was_trimmed_begins_after_its_last_event() {
        let directory = tempfile::tempdir().unwrap();
        let bus = bus(directory.path()).await;
        bus.trim(Floors { events: 9, journal: 9 }).await.unwrap();
        drop(bus);
        until_closed(directory.path()).await;
        let file = BusFile::open(&directory.path().join("bus.db")).unwrap();
        assert_eq!((file.first_event(), read(&file)), (6, (vec![], vec![])));
    }

    #[tokio::test]
    async fn what_is_no_whole_bus_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy.db"));
        drop(bus(&data).await);
        let changed = |sql: &str| {
            let _ = fs::remove_file(&copy);
            backup(&data, &copy).unwrap();
            Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
            BusFile::open(&copy)
        };
        let error = changed("PRAGMA user_version = 9").unwrap_err().to_string();
        assert!(error.contains("it has schema 9"), "{error}");
        let error =
            changed("UPDATE events SET bytes = x'0aff' WHERE seq = 4").unwrap().events(0).unwrap_err();
        assert!(error.to_string().contains("message 4 in it is damaged"), "{error}");
        for gap in ["DELETE FROM events WHERE seq = 4", "DELETE FROM events WHERE seq = 5"] {
            let file =
                changed(&format!("{gap}; UPDATE marks SET value = 5 WHERE name = 'last_event'")).unwrap();
            let all = file.events(0).and_then(|page| file.events(page.last().map_or(0, |last| last.seq)));
            assert!(all.unwrap_err().to_string().contains("are missing in it"), "{gap}");
        }
        fs::write(directory.path().join("copy.db-wal"), "x").unwrap();
        assert!(BusFile::open(&copy).unwrap_err().to_string().contains("a bus and no backup"));
        fs::write(directory.path().join("text"), "no database, and long enough").unwrap();
        assert!(!is_bus_file(&directory.path().join("text")) && !is_bus_file(directory.path()));
    }
}
