//! The configuration file.
//!
//! There are two sets of types. [`raw`] has the written values, with their line and column; this module's types are the
//! compiled configuration, complete and valid. [`compile`] converts one into the other and collects all problems, so that one
//! run of `talaria check` shows all of them. Each part has a file with its type and its compilation.
//!
//! The same [`load`] serves every command, so a configuration that `check` accepts also starts.
//!
//! The file names secrets and never has them ([`secret`]). They are read during compilation, each only by the [`role`] that
//! needs it.
//!
//! - [`tenant`], [`openrouter`], [`media`], [`route`], [`event_pattern`], [`outbound`]: tenants, their jobs, media links and
//!   routes, and outbound requests.
//! - [`ingress`], [`access`], [`console`], [`nats`], [`tunnel`], [`telemetry`]: the other parts of the file.
//! - [`value`], [`name`], [`path`], [`pem`], [`filesystem`]: parsers and checks of single values.
//! - [`problem`]: errors with line, column and remedy.
//! - [`yaml`], [`layout`], [`numbers`]: explanations of a file that is not valid YAML; [`own_keys`]: `x-` keys.
//! - [`tokens`]: warnings of template tokens without a value.
//! - [`signers`]: the origins of all secrets.
//! - [`settings`]: digests of the written values, to compare two files.
//! - [`mod@reload`]: the change to a configuration that is read while another is in force; [`status`]: its result.

mod access;
mod compile;
mod console;
mod event_pattern;
mod filesystem;
mod ingress;
mod layout;
mod media;
mod name;
mod nats;
mod numbers;
mod openrouter;
mod outbound;
mod own_keys;
mod path;
mod pem;
mod problem;
mod raw;
pub mod reload;
mod role;
mod route;
mod secret;
pub mod settings;
mod signers;
mod status;
mod telemetry;
mod tenant;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tokens;
mod tunnel;
mod value;
mod yaml;

pub use access::{RelayTls, Scope, Token};
pub use console::Console;
pub use event_pattern::{EventPattern, NotAPattern};
pub use ingress::{Ingress, Limits};
pub use media::{Keep, Media};
pub use name::{NAMES, is_name};
pub use nats::{Credentials, Nats, Tls, UserKey};
pub use openrouter::{Api, Budget, Jobs, Poll};
pub use outbound::{Header, RouteTls};
pub use path::expand_home;
pub use pem::Identity;
pub use problem::{Error, Problem};
pub use reload::{Changes, Reloaded, reload};
pub use role::Role;
pub use route::{BodyMode, Guard, Pace, Retry, Route, RouteKind, Wanted};
pub use secret::Origin as SecretOrigin;
pub use settings::{Difference, Settings};
pub use signers::Signers;
pub use status::{ConfigStatus, Fault};
pub use telemetry::Telemetry;
pub use tenant::{DEFAULT_TOLERANCE, Tenant};
pub use tunnel::{NamedTunnel, Tunnel};
pub use value::public_url;

use crate::json::Value;
use std::{
    collections::BTreeMap, fs, io, io::Read as _, net::SocketAddr, path::Path, path::PathBuf, sync::Arc,
    time::Duration,
};

/// A configuration that is complete and valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// The ingress.
    pub ingress: Ingress,
    /// The relay.
    pub relay: Relay,
    /// The console, in the relay's process.
    pub console: Console,
    /// The admin port.
    pub admin: Admin,
    /// The tunnel that `--tunnel` opens.
    pub tunnel: Tunnel,
    /// The bus between ingress and relay.
    pub bus: BusKind,
    /// The directory of the embedded bus and the relay's view. An ingress on NATS has no files.
    pub data_dir: PathBuf,
    /// How long events and finished deliveries are kept.
    pub retention: Duration,
    /// The collector of traces, if there is one.
    pub telemetry: Option<Arc<Telemetry>>,
    /// The tenants, by name.
    pub tenants: BTreeMap<String, Arc<Tenant>>,
    /// Valid settings that are probably wrong.
    pub warnings: Vec<Problem>,
}

/// The relay and its gRPC services.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The address of the gRPC services.
    pub grpc: SocketAddr,
    /// Their TLS; `None` for plain text.
    pub tls: Option<Arc<RelayTls>>,
    /// The access tokens. Without tokens and without `tls.client_ca`, only clients on this machine may ask.
    pub tokens: Vec<Token>,
    /// How long attempts may continue after the stop signal.
    pub drain: Duration,
    /// The most exchanges in flight of all routes, in one process.
    pub in_flight: usize,
    /// How long the evidence of attempts is kept, and never longer than `retention`; `None` if none is written.
    pub evidence: Option<Duration>,
}

/// The admin port, with health and metrics.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The most tenants that metrics count by name.
    pub counted_tenants: usize,
}

/// The bus between ingress and relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusKind {
    /// SQLite in the data directory, for one process.
    Embedded,
    /// NATS JetStream, for any number of processes.
    Nats(Arc<Nats>),
}

