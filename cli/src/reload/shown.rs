//! What the admin port shows of a configuration: how it stands, and which settings are in force, without a value.
//!
//! `talaria check --running` compares them with a file's, by fingerprints with a salt that each process makes for itself.

use super::Live;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use talaria_core::config::{Fault, Problem, Role, Settings, settings::SALT};

/// What is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// `up`, `ingress` or `relay`.
    pub role: String,
    pub generation: u64,
    /// In RFC 3339.
    pub loaded_at: String,
    pub needs_restart: Vec<String>,
    /// Null unless what is in the file is not in force: when it was read, and everything that is wrong.
    pub fault: Value,
    /// The keys that the command line says something else about.
    pub overridden: Vec<String>,
    /// In hexadecimal digits.
    pub salt: String,
    /// The settings' fingerprints by key.
    pub settings: BTreeMap<String, String>,
}

impl Shown {
    pub(crate) fn new(live: &Live, salt: &[u8; SALT]) -> Self {
        let standing = live.standing.borrow().clone();
        Self {
            role: name(live.role).to_owned(),
            generation: standing.generation,
            loaded_at: standing.loaded_at.to_string(),
            needs_restart: standing.needs_restart.iter().map(ToString::to_string).collect(),
            fault: standing.fault.as_ref().map_or(Value::Null, fault),
            overridden: live.overridden.iter().map(ToString::to_string).collect(),
            salt: HEXLOWER.encode(salt),
            settings: live.settings.borrow().fingerprints(salt),
        }
    }

    /// What the process does; none where it is another program's.
    pub(crate) fn role(&self) -> Option<Role> {
        [Role::Both, Role::Ingress, Role::Relay].into_iter().find(|role| name(*role) == self.role)
    }

    /// The same fingerprints of other settings.
    pub(crate) fn fingerprints(&self, of: &Settings) -> Option<BTreeMap<String, String>> {
        let salt = HEXLOWER.decode(self.salt.as_bytes()).ok()?;
        Some(of.fingerprints(&salt.try_into().ok()?))
    }
}

/// As the command is called.
pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Both => "up",
        Role::Ingress => "ingress",
        Role::Relay => "relay",
        Role::Sender => "send",
    }
}

fn fault(fault: &Fault) -> Value {
    json!({"at": fault.at.to_string(), "problems": problems(&fault.problems)})
}

/// As `talaria check --json` shows them.
pub(crate) fn problems(problems: &[Problem]) -> Vec<Value> {
    let one = |p: &Problem| json!({"line": p.line, "column": p.column, "what": p.what, "help": p.help});
    problems.iter().map(one).collect()
}
