//! A file's settings by their keys, each as a digest: whether two of them are the same can be told, and nothing else.
//!
//! A key is a path such as `tenants.acme.routes.video.prompt`; a list is one setting, and so is a secret with what stands
//! where it is named. What is written in another order, in another style or with other comments is the same.
//!
//! Digests are of what was written and not of what it means: every key that there will ever be is among them.

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

/// A salt of so many bytes makes fingerprints of one process useless against another's.
pub const SALT: usize = 16;

/// How much of a digest is shown of what is no secret.
const SHOWN: usize = 8;
/// Of a secret so little that hardly any guess can be told from another.
const SHOWN_OF_A_SECRET: usize = 2;

/// A file's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
    /// The files that it names and this role reads.
    files: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    digest: [u8; 32],
    is_secret: bool,
}

/// How a setting differs from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It was not there.
    Added,
    /// It was another.
    Changed,
    /// It is not there any more.
    Removed,
}

impl Settings {
    /// Reads a file's text, and the files that it names and this role reads.
    pub(super) fn read(text: &str, base: &Path, role: Role) -> Self {
        let mut reader = Reader { base, role, settings: Self::default() };
        let options = serde_saphyr::options! { with_snippet: false };
        match serde_saphyr::from_str_with_options::<Value>(text, options) {
            Ok(mut document) => {
                // The operator's own keys mean nothing where they stand, and all where they are used.
                if let Value::Object(members) = &mut document {
                    members.retain(|key, _| !key.as_str().is_some_and(is_own));
                }
                reader.setting(&mut Vec::new(), &document, true);
            }
            // No configuration either: all of it is one setting.
            Err(_) => reader.insert(String::new(), Sha256::digest(text).into(), true),
        }
        let mut settings = reader.settings;
        settings.files.sort();
        settings.files.dedup();
        settings
    }

    /// The files that it names, in which a change changes a setting.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What differs from these older ones, by key.
    pub fn since(&self, older: &Self) -> BTreeMap<String, Difference> {
        differences(&older.by_key, &self.by_key)
    }

    /// The same, but for what these older ones say of this key and what is below it.
    #[must_use]
    pub fn with_older(mut self, key: &str, older: &Self) -> Self {
        self.by_key.retain(|other, _| !is_below(other, key));
        let kept = older.by_key.iter().filter(|(other, _)| is_below(other, key));
        self.by_key.extend(kept.map(|(key, setting)| (key.clone(), setting.clone())));
        self
    }

    /// A few hexadecimal digits for each, which with the same salt are the same for the same setting.
    pub fn fingerprints(&self, salt: &[u8; SALT]) -> BTreeMap<String, String> {
        let fingerprint = |(key, setting): (&String, &Setting)| {
            let digest = Sha256::new().chain_update(salt).chain_update(setting.digest).finalize();
            let shown = if setting.is_secret { SHOWN_OF_A_SECRET } else { SHOWN };
            (key.clone(), HEXLOWER.encode(digest.get(..shown).unwrap_or_default()))
        };
        self.by_key.iter().map(fingerprint).collect()
    }
}

/// What differs between two maps, the older one first, by key.
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

    /// `may_name` says whether it may name files; text that goes to Hermes may not.
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

    /// Adds what stands where a value names something. Whether it does.
    fn follow(&mut self, path: &[String], value: &Value, digest: &mut Sha256) -> bool {
        if let Some(origin) = named(value).or_else(|| pem(path, value)) {
            let found = origin.below(self.base);
            if is_read(path, self.role) {
                if let Origin::File(path) = &found {
                    self.settings.files.push(path.clone());
                }
                // What is missing differs from what is there.
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

/// A file of certificates or a key, which is named by a plain path.
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

/// Whether a process with this role reads what is named at this place while it reads its configuration.
fn is_read(path: &[String], role: Role) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        // Read anew for each connection.
        ["bus", ..] => false,
        ["relay", ..] | ["tenants", _, "routes", ..] => role.has_relay(),
        ["tunnel", ..] | ["tenants", _, "openrouter", ..] => role.has_ingress(),
        _ => true,
    }
}
