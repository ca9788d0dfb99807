//! How requests leave: which networks they may go to, over which TLS, with which headers and signed how.
//!
//! Files are read here, and secrets only by a process with a relay.

use super::{
    Role,
    path::below,
    pem,
    problem::{Fault, Problems},
    raw,
    secret::{self, Origin, warn_if_odd, warn_if_open},
};
use crate::{
    hermes::signature::{Scheme, is_svix_secret},
    network::{Network, Networks, to_allow},
};
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::Spanned;
use std::{
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};
use url::{Host, Url};

/// aiohttp, which Hermes stands on, answers 400 to a longer header.
const LONGEST_HEADER: usize = 8190;

/// What a route's TLS connections need beyond the system's own certificates.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RouteTls {
    /// Whom we trust beside the system's own authorities.
    pub ca: Vec<CertificateDer<'static>>,
    /// Our certificate with those that vouch for it, and its key, for servers that ask.
    pub client: Option<pem::Identity>,
}

impl Hash for RouteTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A certificate has one key.
        (&self.ca, self.client.as_ref().map(|(certificates, _)| certificates)).hash(state);
    }
}

/// A header of the operator's own. Its value may be a secret.
#[derive(Clone, Debug)]
pub struct Header {
    /// Its name, in the case in which it was written: Hermes' filters compare names exactly.
    pub name: String,
    /// Its value, in printable ASCII.
    pub value: SecretString,
}

impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value.expose_secret() == other.value.expose_secret()
    }
}

/// The networks. `None` when one of them cannot be read, because the others alone may not be what was meant.
pub(super) fn networks(p: &mut Problems, raw: &[Spanned<String>]) -> Option<Networks> {
    const HELP: &str =
        "write loopback, private, carrier, link-local, or addresses such as 10.1.0.0/16 or \"fd12::/16\"";
    let networks: Vec<Option<Network>> = raw
        .iter()
        .map(|written| {
            p.or(Some(written), None, |text| {
                text.parse::<Network>().map(Some).map_err(|what| (what, HELP.to_owned()))
            })
        })
        .collect();
    networks.into_iter().collect()
}

/// A URL that names an address which its tenant does not allow would only fail later.
pub(super) fn check_url(
    p: &mut Problems,
    tenant: &str,
    name: &str,
    written: &Spanned<String>,
    url: &Url,
    networks: &Networks,
) {
    if let Some((address, class)) = networks.refused_host(url) {
        let what = format!(
            "route {tenant}/{name} leads to {address}, which is {class}, and its tenant does not allow that"
        );
        let allowed = to_allow(address, class);
        let help = if networks.is_empty() {
            format!(
                "if Hermes is there, write networks: [{allowed}] under tenant {tenant}, beside openrouter"
            )
        } else {
            format!("if Hermes is there, add {allowed} to the networks of tenant {tenant}")
        };
        p.add(written, what, help);
    }
}

pub(super) fn scheme(p: &mut Problems, raw: &raw::Route, url: &Url) -> Scheme {
    let scheme = p.or(raw.signing.as_ref(), Scheme::default(), |text| {
        let found = Scheme::NAMES.iter().find(|(name, _)| name == text);
        let names = Scheme::NAMES.map(|(name, _)| name).join(", ");
        found
            .map(|(_, scheme)| *scheme)
            .ok_or_else(|| ("unknown signing".into(), format!("write one of {names}")))
    });
    if let (Scheme::Gitlab, Some(written)) = (scheme, &raw.signing)
        && url.scheme() == "http"
        && !is_home(url)
    {
        p.add(
            written,
            "signing: gitlab sends the secret itself, which anybody on the way could read",
            "use an https:// URL, or another signing",
        );
    }
    scheme
}

