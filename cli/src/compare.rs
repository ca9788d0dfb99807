//! Compares the settings in a file with those of a running process.

use crate::{
    Failure,
    reload::{Published, name},
};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};
use talaria_core::config::{
    Difference, Role, Settings,
    reload::needs_restart,
    settings::{differences, is_below},
};

/// The result.
pub(crate) struct Comparison {
    role: Role,
    process: Published,
    /// The keys that loading the file would change.
    differences: BTreeMap<String, Difference>,
}

/// Compares a file's settings with a process', except those that its command line overrides.
pub(crate) fn compare(role: Role, process: Published, file: &Settings) -> Result<Comparison, Failure> {
    let of_file = process.fingerprints(file).ok_or_else(|| anyhow!("the process shows no salt"))?;
    let mut differences = differences(&process.settings, &of_file);
    differences.retain(|key, _| !process.overridden.iter().any(|overridden| is_below(key, overridden)));
    Ok(Comparison { role, process, differences })
}

impl Comparison {
    /// For programs. An invalid file cannot be compared.
    pub(crate) fn json(&self, is_valid: bool) -> Value {
        let difference = |(key, difference): (&String, &Difference)| json!({"key": key, "change": word(*difference), "needsRestart": needs_restart(key, self.role)});
        json!({
            "role": self.process.role,
            "generation": self.process.generation,
            "loadedAt": self.process.loaded_at,
            "same": is_valid.then_some(self.differences.is_empty()),
            "differences": is_valid.then(|| self.differences.iter().map(difference).collect::<Vec<_>>()),
            "overridden": self.process.overridden,
            "fault": self.process.fault,
        })
    }

    /// Fails if the process runs other settings than the file's.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let restart = self.differences.keys().all(|key| needs_restart(key, self.role));
        let help = match (&self.process.fault, restart) {
            (Value::Null, true) => "restart it",
            (Value::Null, false) => {
                "it looks within half a minute, and on SIGHUP at once; is it started with another file?"
            }
            _ => "its log says more",
        };
        Err(anyhow!("the process runs other settings than the file\n  help: {help}").into())
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Published { generation, loaded_at, overridden, fault, .. } = &self.process;
        let same = if self.differences.is_empty() { "the same" } else { "something else" };
        let process = name(self.role);
        writeln!(
            out,
            "`talaria {process}` runs {same}: configuration {generation}, which was read at {loaded_at}"
        )?;
        for (key, difference) in &self.differences {
            let restart = if needs_restart(key, self.role) { " (needs a restart)" } else { "" };
            writeln!(out, "  {} {key}{restart}", word(*difference))?;
        }
        if !overridden.is_empty() {
            writeln!(out, "  set on its command line, and not compared: {}", overridden.join(", "))?;
        }
        for problem in fault["problems"].as_array().into_iter().flatten() {
            let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let (read_at, what) = (text(fault, "at"), text(problem, "what"));
            let at = format!("{}:{}: ", problem["line"], problem["column"]);
            let at = if problem["line"] == 0 { "" } else { &at };
            writeln!(out, "  it refused the file read at {read_at}: {at}{what}")?;
        }
        Ok(())
    }
}

fn word(difference: Difference) -> &'static str {
    match difference {
        Difference::Added => "added",
        Difference::Changed => "changed",
        Difference::Removed => "removed",
    }
}
