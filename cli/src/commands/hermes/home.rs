//! A Hermes home on this machine: what its `config.yaml` says about the endpoint that routes lead to.

use super::subscription::{Needs, against};
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
pub(super) struct Home {
    /// Its `config.yaml`, which need not be there.
    pub config: PathBuf,
    /// What that says.
    pub gateway: Gateway,
}

impl Home {
    /// Reads it; a home without a configuration says nothing.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
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

    /// The one of these homes that a route leads to: by its port, or the first.
    fn meant<'a>(homes: &'a [Self], route: &Route) -> Option<&'a Self> {
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

/// What keeps routes that lead to this machine from working with the Hermes here: that in this home, or that of the user.
pub(crate) fn warnings(config: &Config, named: Option<&Path>) -> Result<Vec<Problem>, Failure> {
    let mut here = config.routes().filter(|(_, route)| Gateway::is_here(&route.url)).peekable();
    if here.peek().is_none() {
        return Ok(Vec::new());
    }
    let homes = match named {
        Some(named) => vec![Home::read(named)?],
        None => match homes_of_the_user() {
            Ok(homes) => homes,
            // It was not asked for, so the configuration is valid all the same.
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
        if let Some(home) = Home::meant(&homes, route) {
            found.extend(home.warnings(tenant, route)?);
        }
    }
    Ok(found)
}

/// What of the subscriptions in these homes is not as routes that lead to this machine need it. Hermes' answers say whether
/// there is one at all.
pub(crate) fn subscriptions(config: &Config, named: Option<&Path>) -> Result<Vec<Problem>, Failure> {
    let homes = match named {
        Some(named) => vec![named.to_owned()],
        None => directories_of_the_user(),
    };
    let mut found = Vec::new();
    for (tenant, route) in config.routes().filter(|(_, route)| Gateway::is_here(&route.url)) {
        let Some(name) = route.hermes_name() else { continue };
        for home in &homes {
            let file = super::target(home)?;
            let entries = super::read(&file)?;
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
                        file.display(),
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
