//! `talaria secrets`: creates the missing secrets that a configuration names, or prints one.

mod nats_users;

use crate::{Failure, args::Secrets, secret_file::create_if_missing};
use anyhow::anyhow;
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::{
    io::{self, Write as _},
    path::Path,
};
use talaria_core::config::{self, SecretOrigin};

pub(crate) fn run(path: &Path, args: &Secrets) -> Result<(), Failure> {
    let signers = config::load_signers(path)?;
    let mut out = io::stdout().lock();
    if let Some(name) = &args.show {
        let Some((_, origins, _)) = signers.iter().find(|(signer, ..)| signer == name) else {
            let names: Vec<&str> = signers.iter().map(|(signer, ..)| signer.as_str()).collect();
            return Err(Failure::Unknown(format!(
                "no tenant or route {name}; there is: {}",
                names.join(", ")
            )));
        };
        let first = origins.first().ok_or_else(|| anyhow!("{name} has no secret"))?;
        let secret = first.read().map_err(|(what, help)| anyhow!("{what}\n  help: {help}"))?;
        return Ok(writeln!(out, "{}", secret.expose_secret())?);
    }
    let mut found = Vec::new();
    for (signer, origins, is_webhook) in &signers {
        for origin in origins {
            let is_new = match origin {
                SecretOrigin::File(file) => create_if_missing(file, *is_webhook)?,
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
    let mut users = Vec::new();
    if let Some(directory) = &args.nats_users {
        for written in nats_users::write(directory, &config::load_nats_prefix(path)?)? {
            let (of, file) = (written.of, written.file.display());
            if args.json {
                let (file, is_new) = (file.to_string(), written.is_new);
                users.push(json!({"of": of, "in": file, "written": is_new, "publicKey": written.public_key}));
            } else if written.is_new {
                writeln!(out, "NATS {of}: wrote {file}")?;
            } else {
                writeln!(out, "NATS {of}: {file} is as it was")?;
            }
        }
    }
    if args.json {
        let answer = match args.nats_users {
            Some(_) => json!({"secrets": found, "nats": users}),
            None => json!({"secrets": found}),
        };
        writeln!(out, "{answer:#}")?;
    }
    Ok(())
}
