//! When certificates expire that the configuration names.
//!
//! The files are read when metrics are collected, so that a renewed one is seen at once. A process may still use what it read
//! before.

use data_encoding::BASE64URL_NOPAD;
use metrics::gauge;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use talaria_core::config::{Credentials, SecretOrigin};
use tokio::{task::spawn_blocking, time::timeout};
use x509_parser::parse_x509_certificate;

/// Files on a disk that hangs are left out.
const DEADLINE: Duration = Duration::from_secs(2);

/// The key of a file that has a JWT, and no certificates in PEM.
const CREDENTIALS: &str = "bus.nats.creds";

/// A certificate that the configuration names.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Its key in the configuration.
    key: String,
    file: PathBuf,
    /// The earliest end in the file, in seconds since 1970.
    expires: i64,
}

impl Certificate {
    /// Those of these files that can be read and have an end.
    pub(super) async fn read_all(files: BTreeMap<String, PathBuf>) -> Vec<Self> {
        let read = move || {
            // Many routes may name the same file.
            let mut ends = BTreeMap::new();
            let of_file = |(key, file): (String, PathBuf)| {
                let expires = if key == CREDENTIALS {
                    end_of_credentials(&file)
                } else {
                    *ends.entry(file.clone()).or_insert_with(|| earliest_end(&file))
                };
                Some(Self { key, file, expires: expires? })
            };
            files.into_iter().filter_map(of_file).collect()
        };
        match timeout(DEADLINE, spawn_blocking(read)).await {
            Ok(Ok(found)) => found,
            _ => Vec::new(),
        }
    }

    /// Sets the gauge of the current recorder.
    #[expect(clippy::cast_precision_loss, reason = "seconds until the year 285 million are exact")]
    pub(super) fn show(&self) {
        let labels = [("use", self.key.clone()), ("file", self.file.display().to_string())];
        gauge!("talaria_certificate_expiry_timestamp_seconds", &labels).set(self.expires as f64);
    }
}

/// The earliest end of the certificates in a file in PEM, in seconds since 1970.
fn earliest_end(file: &Path) -> Option<i64> {
    let certificates = CertificateDer::pem_file_iter(file).ok()?;
    let end = |certificate: Result<CertificateDer<'_>, _>| {
        let certificate = certificate.ok()?;
        let (_, parsed) = parse_x509_certificate(&certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    };
    certificates.map(end).collect::<Option<Vec<i64>>>()?.into_iter().min()
}

/// The end of a JWT, in seconds since 1970.
fn end_of_credentials(file: &Path) -> Option<i64> {
    let credentials = Credentials::read(&SecretOrigin::File(file.to_owned())).ok()?;
    let claims = credentials.jwt.expose_secret().split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?).ok()?;
    claims.get("exp")?.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::fs;

    const OF_2050: i64 = 2_524_608_000;

    /// Writes files by key, and gives the ends that are found.
    async fn ends(files: &[(&str, String)]) -> Vec<(String, i64)> {
        let directory = tempfile::tempdir().unwrap();
        let write = |(key, text): &(&str, String)| {
            let path = directory.path().join(key);
            if !text.is_empty() {
                fs::write(&path, text).unwrap();
            }
            ((*key).to_owned(), path)
        };
        let found = Certificate::read_all(files.iter().map(write).collect()).await;
        found.into_iter().map(|it| (it.key, it.expires)).collect()
    }

    fn certificate(year: i32) -> String {
        let mut params = CertificateParams::new(["talaria.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[tokio::test]
    async fn a_chain_ends_with_its_earliest_certificate_and_an_unreadable_file_is_left_out() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let found = ends(&[
            ("alone", certificate(2050)),
            ("broken", certificate(2050) + broken),
            ("chain", [certificate(2060), certificate(2050), certificate(2070)].concat()),
            ("gone", String::new()),
            ("odd", "no certificate\n".to_owned()),
        ])
        .await;
        assert_eq!(found, [("alone".to_owned(), OF_2050), ("chain".to_owned(), OF_2050)]);
    }

    #[tokio::test]
    async fn credentials_end_as_their_jwt_says() {
        let written = |claims: &str| {
            let jwt = format!("e30.{}.c2lnbmF0dXJl", BASE64URL_NOPAD.encode(claims.as_bytes()));
            format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\nSUA\n------END USER NKEY SEED------\n"
            )
        };
        let found = ends(&[(CREDENTIALS, written(&format!("{{\"sub\": \"U\", \"exp\": {OF_2050}}}")))]).await;
        assert_eq!(found, [(CREDENTIALS.to_owned(), OF_2050)]);
        for text in [written("{\"sub\": \"U\"}"), written("no claims"), certificate(2050)] {
            assert_eq!(ends(&[(CREDENTIALS, text)]).await, [], "no end");
        }
    }
}
