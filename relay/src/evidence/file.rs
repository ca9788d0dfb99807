//! The file. Attempts are in compressed blocks, several in each: their requests have much in common, and a block costs one row.
//!
//! Commits are not synced: after a power failure evidence may be missing. A damaged file is created again.

use crate::decisions::{
    evidence::{Budget, Observed},
    mask::Mask,
};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use jiff::Timestamp;
use prost::Message;
use rusqlite::{Connection, OpenFlags, Transaction};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    sync::Arc,
};
use talaria_bus::{private::SQLITE_SUFFIXES, sqlite};
use talaria_core::config::Route;
use talaria_proto::v1::AttemptEvidence;

const VERSION: i64 = 1;

/// The keys of 64 blocks are together, so that those of a batch change few pages.
const TABLES: &str = "
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    -- When the newest attempt in it began, in microseconds.
    newest INTEGER NOT NULL,
    -- See `StoredAttempt`.
    data BLOB NOT NULL
);
CREATE TABLE keys (
    chunk INTEGER NOT NULL,
    key INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (chunk, key, block)
) WITHOUT ROWID;
";

/// A block of so many attempts or bytes is full.
const BLOCK: usize = 64;
const BLOCK_BYTES: usize = 256 << 10;

/// In bytes, decompressed: a full block and an attempt with the longest bodies.
const LARGEST_BLOCK: u64 = 8 << 20;

const CHUNK: i64 = 64;

/// The most blocks that are removed in one step.
const STEP: i64 = 64;

/// The most blocks that are read for an answer.
const MOST_BLOCKS: usize = 1000;

/// An attempt in a block, after its length.
#[derive(Clone, PartialEq, Message)]
struct StoredAttempt {
    #[prost(string, tag = "1")]
    delivery: String,
    #[prost(string, tag = "2")]
    tenant: String,
    #[prost(message, optional, tag = "3")]
    evidence: Option<AttemptEvidence>,
}

pub(super) fn remove(path: &Path) {
    for suffix in SQLITE_SUFFIXES {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

pub(super) struct File(Connection);

impl File {
    /// Opens the file, and creates it again if it cannot be used.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        match Self::existing(path) {
            Ok(Some(file)) => Ok(file),
            _ => {
                remove(path);
                let mut connection = connect(path)?;
                let transaction = connection.transaction()?;
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
                Ok(Self(connection))
            }
        }
    }

    fn existing(path: &Path) -> rusqlite::Result<Option<Self>> {
        let connection = connect(path)?;
        let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
        Ok((version == VERSION).then_some(Self(connection)))
    }

    pub(super) fn append(&mut self, batch: impl Iterator<Item = Box<Observed>>) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        let mut block = Block::default();
        // Most attempts of a batch are of few routes, often in a row.
        let mut last: Option<(Arc<Route>, Mask)> = None;
        for observed in batch {
            drop(last.take_if(|(route, _)| !Arc::ptr_eq(route, &observed.route)));
            let (_, mask) =
                last.get_or_insert_with(|| (Arc::clone(&observed.route), Mask::of(&observed.route)));
            block.add(&observed, mask);
            if block.count >= BLOCK || block.data.len() >= BLOCK_BYTES {
                std::mem::take(&mut block).write(&transaction)?;
            }
        }
        block.write(&transaction)?;
        transaction.commit()
    }

    /// In bytes, without free pages and without the log.
    pub(super) fn size(&self) -> rusqlite::Result<u64> {
        let select = "SELECT (page_count - freelist_count) * page_size
                      FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        self.0.prepare_cached(select)?.query_row((), |row| row.get(0))
    }

    /// Removes some blocks from before a time. Whether those were all.
    pub(super) fn remove_some(&mut self, before: Timestamp) -> rusqlite::Result<bool> {
        let select = "SELECT max(id), count(*) FROM (SELECT id, newest FROM blocks ORDER BY id LIMIT ?) WHERE newest < ?";
        let found = self.0.prepare_cached(select)?.query_row((STEP, before.as_microsecond()), |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?))
        })?;
        let (Some(last), count) = found else { return Ok(true) };
        self.remove_through(last)?;
        Ok(count < STEP)
    }

    /// Removes the oldest blocks.
    pub(super) fn remove_oldest(&mut self) -> rusqlite::Result<()> {
        let first: i64 = self.0.query_row("SELECT coalesce(min(id), 0) FROM blocks", (), |row| row.get(0))?;
        self.remove_through(first + STEP / 8 - 1)
    }

    fn remove_through(&mut self, last: i64) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute("DELETE FROM blocks WHERE id <= ?", [last])?;
        transaction.execute("DELETE FROM keys WHERE chunk <= ? AND block <= ?", (last / CHUNK, last))?;
        transaction.commit()
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = sqlite::connect(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1000;
         PRAGMA cache_size = -2048; PRAGMA journal_size_limit = 16777216;",
    )?;
    Ok(connection)
}

