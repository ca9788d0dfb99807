//! `talaria secrets --nats-users`: keys of NATS' users, and the part of the server's configuration that knows them.
//!
//! Each user has a directory, so that it can be given its own key and no other. What the server reads is in another one.

use crate::{
    Failure,
    secret_file::{create_once, replace_if_other},
};
use anyhow::{Context as _, anyhow};
use rand::distr::{Alphanumeric, SampleString as _};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::{Path, PathBuf};
use talaria_bus::{NatsUser, nats_public_key, nats_users_conf, new_nats_key, private};
use talaria_core::config::{SecretOrigin, UserKey};

/// A user's seed, in its directory.
const KEY: &str = "nkey";
/// The directory of what the server reads.
const SERVER: &str = "server";
const USERS: &str = "users.conf";
/// By which servers of a cluster know one another.
const ROUTES_PASSWORD: &str = "routes-password";
/// Letters and digits alone: it stands in URLs and, without quotes, in the server's configuration. Some 256 bits.
const PASSWORD_LENGTH: usize = 43;

/// A file of this directory.
pub(super) struct Written {
    /// The user, or `server`.
    pub of: &'static str,
    pub file: PathBuf,
    pub is_new: bool,
    pub public_key: Option<String>,
}

/// Writes the keys that are missing, and what the server reads.
pub(super) fn write(directory: &Path, prefix: &str) -> Result<Vec<Written>, Failure> {
    let mut written = Vec::new();
    let mut users = Vec::new();
    for user in NatsUser::ALL {
        let file = made(directory, user.name())?.join(KEY);
        let seed = new_nats_key().context("cannot make an NKey")?;
        let is_new = create_once(&file, seed.expose_secret())?;
        let public_key = public_key(&file)?;
        users.push((user, public_key.clone()));
        written.push(Written { of: user.name(), file, is_new, public_key: Some(public_key) });
    }
    let server = made(directory, SERVER)?;
    // It begins with a letter, so that the server takes it for no number.
    let password =
        SecretString::from(format!("r{}", Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH)));
    let file = server.join(ROUTES_PASSWORD);
    let is_new = create_once(&file, password.expose_secret())?;
    written.push(Written { of: SERVER, file, is_new, public_key: None });
    let file = server.join(USERS);
    let is_new = replace_if_other(&file, &nats_users_conf(prefix, &users))?;
    written.push(Written { of: SERVER, file, is_new, public_key: None });
    Ok(written)
}

fn made(directory: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = directory.join(name);
    private::directory(&path).with_context(|| format!("cannot make the directory {}", path.display()))?;
    Ok(path)
}

fn public_key(file: &Path) -> Result<String, Failure> {
    let UserKey { seed } = UserKey::read(&SecretOrigin::File(file.into())).map_err(|(what, _)| {
        anyhow!("{what}\n  help: remove that file for a fresh key, and give it to the service that had the old one")
    })?;
    Ok(nats_public_key(&seed).with_context(|| format!("{} has no public key", file.display()))?)
}
