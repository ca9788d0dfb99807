//! The status of a running process's configuration, as `check --running` shows it.

use super::Problem;
use jiff::Timestamp;

/// How the configuration of a running process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// 1 at the start, and one more with each configuration that has come into force since.
    pub generation: u64,
    /// When the one in force was read.
    pub loaded_at: Timestamp,
    /// The keys of what only a restart brings into force.
    pub needs_restart: Vec<&'static str>,
    /// Why what is in the file now is not in force.
    pub fault: Option<Fault>,
}

/// Why what is in a file is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it was read.
    pub at: Timestamp,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

impl Standing {
    /// At the start.
    pub fn first(loaded_at: Timestamp) -> Self {
        Self { generation: 1, loaded_at, needs_restart: Vec::new(), fault: None }
    }
}
