//! Outbound requests: the allowed networks, TLS, headers and signatures.
//!
//! Files are read here, and secrets only by a process with a relay.

use super::{
    Problem, RouteKind,
    compile::Compiler,
    path::below,
    pem,
    problem::{Fault, Problems},
    raw, route,
    secret::{self, Origin, warn_if_odd, warn_if_open},
};
use crate::{
    hermes::{gateway::Gateway, signature::Scheme},
    network::{Network, Networks, to_allow},
};
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::Spanned;
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};
use url::Url;

/// aiohttp, the HTTP server of Hermes, answers 400 to a longer header.
const LONGEST_HEADER: usize = 8190;

/// A route's certificates beside the system's own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RouteTls {
    /// Further trusted authorities.
    pub ca: Vec<CertificateDer<'static>>,
    /// Our certificate with its chain, and its key, for servers that ask for one.
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
    /// Its name in the case of the file: Hermes' filters compare names exactly.
    pub name: String,
    /// Its value, in printable ASCII.
    pub value: SecretString,
}

impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value.expose_secret() == other.value.expose_secret()
    }
}

/// The networks. `None` if one of them is not valid, because the others alone may be too few.
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

/// Refuses a URL with an address that its tenant does not allow.
pub(super) fn check_url(
    p: &mut Problems,
    written: route::Written<'_>,
    url: &Url,
    networks: &Networks,
    kind: RouteKind,
) {
    let server = if kind == RouteKind::Hermes { "Hermes" } else { "the receiver" };
    if let Some((why, help)) = refused(url, written.tenant, networks, server) {
        p.add(&written.raw.url, format!("{written} {why}"), help);
    }
}

/// Why requests of a tenant may not go to a URL, and how to allow it if this server is there.
pub(super) fn refused(url: &Url, tenant: &str, networks: &Networks, server: &str) -> Option<Fault> {
    let (address, class) = networks.refused_host(url)?;
    let why = format!("leads to {address}, which is {class}, and its tenant does not allow that");
    let allowed = to_allow(address, class);
    let help = if networks.is_empty() {
        format!("if {server} is there, write networks: [{allowed}] under tenant {tenant}, beside openrouter")
    } else {
        format!("if {server} is there, add {allowed} to the networks of tenant {tenant}")
    };
    Some((why, help))
}

pub(super) fn scheme(p: &mut Problems, raw: &raw::Route, url: &Url) -> &'static Scheme {
    let scheme = p.or(raw.signing.as_ref(), Scheme::DEFAULT, |text| {
        let names = || Scheme::ALL.map(|scheme| scheme.name).join(", ");
        Scheme::named(text).ok_or_else(|| ("unknown signing".into(), format!("write one of {}", names())))
    });
    if let Some(written) = raw.signing.as_ref().filter(|_| scheme.sends_secret)
        && url.scheme() == "http"
        && !Gateway::is_here(url)
    {
        let what = format!(
            "signing: {} sends the secret itself, which the networks between could read",
            scheme.name
        );
        p.add(written, what, "use an https:// URL, or another signing");
    }
    scheme
}

/// A route's readable secrets, the newest first; `unread` gets the problems of the others. A process without a relay reads none.
pub(super) fn secrets(
    c: &mut Compiler<'_>,
    unread: &mut Problems,
    raw: &Spanned<raw::Secrets>,
    scheme: &Scheme,
) -> (Vec<SecretString>, Origin) {
    let origins: Vec<Spanned<Origin>> = match &raw.value {
        raw::Secrets::One(origin) => {
            vec![Spanned { value: origin.clone(), referenced: raw.referenced, defined: raw.defined }]
        }
        raw::Secrets::Several(origins) => origins.clone(),
    };
    let Some(first) = origins.first() else {
        let help = "name at least one: Hermes takes no request without a signature";
        c.problems.add(raw, "no secret", help);
        return (Vec::new(), Origin::Env(String::new()));
    };
    let first = first.value.below(c.base);
    if !c.role.has_relay() {
        return (Vec::new(), first);
    }
    let mut secrets = Vec::new();
    for written in &origins {
        let fault = |(what, help)| Problem::at(written.referenced, what, help);
        let checked = secret::read(c, written).and_then(|secret| {
            scheme.check(&secret, &written.value.below(c.base)).map_err(fault)?;
            Ok(secret)
        });
        match checked {
            Ok(secret) => secrets.push(secret),
            Err(problem) => unread.0.push(problem),
        }
    }
    (secrets, first)
}

/// The headers; `unread` gets the problems of named values, which are read if `reads_secrets` is set.
pub(super) fn headers(
    c: &mut Compiler<'_>,
    unread: &mut Problems,
    raw: &raw::Named<Spanned<raw::HeaderValue>>,
    reads_secrets: bool,
) -> Vec<Header> {
    let (base, p, warnings) = (c.base, &mut c.problems, &mut c.warnings);
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
            raw::HeaderValue::Named(_) if !reads_secrets => continue,
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

/// Whether a text is a token of RFC 9110, as header names are.
pub(super) fn is_header_name(text: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Refuses the name of a header that the delivery, the signature or HTTP itself writes.
fn header_name(written: &str, name: &str) -> Result<(), Fault> {
    const OURS: [&str; 7] =
        ["accept-encoding", "host", "expect", "user-agent", "x-request-id", "traceparent", "tracestate"];
    // Beside the families of our signing schemes, these are signatures, ids or types to some version of Hermes, most of them
    // with precedence over ours: with a Linear header, a valid X-Hub-Signature-256 does not count.
    const OUR_FAMILIES: [&str; 4] = ["content-", "linear-", "webhook-", "x-github-"];
    const HOP_BY_HOP: [&str; 6] =
        ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    if !is_header_name(name) {
        return Err((format!("{written:?} is not a header's name"), "write one such as X-Env".into()));
    }
    let begins = |families: &[&str]| families.iter().any(|family| name.starts_with(family));
    if OURS.contains(&name) || begins(&OUR_FAMILIES) || Scheme::is_reserved(name) {
        let what = format!("the header {written} is Talaria's own to write");
        return Err((what, "leave it out, or choose another name such as X-Env".into()));
    }
    if HOP_BY_HOP.contains(&name) || begins(&["proxy-"]) {
        let what = format!("the header {written} belongs to one connection and not to a request");
        return Err((what, "leave it out".into()));
    }
    Ok(())
}

/// The fault never repeats the value, which may be a secret.
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

/// A route's certificates; `unread` gets the problems of the files.
pub(super) fn tls(
    c: &mut Compiler<'_>,
    unread: &mut Problems,
    raw: Option<&raw::Tls>,
    url: &Url,
) -> Option<Arc<RouteTls>> {
    let raw = raw?;
    if let Some(written) = raw.ca.as_ref().or(raw.cert.as_ref()).filter(|_| url.scheme() == "http") {
        let what = "the route's url begins with http://, so its tls is never used";
        c.warnings.add(written, what, "write https://, or leave tls out");
    }
    pem::pair(&mut c.problems, "tls", raw.cert.as_ref(), raw.key.as_ref());
    if !c.role.has_relay() {
        return None;
    }
    let ca = unread.or(raw.ca.as_ref(), Vec::new(), |path| pem::authorities(&below(c.base, path)));
    let client = pem::identity(c, unread, "tls", (raw.cert.as_ref(), raw.key.as_ref()));
    Some(Arc::new(RouteTls { ca, client }))
}
