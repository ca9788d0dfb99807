//! The bus on NATS: its servers, credentials and streams.

use super::{
    NAMES,
    compile::Compiler,
    is_name,
    path::below,
    pem,
    problem::{Fault, Problem},
    raw,
    secret::{Origin, warn_if_open},
    value::{LEAST_BYTES, MOST_BYTES, bytes},
};
use data_encoding::BASE32_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::Spanned;
use std::path::PathBuf;
use url::Url;

const DEFAULT_PREFIX: &str = "talaria";

/// A NATS with JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// The first servers to try, as `nats://` or `tls://` URLs without user and password; never empty.
    pub servers: Vec<String>,
    /// The origin of [`Credentials`], which were readable with the configuration.
    pub creds: Option<Origin>,
    /// The origin of a [`UserKey`], which was readable with the configuration; never together with `creds`.
    pub nkey: Option<Origin>,
    /// Certificates beside the system's own.
    pub tls: Option<Tls>,
    /// The number of servers that keep each stream: 1 or 3.
    pub replicas: usize,
    /// The prefix of the names of streams and subjects.
    pub prefix: String,
    /// The most bytes of events; `None` for no limit.
    pub max_bytes: Option<u64>,
}

/// Files in PEM, which were readable with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Further trusted authorities.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Credentials for a server in operator mode.
#[derive(Debug)]
pub struct Credentials {
    /// The user's JWT. It is of no use without the seed, and is kept private all the same.
    pub jwt: SecretString,
    /// The seed of the signing key.
    pub seed: SecretString,
}

impl Credentials {
    /// Reads the credentials.
    pub fn read(origin: &Origin) -> Result<Self, Fault> {
        let text = origin.text()?;
        match (line_below(&text, "BEGIN NATS USER JWT"), line_below(&text, "BEGIN USER NKEY SEED")) {
            (Some(jwt), Some(seed)) => Ok(Self { jwt: jwt.into(), seed: seed.into() }),
            _ => {
                let what = format!("{origin} does not hold NATS credentials");
                Err((what, "name a file with a JWT and a seed, as `nsc generate creds` writes it".into()))
            }
        }
    }
}

/// The key of a user that the server's configuration lists by its public key.
#[derive(Debug)]
pub struct UserKey {
    /// The seed of the signing key.
    pub seed: SecretString,
}

impl UserKey {
    /// Reads the seed. A fault never repeats a part of it.
    pub fn read(origin: &Origin) -> Result<Self, Fault> {
        let help = || {
            "name a file with the seed of a user, SU…, as `talaria secrets --nats-users` writes it".to_owned()
        };
        let seed = origin.read()?;
        match kind_of_seed(seed.expose_secret()) {
            Some(USER) => Ok(Self { seed }),
            Some(_) => Err((format!("{origin} holds an NKey that is not a user's"), help())),
            None => Err((format!("{origin} does not hold the seed of an NKey"), help())),
        }
    }
}

/// The letter of seeds, S, as base32 has it in the upper five bits of a byte.
const SEED: u8 = 18 << 3;
/// The letter of users, U.
const USER: u8 = 20 << 3;

/// The letter of the key whose seed this is; `None` for any other text. A seed is the base32 of two letters of five bits, the key's 32
/// bytes, and a checksum of all that (<https://github.com/nats-io/nkeys>).
fn kind_of_seed(text: &str) -> Option<u8> {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (body, sum) = bytes.split_last_chunk::<2>()?;
    let [first, second, key @ ..] = body else { return None };
    let is_seed = key.len() == 32 && (first & 0xF8) == SEED && u16::from_le_bytes(*sum) == crc16(body);
    is_seed.then_some(((first & 7) << 5) | (second >> 3))
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// The line below a heading, unless that is another heading or a footer.
fn line_below<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find(|line| line.contains(heading))?;
    lines.next().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('-'))
}