#[derive(Default)]
struct Block {
    keys: BTreeSet<i64>,
    newest: i64,
    count: usize,
    data: Vec<u8>,
}

impl Block {
    fn add(&mut self, observed: &Observed, mask: &Mask) {
        let stored = StoredAttempt {
            delivery: observed.delivery.clone(),
            tenant: observed.tenant.clone(),
            evidence: Some(observed.evidence(mask)),
        };
        self.keys.insert(key(&observed.delivery));
        self.newest = self.newest.max(observed.started_at.as_microsecond());
        self.count += 1;
        self.data.extend(stored.encode_length_delimited_to_vec());
    }

    fn write(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let data =
            compressed(&self.data).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let insert = "INSERT INTO blocks (newest, data) VALUES (?, ?)";
        transaction.prepare_cached(insert)?.execute((self.newest, data))?;
        let id = transaction.last_insert_rowid();
        let mut insert = transaction.prepare_cached("INSERT INTO keys VALUES (?, ?, ?)")?;
        for key in self.keys {
            insert.execute((id / CHUNK, key, id))?;
        }
        Ok(())
    }
}

fn compressed(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data)?;
    encoder.finish()
}

/// The number by which a delivery's attempts are found. Others may have the same one.
fn key(delivery: &str) -> i64 {
    let digest = Sha256::digest(delivery);
    digest.iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
}

/// The evidence of a delivery's attempts, newest first, of tenants that the caller sees; of one attempt, unless that is 0.
pub(super) fn read(
    path: &Path,
    delivery: &str,
    attempt: u32,
    sees: &dyn Fn(&str) -> bool,
) -> rusqlite::Result<Vec<AttemptEvidence>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // The blocks stay while they are read.
    let transaction = connection.transaction()?;
    let (mut found, mut budget) = (Vec::new(), Budget::default());
    for block in blocks(&transaction, key(delivery))? {
        let data: Vec<u8> = transaction
            .prepare_cached("SELECT data FROM blocks WHERE id = ?")?
            .query_row([block], |row| row.get(0))?;
        // The newest are at a block's end.
        for stored in attempts(&data).into_iter().rev() {
            if let Some(evidence) =
                stored.evidence.filter(|evidence| attempt == 0 || evidence.number == attempt)
                && stored.delivery == delivery
                && sees(&stored.tenant)
            {
                found.push(budget.admit(evidence));
            }
        }
    }
    Ok(found)
}

/// The blocks that have this key, newest first.
fn blocks(transaction: &Transaction<'_>, key: i64) -> rusqlite::Result<Vec<i64>> {
    let select = "SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM blocks";
    let (first, last): (i64, i64) =
        transaction.query_row(select, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut of_chunk =
        transaction.prepare("SELECT block FROM keys WHERE chunk = ? AND key = ? ORDER BY block DESC")?;
    let mut blocks = Vec::new();
    for chunk in (first / CHUNK..=last / CHUNK).rev() {
        for block in of_chunk.query_map((chunk, key), |row| row.get(0))? {
            if blocks.len() == MOST_BLOCKS {
                return Ok(blocks);
            }
            blocks.push(block?);
        }
    }
    Ok(blocks)
}

/// The attempts of a block, up to where it is damaged.
fn attempts(data: &[u8]) -> Vec<StoredAttempt> {
    let mut raw = Vec::new();
    let _ = ZlibDecoder::new(data).take(LARGEST_BLOCK).read_to_end(&mut raw);
    let (mut rest, mut attempts) = (raw.as_slice(), Vec::new());
    while !rest.is_empty()
        && let Ok(stored) = StoredAttempt::decode_length_delimited(&mut rest)
    {
        attempts.push(stored);
    }
    attempts
}
