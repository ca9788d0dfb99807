//! `talaria doctor`: checks everything that a callback needs on its way.
//!
//! - [`finding`]: the result of a check.
//! - [`hermes`]: each route's Hermes, by a handshake and by the files of a home on this machine.
//! - [`public`]: the public URL, and the clock by its answer.
//! - [`disk`]: the data directory. [`bus`]: the bus. [`process`]: the running process. [`routes`]: its routes.
//! - [`jobs`]: OpenRouter, for tenants with an API key.

mod bus;
mod disk;
mod finding;
mod hermes;
mod jobs;
mod process;
mod public;
mod routes;

use crate::{
    Failure,
    args::Doctor,
    print::{self, counted},
    reload::problems,
};
use anyhow::anyhow;
use finding::{Finding, Level};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};
use talaria_core::config::{self, Config, Missing, Problem, Reading, Role};
use tokio::time::timeout;

/// For a check without shorter deadlines of its own.
const DEADLINE: Duration = Duration::from_secs(25);

pub(crate) async fn run(path: &Path, args: Doctor) -> Result<(), Failure> {
    let role = args.role.map_or(Role::Both, Role::from);
    // As in a running process, a missing secret of one tenant does not stop the checks of others.
    let Reading { config, .. } = config::read_for(path, role, Missing::Tolerated);
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            if args.ask.json {
                let found = match &error {
                    config::Error::Invalid { problems: found, .. } => problems(found),
                    error @ config::Error::Unreadable { .. } => vec![json!({"what": error.to_string()})],
                };
                show_json(&[], &found)?;
            }
            return Err(error.into());
        }
    };
    let public_url = args.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let public_url = public_url.or_else(|| config.ingress.public_url.clone());
    // These wait for others, so they run concurrently.
    let (hermes, (public, clock), bus, process, routes, jobs) = tokio::join!(
        within("hermes", hermes::check(&config, role, args.hermes.as_deref())),
        async {
            match timeout(DEADLINE, public::check(&config, role, public_url.as_deref())).await {
                Ok(found) => found,
                Err(_) => (vec![too_slow("public url")], Vec::new()),
            }
        },
        within("bus", bus::check(&config, role)),
        within("process", process::check(path, args.admin.as_ref())),
        within("routes", routes::check(path, &args.ask, role)),
        within("jobs", jobs::check(path, &args.ask, &config, role)),
    );
    let mut found = vec![configuration(path, &config)];
    found.extend(config.warnings.iter().map(|problem| of_problem("configuration", Level::Warning, problem)));
    found.extend(secrets(&config, role));
    found.extend(hermes);
    found.extend(public);
    found.extend(clock);
    found.extend(disk::check(&config, role));
    found.extend(bus);
    found.extend(process);
    found.extend(routes);
    found.extend(jobs);
    if args.ask.json {
        show_json(&found, &[])?;
    } else {
        let mut out = anstream::stdout().lock();
        found.iter().try_for_each(|finding| finding.show(&mut out))?;
    }
    match found.iter().filter(|finding| finding.level == Level::Fault).count() {
        0 => Ok(()),
        1 => Err(anyhow!("1 of {} checks found a fault", found.len()).into()),
        faults => Err(anyhow!("{faults} of {} checks found a fault", found.len()).into()),
    }
}

fn show_json(found: &[Finding], errors: &[Value]) -> io::Result<()> {
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let document = json!({
        "valid": errors.is_empty(),
        "errors": errors,
        "faults": count(Level::Fault),
        "warnings": count(Level::Warning),
        "findings": found.iter().map(Finding::json).collect::<Vec<_>>(),
    });
    writeln!(io::stdout().lock(), "{document:#}")
}

async fn within(check: &'static str, found: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(DEADLINE, found).await.unwrap_or_else(|_| vec![too_slow(check)])
}

fn too_slow(check: &'static str) -> Finding {
    Finding::fault(
        check,
        format!("no end within {}", print::duration(DEADLINE)),
        "ask again; something hangs",
    )
}

fn configuration(path: &Path, config: &Config) -> Finding {
    let (tenants, routes) = (config.tenants.len(), config.routes().count());
    let what = format!("{}: {}, {}", path.display(), counted(tenants, "tenant"), counted(routes, "route"));
    Finding::ok("configuration", what)
}

fn of_problem(check: &'static str, level: Level, problem: &Problem) -> Finding {
    let location =
        if problem.line == 0 { String::new() } else { format!("{}:{}: ", problem.line, problem.column) };
    Finding { check, level, what: format!("{location}{}", problem.what), help: problem.help.clone() }
}

/// The secrets that the role reads.
fn secrets(config: &Config, role: Role) -> Vec<Finding> {
    let unread = config.tenants.values().flat_map(|tenant| &tenant.unread);
    let found: Vec<_> = unread.map(|problem| of_problem("secrets", Level::Fault, problem)).collect();
    if !found.is_empty() {
        return found;
    }
    let of_tenants: usize = config.tenants.values().map(|tenant| tenant.secrets.len()).sum();
    let of_routes: usize = config.routes().map(|(_, route)| route.secrets.len()).sum();
    let what = match (role.has_ingress(), role.has_relay()) {
        (true, true) => format!("{of_tenants} of OpenRouter's and {of_routes} of Hermes' can be read"),
        (true, false) => format!("{of_tenants} of OpenRouter's can be read"),
        (false, _) => format!("{of_routes} of Hermes' can be read"),
    };
    vec![Finding::ok("secrets", what)]
}
