//! The operator's file: what it says, and what that means.
//!
//! There are two sets of types. [`raw`] is what the operator wrote, with the line and column of each value;
//! this module's types are what it means, complete and valid. [`compile`] goes from one to the other and
//! collects everything that is wrong on the way, so that one run of `talaria check` shows all of it.
//!
//! The same [`load`] serves every command, so what `check` accepts is what starts.
//!
//! Secrets never stand in the file: they are named there ([`secret`]) and read while it is compiled, each only by
//! the [`role`] that needs it.
//!
//! - [`ingress`]: where callbacks come in, whose address is believed, and what strangers may use up.
//! - [`value`]: what single values mean, such as times and addresses.
//! - [`access`]: who may ask a relay, and over what.
//! - [`nats`]: the bus between processes.
//! - [`filesystem`]: what the data directory is on.
//! - [`name`]: what a tenant or a route may be called.
//! - [`own_keys`]: `x-` keys, which are the operator's own.
//! - [`yaml`]: what a file that cannot be read has wrong; [`layout`]: where it is no YAML; [`numbers`]: where a number is two.
//! - [`tokens`]: templates that name what no callback has.
//! - [`outbound`]: how requests leave: networks, TLS, headers, signatures.
//! - [`path`]: paths as they are written, with `~`.
//! - [`pem`]: certificates and keys.
//! - [`problem`]: errors with line, column and what to do.
//! - [`route`]: tenants' routes.
//! - [`signers`]: who signs, and where their secrets are.
//! - [`tunnel`]: how OpenRouter reaches a machine without a public address.
//! - [`telemetry`]: where traces go.
//! - [`settings`]: what was written, by keys, to compare.
//! - [`mod@reload`]: what becomes of a configuration that is read while another is in force; [`standing`]: how that stands.

mod access;
mod compile;
mod filesystem;
mod ingress;
mod layout;
mod name;
mod nats;
mod numbers;
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
mod standing;
mod telemetry;
mod tokens;
mod tunnel;
mod value;
mod yaml;

pub use access::{RelayTls, Scope, Token};
pub use ingress::{Ingress, Limits};
pub use name::{NAMES, is_name};
pub use nats::{Credentials, Nats, Tls};
pub use outbound::{Header, RouteTls};
pub use path::expand_home;
pub use pem::Identity;
pub use problem::{Error, Problem};
pub use reload::{Changes, Reloaded, reload};
pub use role::Role;
pub use route::{BodyMode, EventPattern, Guard, Pace, Retry, Route, Wanted};
pub use secret::Origin as SecretOrigin;
pub use settings::{Difference, Settings};
pub use signers::Signers;
pub use standing::{Fault, Standing};
pub use telemetry::Telemetry;
pub use tunnel::{NamedTunnel, Tunnel};
pub use value::public_url;

use crate::json::Value;
use secrecy::SecretString;
use std::{
    collections::BTreeMap, fs, io, io::Read as _, net::SocketAddr, path::Path, path::PathBuf, sync::Arc,
    time::Duration,
};

/// What OpenRouter documents as the age at which a signature is stale.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// A configuration that is complete and valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callbacks come in.
    pub ingress: Ingress,
    /// Where status is asked.
    pub relay: Relay,
    /// Where health and metrics are asked.
    pub admin: Admin,
    /// What `--tunnel` opens.
    pub tunnel: Tunnel,
    /// What stands between ingress and relay.
    pub bus: BusKind,
    /// Where the embedded bus and the relay's view keep their files. An ingress on NATS keeps none.
    pub data_dir: PathBuf,
    /// How long events and finished deliveries are kept.
    pub retention: Duration,
    /// Where traces go; nowhere where there is none.
    pub telemetry: Option<Arc<Telemetry>>,
    /// The tenants, by name.
    pub tenants: BTreeMap<String, Arc<Tenant>>,
    /// What is allowed and yet looks wrong.
    pub warnings: Vec<Problem>,
}

/// Where status is asked.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The address of the gRPC services.
    pub grpc: SocketAddr,
    /// What they are served over; in plain text where there is none.
    pub tls: Option<Arc<RelayTls>>,
    /// The access tokens. Without any, and without `tls.client_ca`, every client on this machine may ask, and no other.
    pub tokens: Vec<Token>,
    /// How long attempts may go on after the relay was told to stop.
    pub drain: Duration,
    /// How many exchanges of all routes may be under way at once, in one process.
    pub in_flight: usize,
}

/// Where health and metrics are asked.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address that is listened on.
    pub listen: SocketAddr,
}

