//! `talaria check`: is the configuration valid, and is it the one that runs?

pub(crate) mod running;

use super::hermes::home;
use crate::{Failure, args::Check, reload::problems};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config::{self, Config, Missing, Reading, Role};

pub(crate) async fn run(path: &Path, args: Check) -> Result<(), Failure> {
    let role = args.role.map(Role::from);
    let shown = if args.running { Some(running::ask(path, args.admin.as_ref(), role).await?) } else { None };
    let role = shown.as_ref().map(|(role, _)| *role).or(role).unwrap_or(Role::Both);
    let Reading { settings, mut config } = config::read_for(path, role, Missing::Refused);
    if let (Ok(config), true) = (&mut config, role.has_relay()) {
        config.warnings.extend(home::warnings(config, args.hermes.as_deref())?);
    }
    let running = shown.map(|(role, shown)| running::compare(role, shown, &settings)).transpose()?;
    if args.json {
        let mut document = match &config {
            Ok(config) => json!({"valid": true, "errors": [], "warnings": problems(&config.warnings)}),
            Err(config::Error::Invalid { problems: found, .. }) => {
                json!({"valid": false, "errors": problems(found), "warnings": []})
            }
            Err(error) => json!({"valid": false, "errors": [{"what": error.to_string()}], "warnings": []}),
        };
        if let (Value::Object(document), Some(running)) = (&mut document, &running) {
            // An invalid file has no configuration to compare.
            document.insert("running".into(), running.json(config.is_ok()));
        }
        writeln!(io::stdout().lock(), "{document:#}")?;
    }
    let config = config?;
    if !args.json {
        tell(path, &config)?;
    }
    match running {
        None => Ok(()),
        Some(running) => running.conclude(args.json),
    }
}

fn tell(path: &Path, config: &Config) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for warning in &config.warnings {
        // What has no line is not about the file alone.
        let place = if warning.line == 0 { String::new() } else { format!("{}:", path.display()) };
        writeln!(out, "warning: {place}{warning}")?;
    }
    let (tenants, routes) = (config.tenants.len(), config.routes().count());
    let s = |n: usize| if n == 1 { "" } else { "s" };
    writeln!(
        out,
        "{} is valid: {tenants} tenant{}, {routes} route{}",
        path.display(),
        s(tenants),
        s(routes)
    )?;
    Ok(())
}
