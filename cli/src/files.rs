//! The limit of open files, to which connections count.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use talaria_core::config::{Config, Role};

/// For databases, listeners, connections to NATS and to the admin port, DNS lookups and others.
const OTHERS: u64 = 256;

/// Raises the limit to its maximum, and warns if the configured connections exceed it.
pub(crate) fn raise_limit(config: &Config, role: Role) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` means unlimited.
    if current.is_some() && current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    let (needed, allowed) = (needed(config, role), getrlimit(Resource::Nofile).current);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "fewer files may be open than there may be connections; raise the limit (ulimit -Hn, or LimitNOFILE= of \
             systemd), or lower ingress.limits.connections and relay.in_flight"
        );
    }
}

/// The open files that the configuration allows.
fn needed(config: &Config, role: Role) -> u64 {
    let callbacks = if role.has_ingress() { config.ingress.limits.connections } else { 0 };
    let exchanges = if role.has_relay() { config.relay.in_flight } else { 0 };
    (callbacks + exchanges) as u64 + OTHERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::config::testing;

    #[test]
    fn each_role_needs_files_for_its_connections() {
        let text = "ingress: {limits: {connections: 100}}\nrelay: {in_flight: 20}\n\
                    tenants: {acme: {openrouter: {secrets: [{file: secret}]}}}";
        let config = testing::config(text, "s");
        assert_eq!(
            [Role::Both, Role::Ingress, Role::Relay].map(|role| needed(&config, role)),
            [376, 356, 276]
        );
        raise_limit(&config, Role::Both);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
