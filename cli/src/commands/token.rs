//! `talaria token`: a fresh token, and its entry in the configuration.

use crate::{Failure, args::Token};
use anyhow::anyhow;
use secrecy::ExposeSecret as _;
use serde_json::{Map, json};
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};
use talaria_core::{
    config::{NAMES, Scope, is_name},
    token::{TokenHash, token},
};

pub(crate) fn run(args: &Token) -> Result<(), Failure> {
    for (option, name) in [("--name", Some(&args.name)), ("--tenant", args.tenant.as_ref())] {
        if let Some(name) = name.filter(|name| !is_name(name)) {
            return Err(Failure::Usage(format!("{option} {name:?} is no name: use {NAMES}")));
        }
    }
    let fresh = token(&rand::random());
    let hash = TokenHash::of(fresh.expose_secret().as_bytes());
    if let Some(path) = &args.out {
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            writeln!(file, "{}", fresh.expose_secret())
        };
        let there = "it is there already, and no token replaces another: name another file";
        write().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => anyhow!("cannot write {}: {there}", path.display()),
            _ => anyhow!("cannot write {}: {error}", path.display()),
        })?;
    }
    let scope = Scope::from(args.scope).name();
    let shown = args.out.is_none().then(|| fresh.expose_secret());
    let mut out = io::stdout().lock();
    if args.json {
        let mut entry =
            Map::from_iter([("name".to_owned(), json!(args.name)), ("scope".to_owned(), json!(scope))]);
        if let Some(tenant) = &args.tenant {
            entry.insert("tenant".to_owned(), json!(tenant));
        }
        entry.insert("hashes".to_owned(), json!([hash.to_string()]));
        let document = json!({"token": shown, "file": args.out, "hash": hash.to_string(), "entry": entry});
        return Ok(writeln!(out, "{document:#}")?);
    }
    if let Some(token) = shown {
        writeln!(out, "The token, which is shown this once and kept nowhere:\n\n  {token}\n")?;
    }
    if let Some(path) = &args.out {
        writeln!(out, "Wrote the token into {}.\n", path.display())?;
    }
    writeln!(
        out,
        "Write this into the configuration, below the key relay if it is there. A running relay takes it up by itself:\n"
    )?;
    writeln!(out, "relay:\n  tokens:\n    - name: {}\n      scope: {scope}", args.name)?;
    if let Some(tenant) = &args.tenant {
        writeln!(out, "      tenant: {tenant}")?;
    }
    writeln!(out, "      hashes: [\"{hash}\"]\n")?;
    writeln!(
        out,
        "To replace a token of this name, add the hash to its others; remove the old one once it is not used any more."
    )?;
    Ok(())
}
