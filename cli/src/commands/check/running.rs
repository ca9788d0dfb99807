//! `talaria check --running`: a file beside what a process runs.

use crate::{
    Failure, client,
    reload::{Shown, name},
};
use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_core::config::{
    Difference, Role, Settings,
    reload::needs_restart,
    settings::{differences, is_below},
};
use url::Url;

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file beside what runs.
pub(in crate::commands) struct Running {
    role: Role,
    shown: Shown,
    /// What the process would do otherwise if it ran the file.
    differences: BTreeMap<String, Difference>,
}

/// What a process shows of its configuration, and what it does. A role that is asked for has to be its own.
pub(in crate::commands) async fn ask(
    path: &Path,
    admin: Option<&Url>,
    role: Option<Role>,
) -> Result<(Role, Shown), Failure> {
    let url = match admin {
        Some(url) => url.clone(),
        None => {
            let address = client::from_here(client::addresses(path)?.admin);
            Url::parse(&format!("http://{address}")).context("admin.listen")?
        }
    };
    let unreachable = |why: String| {
        Failure::Unreachable(format!(
            "cannot ask the process at {url}: {why}\n  help: is it running, and is that its admin.listen? --admin names another"
        ))
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .context("cannot set up the HTTP client")?;
    let cause = |error: reqwest::Error| unreachable(anyhow!(error.without_url()).root_cause().to_string());
    let config = url.join("config").context("the admin port's URL")?;
    let response = client.get(config).send().await.map_err(cause)?;
    let status = response.status();
    let body = response.bytes().await.map_err(cause)?;
    let no_talaria = || unreachable(format!("it answers {status}, and not as Talaria does"));
    let shown: Shown = serde_json::from_slice(&body).map_err(|_| no_talaria())?;
    let its = shown.role().ok_or_else(no_talaria)?;
    match role.filter(|role| *role != its) {
        None => Ok((its, shown)),
        Some(_) => {
            let what = format!("the process at {url} is `talaria {}`: leave --role out", shown.role);
            Err(Failure::Usage(what))
        }
    }
}

pub(in crate::commands) fn compare(role: Role, shown: Shown, file: &Settings) -> Result<Running, Failure> {
    let would_be = shown.fingerprints(file).ok_or_else(|| anyhow!("the process shows no salt"))?;
    let mut differences = differences(&shown.settings, &would_be);
    differences.retain(|key, _| !shown.overridden.iter().any(|overridden| is_below(key, overridden)));
    Ok(Running { role, shown, differences })
}

impl Running {
    /// For programs. Without a valid file there is nothing to compare with.
    pub(in crate::commands) fn json(&self, is_valid: bool) -> Value {
        let difference = |(key, difference): (&String, &Difference)| json!({"key": key, "change": word(*difference), "needsRestart": needs_restart(key, self.role)});
        json!({
            "role": self.shown.role,
            "generation": self.shown.generation,
            "loadedAt": self.shown.loaded_at,
            "same": is_valid.then_some(self.differences.is_empty()),
            "differences": is_valid.then(|| self.differences.iter().map(difference).collect::<Vec<_>>()),
            "overridden": self.shown.overridden,
            "fault": self.shown.fault,
        })
    }

    /// Whether what runs is what the file says; says so, unless that was done already.
    pub(in crate::commands) fn conclude(self, said: bool) -> Result<(), Failure> {
        if !said {
            self.tell()?;
        }
        if self.differences.is_empty() {
            return Ok(());
        }
        let restart = self.differences.keys().all(|key| needs_restart(key, self.role));
        let help = match (&self.shown.fault, restart) {
            (Value::Null, true) => "restart it",
            (Value::Null, false) => {
                "it looks within half a minute, and on SIGHUP at once; is it started with another file?"
            }
            _ => "its log says more",
        };
        Err(anyhow!("what runs is not what the file says\n  help: {help}").into())
    }

    fn tell(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Shown { generation, loaded_at, overridden, fault, .. } = &self.shown;
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
            writeln!(out, "  said on its command line, and not compared: {}", overridden.join(", "))?;
        }
        for problem in fault["problems"].as_array().into_iter().flatten() {
            let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let (read_at, what) = (text(fault, "at"), text(problem, "what"));
            let at = format!("{}:{}: ", problem["line"], problem["column"]);
            let at = if problem["line"] == 0 { "" } else { &at };
            writeln!(out, "  it refuses what it read at {read_at}: {at}{what}")?;
        }
        Ok(())
    }
}

/// What the file would do to it.
fn word(difference: Difference) -> &'static str {
    match difference {
        Difference::Added => "added",
        Difference::Changed => "changed",
        Difference::Removed => "removed",
    }
}