impl Config {
    /// A tenant's route.
    pub fn route(&self, tenant: &str, route: &str) -> Option<&Arc<Route>> {
        self.tenants.get(tenant)?.routes.get(route)
    }

    /// The tenants that metrics count by name: the first ones in the order of their names, so that all processes count the same.
    pub fn counted_tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().take(self.admin.counted_tenants).map(String::as_str)
    }

    /// All routes, with their tenants.
    pub fn routes(&self) -> impl Iterator<Item = (&Arc<Tenant>, &Arc<Route>)> + Clone {
        self.tenants.values().flat_map(|tenant| tenant.routes.values().map(move |route| (tenant, route)))
    }
}

/// The addresses alone, for commands that connect to a running Talaria and need no secrets.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Of the ingress.
    pub ingress: SocketAddr,
    /// Of the relay's gRPC services.
    pub grpc: SocketAddr,
    /// Whether the gRPC services have TLS.
    pub grpc_tls: bool,
    /// Of the admin port.
    pub admin: SocketAddr,
}

/// Reads a configuration file and the files that it names. Relative paths in it start at its directory.
pub fn load(path: &Path) -> Result<Config, Error> {
    load_for(path, Role::Both)
}

/// The same for a process with one role, which reads only the secrets that it needs. All other settings are valid for one role
/// if they are for another, except that the embedded bus is for one process.
pub fn load_for(path: &Path, role: Role) -> Result<Config, Error> {
    compiled(path, &read(path)?, role, Missing::Refused)
}

fn compiled(path: &Path, text: &str, role: Role, missing: Missing) -> Result<Config, Error> {
    compile::config(raw::parse(path, text)?, &directory(path), role, missing)
        .map_err(|problems| Error::invalid(path, problems))
}

/// How to handle secrets of tenants and routes that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The configuration is not valid.
    Refused,
    /// A tenant or route works with its other secrets. Without any it is down, and the others work, unless there is no other. A
    /// route is also down without one of its headers or certificates.
    Tolerated,
}

/// A file that was read, valid or not.
#[derive(Debug)]
pub struct Reading {
    /// Its settings, and the files that it names.
    pub settings: Settings,
    /// The compiled configuration, or its problems.
    pub config: Result<Config, Error>,
}

/// The same with the settings, to compare them with those of another reading. A change during a reading is a difference to the
/// next one.
pub fn read_for(path: &Path, role: Role, missing: Missing) -> Reading {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return Reading { settings: Settings::default(), config: Err(error) },
    };
    let base = directory(path);
    // First, so that they are never newer than the configuration.
    let settings = Settings::read(&text, &base, role);
    Reading { settings, config: compiled(path, &text, role, missing) }
}

/// Reads the addresses out of a configuration file, without its secrets.
pub fn load_addresses(path: &Path) -> Result<Addresses, Error> {
    let text = read(path)?;
    compile::addresses(&raw::parse(path, &text)?).map_err(|problems| Error::invalid(path, problems))
}

/// The same for a file with problems: the readable addresses, and defaults for the others. A process that was started before
/// the file was broken still listens there.
pub fn guess_addresses(path: &Path) -> Addresses {
    let options = serde_saphyr::options! { with_snippet: false };
    let document = read(path).ok().and_then(|text| serde_saphyr::from_str_with_options(&text, options).ok());
    compile::guessed_addresses(&document.unwrap_or(Value::Null))
}

/// The directory of the embedded bus, read without secrets and regardless of other problems. `None` if the bus is NATS.
pub fn load_data_dir(path: &Path) -> Result<Option<PathBuf>, Error> {
    let raw = raw::parse(path, &read(path)?)?;
    Ok(compile::data_dir(&raw, &directory(path)))
}

/// How to reach NATS, regardless of other problems and without any other secret. `None` if the bus is embedded.
pub fn load_nats(path: &Path) -> Result<Option<Nats>, Error> {
    let raw = raw::parse(path, &read(path)?)?;
    compile::nats(&raw, &directory(path)).map_err(|problems| Error::invalid(path, problems))
}

/// Reads the origins of all secrets out of a configuration file, without the secrets themselves.
pub fn load_signers(path: &Path) -> Result<Signers, Error> {
    Ok(signers::signers(&raw::parse(path, &read(path)?)?, &directory(path)))
}

/// The prefix of all names on NATS, read without secrets. The default one if the bus is embedded.
pub fn load_nats_prefix(path: &Path) -> Result<String, Error> {
    nats::prefix(&raw::parse(path, &read(path)?)?).map_err(|problem| Error::invalid(path, vec![problem]))
}

/// A longer file is not a configuration.
const LONGEST: u64 = 16 << 20;

fn read(path: &Path) -> Result<String, Error> {
    let read = || {
        let mut text = String::new();
        if fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)? as u64 > LONGEST {
            let why = format!("it has more than {LONGEST} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(text)
    };
    read().map_err(|source| Error::Unreadable { path: path.into(), source })
}

/// The file's directory, absolute, so that it does not depend on the working directory.
fn directory(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    std::path::absolute(parent).unwrap_or_else(|_| parent.to_path_buf())
}

#[cfg(test)]
mod tests;
