//! Access to a relay: its TLS and its tokens.

use super::{
    Config, NAMES, Relay,
    compile::Compiler,
    is_name,
    path::below,
    pem,
    problem::{Fault, Problems},
    raw,
};
use crate::token::TokenHash;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::CertificateDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The TLS of the relay's services.
#[derive(Clone, Debug)]
pub struct RelayTls {
    /// Has our certificate and its key, and the authorities of clients. For gRPC.
    pub server: Arc<ServerConfig>,
    /// The same for HTTP/1.1.
    pub http: Arc<ServerConfig>,
    /// The authorities that sign clients' certificates; empty if clients need none.
    pub client_ca: Vec<CertificateDer<'static>>,
}

/// The permissions of a token. Each one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To read.
    Read,
    /// To read, and to submit jobs to OpenRouter.
    Submit,
    /// To do everything.
    Control,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Read, Self::Submit, Self::Control];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Control => "control",
        }
    }
}

/// A token that identifies a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The name that is recorded with its client's actions.
    pub name: String,
    /// Its permissions.
    pub scope: Scope,
    /// Its tenant; `None` for all tenants.
    pub tenant: Option<String>,
    /// The hashes of the tokens with this name, never empty: several while a token is replaced.
    pub hashes: Vec<TokenHash>,
}

impl Relay {
    /// Whether clients must authenticate, by a token or by a certificate.
    pub fn is_guarded(&self) -> bool {
        !self.tokens.is_empty() || self.tls.as_ref().is_some_and(|tls| !tls.client_ca.is_empty())
    }

    /// Whether the services may listen on this address: on loopback, or if clients must authenticate.
    pub fn may_listen(&self, address: IpAddr) -> Result<(), Fault> {
        if address.is_loopback() || self.is_guarded() {
            return Ok(());
        }
        let help = "make a token with `talaria token` and name its hash under relay.tokens, or name the authority of \
                    your clients with relay.tls.client_ca, or use 127.0.0.1 or [::1]";
        Err(("whoever reaches this address could read and control everything".into(), help.into()))
    }
}

impl Config {
    /// The addresses of the services that the gate guards, with their keys.
    pub(super) fn guarded_addresses(&self) -> [(&'static str, Option<SocketAddr>); 2] {
        [("relay.grpc", Some(self.relay.grpc)), ("console.listen", self.console.listen)]
    }
}

pub(super) fn tls(c: &mut Compiler<'_>, raw: Option<&Spanned<raw::RelayTls>>) -> Option<Arc<RelayTls>> {
    let written = raw?;
    let raw::RelayTls { cert, key, client_ca } = &written.value;
    if cert.is_none() && key.is_none() {
        let help = "name one and its key: {cert: PATH, key: PATH}";
        c.problems.add(written, "relay.tls has no certificate", help);
    }
    pem::pair(&mut c.problems, "relay.tls", cert.as_ref(), key.as_ref());
    if !c.role.has_relay() {
        return None;
    }
    let base = c.base;
    let authorities =
        c.problems.or(client_ca.as_ref(), Vec::new(), |path| pem::authorities(&below(base, path)));
    let mut unread = Problems::default();
    let identity = pem::identity(c, &mut unread, "relay.tls", (cert.as_ref(), key.as_ref()));
    c.problems.0.append(&mut unread.0);
    let identity = identity?;
    // A `client_ca` that cannot be used is an error already; it must not lead to a server without authentication.
    if client_ca.is_some() && authorities.is_empty() {
        return None;
    }
    c.problems.or(Some(written), None, |_| {
        let server = server(identity, &authorities);
        let server = server
            .map_err(|why| (format!("relay.tls cannot be used: {why}"), "compare its files".to_owned()))?;
        let mut http = server.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(RelayTls {
            server: Arc::new(server),
            http: Arc::new(http),
            client_ca: authorities,
        })))
    })
}

