//! Announces the callback URLs to paste into OpenRouter: as text on a terminal, as log lines elsewhere.

use crate::print::BOLD;
use std::io::{self, IsTerminal as _, Write as _};

/// How long the tunnel's URL lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// The tunnel was set up at Cloudflare.
    Permanent,
    /// Until this quick tunnel ends.
    Temporary,
    /// Temporary, and another one than before.
    Changed,
}

/// Announces each tenant's callback URL.
pub(super) fn announce<'a>(public: &str, tenants: impl Iterator<Item = &'a str> + Clone, url: Url) {
    if io::stderr().is_terminal() {
        // Standard error may be closed.
        let _ = write!(anstream::stderr(), "{}", block(public, tenants, url));
        return;
    }
    for tenant in tenants {
        let callback_url = callback(public, tenant);
        if url == Url::Changed {
            tracing::warn!(
                tenant,
                callback_url,
                "the tunnel's URL changed: paste this into OpenRouter again"
            );
        } else {
            tracing::info!(tenant, callback_url, "the tunnel is there: paste this into OpenRouter");
        }
    }
}

fn callback(public: &str, tenant: &str) -> String {
    format!("{public}/callbacks/{tenant}")
}

fn block<'a>(public: &str, tenants: impl Iterator<Item = &'a str> + Clone, url: Url) -> String {
    let head = match url {
        Url::Permanent | Url::Temporary => "Paste this into OpenRouter as the callback URL:",
        Url::Changed => "The tunnel's URL changed. Paste this into OpenRouter again:",
    };
    let width = tenants.clone().map(str::len).max().unwrap_or(0);
    let lines: String = tenants
        .map(|tenant| format!("    {tenant:width$}  {BOLD}{}{BOLD:#}\n", callback(public, tenant)))
        .collect();
    let foot = match url {
        Url::Permanent => "",
        Url::Temporary | Url::Changed => {
            "  It may take some seconds until it can be reached. A quick tunnel has another URL after each restart;\n  \
               docs/configuration.md#tunnel says how to have one that stays.\n\n"
        }
    };
    format!("\n  {head}\n\n{lines}\n{foot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_a_block() {
        let block = |tenants: &[&str], url| {
            let block = block("https://a-b.trycloudflare.com", tenants.iter().copied(), url);
            anstream::adapter::strip_str(&block).to_string()
        };
        assert_eq!(
            block(&["me", "acme"], Url::Permanent),
            "
  Paste this into OpenRouter as the callback URL:

    me    https://a-b.trycloudflare.com/callbacks/me
    acme  https://a-b.trycloudflare.com/callbacks/acme

"
        );
        assert_eq!(
            block(&["me"], Url::Changed),
            "
  The tunnel's URL changed. Paste this into OpenRouter again:

    me  https://a-b.trycloudflare.com/callbacks/me

  It may take some seconds until it can be reached. A quick tunnel has another URL after each restart;
  docs/configuration.md#tunnel says how to have one that stays.

"
        );
    }
}
