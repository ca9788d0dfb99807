//! How many files this process may have open: a connection is one, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use talaria_core::config::{Config, Role};

/// Databases, listeners, connections to NATS and to the admin port, names that are looked up, and what else is open.
const OTHERS: u64 = 256;

/// Raises the limit as far as this process may by itself, and warns where the configured connections would not fit.
pub(crate) fn raise_limit(config: &Config, role: Role) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    if current.is_some() && current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
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

/// How many files may be open at once by what is configured.
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
    fn each_role_needs_files_for_what_it_connects_and_the_limit_is_raised_for_it() {
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
