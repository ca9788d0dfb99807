//! `talaria secrets`: the signing secrets that a configuration names, written where they are missing.

use crate::{Failure, args::Secrets};
use anyhow::{Context as _, anyhow};
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};
use talaria_core::config::{self, SecretOrigin};

/// 256 bits.
const BYTES: usize = 32;

pub(crate) fn run(path: &Path, args: &Secrets) -> Result<(), Failure> {
    let signers = config::load_signers(path)?;
    let mut out = io::stdout().lock();
    if let Some(name) = &args.show {
        let Some((_, origins)) = signers.iter().find(|(signer, _)| signer == name) else {
            let names: Vec<&str> = signers.iter().map(|(signer, _)| signer.as_str()).collect();
            return Err(Failure::Unknown(format!("nobody is called {name}; there is: {}", names.join(", "))));
        };
        let first = origins.first().ok_or_else(|| anyhow!("{name} has no secret"))?;
        let secret = first.read().map_err(|(what, help)| anyhow!("{what}\n  help: {help}"))?;
        return Ok(writeln!(out, "{}", secret.expose_secret())?);
    }
    let mut found = Vec::new();
    for (signer, origins) in &signers {
        for origin in origins {
            let is_new = match origin {
                SecretOrigin::File(file) => write_if_missing(file)?,
                SecretOrigin::Env(_) => false,
            };
            if args.json {
                found.push(json!({"of": signer, "in": origin.to_string(), "written": is_new}));
            } else if is_new {
                writeln!(out, "{signer}: wrote {origin}")?;
            } else {
                writeln!(out, "{signer}: {origin} is as it was")?;
            }
        }
    }
    if args.json {
        writeln!(out, "{:#}", json!({"secrets": found}))?;
    }
    Ok(())
}

/// Writes a fresh secret, readable by its owner alone, unless there is one; whether it did.
pub(super) fn write_if_missing(file: &Path) -> Result<bool, Failure> {
    let cannot_write = || format!("cannot write {}", file.display());
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(cannot_write)?;
    }
    let fresh = BASE64URL_NOPAD.encode(&rand::random::<[u8; BYTES]>());
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut opened) => {
            opened.write_all(fresh.as_bytes()).with_context(cannot_write)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(anyhow::Error::from(error).context(cannot_write()).into()),
    }
}
