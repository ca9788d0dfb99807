//! The commands, a file each.

pub(crate) mod actions;
pub(crate) mod backup;
mod changes;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod healthcheck;
pub(crate) mod help;
pub(crate) mod hermes;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod manual;
mod outage;
pub(crate) mod pause;
mod refusals;
pub(crate) mod render;
pub(crate) mod replay;
pub(crate) mod restore;
mod routes;
pub(crate) mod secrets;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod token;
mod unmatched;
pub(crate) mod up;
pub(crate) mod watch;

use crate::Failure;
use std::{fs, io, io::Read as _, path::Path, sync::Arc};
use talaria_core::config::{Config, Route, Tenant};

/// A file's bytes, or standard input's where it is `-`.
fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(path).map_err(|error| Failure::Other(anyhow::anyhow!("cannot read {}: {error}", path.display())))
}

/// The tenant of this name, or the only one.
fn tenant<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Arc<Tenant>, Failure> {
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

/// The route of this name, as TENANT/ROUTE, or the only one.
fn route<'a>(config: &'a Config, name: Option<&str>) -> Result<(&'a Arc<Tenant>, &'a Arc<Route>), Failure> {
    let mut all =
        config.tenants.values().flat_map(|tenant| tenant.routes.values().map(move |route| (tenant, route)));
    let names = || {
        let all = config
            .tenants
            .values()
            .flat_map(|tenant| tenant.routes.keys().map(|route| format!("{}/{route}", tenant.name)));
        all.collect::<Vec<_>>().join(", ")
    };
    match name {
        Some(name) => {
            all.find(|(tenant, route)| format!("{}/{}", tenant.name, route.name) == name).ok_or_else(|| {
                Failure::Unknown(format!("no route {name} in the configuration; there is: {}", names()))
            })
        }
        None => match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Failure::Unknown("the configuration has no routes".into())),
            _ => Err(Failure::Usage(format!("which route? There is: {}", names()))),
        },
    }
}
