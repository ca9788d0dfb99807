//! Failures of TLS between a command and a relay, in a sentence.

use crate::{Failure, args::Ask};
use rustls::{AlertDescription as Alert, CertificateError, Error as Tls, InvalidMessage};
use std::{error::Error, io, iter};

/// The TLS failure among the causes of an error, if there is one.
pub(crate) fn failure(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut causes = iter::successors(Some(error), |error| (*error).source());
    let found = causes.find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref());
    let message = match found? {
        Tls::InvalidCertificate(wrong) => format!("the relay's certificate {}", untrusted(wrong)),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the relay does not speak TLS\n  help: without relay.tls its address begins with http://".into()
        }
        Tls::AlertReceived(Alert::CertificateRequired) => {
            "the relay demands a client certificate\n  help: name one with --cert and its key with --key"
                .into()
        }
        Tls::AlertReceived(alert) => format!(
            "the relay refuses TLS with us ({alert:?})\n  help: if it has relay.tls.client_ca, name a certificate of \
             that authority with --cert and its key with --key"
        ),
        other => format!("TLS with the relay failed: {other}"),
    };
    Some(Failure::Unreachable(message))
}

fn untrusted(error: &CertificateError) -> String {
    match error {
        // Signed by another authority of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is by an authority that is not trusted here\n  help: name that authority's certificate with --ca"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name\n  help: name the relay as its certificate does: --relay https://NAME:PORT"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired\n  help: the relay needs a new one: relay.tls.cert".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet\n  help: compare the clocks".into()
        }
        // The verifier has no other name for this error. `openssl req -x509` creates such certificates by default.
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "is an authority's, which no server may show\n  help: make the relay one of its own, with \
             basicConstraints=CA:FALSE: docs/access.md#tls"
                .into()
        }
        CertificateError::Other(other) => format!("is not valid: {}", other.0),
        other => format!("is not valid: {other}"),
    }
}

/// The error for unusable certificates or keys.
pub(crate) fn unusable(ask: &Ask, error: &tonic::transport::Error) -> Failure {
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let what = if ask.cert.is_some() { "--ca, --cert or --key" } else { "--ca" };
    let what = if ask.ca.is_none() && ask.cert.is_none() { "the system's list of authorities" } else { what };
    Failure::Usage(format!(
        "{what} cannot be used: {cause}\n  help: name files in PEM; --ca is the trusted authority"
    ))
}
