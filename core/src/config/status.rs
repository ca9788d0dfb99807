//! The status of a running process' configuration, as `check --running` prints it.

use super::Problem;
use jiff::Timestamp;

/// The status of a running process' configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigStatus {
    /// 1 at the start, and one more with each configuration that has come into force since.
    pub generation: u64,
    /// When the one in force was read.
    pub loaded_at: Timestamp,
    /// The keys of settings that take effect only after a restart.
    pub needs_restart: Vec<&'static str>,
    /// Why the present contents of the file are not in force.
    pub fault: Option<Fault>,
}

/// A file that was read and is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it was read.
    pub at: Timestamp,
    /// All its problems.
    pub problems: Vec<Problem>,
}

impl ConfigStatus {
    /// The status at the start.
    pub fn first(loaded_at: Timestamp) -> Self {
        Self { generation: 1, loaded_at, needs_restart: Vec::new(), fault: None }
    }
}
