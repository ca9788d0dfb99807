//! Certificates by which a server and its clients know each other.

use jiff::civil::Date;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use std::{fs, path::Path};

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = named("an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes the authority's own certificate and those of a server on loopback.
    pub(crate) fn write_server(&self, directory: &Path) {
        self.write(directory, "server", &on_loopback());
    }

    /// The same, with a certificate that is an authority's, as `openssl req -x509` makes them.
    pub(crate) fn write_wrong_server(&self, directory: &Path) {
        let mut params = on_loopback();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write(directory, "server", &params);
    }

    /// The same for servers that are also clients of one another.
    pub(crate) fn write_node(&self, directory: &Path) {
        let mut params = on_loopback();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.write(directory, "server", &params);
    }

    /// Writes the authority's own certificate and that of a client of this name.
    pub(crate) fn write_client(&self, directory: &Path, name: &str) {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.write(directory, "client", &params);
    }

    /// The same, of a certificate that ends when this day begins.
    pub(crate) fn write_client_until(&self, directory: &Path, name: &str, day: Date) {
        let mut params = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (year, month, day) = (day.year(), day.month().unsigned_abs(), day.day().unsigned_abs());
        params.not_after = rcgen::date_time_ymd(year.into(), month, day);
        self.write(directory, "client", &params);
    }

    fn write(&self, directory: &Path, file: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join("ca.pem"), self.0.pem()).unwrap();
        fs::write(directory.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{file}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn on_loopback() -> CertificateParams {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
