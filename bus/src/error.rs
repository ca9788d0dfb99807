//! What went wrong, as callers hear it.

use crate::sqlite;
use thiserror::Error;

/// Why the bus could not do what was asked. Nothing was changed; asking again later is right.
#[derive(Clone, Debug, Error)]
#[error("the bus is unavailable: {reason}")]
pub struct Error {
    pub(crate) reason: String,
    too_large: bool,
}

impl Error {
    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
    pub(crate) fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), too_large: false }
    }

    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        let reason = format!("{size} bytes are more than its largest message of {limit}");
        Self { reason, too_large: true }
    }

    /// Whether it can never take this, because it is too large.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        if error.is_damage() {
            return Self::new(format_args!(
                "{error}; restore bus.db from a backup, or move it away to begin anew; see docs/errors/bus-damaged.md"
            ));
        }
        Self::new(error)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        sqlite::Error::from(error).into()
    }
}
