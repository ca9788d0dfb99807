//! The digests of a file's settings by key, which show whether two settings are the same, and nothing else.
//!
//! A key is a path such as `tenants.acme.routes.video.prompt`; a list is one setting, and so is a secret with its content. Order,
//! style and comments of the file do not count.
//!
//! Digests are of the written values and not of the compiled ones, so every future key is included.

use super::{Role, own_keys::is_own, secret::Origin};
use crate::{
    files,
    json::{Value, print::dump_sorted},
};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Bytes of the salt that makes fingerprints of one process useless against another's.
pub const SALT: usize = 16;

/// Bytes of a fingerprint.
const FINGERPRINT: usize = 8;
/// Bytes of a secret's fingerprint: too few to verify a guess.
const SECRET_FINGERPRINT: usize = 2;

/// A file's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
    /// The named files that this role reads.
    files: Vec<PathBuf>,
    /// The files with certificates that this role uses, by key.
    certificates: BTreeMap<String, PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    digest: [u8; 32],
    is_secret: bool,
}

/// The difference between an older and a newer setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the newer one exists.
    Added,
    /// Both exist and differ.
    Changed,
    /// Only the older one exists.
    Removed,
}

impl Settings {
    /// Reads a file's text, and the named files that this role reads.
    pub(super) fn read(text: &str, base: &Path, role: Role) -> Self {
        let mut reader = Reader { base, role, settings: Self::default() };
        let options = serde_saphyr::options! { with_snippet: false };
        match serde_saphyr::from_str_with_options::<Value>(text, options) {
            Ok(mut document) => {
                // The operator's own keys count only where their anchors are used.
                if let Value::Object(members) = &mut document {
                    members.retain(|key, _| !key.as_str().is_some_and(is_own));
                }
                reader.setting(&mut Vec::new(), &document, true);
            }
            // An invalid file is one setting.
            Err(_) => reader.insert(String::new(), Sha256::digest(text).into(), true),
        }
        let mut settings = reader.settings;
        settings.files.sort();
        settings.files.dedup();
        settings
    }

    /// The named files, whose contents belong to settings.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The files with certificates, by key.
    pub fn certificates(&self) -> &BTreeMap<String, PathBuf> {
        &self.certificates
    }

    /// The differences to older settings, by key.
    pub fn since(&self, older: &Self) -> BTreeMap<String, Difference> {
        differences(&older.by_key, &self.by_key)
    }

    /// These settings, with the older ones at this key and below it.
    #[must_use]
    pub fn with_older(mut self, key: &str, older: &Self) -> Self {
        self.by_key.retain(|other, _| !is_below(other, key));
        let kept = older.by_key.iter().filter(|(other, _)| is_below(other, key));
        self.by_key.extend(kept.map(|(key, setting)| (key.clone(), setting.clone())));
        self.certificates.retain(|other, _| !is_below(other, key));
        let kept = older.certificates.iter().filter(|(other, _)| is_below(other, key));
        self.certificates.extend(kept.map(|(key, path)| (key.clone(), path.clone())));
        self
    }

    /// A fingerprint in hexadecimal digits for each setting; with the same salt, equal settings have equal ones.
    pub fn fingerprints(&self, salt: &[u8; SALT]) -> BTreeMap<String, String> {
        let fingerprint = |(key, setting): (&String, &Setting)| {
            let digest = Sha256::new().chain_update(salt).chain_update(setting.digest).finalize();
            let length = if setting.is_secret { SECRET_FINGERPRINT } else { FINGERPRINT };
            (key.clone(), HEXLOWER.encode(digest.get(..length).unwrap_or_default()))
        };
        self.by_key.iter().map(fingerprint).collect()
    }
}

/// The differences between two maps, the older one first, by key.
pub fn differences<V: PartialEq>(
    older: &BTreeMap<String, V>,
    newer: &BTreeMap<String, V>,
) -> BTreeMap<String, Difference> {
    let removed = older.keys().filter(|key| !newer.contains_key(*key)).map(|key| (key, Difference::Removed));
    let others = newer.iter().filter_map(|(key, value)| match older.get(key) {
        None => Some((key, Difference::Added)),
        Some(older) => (older != value).then_some((key, Difference::Changed)),
    });
    removed.chain(others).map(|(key, difference)| (key.clone(), difference)).collect()
}