fn server(
    (certificates, key): pem::Identity,
    authorities: &[CertificateDer<'static>],
) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let verifier: Arc<dyn ClientCertVerifier> =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| error.to_string())?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut server =
        builder.with_single_cert(certificates, key).map_err(|error: rustls::Error| error.to_string())?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(server)
}

pub(super) fn tokens(c: &mut Compiler<'_>, raw: &[raw::Token], tenants: &BTreeSet<&str>) -> Vec<Token> {
    let (p, warnings) = (&mut c.problems, &mut c.warnings);
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let compile = |raw: &raw::Token| {
        let name = &raw.name;
        if !is_name(&name.value) {
            p.add(name, format!("{:?} is not a token's name", name.value), format!("use {NAMES}"));
        } else if !names.insert(name.value.clone()) {
            let help = "give each its own name; one that is replaced has both hashes under the one name";
            p.add(name, format!("two tokens are named {}", name.value), help);
        }
        if let Some(tenant) = raw.tenant.as_ref().filter(|tenant| !tenants.contains(tenant.value.as_str())) {
            if is_name(&tenant.value) {
                let what =
                    format!("token {} is for the tenant {}, which there is not", name.value, tenant.value);
                warnings.add(tenant, what, "compare the names under tenants");
            } else {
                let help = "name one, or leave tenant out where the token is for all";
                p.add(tenant, format!("{:?} is not a tenant's name", tenant.value), help);
            }
        }
        if raw.hashes.value.is_empty() {
            let help = "name one that `talaria token` has printed, or remove the token";
            p.add(&raw.hashes, format!("token {} has no hash", name.value), help);
        }
        let hash = |written: &Spanned<String>| {
            let hash = p.or(Some(written), None, |text| hash(text).map(Some))?;
            if !hashes.insert(hash.to_string()) {
                p.add(written, "this hash is there twice", "make each token anew with `talaria token`");
            }
            Some(hash)
        };
        let hashes = raw.hashes.value.iter().filter_map(hash).collect();
        Token {
            name: name.value.clone(),
            scope: p.or(Some(&raw.scope), Scope::Read, |text| scope(text)),
            tenant: raw.tenant.as_ref().map(|tenant| tenant.value.clone()),
            hashes,
        }
    };
    raw.iter().map(compile).collect()
}

/// The fault never repeats the text, which may be the token itself.
fn hash(text: &str) -> Result<TokenHash, Fault> {
    text.parse().map_err(|error: crate::token::NotAHash| {
        (error.to_string(), "write what `talaria token` prints as the hash, and never the token".to_owned())
    })
}

fn scope(text: &str) -> Result<Scope, Fault> {
    Scope::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| {
        let help = "write scope: read, to look, scope: submit, to submit jobs too, or scope: control, for everything";
        ("unknown scope".into(), help.into())
    })
}

/// Checks the addresses together with the tokens and the TLS.
pub(super) fn check(c: &mut Compiler<'_>, config: &Config, raw: &raw::Config) {
    // A written `client_ca` counts, also if it has an error, or belongs to another role.
    let client_ca = raw.relay.tls.as_ref().is_some_and(|tls| tls.value.client_ca.is_some());
    for ((key, address), written) in
        config.guarded_addresses().into_iter().zip([&raw.relay.grpc, &raw.console.listen])
    {
        let (Some(written), Some(address)) = (written, address) else { continue };
        if let (true, Err((what, help))) =
            (raw.relay.tokens.is_empty() && !client_ca, config.relay.may_listen(address.ip()))
        {
            c.problems.add(written, format!("{key}: {what}"), help);
        }
        if !address.ip().is_loopback() && raw.relay.tls.is_none() {
            let what = format!("tokens come to {key} in plain text, so whoever hears the network has them");
            let help = "name a certificate under relay.tls, unless the network itself is encrypted";
            c.warnings.add(written, what, help);
        }
    }
}
