//! The change from the configuration in force to a new one.
//!
//! Most settings change. Addresses and files that were opened at the start cannot ([`FIXED`]): they stay, and the status names
//! their keys for a restart. Tenants and routes whose settings did not change keep their `Arc`, so that the state that is
//! attached to them stays valid.

use super::{
    Config, Problem, Role, Tenant,
    settings::{Difference, is_below},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

/// The most names of each kind in a message.
const MOST_NAMES: usize = 20;

/// A setting that stays as it was at the start.
struct Fixed {
    key: &'static str,
    concerns: fn(Role) -> bool,
    is_same: fn(&Config, &Config) -> bool,
    /// Copies it from the configuration in force.
    keep: fn(&mut Config, &Config),
}

macro_rules! fixed {
    ($key:literal, $concerns:expr, $($field:ident).+) => {
        Fixed {
            key: $key,
            concerns: $concerns,
            is_same: |one, other| one.$($field).+ == other.$($field).+,
            keep: |config, running| config.$($field).+.clone_from(&running.$($field).+),
        }
    };
}

const FIXED: [Fixed; 8] = [
    fixed!("ingress.listen", Role::has_ingress, ingress.listen),
    fixed!("relay.grpc", Role::has_relay, relay.grpc),
    fixed!("console.listen", Role::has_relay, console.listen),
    fixed!("admin.listen", |_| true, admin.listen),
    fixed!("tunnel", Role::has_ingress, tunnel),
    fixed!("telemetry", |_| true, telemetry),
    fixed!("bus", |_| true, bus),
    fixed!("data_dir", Role::has_relay, data_dir),
];

/// Whether a setting of this key only changes with a restart of a process with this role.
pub fn needs_restart(key: &str, role: Role) -> bool {
    FIXED.iter().any(|fixed| (fixed.concerns)(role) && is_below(key, fixed.key))
}

/// The result of a reload.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The new configuration, with the fixed settings of the old one.
    pub config: Config,
    /// The keys of fixed settings that differ in the file.
    pub needs_restart: Vec<&'static str>,
    /// The changes, for messages to the operator.
    pub changes: Changes,
}

/// Changes from the configuration in force to a new one with these differences, or returns the problem that forbids it.
pub fn reload(
    role: Role,
    running: &Config,
    mut read: Config,
    differences: &BTreeMap<String, Difference>,
) -> Result<Reloaded, Problem> {
    let changes = Changes::new(running, &read, differences);
    let mut needs_restart = Vec::new();
    for fixed in FIXED {
        if !(fixed.is_same)(running, &read) {
            if (fixed.concerns)(role) {
                needs_restart.push(fixed.key);
            }
            (fixed.keep)(&mut read, running);
        }
    }
    // The tokens of an address may be gone while the address stays.
    for (key, address) in read.guarded_addresses() {
        if let Some(address) = address.filter(|_| role.has_relay())
            && let Err((what, help)) = read.relay.may_listen(address.ip())
        {
            let what = format!("{key} stays {address} until a restart, and {what}");
            return Err(Problem { line: 0, column: 0, what, help });
        }
    }
    // A secret that is missing for a moment takes no working tenant down: the one that was read before stays in use.
    for (name, tenant) in &read.tenants {
        let works = running.tenants.get(name).is_none_or(|running| running.unread.is_empty());
        if let Some(problem) = tenant.unread.first().filter(|_| works) {
            return Err(problem.clone());
        }
        for (name, route) in &tenant.routes {
            let works = running.route(&tenant.name, name).is_none_or(|running| running.unread.is_empty());
            if let Some(problem) = route.unread.first().filter(|_| works) {
                return Err(problem.clone());
            }
        }
    }
    let everywhere = differences.keys().any(|key| !is_below(key, "tenants"));
    for (name, tenant) in &mut read.tenants {
        if let Some(known) = running.tenants.get(name) {
            keep_unchanged(known, tenant, everywhere, differences);
        }
    }
    Ok(Reloaded { config: read, needs_restart, changes })
}

/// Replaces unchanged values by those in force.
fn keep_unchanged(
    known: &Arc<Tenant>,
    tenant: &mut Arc<Tenant>,
    everywhere: bool,
    differences: &BTreeMap<String, Difference>,
) {
    let mine = format!("tenants.{}", tenant.name);
    if !everywhere && below(differences, &mine).next().is_none() {
        *tenant = Arc::clone(known);
        return;
    }
    // A route's defaults may depend on all settings but other routes, OpenRouter's and those of media links.
    let routes = format!("{mine}.routes");
    let others = [routes.clone(), format!("{mine}.openrouter"), format!("{mine}.media")];
    let concerns_all = |key: &String| !others.iter().any(|other| is_below(key, other));
    if everywhere || below(differences, &mine).any(concerns_all) {
        return;
    }
    for (name, route) in &mut Arc::make_mut(tenant).routes {
        let is_same = below(differences, &format!("{routes}.{name}")).next().is_none();
        if let Some(known) = known.routes.get(name).filter(|_| is_same) {
            *route = Arc::clone(known);
        }
    }
}

/// The differences at a key or below it.
fn below<'a>(
    differences: &'a BTreeMap<String, Difference>,
    key: &'a str,
) -> impl Iterator<Item = &'a String> {
    let from_here = differences.range::<str, _>((Included(key), Unbounded)).map(|(other, _)| other);
    from_here.take_while(move |other| other.starts_with(key)).filter(move |other| is_below(other, key))
}

/// The changes by name: `tenant acme`, `route acme/video`, `retention`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New tenants and routes.
    pub added: BTreeSet<String>,
    /// Changed tenants, routes and settings.
    pub changed: BTreeSet<String>,
    /// Removed tenants and routes.
    pub removed: BTreeSet<String>,
}

impl Changes {
    fn new(older: &Config, newer: &Config, differences: &BTreeMap<String, Difference>) -> Self {
        let mut changes = Self::default();
        for key in differences.keys() {
            let mut parts = key.splitn(5, '.');
            let name = match [(); 4].map(|()| parts.next()) {
                [Some("tenants"), Some(tenant), more @ ..] => {
                    let route = match more {
                        [Some("routes"), Some(route)] => Some(route),
                        _ => None,
                    };
                    Some((tenant, route))
                }
                _ => None,
            };
            let Some((tenant, route)) = name else {
                changes.changed.insert(key.clone());
                continue;
            };
            let is_in = |config: &Config| match route {
                Some(route) => config.route(tenant, route).is_some(),
                None => config.tenants.contains_key(tenant),
            };
            let names = match (is_in(older), is_in(newer)) {
                (false, true) => &mut changes.added,
                (true, false) => &mut changes.removed,
                _ => &mut changes.changed,
            };
            names.insert(match route {
                Some(route) => format!("route {tenant}/{route}"),
                None => format!("tenant {tenant}"),
            });
        }
        changes
    }
}

/// On one line: `added route acme/new; changed retention`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        for (index, (kind, names)) in kinds.into_iter().filter(|(_, names)| !names.is_empty()).enumerate() {
            let list = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
            write!(f, "{}{kind} {list}", if index == 0 { "" } else { "; " })?;
            if names.len() > MOST_NAMES {
                write!(f, " and {} more", names.len() - MOST_NAMES)?;
            }
        }
        Ok(())
    }
}
