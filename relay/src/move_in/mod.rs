//! Moving an embedded bus to NATS: its events as they are, and its journal divided among the partitions.
//!
//! [`divide`] decides which records go to which partition. This file reads the bus and sends everything. All or nothing of a bus
//! moves in.

pub(crate) mod divide;

use divide::{Division, Survey, TooLarge};
use std::path::Path;
use talaria_bus::{BackupError, BusFile, Incoming, MoveIn};
use talaria_core::config;
use talaria_proto::v1::Commit;

/// A bus that has moved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovedIn {
    /// Events and quarantined callbacks.
    pub events: u64,
    /// Commits of its journal.
    pub commits: u64,
    /// The partitions with a tenant of it.
    pub partitions: usize,
}

/// Why a bus did not move in.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The bus that moves.
    #[error(transparent)]
    File(#[from] BackupError),
    /// The server, or its streams.
    #[error(transparent)]
    Bus(#[from] talaria_bus::Error),
    /// A message is larger than the server takes.
    #[error(
        "{what} has {size} bytes, and the NATS server takes {limit}: set a larger max_payload in its configuration, and try again"
    )]
    TooLarge {
        /// The message.
        what: String,
        /// Its bytes.
        size: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// It broke off, and everything that had come was removed.
    #[error(
        "{0}; nothing has moved: the streams are without messages again, and the file is as it was. Try again"
    )]
    Undone(Box<Self>),
    /// It broke off, and so did the removal.
    #[error(
        "{why}; nothing has moved, and the streams could not be removed: {undo}. Relays and ingresses refuse them; try again, which \
         removes them first"
    )]
    Left {
        /// Why it broke off.
        why: Box<Self>,
        /// Why the streams were not removed.
        undo: talaria_bus::Error,
    },
    /// All is there, and the streams may not be in use yet.
    #[error(
        "{0}; everything has moved, and the streams may not be ready. Try again: it begins from the start, or says that the streams have \
         messages, and then they are ready"
    )]
    NotFinished(talaria_bus::Error),
}

impl MoveError {
    fn too_large(what: String, TooLarge { size, limit }: TooLarge) -> Self {
        Self::TooLarge { what, size, limit }
    }
}

/// Moves the bus in a file into the streams of a NATS server, which must never have had a message. No process may use any of them.
/// The file stays as it is.
pub async fn move_in(file: &Path, nats: &config::Nats) -> Result<MovedIn, MoveError> {
    let file = BusFile::open(file)?;
    let mut target = MoveIn::open(nats).await?;
    // Reads all of it, so that a damaged file changes nothing.
    let survey = survey(&file, target.largest())?;
    match send(&file, &mut target, survey).await {
        Ok(moved) => target.finish().await.map(|()| moved).map_err(MoveError::NotFinished),
        Err(why) => match target.undo().await {
            Ok(()) => Err(MoveError::Undone(Box::new(why))),
            Err(undo) => Err(MoveError::Left { why: Box::new(why), undo }),
        },
    }
}

fn survey(file: &BusFile, largest: usize) -> Result<Survey, MoveError> {
    let mut survey = Survey::default();
    let mut after = 0;
    loop {
        let events = file.events(after)?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for stored in events {
            let (tenant, size) = match &stored.what {
                Incoming::Event(event) => (&event.tenant, prost::Message::encoded_len(&**event)),
                Incoming::Quarantined(callback) => {
                    (&callback.tenant, prost::Message::encoded_len(&**callback))
                }
                Incoming::Unreadable => continue,
            };
            if size > largest {
                let too_large = TooLarge { size, limit: largest };
                return Err(MoveError::too_large(format!("event {}", stored.seq), too_large));
            }
            survey.event(stored.seq, tenant);
        }
    }
    each_commit(file, |_, commit| survey.commit(&commit))?;
    Ok(survey)
}

fn each_commit(file: &BusFile, mut each: impl FnMut(u64, Commit)) -> Result<(), BackupError> {
    let mut after = 0;
    loop {
        let commits = file.commits(after)?;
        let Some((last, _)) = commits.last() else { return Ok(()) };
        after = *last;
        for (seq, commit) in commits {
            each(seq, commit);
        }
    }
}

/// Sends everything and waits until it is stored.
async fn send(file: &BusFile, target: &mut MoveIn, survey: Survey) -> Result<MovedIn, MoveError> {
    target.begin(file.first_event()).await?;
    let mut moved = MovedIn { partitions: survey.partitions().count(), ..MovedIn::default() };
    // Before the journal, whose records need them.
    let mut after = 0;
    loop {
        let events = file.events(after)?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for stored in &events {
            target.event(stored).await?;
        }
        moved.events += events.len() as u64;
    }
    let mut division = Division::new(survey, target.largest());
    let mut after = 0;
    loop {
        let commits = file.commits(after)?;
        let Some((last, _)) = commits.last() else { break };
        after = *last;
        moved.commits += commits.len() as u64;
        for (seq, commit) in commits {
            let parts = division.commit(seq, commit);
            for (partition, commit) in
                parts.map_err(|large| MoveError::too_large(format!("a record of commit {seq}"), large))?
            {
                target.commit(partition, &commit).await?;
            }
        }
    }
    for (partition, commit) in division.end() {
        target.commit(partition, &commit).await?;
    }
    target.store().await?;
    Ok(moved)
}
