//! Which callback URLs to paste into OpenRouter: a block for people on a terminal, a line with fields for programs.

use crate::print::BOLD;
use std::io::{self, IsTerminal as _, Write as _};

/// What there is to say of the tunnel's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// It stays: the tunnel was set up at Cloudflare.
    Lasting,
    /// It goes with this quick tunnel.
    Passing,
    /// It is another one than before.
    Changed,
}

/// Says under which URL each tenant is called now.
pub(super) fn announce<'a>(public: &str, tenants: impl Iterator<Item = &'a str> + Clone, url: Url) {
    if io::stderr().is_terminal() {
        // When standard error is gone it cannot be shown.
        let _ = write!(anstream::stderr(), "{}", block(public, tenants, url));
        return;
    }
    for tenant in tenants {
        let callback_url = callback(public, tenant);
        if url == Url::Changed {
            tracing::warn!(tenant, callback_url, "the tunnel's URL changed: paste this into OpenRouter anew");
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
        Url::Lasting | Url::Passing => "Paste this into OpenRouter as the callback URL:",
        Url::Changed => "The tunnel's URL changed. Paste this into OpenRouter anew:",
    };
    let width = tenants.clone().map(str::len).max().unwrap_or(0);
    let lines: String = tenants
        .map(|tenant| format!("    {tenant:width$}  {BOLD}{}{BOLD:#}\n", callback(public, tenant)))
        .collect();
    let foot = match url {
        Url::Lasting => "",
        Url::Passing | Url::Changed => {
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
    fn people_see_a_block() {
        let block = |tenants: &[&str], url| {
            let block = block("https://a-b.trycloudflare.com", tenants.iter().copied(), url);
            anstream::adapter::strip_str(&block).to_string()
        };
        assert_eq!(
            block(&["me", "acme"], Url::Lasting),
            "
  Paste this into OpenRouter as the callback URL:

    me    https://a-b.trycloudflare.com/callbacks/me
    acme  https://a-b.trycloudflare.com/callbacks/acme

"
        );
        assert_eq!(
            block(&["me"], Url::Changed),
            "
  The tunnel's URL changed. Paste this into OpenRouter anew:

    me  https://a-b.trycloudflare.com/callbacks/me

  It may take some seconds until it can be reached. A quick tunnel has another URL after each restart;
  docs/configuration.md#tunnel says how to have one that stays.

"
        );
    }
}
