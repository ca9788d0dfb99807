//! `talaria doctor`

use super::{Ask, Role, http_url, path::path};
use clap::Args;
use std::path::PathBuf;

/// `talaria doctor`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria doctor
  talaria doctor --public-url https://quick-fox.trycloudflare.com
  talaria doctor --role relay --json      where only a relay's secrets are

Checks everything that a callback needs on its way: the configuration, the secrets, each route's Hermes, the public URL, \
the clock, the data directory, the bus, the running process and its routes, and where a tenant has an API key whether OpenRouter \
can be asked. Each is ok, a warning, or a fault with advice.

It changes nothing and starts no agent. Hermes gets requests with an unreadable body: one of them counts for each route's \
rate limit, and its log names them, `Invalid signature` and `UnicodeDecodeError`. The public URL gets one unsigned callback, which `talaria status --refused` then lists.

Exits with 0 without a fault, with 1 with a fault, and with 3 for an invalid configuration. It takes half a minute at most.")]
pub struct Doctor {
    /// Check for a process with this role alone, which reads no other secrets and needs NATS
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Role>,
    /// The URL by which OpenRouter reaches this machine; ingress.public_url where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub public_url: Option<url::Url>,
    /// The process' admin port; the configured one where it is left out
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub admin: Option<url::Url>,
    /// The Hermes home whose files are compared; HERMES_HOME or ~/.hermes where it is left out
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub hermes: Option<PathBuf>,
    #[command(flatten)]
    pub ask: Ask,
}
