//! Errors of the bus.

use crate::sqlite;
use std::fmt::Display;
use thiserror::Error;

/// A failure of the bus. Nothing was changed; the caller may retry later.
#[derive(Clone, Debug, Error)]
#[error("the bus is unavailable: {reason}")]
pub struct Error {
    pub(crate) reason: String,
    too_large: bool,
    gone: bool,
}

impl Error {
    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
    pub(crate) fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), too_large: false, gone: false }
    }

    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        let reason = format!("{size} bytes are more than its largest message of {limit}");
        Self { too_large: true, ..Self::new(reason) }
    }

    /// Marks the error of a stream that does not exist any more.
    pub(crate) fn gone(self) -> Self {
        Self { gone: true, ..self }
    }

    pub(crate) fn damaged(error: &impl Display) -> Self {
        Self::new(format_args!(
            "{error}; restore bus.db from a backup, or move it away to begin with an empty one; see docs/errors/bus-damaged.md"
        ))
    }

    /// Whether a working server reported that a stream does not exist any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the argument is too large to ever be stored.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        if error.is_damage() { Self::damaged(&error) } else { Self::new(error) }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        sqlite::Error::from(error).into()
    }
}

/// Why an append ended: the commit is not in the journal, or the relay that took the partition over has read it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// Another owner appended: this process does not own the partition any more.
    #[error("another relay has taken the partition over")]
    Overtaken,
    /// The journal ends before a commit that was acknowledged: the stream lost its end, or it was restored.
    #[error("the journal ends at {last}, and {acknowledged} was acknowledged: the stream lost its end")]
    LostEnd {
        /// The last commit that is there, 0 for none.
        last: u64,
        /// The last one that was acknowledged.
        acknowledged: u64,
    },
    /// The commit is larger than the bus accepts.
    #[error("a commit of {size} bytes is larger than the bus takes, which is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// The bus has stopped.
    #[error("the bus has stopped")]
    Stopped,
}