/// Whether a key is this one, or below it.
pub fn is_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

struct Reader<'a> {
    base: &'a Path,
    role: Role,
    settings: Settings,
}

impl Reader<'_> {
    fn insert(&mut self, key: String, digest: [u8; 32], is_secret: bool) {
        self.settings.by_key.insert(key, Setting { digest, is_secret });
    }

    /// `may_name` is whether it may name files; text for Hermes may not.
    fn setting(&mut self, path: &mut Vec<String>, value: &Value, may_name: bool) {
        match value {
            Value::Object(members) if !members.is_empty() && (!may_name || named(value).is_none()) => {
                for (key, value) in members {
                    path.push(key.to_str_lossy().into_owned());
                    let may_name = may_name && !matches!(key.as_str(), Some("extra" | "filters"));
                    self.setting(path, value, may_name);
                    path.pop();
                }
            }
            _ => {
                let mut digest = Sha256::new().chain_update(dump_sorted(value));
                let is_header = path.iter().rev().nth(1).is_some_and(|above| above == "headers");
                let has_secret = may_name && self.follow(path, value, &mut digest);
                self.insert(path.join("."), digest.finalize().into(), has_secret || is_header);
            }
        }
    }

    /// Adds the contents of files and variables that a value names. Returns whether it names any.
    fn follow(&mut self, path: &[String], value: &Value, digest: &mut Sha256) -> bool {
        if let Some(origin) = named(value).or_else(|| pem(path, value)) {
            let found = origin.below(self.base);
            let is_read = is_read(path, self.role);
            if is_certificate(path)
                && (is_read || path.first().is_some_and(|key| key == "bus"))
                && let Origin::File(file) = &found
            {
                self.settings.certificates.insert(path.join("."), file.clone());
            }
            if is_read {
                if let Origin::File(path) = &found {
                    self.settings.files.push(path.clone());
                }
                // A missing file differs from an empty one.
                let content = match &found {
                    Origin::File(path) => files::read(path).ok(),
                    Origin::Env(name) => std::env::var_os(name).map(OsString::into_encoded_bytes),
                };
                digest.update([u8::from(content.is_some())]);
                digest.update(Sha256::digest(content.unwrap_or_default()));
            }
            return true;
        }
        match value {
            Value::Array(items) => {
                items.iter().fold(false, |any, item| self.follow(path, item, digest) | any)
            }
            Value::Object(members) => {
                members.values().fold(false, |any, member| self.follow(path, member, digest) | any)
            }
            _ => false,
        }
    }
}

/// `{file: PATH}` or `{env: NAME}`.
fn named(value: &Value) -> Option<Origin> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    let (key, Value::String(text)) = members.first()? else { return None };
    match key.as_str()? {
        "file" => Some(Origin::File(text.as_str()?.into())),
        "env" => Some(Origin::Env(text.as_str()?.to_owned())),
        _ => None,
    }
}

/// A PEM file, which is named by a plain path.
fn pem(path: &[String], value: &Value) -> Option<Origin> {
    let Value::String(text) = value else { return None };
    match path {
        [.., tls, key] if tls == "tls" && matches!(key.as_str(), "ca" | "cert" | "key" | "client_ca") => {
            Some(Origin::File(text.as_str()?.into()))
        }
        [telemetry, ca] if telemetry == "telemetry" && ca == "ca" => {
            Some(Origin::File(text.as_str()?.into()))
        }
        _ => None,
    }
}

/// Whether the file at a key has certificates: in PEM, or the JWT of a user of NATS.
fn is_certificate(path: &[String]) -> bool {
    if path == ["bus", "nats", "creds"] {
        return true;
    }
    let is_tls = path.iter().rev().nth(1).is_some_and(|above| above == "tls" || above == "telemetry");
    is_tls && path.last().is_some_and(|key| matches!(key.as_str(), "ca" | "cert" | "client_ca"))
}

/// Whether a process with this role reads the file or variable at this key with its configuration.
fn is_read(path: &[String], role: Role) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        // Read for each connection.
        ["bus", ..] => false,
        ["relay", ..] | ["tenants", _, "routes", ..] => role.has_relay(),
        ["tenants", _, "openrouter", "api_key"] => role.asks_openrouter(),
        ["tunnel", ..] | ["tenants", _, "openrouter", ..] => role.has_ingress(),
        _ => true,
    }
}
