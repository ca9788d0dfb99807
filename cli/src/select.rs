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

/// The name of a tenant for a request to a relay: this one, or the only one in the configuration. Empty without a configuration,
/// which means the one tenant of the user's token.
pub(crate) fn tenant_name(path: &Path, named: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let signers = match config::load_signers(path) {
        Ok(signers) => signers,
        Err(config::Error::Unreadable { .. }) => return Ok(String::new()),
        Err(config::Error::Invalid { .. }) => {
            let path = path.display();
            let why = format!(
                "which tenant? --tenant names it, because {path} is not valid; `talaria check` says why"
            );
            return Err(Failure::Usage(why));
        }
    };
    // The others are routes.
    let names: Vec<_> =
        signers.into_iter().map(|(name, ..)| name).filter(|name| !name.contains('/')).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(Failure::Usage(format!("which tenant? --tenant takes one of: {}", names.join(", ")))),
    }
}

/// The tenant and the route that --tenant and --route name, where a route may be TENANT/ROUTE. The route is empty without --route.
pub(crate) fn tenant_and_route(
    path: &Path,
    tenant: Option<&str>,
    route: Option<&str>,
) -> Result<(String, String), Failure> {
    let Some((owner, name)) = route.and_then(|route| route.split_once('/')) else {
        return Ok((tenant_name(path, tenant)?, route.unwrap_or_default().to_owned()));
    };
    if let Some(other) = tenant.filter(|other| *other != owner) {
        return Err(Failure::Usage(format!("--route {owner}/{name} is no route of --tenant {other}")));
    }
    Ok((owner.to_owned(), name.to_owned()))
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

/// The directory of the embedded bus, for a command that has found no NATS in the same file.
pub(crate) fn data_dir(path: &Path) -> Result<PathBuf, Failure> {
    let directory = config::load_data_dir(path)?;
    directory.ok_or_else(|| Failure::Usage("the configuration has changed meanwhile: try again".into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_of_a_request_is_named_or_the_only_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("talaria.yaml");
        let chosen = |named: Option<&str>, route: Option<&str>| {
            tenant_and_route(&path, named, route).map_err(|failure| failure.to_string())
        };
        let both = |tenant: &str, route: &str| Ok((tenant.to_owned(), route.to_owned()));
        assert_eq!(chosen(None, None), both("", ""), "a token may have one tenant alone");
        let tenant = |name: &str| {
            format!(
                "  {name}: {{openrouter: {{secrets: [{{file: s}}]}}, routes: {{video: {{url: http://h/webhooks/v, secret: {{file: \
                 s}}}}}}}}\n"
            )
        };
        fs::write(&path, format!("tenants:\n{}", tenant("acme"))).unwrap();
        assert_eq!(chosen(None, None), both("acme", ""));
        assert_eq!(chosen(None, Some("video")), both("acme", "video"));
        assert_eq!(chosen(Some("globex"), Some("globex/video")), both("globex", "video"));
        assert_eq!(chosen(None, Some("globex/video")), both("globex", "video"));
        assert!(
            chosen(Some("acme"), Some("globex/video")).unwrap_err().contains("no route of --tenant acme")
        );
        fs::write(&path, format!("tenants:\n{}{}", tenant("acme"), tenant("globex"))).unwrap();
        assert_eq!(
            chosen(None, None).unwrap_err(),
            "which tenant? --tenant takes one of: acme, globex",
            "never by chance"
        );
        fs::write(&path, "tenants: [").unwrap();
        assert!(chosen(None, None).unwrap_err().contains("`talaria check` says why"));
        assert_eq!(chosen(Some("acme"), None), both("acme", ""));
    }
}
