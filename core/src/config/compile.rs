//! Compilation of a written file into a [`Config`]. Collects all problems instead of stopping at the first.

use super::{
    Addresses, Admin, BusKind, Config, Missing, NAMES, Problem, Relay, Role, access, console, filesystem,
    ingress, is_name, nats,
    path::below,
    problem::Problems,
    raw, telemetry, tenant, tunnel,
    value::{counted_tenants, evidence, exchanges},
};
use crate::{
    json::Value,
    time::{DAY, HOUR, SECOND},
};
use serde_saphyr::{Location, Spanned};
use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Hermes' own default for `max_body_bytes`, and ours.
pub(super) const DEFAULT_MAX_BODY: usize = 1_048_576;

const INGRESS_PORT: u16 = 8080;
const GRPC_PORT: u16 = 50051;
const ADMIN_PORT: u16 = 9090;

/// Exchanges of all routes together.
const DEFAULT_IN_FLIGHT: usize = 4096;

/// Tenants that have series of their own: each has some twenty.
const DEFAULT_COUNTED_TENANTS: usize = 100;

/// The context of a compilation, with its problems so far.
pub(super) struct Compiler<'a> {
    /// The start of relative paths.
    pub base: &'a Path,
    /// The process' role, which decides which secrets are read.
    pub role: Role,
    pub missing: Missing,
    /// The limit of a delivery's age: no event is tried for longer than it is kept.
    pub retention: Duration,
    /// Whether the ingress has a public URL, valid or not.
    pub has_public_url: bool,
    /// Whether the console listens, valid or not.
    pub has_console: bool,
    pub problems: Problems,
    pub warnings: Problems,
}

impl Compiler<'_> {
    /// A written path, with `~` and the base resolved.
    pub(super) fn path(&self, written: impl AsRef<Path>) -> PathBuf {
        below(self.base, written)
    }

    /// Handles unreadable secrets and files of a tenant or a route: they are problems if these are refused, and warnings with
    /// their consequence if they are tolerated. Returns the tolerated ones.
    pub(super) fn unread(
        &mut self,
        owner: &dyn Display,
        mut unread: Problems,
        consequence: &str,
    ) -> Vec<Problem> {
        if self.missing == Missing::Refused {
            self.problems.0.append(&mut unread.0);
        }
        let warning = |problem: &Problem| Problem {
            what: format!("{owner}: {}; {consequence}", problem.what),
            ..problem.clone()
        };
        self.warnings.0.extend(unread.0.iter().map(warning));
        unread.0
    }

    /// Checks the name of a tenant or a route, which appears in URLs, in subjects and on disk.
    pub(super) fn check_name(&mut self, name: &Spanned<String>, kind: &str) {
        if !is_name(&name.value) {
            let what = format!("{:?} is not a {kind} name", name.value);
            self.problems.add(name, what, format!("use {NAMES}"));
        }
    }
}

pub(super) fn addresses(raw: &raw::Config) -> Result<Addresses, Vec<Problem>> {
    let mut problems = Problems::default();
    let addresses = Addresses {
        ingress: problems.listen(raw.ingress.listen.as_ref(), "ingress.listen", INGRESS_PORT),
        grpc: problems.listen(raw.relay.grpc.as_ref(), "relay.grpc", GRPC_PORT),
        grpc_tls: raw.relay.tls.is_some(),
        admin: problems.listen(raw.admin.listen.as_ref(), "admin.listen", ADMIN_PORT),
    };
    if problems.0.is_empty() { Ok(addresses) } else { Err(problems.0) }
}

