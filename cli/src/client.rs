//! Asks a relay.

use crate::Failure;
use std::{
    env, iter,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};
use talaria_core::config;
use talaria_proto::v1::{
    control_service_client::ControlServiceClient, status_service_client::StatusServiceClient,
};
use tonic::transport::{Channel, Endpoint};
use url::Url;

/// Payloads of quarantined callbacks come a thousand at a time at most, and are a mebibyte long by default.
const LARGEST_ANSWER: usize = 1 << 30;

/// Connects to the relay at this URL, or to the configured one, to ask.
pub(crate) async fn connect(
    relay: Option<&Url>,
    config: &Path,
) -> Result<StatusServiceClient<Channel>, Failure> {
    let channel = channel(relay, config).await?;
    Ok(StatusServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// The same, to intervene.
pub(crate) async fn control(
    relay: Option<&Url>,
    config: &Path,
) -> Result<ControlServiceClient<Channel>, Failure> {
    let channel = channel(relay, config).await?;
    Ok(ControlServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// Where a process on this machine is asked that listens there: loopback, for one that listens on every address.
pub(crate) fn from_here(mut listens: SocketAddr) -> SocketAddr {
    match listens {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => listens.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => listens.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listens
}

/// Who asks: as they call themselves, or as the system does.
pub(crate) fn asker(name: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = name {
        return Ok(name.to_owned());
    }
    let variables = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| env::var(name).ok());
    // Where nobody has logged in, as in containers, there may be no variable.
    let told = || Command::new("id").arg("-un").stderr(Stdio::null()).output().ok();
    let told = iter::once_with(told).flatten().map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    variables
        .chain(told)
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty())
        .ok_or_else(|| Failure::Usage("this system does not tell who you are: say it with --as NAME".into()))
}

async fn channel(relay: Option<&Url>, config: &Path) -> Result<Channel, Failure> {
    let url = match relay {
        Some(url) => url.to_string(),
        None => format!("http://{}", from_here(config::load_addresses(config)?.grpc)),
    };
    let unreachable = |error: tonic::transport::Error| {
        let error = anyhow::Error::from(error);
        let cause = error.root_cause();
        Failure::Unreachable(format!(
            "cannot reach the relay at {url}: {cause}\n  help: is `talaria up` or `talaria relay` running there?"
        ))
    };
    let endpoint = Endpoint::from_shared(url.clone()).map_err(unreachable)?;
    endpoint.connect_timeout(std::time::Duration::from_secs(5)).connect().await.map_err(unreachable)
}
