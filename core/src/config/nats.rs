//! The bus between processes: where NATS is, how it knows us, and what we ask of it.

use super::{
    NAMES, is_name,
    path::below,
    pem,
    problem::{Fault, Problems},
    raw,
    secret::{Origin, warn_if_open},
    value::{LEAST_BYTES, MOST_BYTES, bytes},
};
use crate::files;
use secrecy::SecretString;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
use url::Url;

const DEFAULT_PREFIX: &str = "talaria";

/// A NATS with JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// The servers to begin with, as `nats://` or `tls://` URLs without user and password; never empty.
    pub servers: Vec<String>,
    /// Where [`Credentials`] stand, which could be read when the configuration was.
    pub creds: Option<Origin>,
    /// What a TLS connection needs beyond the system's own certificates.
    pub tls: Option<Tls>,
    /// On how many servers each stream is kept: 1 or 3.
    pub replicas: usize,
    /// What the names of streams and subjects begin with.
    pub prefix: String,
    /// The events take no more bytes than this; no limit where there is none.
    pub max_bytes: Option<u64>,
}

/// Files in PEM, each of which could be read when the configuration was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whom we trust beside the system's own authorities.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How a user shows a server in operator mode who he is.
#[derive(Debug)]
pub struct Credentials {
    /// The user's JWT. It is of no use without the seed, and is kept private all the same.
    pub jwt: SecretString,
    /// What he signs with.
    pub seed: SecretString,
}

impl Credentials {
    /// Reads them, or says what is wrong and what to do.
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

/// The line below a heading, unless that is another heading or a footer.
fn line_below<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find(|line| line.contains(heading))?;
    lines.next().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('-'))
}

pub(super) fn compile(p: &mut Problems, warnings: &mut Problems, raw: &raw::Nats, base: &Path) -> Nats {
    if raw.servers.value.is_empty() {
        p.add(&raw.servers, "no NATS server", SERVER_HELP);
    }
    Nats {
        servers: raw
            .servers
            .value
            .iter()
            .map(|text| p.or(Some(text), String::new(), |text| server(text)))
            .collect(),
        creds: raw.creds.as_ref().and_then(|origin| {
            let found = origin.value.below(base);
            warn_if_open(warnings, origin, &found);
            p.or(Some(origin), None, |_| Credentials::read(&found).map(|_| Some(found.clone())))
        }),
        tls: raw.tls.as_ref().map(|raw| tls(p, warnings, raw, base)),
        replicas: p.or(raw.replicas.as_ref(), 1, |n| match *n {
            n @ (1 | 3) => Ok(n),
            _ => Err((
                "replicas must be 1 or 3".into(),
                "write 3 where NATS is a cluster of three servers or more, else 1".into(),
            )),
        }),
        prefix: p.or(raw.prefix.as_ref(), DEFAULT_PREFIX.to_owned(), |text| {
            let fault = || (format!("{text:?} is not a prefix"), format!("use {NAMES}"));
            is_name(text).then(|| text.clone()).ok_or_else(fault)
        }),
        max_bytes: p.or(raw.max_bytes.as_ref(), None, |text| {
            bytes(text, "max_bytes", LEAST_BYTES..=MOST_BYTES).map(Some)
        }),
    }
}

const SERVER_HELP: &str = "write a URL such as nats://nats-1:4222 or tls://nats.example.com:4222";

/// Faults never repeat the text: there may be a password in it.
fn server(text: &str) -> Result<String, Fault> {
    let help = || SERVER_HELP.to_owned();
    let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), help()))?;
    if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
        return Err(("a NATS server's URL must begin with nats:// or tls:// and name a host".into(), help()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let what = "a NATS server's URL must not hold a user name, a token or a password";
        return Err((what.into(), "name a credentials file with creds:".into()));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(("a NATS server's URL ends with the host and the port".into(), help()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn tls(p: &mut Problems, warnings: &mut Problems, raw: &raw::Tls, base: &Path) -> Tls {
    let mut file = |written: Option<&Spanned<String>>| {
        p.or(written, None, |path| {
            let path = below(base, path);
            let unreadable = |error| {
                let help =
                    "name a file in PEM that this user may read; relative paths start at the configuration";
                (format!("cannot read {}: {error}", path.display()), help.to_owned())
            };
            files::read(&path).map_err(unreadable)?;
            Ok(Some(path))
        })
    };
    let (ca, cert, key) = (file(raw.ca.as_ref()), file(raw.cert.as_ref()), file(raw.key.as_ref()));
    if let (Some(written), Some(path)) = (&raw.key, &key) {
        warn_if_open(warnings, written, &Origin::File(path.clone()));
    }
    pem::pair(p, "tls", raw.cert.as_ref(), raw.key.as_ref());
    Tls { ca, client: cert.zip(key) }
}
