//! Problems of a configuration, with their location and remedy.

use crate::time::{in_one_unit, parse_duration};
use serde_saphyr::{Location, Spanned};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\n  help: `talaria init` writes one; --config names another", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a valid configuration.
    #[error("{}", Listing { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All problems, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl Error {
    pub(super) fn invalid(path: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self::Invalid { path: path.into(), problems }
    }

    /// All problems, at least one.
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

/// A problem at one location. It never repeats a value that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1; 0 if the problem concerns the file as a whole.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
    /// The problem, with the name of the setting.
    pub what: String,
    /// The remedy.
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

/// A problem of a value, and its remedy.
pub(super) type Fault = (String, String);

/// Collects problems of a compilation: a wrong value is replaced by a fallback, and the compilation fails at its end.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add<T>(&mut self, value: &Spanned<T>, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Problem::at(value.referenced, what, help));
    }

    /// The value, or the fallback if it is missing or not valid.
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

    /// An address to listen on.
    pub(super) fn listen(&mut self, value: Option<&Spanned<String>>, key: &str, port: u16) -> SocketAddr {
        self.or(value, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), |text| {
            text.parse().map_err(|_| {
                let help =
                    format!("write an IP address and a port, such as 127.0.0.1:{port} or [::1]:{port}");
                (format!("{key} is not an address"), help)
            })
        })
    }

    pub(super) fn duration(
        &mut self,
        value: Option<&Spanned<String>>,
        key: &str,
        fallback: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.or(value, fallback, |text| {
            let fault = |what: &str| {
                let (least, most) = (in_one_unit(*range.start()), in_one_unit(*range.end()));
                let help = format!("write a time from {least} to {most}, such as 500ms, 30s, 5m, 2h or 7d");
                (format!("{key} is {what}"), help)
            };
            let duration = parse_duration(text).ok_or_else(|| fault("not a duration"))?;
            if range.contains(&duration) { Ok(duration) } else { Err(fault("out of range")) }
        })
    }
}