/// The readable addresses of a file with faults, and defaults for the others.
pub(super) fn guessed_addresses(document: &Value) -> Addresses {
    let part = |part: &str, key: &str| document.get(part).and_then(|part| part.get(key));
    let address = |name: &str, key: &str, port: u16| {
        let written = part(name, key).and_then(|written| written.as_str()?.parse().ok());
        written.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    Addresses {
        ingress: address("ingress", "listen", INGRESS_PORT),
        grpc: address("relay", "grpc", GRPC_PORT),
        grpc_tls: part("relay", "tls").is_some(),
        admin: address("admin", "listen", ADMIN_PORT),
    }
}

/// `None` if the bus is NATS.
pub(super) fn data_dir(raw: &raw::Config, base: &Path) -> Option<PathBuf> {
    let is_embedded = raw.bus.as_ref().is_none_or(|bus| matches!(bus.value, raw::Bus::Embedded));
    is_embedded.then(|| directory(raw, base))
}

/// `None` if the bus is embedded.
pub(super) fn nats(raw: &raw::Config, base: &Path) -> Result<Option<nats::Nats>, Vec<Problem>> {
    let Some(raw::Bus::Nats(nats)) = raw.bus.as_ref().map(|bus| &bus.value) else { return Ok(None) };
    let mut compiler = Compiler {
        base,
        role: Role::Relay,
        missing: Missing::Tolerated,
        retention: 7 * DAY,
        has_public_url: false,
        has_console: false,
        problems: Problems::default(),
        warnings: Problems::default(),
    };
    let nats = nats::compile(&mut compiler, nats);
    let problems = compiler.problems.0;
    if problems.is_empty() { Ok(Some(nats)) } else { Err(problems) }
}

fn directory(raw: &raw::Config, base: &Path) -> PathBuf {
    below(base, raw.data_dir.as_ref().map_or("talaria-data", |path| path.value.as_str()))
}

pub(super) fn config(
    mut raw: raw::Config,
    base: &Path,
    role: Role,
    missing: Missing,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems(std::mem::take(&mut raw.numbers));
    let retention = problems.duration(raw.retention.as_ref(), "retention", 7 * DAY, SECOND..=3_650 * DAY);
    let has_public_url = raw.ingress.public_url.is_some();
    let (has_console, warnings) = (true, Problems::default());
    let mut compiler =
        Compiler { base, role, missing, retention, has_public_url, has_console, problems, warnings };
    let c = &mut compiler;
    let ingress = ingress::compile(c, &raw.ingress);
    let for_tunnel = (raw.ingress.public_url.is_some(), ingress.public_url.as_ref());
    let names = raw.tenants.0.iter().map(|(name, _)| name.value.as_str()).collect();
    let mut config = Config {
        tunnel: tunnel::compile(c, &raw.tunnel, for_tunnel),
        ingress,
        relay: Relay {
            grpc: c.problems.listen(raw.relay.grpc.as_ref(), "relay.grpc", GRPC_PORT),
            tls: access::tls(c, raw.relay.tls.as_ref()),
            tokens: access::tokens(c, &raw.relay.tokens, &names),
            drain: c.problems.duration(raw.relay.drain.as_ref(), "drain", 30 * SECOND, Duration::ZERO..=HOUR),
            in_flight: c.problems.or(raw.relay.in_flight.as_ref(), DEFAULT_IN_FLIGHT, |n| exchanges(*n)),
            evidence: c.problems.or(raw.relay.evidence.as_ref(), Some(DAY), |text| evidence(text)),
        },
        console: console::compile(c, &raw.console),
        admin: Admin {
            listen: c.problems.listen(raw.admin.listen.as_ref(), "admin.listen", ADMIN_PORT),
            counted_tenants: c.problems.or(
                raw.admin.counted_tenants.as_ref(),
                DEFAULT_COUNTED_TENANTS,
                |n| counted_tenants(*n),
            ),
        },
        bus: bus(c, raw.bus.as_ref()),
        data_dir: directory(&raw, base),
        retention,
        // A command sends no traces.
        telemetry: raw
            .telemetry
            .as_ref()
            .filter(|_| role != Role::Sender)
            .and_then(|raw| telemetry::compile(c, raw))
            .map(Arc::new),
        tenants: BTreeMap::new(),
        warnings: Vec::new(),
    };
    access::check(c, &config, &raw);
    check_addresses(c, &config, &raw);
    check_data_dir(c, &config, &raw);
    c.has_console = config.console.listen.is_some();
    for (name, tenant) in raw.tenants.0 {
        c.check_name(&name, "tenant");
        let tenant = tenant::compile(c, &name.value, tenant);
        config.tenants.insert(name.value, Arc::new(tenant));
    }
    // One that only polls does nothing without its key.
    if config.tenants.values().all(|tenant| tenant.secrets.is_empty() && !tenant.unread.is_empty()) {
        c.problems.0.extend(config.tenants.values().flat_map(|tenant| tenant.unread.iter().cloned()));
    }
    if config.routes().all(|(_, route)| route.down.is_some()) {
        c.problems.0.extend(config.routes().flat_map(|(_, route)| route.unread.iter().cloned()));
    }
    if config.tenants.is_empty() {
        let what = "no tenants: nothing could come in".to_owned();
        let help = "add one under tenants:, as deploy/talaria.example.yaml shows".to_owned();
        c.problems.0.push(Problem { line: 0, column: 0, what, help });
    }
    let count = config.routes().count();
    if let Some(written) = raw.relay.in_flight.as_ref().filter(|written| written.value < count) {
        let what =
            format!("relay.in_flight is less than the {count} routes: those that hang can stop the others");
        c.warnings.add(written, what, "write as many as there are routes, or more");
    }
    let Compiler { problems, warnings, .. } = compiler;
    config.warnings = warnings.0;
    if problems.0.is_empty() { Ok(config) } else { Err(problems.0) }
}

fn check_addresses(c: &mut Compiler<'_>, config: &Config, raw: &raw::Config) {
    let listens = [
        ("ingress.listen", raw.ingress.listen.as_ref(), Some(config.ingress.listen)),
        ("relay.grpc", raw.relay.grpc.as_ref(), Some(config.relay.grpc)),
        ("admin.listen", raw.admin.listen.as_ref(), Some(config.admin.listen)),
        ("console.listen", raw.console.listen.as_ref(), config.console.listen),
    ];
    for (index, (key, written, address)) in listens.iter().enumerate() {
        let is_fixed = address.is_some_and(|address| address.port() != 0);
        let same = listens.iter().take(index).find(|(_, _, other)| is_fixed && other == address);
        if let (Some((other, ..)), Some(written)) = (same, written) {
            c.problems.add(written, format!("{key} is the same address as {other}"), "name another port");
        }
    }
}

fn check_data_dir(c: &mut Compiler<'_>, config: &Config, raw: &raw::Config) {
    if let Some(written) = raw.data_dir.as_ref().filter(|written| written.value.is_empty()) {
        c.problems.add(written, "data_dir is empty", "name a directory, such as ./talaria-data");
    }
    if c.role.has_relay()
        && let Some(kind) = filesystem::shared(&config.data_dir)
    {
        let problem = Problem::at(
            raw.data_dir.as_ref().map_or(Location::UNKNOWN, |written| written.referenced),
            format!("data_dir is on a filesystem ({kind}) on whose locks and syncs SQLite cannot rely"),
            "put it on a disk of this machine; see docs/errors/data-directory-shared.md",
        );
        c.warnings.0.push(problem);
    }
    let names_a_user = |path: &str| path.starts_with('~') && path != "~" && !path.starts_with("~/");
    if let Some(written) = raw.data_dir.as_ref().filter(|written| names_a_user(&written.value)) {
        let help = "write the whole path; ~/ is the home of the user that this runs as";
        c.problems.add(written, "data_dir names another user's home, which is not looked up", help);
    }
}

fn bus(c: &mut Compiler<'_>, raw: Option<&Spanned<raw::Bus>>) -> BusKind {
    match raw.map(|bus| &bus.value) {
        Some(raw::Bus::Nats(nats)) => BusKind::Nats(Arc::new(nats::compile(c, nats))),
        None | Some(raw::Bus::Embedded) => {
            if c.role.is_alone() {
                let location = raw.map_or(Location::UNKNOWN, |bus| bus.referenced);
                let help = "run `talaria up`, or name a NATS server under bus.nats";
                c.problems.0.push(Problem::at(location, "the embedded bus is for one process", help));
            }
            BusKind::Embedded
        }
    }
}
