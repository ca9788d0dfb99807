//! What is wrong with a configuration, where, and what to do about it.

use serde_saphyr::{Location, Spanned};
use std::{fmt, io, path::Path, path::PathBuf};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\n  help: `talaria init` writes one; --config names another", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that cannot be.
    #[error("{}", Listing { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl Error {
    pub(super) fn invalid(path: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self::Invalid { path: path.into(), problems }
    }

    /// Everything that is wrong; at least one thing.
    pub fn into_problems(self) -> Vec<Problem> {
        match self {
            Self::Invalid { problems, .. } => problems,
            Self::Unreadable { path, source } => vec![Problem {
                line: 0,
                column: 0,
                what: format!("cannot read {}: {source}", path.display()),
                help: "put it back, readable by the user that Talaria runs as".into(),
            }],
        }
    }
}

/// One thing that is wrong. Values are never repeated in it where they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1; 0 where it concerns the file as a whole.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// What is wrong, with the name of what it concerns.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl Problem {
    pub(super) fn at(location: Location, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { line: location.line(), column: location.column(), what: what.into(), help: help.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        f.write_str(&self.what)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "\n  help: {}", self.help) }
    }
}

struct Listing<'a> {
    path: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            let space = if problem.line == 0 { " " } else { "" };
            write!(f, "{line_break}{}:{space}{problem}", self.path.display())?;
        }
        Ok(())
    }
}

/// What is wrong with a value, and what to do.
pub(super) type Fault = (String, String);

/// Collects problems while a configuration is compiled: what is wrong gives a stand-in, and the whole fails in
/// the end.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add<T>(&mut self, value: &Spanned<T>, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Problem::at(value.referenced, what, help));
    }

    /// The value, or the fallback where there is none or it is not valid.
    pub(super) fn or<T, U>(
        &mut self,
        value: Option<&Spanned<T>>,
        fallback: U,
        read: impl FnOnce(&T) -> Result<U, Fault>,
    ) -> U {
        let Some(spanned) = value else { return fallback };
        match read(&spanned.value) {
            Ok(value) => value,
            Err((what, help)) => {
                self.add(spanned, what, help);
                fallback
            }
        }
    }
}
