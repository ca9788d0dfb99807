//! The page `/config` of the admin port: the status of the configuration, and fingerprints of its settings instead of values.
//!
//! `talaria check --running` compares the fingerprints with a file's. Each process has a random salt for them.

use super::Live;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use talaria_core::config::{Fault, Problem, Role, Settings, settings::SALT};

/// The page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    /// `up`, `ingress` or `relay`.
    pub role: String,
    pub generation: u64,
    /// In RFC 3339.
    pub loaded_at: String,
    pub needs_restart: Vec<String>,
    /// The time and the problems of an invalid file, which is not in force; null for a valid one.
    pub fault: Value,
    /// The keys that the command line overrides.
    pub overridden: Vec<String>,
    /// In hexadecimal digits.
    pub salt: String,
    /// Fingerprints by key.
    pub settings: BTreeMap<String, String>,
}

impl Published {
    pub(crate) fn new(live: &Live, salt: &[u8; SALT]) -> Self {
        let status = live.status.borrow().clone();
        Self {
            role: name(live.role).to_owned(),
            generation: status.generation,
            loaded_at: status.loaded_at.to_string(),
            needs_restart: status.needs_restart.iter().map(ToString::to_string).collect(),
            fault: status.fault.as_ref().map_or(Value::Null, fault),
            overridden: live.overridden.iter().map(ToString::to_string).collect(),
            salt: HEXLOWER.encode(salt),
            settings: live.settings.borrow().fingerprints(salt),
        }
    }

    /// `None` for another program's answer.
    pub(crate) fn role(&self) -> Option<Role> {
        [Role::Both, Role::Ingress, Role::Relay].into_iter().find(|role| name(*role) == self.role)
    }

    /// Fingerprints of other settings with the same salt.
    pub(crate) fn fingerprints(&self, of: &Settings) -> Option<BTreeMap<String, String>> {
        let salt = HEXLOWER.decode(self.salt.as_bytes()).ok()?;
        Some(of.fingerprints(&salt.try_into().ok()?))
    }
}

/// The name of the command.
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

/// Problems in the form of `talaria check --json`.
pub(crate) fn problems(problems: &[Problem]) -> Vec<Value> {
    let one = |p: &Problem| json!({"line": p.line, "column": p.column, "what": p.what, "help": p.help});
    problems.iter().map(one).collect()
}
