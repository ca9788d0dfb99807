//! The command line, as a person and as a script uses it. A file for each command.

mod check;
mod demo;
mod healthcheck;
mod init;
mod render;
mod secrets;
mod status;
mod usage;

use serde_json::Value;
use std::{path::Path, process::Output};
use talaria_tests::binary::run;

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The output of a command that has to succeed.
pub(crate) fn works(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(output.status.success(), "{args:?}: {}", err(&output));
    out(&output)
}

pub(crate) fn json(directory: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&works(directory, args)).unwrap()
}
