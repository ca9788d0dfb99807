//! The tunnel that `--tunnel` opens, so that OpenRouter reaches a machine without a public address.

use super::{compile::Compiler, raw, secret};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::PathBuf;

/// The tunnel by `cloudflared`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The program; searched on the PATH if it is a bare name.
    pub cloudflared: PathBuf,
    /// The tunnel that was set up at Cloudflare; `None` for a quick tunnel.
    pub named: Option<NamedTunnel>,
}

/// A tunnel that was set up at Cloudflare, which also has its public name and its target.
#[derive(Clone, Debug)]
pub struct NamedTunnel {
    /// The token that runs it.
    pub token: SecretString,
    /// Its public name, which is `ingress.public_url`, without a trailing slash.
    pub public_url: String,
}

impl PartialEq for NamedTunnel {
    fn eq(&self, other: &Self) -> bool {
        self.public_url == other.public_url && self.token.expose_secret() == other.token.expose_secret()
    }
}

impl Eq for NamedTunnel {}

/// `public_url` has whether `ingress.public_url` is written, and its value if it is valid.
pub(super) fn compile(
    c: &mut Compiler<'_>,
    raw: &raw::Tunnel,
    (is_written, public_url): (bool, Option<&String>),
) -> Tunnel {
    let cloudflared = raw.cloudflared.as_ref().map_or("cloudflared".into(), |path| c.path(&path.value));
    let mut named = None;
    if let Some(origin) = raw.token.as_ref().filter(|_| c.role.has_ingress()) {
        let token = secret::read(c, origin).unwrap_or_else(|problem| {
            c.problems.0.push(problem);
            SecretString::default()
        });
        if token.expose_secret().contains(char::is_whitespace) {
            let what = format!("what is in {} is no tunnel's token", origin.value.below(c.base));
            let help = "Cloudflare shows it at the end of a command: write only what stands behind --token";
            c.problems.add(origin, what, help);
        }
        if !is_written {
            let help = "Cloudflare knows the tunnel's public name and does not tell it: write it under ingress, \
                        such as public_url: https://hooks.example.com";
            c.problems.add(origin, "tunnel.token needs ingress.public_url", help);
        }
        named = public_url.map(|url| NamedTunnel { token, public_url: url.clone() });
    }
    if let Some(written) = raw.cloudflared.as_ref().filter(|path| path.value.is_empty()) {
        let help = "name the program, such as /usr/local/bin/cloudflared";
        c.problems.add(written, "tunnel.cloudflared is empty", help);
    }
    Tunnel { cloudflared, named }
}