/// What stands between ingress and relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusKind {
    /// SQLite in the data directory, for one process.
    Embedded,
    /// NATS JetStream, for as many processes as are wanted.
    Nats(Arc<Nats>),
}

/// One tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name, as in `/callbacks/{name}`.
    pub name: String,
    /// The secrets that OpenRouter may sign with; none in a relay, and none in an ingress where the tenant is down.
    pub secrets: Vec<SecretString>,
    /// Why others of them could not be read. Only in a process that runs: it works for what can be verified.
    pub unread: Vec<Problem>,
    /// Where the first of them comes from, to tell the operator.
    pub secret_origin: SecretOrigin,
    /// How far a signature's time may be from now.
    pub tolerance: Duration,
    /// Its routes, by name.
    pub routes: BTreeMap<String, Arc<Route>>,
}

impl Tenant {
    /// Why no callback of this tenant can be verified, if none can: no secret could be read.
    pub fn down(&self) -> Option<&Problem> {
        self.unread.first().filter(|_| self.secrets.is_empty())
    }
}

impl Config {
    /// A tenant's route.
    pub fn route(&self, tenant: &str, route: &str) -> Option<&Arc<Route>> {
        self.tenants.get(tenant)?.routes.get(route)
    }

    /// Every route, with its tenant.
    pub fn routes(&self) -> impl Iterator<Item = (&Arc<Tenant>, &Arc<Route>)> + Clone {
        self.tenants.values().flat_map(|tenant| tenant.routes.values().map(move |route| (tenant, route)))
    }
}

/// The addresses alone, for commands that only talk to a running Talaria and need no secrets.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Where callbacks come in.
    pub ingress: SocketAddr,
    /// Where status is asked.
    pub grpc: SocketAddr,
    /// Whether that is over TLS.
    pub grpc_tls: bool,
    /// Where health and metrics are asked.
    pub admin: SocketAddr,
}

/// Reads a configuration file and everything that it refers to. Relative paths in it start at its directory.
pub fn load(path: &Path) -> Result<Config, Error> {
    load_for(path, Role::Both)
}

/// The same for a process with one role, which reads only the secrets that it needs: each service can be given its
/// own and no others. All else is valid for one role if it is for the other, except that the embedded bus joins no
/// two processes.
pub fn load_for(path: &Path, role: Role) -> Result<Config, Error> {
    compiled(path, &read(path)?, role, Missing::Refused)
}

fn compiled(path: &Path, text: &str, role: Role, missing: Missing) -> Result<Config, Error> {
    compile::config(raw::parse(path, text)?, &directory(path), role, missing)
        .map_err(|problems| Error::invalid(path, problems))
}

/// What becomes of a tenant whose OpenRouter secrets cannot be read, and of a route whose own cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The configuration is not valid.
    Refused,
    /// It works with those that can. Where there is none it is down, and the others work, unless there is no other. A route is
    /// also down without a header or a certificate that it needs.
    Tolerated,
}

/// A file as it was read, valid or not.
#[derive(Debug)]
pub struct Reading {
    /// What stands in it, and which files it names.
    pub settings: Settings,
    /// What it means, or why it means nothing.
    pub config: Result<Config, Error>,
}

/// The same with the settings, to compare them with those of another reading. What changes while it is read differs
/// in the next reading from this one.
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

/// The same where the file cannot be used: what can be read in it, and for all else the defaults. A process that was started
/// before the file was broken listens there still.
pub fn guess_addresses(path: &Path) -> Addresses {
    let options = serde_saphyr::options! { with_snippet: false };
    let document = read(path).ok().and_then(|text| serde_saphyr::from_str_with_options(&text, options).ok());
    compile::guessed_addresses(&document.unwrap_or(Value::Null))
}

/// Where the embedded bus keeps its files, read without the secrets and whatever else may be wrong in the file. `None`
/// where the bus is NATS.
pub fn load_data_dir(path: &Path) -> Result<Option<PathBuf>, Error> {
    let raw = raw::parse(path, &read(path)?)?;
    Ok(compile::data_dir(&raw, &directory(path)))
}

/// Reads out of a configuration file who signs, without the secrets themselves.
pub fn load_signers(path: &Path) -> Result<Signers, Error> {
    Ok(signers::signers(&raw::parse(path, &read(path)?)?, &directory(path)))
}

/// What is longer than this is no configuration but the wrong file.
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

/// The file's directory, absolute, so that a change of the working directory changes nothing.
fn directory(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    std::path::absolute(parent).unwrap_or_else(|_| parent.to_path_buf())
}

#[cfg(test)]
mod tests;
