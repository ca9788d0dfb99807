//! The part of `talaria hermes` about the extension.

use super::warn;
use crate::{
    Failure,
    args::Hermes,
    hermes::{
        extension::{
            Enabled, Reported, config_text, console_url, enable, install as install_files,
            removal::{Removed, uninstall as remove_files},
        },
        subscription::Needs,
        yaml::{Server, by_hand, disabled, enabled},
    },
    select,
};
use anyhow::anyhow;
use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf, absolute},
};
use talaria_core::config::{BusKind, Config, Role};

/// A route, and the Hermes home that it is installed in.
pub(super) struct Target<'a> {
    /// The configuration's path.
    pub path: &'a Path,
    pub config: &'a Config,
    pub directory: &'a Path,
    /// The route's name at Hermes.
    pub name: &'a str,
}

/// Installs the extension for a route whose deliveries run an agent.
pub(super) fn install(target: &Target<'_>, needs: &Needs<'_>, args: &Hermes) -> Result<(), Failure> {
    let Needs { tenant, route, .. } = needs;
    let mut out = io::stdout().lock();
    if route.deliver_only {
        writeln!(out, "The route is deliver_only and runs no agent, so nothing else is installed.")?;
        return Ok(());
    }
    let Some(url) = url(target, args)? else {
        writeln!(
            out,
            "The extension that reports how runs end is not installed: console.listen is off or has no fixed port, and --url names none."
        )?;
        return Ok(());
    };
    let reported = Reported { name: target.name, tenant: &tenant.name, route: &route.name, url: &url };
    let changes = install_files(target.directory, &reported, args.force)?;
    if changes.any {
        writeln!(out, "Installed the extension, which reports to {url}, and the skill talaria-video.")?;
    } else {
        writeln!(out, "The extension and the skill talaria-video are there already.")?;
    }
    for file in changes.kept {
        warn(&format!("{} was changed by hand and is left as it is; --force replaces it", file.display()))?;
    }
    let server = server(target.path, args)?;
    let file = target.directory.join("config.yaml");
    let file = file.display();
    let text = config_text(target.directory)?;
    if !args.enable {
        if enabled(&text) == Ok((true, true)) && disabled(&text) == Ok(false) {
            writeln!(out, "{file} enables both already.")?;
            return Ok(());
        }
        writeln!(
            out,
            "To enable it, have this in {file}, or repeat the command with --enable; then restart the gateway:"
        )?;
        return show(&mut out, &text, &server);
    }
    if !target.config.relay.tokens.is_empty() && args.token_file.is_none() {
        warn(
            "the relay answers those who show a token: --token-file names a file with one for the MCP server",
        )?;
    }
    match enable(target.directory, &server)? {
        Ok(Enabled::Now) => writeln!(
            out,
            "Enabled the extension and the MCP server in {file}; restart the gateway, as with `hermes gateway restart`."
        )?,
        Ok(Enabled::Before) => writeln!(out, "{file} enables both already.")?,
        Ok(Enabled::Otherwise) => writeln!(
            out,
            "{file} enables both already; mcp_servers.talaria is an entry of your own, and stays."
        )?,
        Err(why) => {
            writeln!(out, "These lines belong into {file}:")?;
            show(&mut out, &text, &server)?;
            return Err(
                anyhow!("{file} is left as it is: {why}\n  help: write the lines above by hand").into()
            );
        }
    }
    Ok(())
}

fn show(out: &mut impl io::Write, text: &str, server: &Server) -> Result<(), Failure> {
    by_hand(text, server).iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok(())
}

/// The relay's HTTP port, as the gateway reaches it.
fn url(target: &Target<'_>, args: &Hermes) -> Result<Option<String>, Failure> {
    if let Some(url) = &args.url {
        return Ok(Some(url.as_str().trim_end_matches('/').to_owned()));
    }
    // A relay on its own has no console unless one is written.
    Ok(match target.config.bus {
        BusKind::Embedded => console_url(target.config),
        BusKind::Nats(_) => console_url(&select::load_tolerant(target.path, Role::Relay)?),
    })
}

/// The MCP server: this program, with this configuration.
fn server(path: &Path, args: &Hermes) -> Result<Server, Failure> {
    let text = |path: PathBuf| path.display().to_string();
    let env = match &args.token_file {
        Some(file) => vec![("TALARIA_TOKEN_FILE", text(absolute(file)?))],
        None => Vec::new(),
    };
    let config = text(absolute(path)?);
    Ok(Server {
        command: text(env::current_exe()?),
        args: vec!["--config".into(), config, "mcp".into()],
        env,
    })
}

/// Takes a route out of a Hermes home.
pub(super) fn uninstall(directory: &Path, name: &str) -> Result<(), Failure> {
    if !directory.is_dir() {
        let name = directory.display();
        return Err(anyhow!("{name} is no directory; name the Hermes home, such as ~/.hermes").into());
    }
    let Removed { any, extension, used, restored, unsent, left } = remove_files(directory, name)?;
    let (mut out, home) = (io::stdout().lock(), directory.display());
    if !any {
        writeln!(out, "{name} is not installed in {home}, so nothing is changed.")?;
        return Ok(());
    }
    if extension {
        writeln!(out, "Took {name}, the extension and the skill out of {home}; restart the gateway.")?;
    } else if used {
        writeln!(out, "Took {name} out of {home}. Other routes still use the extension.")?;
    } else {
        writeln!(out, "Took {name} out of {home}.")?;
    }
    if restored {
        writeln!(out, "The subscription {name} that was there before is put back.")?;
    }
    if unsent > 0 {
        writeln!(out, "Reports that were not sent, and are gone: {unsent}")?;
    }
    for what in left {
        writeln!(out, "Left: {what}")?;
    }
    Ok(())
}
