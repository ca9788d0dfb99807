//! The bus.

use super::finding::{Finding, Level};
use rustix::fs::{Access, access};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
};
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
        "{error}\n  help: docs/errors has a page for each fault of NATS; `talaria up` or `talaria relay` creates missing streams"
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
        Err(error) => Finding::fault(CHECK, error.to_string(), advice(inaccessible(directory).as_deref())),
    }
}

/// The first path of the bus that this user may not read and write.
fn inaccessible(directory: &Path) -> Option<PathBuf> {
    let files = ["bus.db", "bus.db-wal", "bus.db-shm"].map(|name| directory.join(name));
    let needs = |path: &Path| if path.is_dir() { Access::EXEC_OK } else { Access::empty() };
    let mut paths = [directory.to_owned()].into_iter().chain(files).filter(|path| path.exists());
    paths.find(|path| access(path, Access::READ_OK | Access::WRITE_OK | needs(path)).is_err())
}

fn advice(inaccessible: Option<&Path>) -> String {
    match inaccessible {
        Some(path) => format!(
            "this user may not read and write {}: give it to the user that runs Talaria, or run `talaria doctor` as that user",
            path.display()
        ),
        None => {
            "`talaria restore FILE` replaces it by a backup; docs/errors/bus-damaged.md says more".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_no_remedy_for_permissions() {
        let advised = advice(Some(Path::new("data/bus.db")));
        assert!(advised.contains("data/bus.db") && !advised.contains("restore"), "{advised}");
        assert!(advice(None).contains("talaria restore FILE"));
        assert_eq!(inaccessible(tempfile::tempdir().unwrap().path()), None);
    }
}
