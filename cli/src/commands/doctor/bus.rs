//! What stands between ingress and relay.

use super::finding::{Finding, Level};
use std::{fmt::Display, path::Path};
use talaria_bus::{InUse, inspect, look_at_nats};
use talaria_core::config::{BusKind, Config, Role};

const CHECK: &str = "bus";

pub(super) async fn check(config: &Config, role: Role) -> Vec<Finding> {
    match &config.bus {
        BusKind::Nats(nats) => {
            let servers = nats.servers.join(", ");
            vec![match look_at_nats(nats, role.has_relay()).await {
                Ok(()) => Finding::ok(
                    CHECK,
                    format!("NATS at {servers} answers, and has the streams as they should be"),
                ),
                Err(error) => Finding::of_error(CHECK, Level::Fault, &of_nats(&error)),
            }]
        }
        BusKind::Embedded => {
            let directory = config.data_dir.clone();
            let looked = tokio::task::spawn_blocking(move || embedded(&directory)).await;
            vec![looked.unwrap_or_else(|error| Finding::fault(CHECK, error.to_string(), ""))]
        }
    }
}

fn of_nats(error: &impl Display) -> String {
    format!(
        "{error}\n  help: docs/errors has a page for each fault of NATS; what is missing there `talaria up` or `talaria relay` creates"
    )
}

fn embedded(directory: &Path) -> Finding {
    match inspect(directory) {
        Ok(None) => {
            Finding::ok(CHECK, format!("{} has none yet; the first start makes it", directory.display()))
        }
        Ok(Some(in_use)) => {
            let use_of = match in_use {
                InUse::Yes => "a process works with it",
                InUse::No => "no process works with it",
            };
            Finding::ok(CHECK, format!("bus.db in {} can be read; {use_of}", directory.display()))
        }
        Err(error) => Finding::fault(
            CHECK,
            error.to_string(),
            "`talaria restore FILE` puts a backup in its place; docs/errors/bus-damaged.md says more",
        ),
    }
}
