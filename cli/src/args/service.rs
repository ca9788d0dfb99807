//! The arguments of the services: `talaria up`, `talaria ingress` and `talaria relay`.

use super::path::path;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// `talaria up`
#[derive(Args, Debug)]
pub struct Up {
    /// Let OpenRouter reach this machine through a tunnel of Cloudflare's; needs cloudflared
    #[arg(long)]
    pub tunnel: bool,
}

/// `talaria ingress`
#[derive(Args, Debug)]
pub struct Ingress {
    /// Let OpenRouter reach this machine through a tunnel of Cloudflare's; needs cloudflared
    #[arg(long)]
    pub tunnel: bool,
    /// Listen for callbacks here instead of at ingress.listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Answer /healthz, /readyz and /metrics here instead of at admin.listen
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
}

/// `talaria relay`
#[derive(Args, Debug)]
pub struct Relay {
    /// Keep the files here instead of in data_dir
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// Answer status here instead of at relay.grpc; a loopback address, unless there are tokens or client certificates
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<SocketAddr>,
    /// Answer /healthz, /readyz and /metrics here instead of at admin.listen
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
}
