//! The tunnel that `--tunnel` opens, so that OpenRouter reaches a machine without a public address.

use super::{Role, path::below, problem::Problems, raw, secret};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::{Path, PathBuf};

/// How `cloudflared` is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The program; looked for on the PATH where it is a bare name.
    pub cloudflared: PathBuf,
    /// The tunnel that was set up at Cloudflare; a quick one where there is none.
    pub named: Option<NamedTunnel>,
}

/// A tunnel that was set up at Cloudflare, which also knows where it leads from and to.
#[derive(Clone, Debug)]
pub struct NamedTunnel {
    /// Who runs it.
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

/// `public_url` is what was written there and what came of it.
pub(super) fn compile(
    p: &mut Problems,
    warnings: &mut Problems,
    raw: &raw::Tunnel,
    (is_written, public_url): (bool, Option<&String>),
    base: &Path,
    role: Role,
) -> Tunnel {
    let cloudflared = raw.cloudflared.as_ref().map_or("cloudflared".into(), |path| below(base, &path.value));
    let mut named = None;
    if let Some(origin) = raw.token.as_ref().filter(|_| role.has_ingress()) {
        let token = secret::read(p, warnings, origin, base);
        if token.expose_secret().contains(char::is_whitespace) {
            let what = format!("what is in {} is no tunnel's token", origin.value.below(base));
            p.add(
                origin,
                what,
                "Cloudflare shows it at the end of a command: write only what stands behind --token",
            );
        }
        if !is_written {
            let help = "Cloudflare knows the tunnel's public name and does not tell it: write it under ingress, \
                        such as public_url: https://hooks.example.com";
            p.add(origin, "tunnel.token needs ingress.public_url", help);
        }
        named = public_url.map(|url| NamedTunnel { token, public_url: url.clone() });
    }
    if let Some(written) = raw.cloudflared.as_ref().filter(|path| path.value.is_empty()) {
        p.add(written, "tunnel.cloudflared is empty", "name the program, such as /usr/local/bin/cloudflared");
    }
    Tunnel { cloudflared, named }
}
