//! `talaria check`: validates a configuration, and compares it with the running process.

use crate::{
    Failure,
    args::Check,
    client::admin,
    compare::{Comparison, compare},
    hermes::home,
    print::counted,
    reload::problems,
};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config::{self, Config, Missing, Reading, Role};

pub(crate) async fn run(path: &Path, args: Check) -> Result<(), Failure> {
    let role = args.role.map(Role::from);
    let process =
        if args.running { Some(admin::config(path, args.admin.as_ref(), role).await?) } else { None };
    let role = process.as_ref().map(|(role, _)| *role).or(role).unwrap_or(Role::Both);
    let Reading { settings, mut config } = config::read_for(path, role, Missing::Refused);
    if let (Ok(config), true) = (&mut config, role.has_relay()) {
        config.warnings.extend(home::warnings(config, args.hermes.as_deref())?);
    }
    let comparison = process.map(|(role, process)| compare(role, process, &settings)).transpose()?;
    if args.json {
        let mut document = match &config {
            Ok(config) => json!({"valid": true, "errors": [], "warnings": problems(&config.warnings)}),
            Err(config::Error::Invalid { problems: found, .. }) => {
                json!({"valid": false, "errors": problems(found), "warnings": []})
            }
            Err(error) => json!({"valid": false, "errors": [{"what": error.to_string()}], "warnings": []}),
        };
        if let (Value::Object(document), Some(comparison)) = (&mut document, &comparison) {
            document.insert("running".into(), comparison.json(config.is_ok()));
        }
        writeln!(io::stdout().lock(), "{document:#}")?;
    }
    let config = config?;
    if !args.json {
        print_result(path, &config)?;
        comparison.as_ref().map(Comparison::print).transpose()?;
    }
    comparison.map_or(Ok(()), |comparison| comparison.result())
}

fn print_result(path: &Path, config: &Config) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for warning in &config.warnings {
        // A warning without a line is about more than the file.
        let file = if warning.line == 0 { String::new() } else { format!("{}:", path.display()) };
        writeln!(out, "warning: {file}{warning}")?;
    }
    for tenant in config.tenants.values().filter(|tenant| tenant.only_polls()) {
        writeln!(out, "tenant {} polls only: without openrouter.secrets it takes no callbacks", tenant.name)?;
    }
    let (tenants, routes) = (config.tenants.len(), config.routes().count());
    Ok(writeln!(
        out,
        "{} is valid: {}, {}",
        path.display(),
        counted(tenants, "tenant"),
        counted(routes, "route")
    )?)
}
