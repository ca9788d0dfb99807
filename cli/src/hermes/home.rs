//! A Hermes home on this machine, and the settings in its `config.yaml` that concern routes.

use super::{
    file,
    subscription::{Needs, against},
};
use crate::Failure;
use anyhow::anyhow;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};
use talaria_core::{
    config::{Config, Problem, Route, Tenant},
    hermes::gateway::{Finding, Gateway},
    json::print::dump_line,
};

/// A Hermes home.
pub(crate) struct Home {
    /// Its `config.yaml`, which may not exist.
    pub config: PathBuf,
    pub gateway: Gateway,
}

impl Home {
    /// Reads it. Without a configuration all settings have their defaults.
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let config = directory.join("config.yaml");
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(anyhow!("cannot read {}: {error}", path.display())),
        };
        let (text, variables) = (read(&config)?, read(&directory.join(".env"))?);
        match Gateway::read(&text, &variables) {
            Ok(gateway) => Ok(Self { config, gateway }),
            Err(why) => Err(anyhow!(
                "{} is nothing that Hermes can read: {why}\n  help: mend it first; without it Hermes does not listen",
                config.display()
            )
            .into()),
        }
    }

    /// The home that a route's URL leads to, by its port, or else the first.
    fn of_route<'a>(homes: &'a [Self], route: &Route) -> Option<&'a Self> {
        homes.iter().find(|home| home.gateway.is_meant_by(&route.url)).or(homes.first())
    }
}

/// The Hermes homes of this user that have a configuration: the main one, and those of its profiles.
fn homes_of_the_user() -> Result<Vec<Home>, Failure> {
    let has_configuration = |home: &PathBuf| home.join("config.yaml").exists();
    let mut homes = Vec::new();
    for (index, directory) in directories_of_the_user().iter().enumerate() {
        if !has_configuration(directory) {
            continue;
        }
        match Home::read(directory) {
            Ok(home) => homes.push(home),
            Err(failure) if index == 0 => return Err(failure),
            Err(_) => {}
        }
    }
    Ok(homes)
}

/// The directories of the Hermes homes of this user, the main one first.
fn directories_of_the_user() -> Vec<PathBuf> {
    let named = env::var_os("HERMES_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let Some(main) = named.or_else(|| Some(env::home_dir()?.join(".hermes"))) else { return Vec::new() };
    let profiles = fs::read_dir(main.join("profiles")).into_iter().flatten().flatten();
    let profiles: Vec<PathBuf> = profiles.map(|entry| entry.path()).collect();
    [main].into_iter().chain(profiles).collect()
}

/// Settings of Hermes, in this home or the user's, that stop routes to this machine.
pub(crate) fn warnings(config: &Config, named: Option<&Path>) -> Result<Vec<Problem>, Failure> {
    let mut here = config.routes().filter(|(_, route)| Gateway::is_here(&route.url)).peekable();
    if here.peek().is_none() {
        return Ok(Vec::new());
    }
    let homes = match named {
        Some(named) => vec![Home::read(named)?],
        None => match homes_of_the_user() {
            Ok(homes) => homes,
            // The user did not name this home, so its fault is only a warning.
            Err(failure) => {
                let what = failure.to_string();
                let (what, help) = what.split_once("\n  help: ").unwrap_or((&what, ""));
                return Ok(vec![Problem {
                    line: 0,
                    column: 0,
                    what: what.to_owned(),
                    help: help.to_owned(),
                }]);
            }
        },
    };
    let mut found = Vec::new();
    for (tenant, route) in here {
        if let Some(home) = Home::of_route(&homes, route) {
            found.extend(home.warnings(tenant, route)?);
        }
    }
    Ok(found)
}

/// The directories of the Hermes homes to look at: the named one, or the user's.
pub(crate) fn directories(named: Option<&Path>) -> Vec<PathBuf> {
    named.map_or_else(directories_of_the_user, |named| vec![named.to_owned()])
}

/// Subscriptions that differ from the needs of routes to this machine. A missing one is found by asking Hermes.
pub(crate) fn subscriptions(config: &Config, named: Option<&Path>) -> Result<Vec<Problem>, Failure> {
    let homes = directories(named);
    let mut found = Vec::new();
    for (tenant, route) in config.routes().filter(|(_, route)| Gateway::is_here(&route.url)) {
        let Some(name) = route.hermes_name() else { continue };
        for home in &homes {
            let path = file::target(home)?;
            let entries = file::read(&path)?;
            let Some(written) = entries.get(name) else { continue };
            let needs = Needs { tenant, route, deliver: None, force: true };
            let lines = against(written.get(), &needs).map_err(anyhow::Error::from)?;
            if !lines.is_empty() {
                found.push(Problem {
                    line: 0,
                    column: 0,
                    what: format!(
                        "route {}/{}: the subscription {name} in {} is not as the route needs it: {}",
                        tenant.name,
                        route.name,
                        path.display(),
                        lines.join("; ")
                    ),
                    help: format!(
                        "`talaria hermes {}/{} --install {}` makes it so",
                        tenant.name,
                        route.name,
                        home.display()
                    ),
                });
            }
        }
    }
    Ok(found)
}

impl Home {
    fn warnings(&self, tenant: &Tenant, route: &Route) -> Result<Vec<Problem>, Failure> {
        let of = format!("route {}/{}: {}", tenant.name, route.name, self.config.display());
        let problem = |what: String, help: String| Problem { line: 0, column: 0, what, help };
        let findings = self.gateway.findings(&route.url, route.hermes_profile()).into_iter();
        let mut found: Vec<Problem> =
            findings.map(|Finding { what, help }| problem(format!("{of}: {what}"), help)).collect();
        let Some(written) = route.hermes_name().and_then(|name| self.gateway.static_route(name)) else {
            return Ok(found);
        };
        let needs = Needs { tenant, route, deliver: None, force: true };
        let lines = against(&dump_line(written), &needs).map_err(anyhow::Error::from)?;
        if !lines.is_empty() {
            let what = format!(
                "{of}: it has a route of that name, which wins over any subscription, and is not as needed: {}",
                lines.join("; ")
            );
            let help = "change it there so, or remove it there and subscribe: `talaria hermes TENANT/ROUTE --install DIR`";
            found.push(problem(what, help.into()));
        }
        Ok(found)
    }
}
