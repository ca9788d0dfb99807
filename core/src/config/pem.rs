//! Certificates and keys in PEM.

use super::{
    compile::Compiler,
    path::below,
    problem::{Fault, Problems},
    secret::{Origin, warn_if_open},
};
use crate::files;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde_saphyr::Spanned;
use std::path::Path;

/// A certificate with its chain, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Authorities, each of which rustls accepts as a root.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = certificates(path)?;
    for certificate in &found {
        let added = RootCertStore::empty().add(certificate.clone());
        added.map_err(|error| not_pem(path, &error.to_string()))?;
    }
    Ok(found)
}

/// A certificate and its key; `unread` gets the problems of the files.
pub(super) fn identity(
    c: &mut Compiler<'_>,
    unread: &mut Problems,
    key: &str,
    (cert_file, key_file): (Option<&Spanned<String>>, Option<&Spanned<String>>),
) -> Option<Identity> {
    let certificates = unread.or(cert_file, Vec::new(), |path| certificates(&below(c.base, path)));
    unread.or(key_file, None, |path| {
        let path = below(c.base, path);
        if let Some(written) = key_file {
            warn_if_open(&mut c.warnings, written, &Origin::File(path.clone()));
        }
        let private = PrivateKeyDer::from_pem_slice(&read(&path)?)
            .map_err(|_| not_pem(&path, "no private key is in it"))?;
        if certificates.is_empty() {
            return Ok(None);
        }
        CertifiedKey::from_der(certificates.clone(), private.clone_key(), &ring::default_provider())
            .map_err(|error| {
                let what = format!("{} is not the key of {key}.cert: {error}", path.display());
                (what, "name a certificate and the key that belongs to it".to_owned())
            })?;
        Ok(Some((certificates, private)))
    })
}

/// Finds a certificate without its key, or a key without its certificate.
pub(super) fn pair(
    p: &mut Problems,
    key: &str,
    cert_file: Option<&Spanned<String>>,
    key_file: Option<&Spanned<String>>,
) {
    match (cert_file, key_file) {
        (Some(alone), None) => p.add(alone, format!("{key}.cert has no {key}.key"), "name both, or neither"),
        (None, Some(alone)) => p.add(alone, format!("{key}.key has no {key}.cert"), "name both, or neither"),
        _ => {}
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(not_pem(path, "no certificate is in it")),
        Err(error) => Err(not_pem(path, &error.to_string())),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    files::read(path).map_err(|error| {
        let help = "name a file in PEM that this user may read; relative paths start at the configuration";
        (format!("cannot read {}: {error}", path.display()), help.to_owned())
    })
}

fn not_pem(path: &Path, why: &str) -> Fault {
    let help = "name a file in PEM, whose parts begin with a line such as -----BEGIN CERTIFICATE-----";
    (format!("{} cannot be used: {why}", path.display()), help.to_owned())
}
