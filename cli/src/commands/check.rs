//! `talaria check`: is the configuration valid?

use crate::{Failure, args::Check};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config::{self, Problem, Role};

pub(crate) fn run(path: &Path, args: &Check) -> Result<(), Failure> {
    let loaded = config::load_for(path, args.role.map_or(Role::Both, Role::from));
    if args.json {
        let document = match &loaded {
            Ok(config) => json!({"valid": true, "errors": [], "warnings": problems(&config.warnings)}),
            Err(config::Error::Invalid { problems: found, .. }) => {
                json!({"valid": false, "errors": problems(found), "warnings": []})
            }
            Err(error) => json!({"valid": false, "errors": [{"what": error.to_string()}], "warnings": []}),
        };
        writeln!(io::stdout().lock(), "{document:#}")?;
    }
    let config = loaded?;
    if !args.json {
        let mut out = io::stdout().lock();
        for warning in &config.warnings {
            writeln!(out, "warning: {}:{warning}", path.display())?;
        }
        let routes: usize = config.tenants.values().map(|tenant| tenant.routes.len()).sum();
        let (tenants, s) = (config.tenants.len(), |n: usize| if n == 1 { "" } else { "s" });
        writeln!(
            out,
            "{} is valid: {tenants} tenant{}, {routes} route{}",
            path.display(),
            s(tenants),
            s(routes)
        )?;
    }
    Ok(())
}

fn problems(problems: &[Problem]) -> Vec<Value> {
    let one = |p: &Problem| json!({"line": p.line, "column": p.column, "what": p.what, "help": p.help});
    problems.iter().map(one).collect()
}
