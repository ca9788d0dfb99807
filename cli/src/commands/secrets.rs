//! `talaria secrets`: the signing secrets that a configuration names, written where they are missing.

use crate::{Failure, args::Secrets};
use anyhow::anyhow;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config::{self, SecretOrigin};
use tempfile::NamedTempFile;

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

/// Writes a fresh secret, readable by its owner alone, unless there is one; whether it did. Where there is none it is
/// there whole or not at all, even if the disk is full: what is there is never written again.
pub(super) fn write_if_missing(file: &Path) -> Result<bool, Failure> {
    if file.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let write = || {
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut written = NamedTempFile::new_in(directory)?;
        written.write_all(BASE64URL_NOPAD.encode(&rand::random::<[u8; BYTES]>()).as_bytes())?;
        written.as_file().sync_all()?;
        written.persist_noclobber(file).map_err(|error| error.error)
    };
    match write() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => {
            Err(anyhow::Error::from(error).context(format!("cannot write {}", file.display())).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt as _, thread};

    #[test]
    fn whoever_finds_a_secret_finds_all_of_it() {
        for _ in 0..100 {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("secrets/acme");
            let write = || (write_if_missing(&file).unwrap_or_else(|_| panic!()), fs::read(&file).unwrap());
            let found: Vec<(bool, Vec<u8>)> = thread::scope(|scope| {
                let runs: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            assert_eq!(found.iter().filter(|(is_new, _)| *is_new).count(), 1);
            assert!(found.iter().all(|(_, secret)| *secret == found[0].1 && secret.len() == 43), "{found:?}");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(
                fs::read_dir(directory.path().join("secrets")).unwrap().count(),
                1,
                "nothing else is left"
            );
        }
    }
}
