//! The tenant, the route, the data directory or the input that a command line names.

use crate::Failure;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use talaria_core::config::{self, Config, Missing, Role, Route, Tenant};

/// A configuration in which the secrets of other tenants and routes may be missing.
pub(crate) fn load_tolerant(path: &Path, role: Role) -> Result<Config, Failure> {
    Ok(config::read_for(path, role, Missing::Tolerated).config?)
}

/// The tenant of this name, or the only one.
pub(crate) fn tenant<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Arc<Tenant>, Failure> {
    let names = || config.tenants.keys().cloned().collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => config.tenants.get(name).ok_or_else(|| {
            Failure::Unknown(format!("no tenant {name} in the configuration; there is: {}", names()))
        }),
        None => match (config.tenants.values().next(), config.tenants.len()) {
            (Some(tenant), 1) => Ok(tenant),
            _ => Err(Failure::Usage(format!("which tenant? --tenant takes one of: {}", names()))),
        },
    }
}

/// The route TENANT/ROUTE, or the only one.
pub(crate) fn route<'a>(
    config: &'a Config,
    name: Option<&str>,
) -> Result<(&'a Arc<Tenant>, &'a Arc<Route>), Failure> {
    let full_name = |(tenant, route): (&Arc<Tenant>, &Arc<Route>)| format!("{}/{}", tenant.name, route.name);
    let mut all = config.routes();
    let names = || config.routes().map(full_name).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => all.find(|route| full_name(*route) == name).ok_or_else(|| {
            Failure::Unknown(format!("no route {name} in the configuration; there is: {}", names()))
        }),
        None => match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Failure::Unknown("the configuration has no routes".into())),
            _ => Err(Failure::Usage(format!("which route? There is: {}", names()))),
        },
    }
}

/// The directory of the embedded bus. `instead` is the advice for NATS, which has none.
pub(crate) fn data_dir(path: &Path, instead: &str) -> Result<PathBuf, Failure> {
    config::load_data_dir(path)?.ok_or_else(|| {
        Failure::Usage(format!(
            "the bus is NATS, which keeps everything itself\n  help: {instead}, as docs/backup.md says"
        ))
    })
}

/// The content of a file, or of standard input for `-`.
pub(crate) fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(path).map_err(|error| Failure::Other(anyhow::anyhow!("cannot read {}: {error}", path.display())))
}