pub(super) fn compile(c: &mut Compiler<'_>, raw: &raw::Nats) -> Nats {
    if raw.servers.value.is_empty() {
        c.problems.add(&raw.servers, "no NATS server", SERVER_HELP);
    }
    if let (Some(_), Some(nkey)) = (&raw.creds, &raw.nkey) {
        let help = "keep nkey where the server lists its users, and creds where it is in operator mode";
        c.problems.add(nkey, "nkey beside creds: a connection has one user", help);
    }
    Nats {
        servers: raw
            .servers
            .value
            .iter()
            .map(|text| c.problems.or(Some(text), String::new(), |text| server(text)))
            .collect(),
        creds: raw.creds.as_ref().and_then(|origin| {
            let found = origin.value.below(c.base);
            warn_if_open(&mut c.warnings, origin, &found);
            c.problems.or(Some(origin), None, |_| Credentials::read(&found).map(|_| Some(found.clone())))
        }),
        nkey: raw.nkey.as_ref().and_then(|origin| {
            let found = origin.value.below(c.base);
            warn_if_open(&mut c.warnings, origin, &found);
            c.problems.or(Some(origin), None, |_| UserKey::read(&found).map(|_| Some(found.clone())))
        }),
        tls: raw.tls.as_ref().map(|raw| tls(c, raw)),
        replicas: c.problems.or(raw.replicas.as_ref(), 1, |n| match *n {
            n @ (1 | 3) => Ok(n),
            _ => Err((
                "replicas must be 1 or 3".into(),
                "write 3 where NATS is a cluster of three servers or more, else 1".into(),
            )),
        }),
        prefix: c.problems.or(raw.prefix.as_ref(), DEFAULT_PREFIX.to_owned(), |text| checked_prefix(text)),
        max_bytes: c.problems.or(raw.max_bytes.as_ref(), None, |text| {
            bytes(text, "max_bytes", LEAST_BYTES..=MOST_BYTES).map(Some)
        }),
    }
}

/// The prefix of a configuration with any bus: the default one stands for a NATS that is still to be configured.
pub(super) fn prefix(raw: &raw::Config) -> Result<String, Problem> {
    let Some(raw::Bus::Nats(nats)) = raw.bus.as_ref().map(|bus| &bus.value) else {
        return Ok(DEFAULT_PREFIX.to_owned());
    };
    let Some(written) = &nats.prefix else { return Ok(DEFAULT_PREFIX.to_owned()) };
    checked_prefix(&written.value).map_err(|(what, help)| Problem::at(written.referenced, what, help))
}

fn checked_prefix(text: &str) -> Result<String, Fault> {
    let fault = || (format!("{text:?} is not a prefix"), format!("use {NAMES}"));
    is_name(text).then(|| text.to_owned()).ok_or_else(fault)
}

const SERVER_HELP: &str = "write a URL such as nats://nats-1:4222 or tls://nats.example.com:4222";

/// The fault never repeats the text, which may have a password.
fn server(text: &str) -> Result<String, Fault> {
    let help = || SERVER_HELP.to_owned();
    let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), help()))?;
    if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
        return Err(("a NATS server's URL must begin with nats:// or tls:// and name a host".into(), help()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let what = "a NATS server's URL must not hold a user name, a token or a password";
        return Err((what.into(), "name a credentials file with creds:, or a key with nkey:".into()));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(("a NATS server's URL ends with the host and the port".into(), help()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn tls(c: &mut Compiler<'_>, raw: &raw::Tls) -> Tls {
    let mut file = |written: Option<&Spanned<String>>| {
        c.problems.or(written, None, |path| {
            let path = below(c.base, path);
            pem::read(&path).map(|_| Some(path))
        })
    };
    let (ca, cert, key) = (file(raw.ca.as_ref()), file(raw.cert.as_ref()), file(raw.key.as_ref()));
    if let (Some(written), Some(path)) = (&raw.key, &key) {
        warn_if_open(&mut c.warnings, written, &Origin::File(path.clone()));
    }
    pem::pair(&mut c.problems, "tls", raw.cert.as_ref(), raw.key.as_ref());
    Tls { ca, client: cert.zip(key) }
}