fn is_home(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A route's secrets that can be read, the newest first, and why others cannot (`unread`). A process without a relay reads none.
pub(super) fn secrets(
    p: &mut Problems,
    unread: &mut Problems,
    warnings: &mut Problems,
    raw: &Spanned<raw::Secrets>,
    scheme: Scheme,
    base: &Path,
    role: Role,
) -> (Vec<SecretString>, Origin) {
    let origins: Vec<Spanned<Origin>> = match &raw.value {
        raw::Secrets::One(origin) => {
            vec![Spanned { value: origin.clone(), referenced: raw.referenced, defined: raw.defined }]
        }
        raw::Secrets::Several(origins) => origins.clone(),
    };
    let Some(first) = origins.first() else {
        p.add(raw, "no secret", "name at least one: Hermes takes no request without a signature");
        return (Vec::new(), Origin::Env(String::new()));
    };
    let first = first.value.below(base);
    if !role.has_relay() {
        return (Vec::new(), first);
    }
    let mut secrets = Vec::new();
    for origin in &origins {
        let before = unread.0.len();
        let secret = secret::read(unread, warnings, origin, base);
        if scheme == Scheme::Svix && !is_svix_secret(&secret) {
            let what = format!("what stands behind whsec_ in {} is not base64", origin.value.below(base));
            unread.add(origin, what, "copy the secret whole, as Svix shows it");
        }
        if scheme == Scheme::Gitlab && secret.expose_secret().trim() != secret.expose_secret() {
            let what = format!(
                "the secret in {} has blanks around it, which a header loses",
                origin.value.below(base)
            );
            unread.add(origin, what, "use a secret without them, or another signing");
        }
        if unread.0.len() == before {
            secrets.push(secret);
        }
    }
    (secrets, first)
}

/// The headers; `unread` gets why the value of one cannot be read.
pub(super) fn headers(
    p: &mut Problems,
    unread: &mut Problems,
    warnings: &mut Problems,
    raw: &raw::Named<Spanned<raw::HeaderValue>>,
    base: &Path,
    role: Role,
) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for (written, value) in &raw.0 {
        let name = written.value.to_ascii_lowercase();
        if let Err((what, help)) = header_name(&written.value, &name) {
            p.add(written, what, help);
        } else if headers.iter().any(|header| header.name.eq_ignore_ascii_case(&name)) {
            p.add(written, format!("the header {} is there twice", written.value), "leave one out");
        }
        let value = match &value.value {
            raw::HeaderValue::Written(text) => {
                p.or(Some(value), SecretString::default(), |_| header_value(text))
            }
            raw::HeaderValue::Named(_) if !role.has_relay() => continue,
            raw::HeaderValue::Named(origin) => {
                let found = origin.below(base);
                warn_if_open(warnings, value, &found);
                let secret = unread.or(Some(value), SecretString::default(), |_| {
                    header_value(found.read()?.expose_secret())
                });
                warn_if_odd(warnings, value, &found, secret.expose_secret());
                secret
            }
        };
        headers.push(Header { name: written.value.clone(), value });
    }
    headers
}

/// What is written of a request by others: by the signature, by the delivery, by HTTP on each hop.
fn header_name(written: &str, name: &str) -> Result<(), Fault> {
    const OURS: [&str; 7] =
        ["accept-encoding", "host", "expect", "user-agent", "x-request-id", "traceparent", "tracestate"];
    // All that some version of Hermes takes for a signature, an id or a type, most of it before it looks at ours. A GitLab or
    // Linear header that is there decides, and a right X-Hub-Signature-256 beside it does not count.
    const OUR_FAMILIES: [&str; 8] =
        ["content-", "linear-", "svix-", "webhook-", "x-github-", "x-gitlab-", "x-hub-", "x-webhook-"];
    const OF_THE_HOP: [&str; 6] =
        ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err((format!("{written:?} is not a header's name"), "write one such as X-Env".into()));
    }
    let begins = |families: &[&str]| families.iter().any(|family| name.starts_with(family));
    if OURS.contains(&name) || begins(&OUR_FAMILIES) {
        let what = format!("the header {written} is Talaria's own to write");
        return Err((what, "leave it out, or choose another name such as X-Env".into()));
    }
    if OF_THE_HOP.contains(&name) || begins(&["proxy-"]) {
        let what = format!("the header {written} belongs to one connection and not to a request");
        return Err((what, "leave it out".into()));
    }
    Ok(())
}

/// Faults never repeat it: it may be a secret.
fn header_value(text: &str) -> Result<SecretString, Fault> {
    let help = || "write printable ASCII, without blanks around it".to_owned();
    if text.trim() != text || text.is_empty() || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err(("not a header's value".into(), help()));
    }
    if text.len() > LONGEST_HEADER {
        return Err((format!("longer than the {LONGEST_HEADER} bytes that Hermes takes"), help()));
    }
    Ok(text.into())
}

/// What TLS needs; `unread` gets why a file of it cannot be read.
pub(super) fn tls(
    p: &mut Problems,
    unread: &mut Problems,
    warnings: &mut Problems,
    raw: Option<&raw::Tls>,
    url: &Url,
    base: &Path,
    role: Role,
) -> Option<Arc<RouteTls>> {
    let raw = raw?;
    if let Some(written) = raw.ca.as_ref().or(raw.cert.as_ref()).filter(|_| url.scheme() == "http") {
        warnings.add(
            written,
            "the route's url begins with http://, so its tls is never used",
            "write https://, or leave tls out",
        );
    }
    pem::pair(p, "tls", raw.cert.as_ref(), raw.key.as_ref());
    if !role.has_relay() {
        return None;
    }
    let ca = unread.or(raw.ca.as_ref(), Vec::new(), |path| pem::authorities(&below(base, path)));
    let client = pem::identity(unread, warnings, "tls", (raw.cert.as_ref(), raw.key.as_ref()), base);
    Some(Arc::new(RouteTls { ca, client }))
}
