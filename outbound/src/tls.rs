//! TLS: trusted authorities, client certificates, and faults in words.

use crate::Peer;
use rustls::{AlertDescription as Alert, CertificateError, ClientConfig, RootCertStore, crypto::ring};
use std::{error::Error, io, sync::Arc};
use talaria_core::config::RouteTls;
use tokio_rustls::TlsConnector;

/// The system's trusted authorities. On a system without any, such as a bare image, every connection fails.
pub(super) fn system() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "system certificate authorities read failed");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
}

/// A connector with these keys, or their fault.
pub(super) fn connector(system: &Arc<RootCertStore>, tls: Option<&RouteTls>) -> Result<TlsConnector, String> {
    let mut roots = Arc::clone(system);
    for certificate in tls.iter().flat_map(|tls| &tls.ca) {
        let added = Arc::make_mut(&mut roots).add(certificate.clone());
        added.map_err(|error| format!("tls.ca is no certificate of an authority: {error}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match tls.and_then(|tls| tls.client.as_ref()) {
        Some((certificates, key)) => {
            builder.with_client_auth_cert(certificates.clone(), key.clone_key()).map_err(|error| {
                format!("tls.cert and tls.key cannot be used: {error}; name a certificate and the key that belongs to it")
            })?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The reason why TLS with a host failed.
pub(super) fn sentence(peer: Peer, host: &str, error: &io::Error) -> String {
    use rustls::{Error as Tls, InvalidMessage};
    let certificate = |why: String| format!("the certificate of {host} {why}");
    match rustls_error(error) {
        Some(Tls::InvalidCertificate(wrong)) => certificate(match wrong {
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ");
                format!("is for {names} and not for that name; compare {}", peer.url_key())
            }
            CertificateError::NotValidForName => {
                format!("is not for that name; compare {}", peer.url_key())
            }
            CertificateError::UnknownIssuer => {
                format!("is by an authority that is not trusted here; if it is to be, {}", peer.trust())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet; compare the clocks".into()
            }
            // The verifier gives no better error. `openssl req -x509` makes such a certificate by default.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
                "is an authority's, which no server may show; give it one with basicConstraints=CA:FALSE"
                    .into()
            }
            CertificateError::Other(other) => format!("is not valid: {}", other.0),
            other => format!("is not valid: {other}"),
        }),
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            format!("{host} does not speak TLS there; should {} begin with http://?", peer.url_key())
        }
        Some(Tls::AlertReceived(alert)) => alerted(peer, host, *alert),
        _ => format!("TLS with {host} failed: {error}"),
    }
}

/// The reason if a server closed the connection because of our certificate. With TLS 1.3 it does so after the handshake, and
/// before it reads a request.
pub(crate) fn refusal(peer: Peer, host: &str, error: &(dyn Error + 'static)) -> Option<String> {
    let alert = causes(error).find_map(|error| match rustls_error(error.downcast_ref()?)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    })?;
    is_about_us(alert).then(|| alerted(peer, host, alert))
}

/// An error and its sources.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_about_us(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

fn alerted(peer: Peer, host: &str, alert: Alert) -> String {
    match alert {
        Alert::CertificateRequired => {
            format!("{host} demands a client certificate{}", peer.demand())
        }
        alert if is_about_us(alert) => {
            format!("{host} does not accept our certificate ({alert:?}){}", peer.compare_certificate())
        }
        alert => format!("TLS with {host} failed: it says {alert:?}"),
    }
}

/// The name in rustls' notation `DnsName("hermes.example")`.
fn bare(name: &str) -> &str {
    name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name).trim_matches('"')
}
