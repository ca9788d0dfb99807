//! Asks a running Talaria.
//!
//! - This file: a relay, over gRPC. [`admin`]: the admin port of a process on this machine.
//! - [`ids`]: full ids for the beginnings that people type.
//! - [`outage`]: warns once while a relay is unreachable.
//! - `tls`: explains failures of TLS.

pub(crate) mod admin;
pub(crate) mod ids;
pub(crate) mod outage;
pub(crate) mod tls;

use crate::{Failure, args::Ask};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    env,
    error::Error as _,
    fs, io,
    io::Write as _,
    iter,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use talaria_core::{
    config::{self, Addresses},
    short_id::is_job,
};
use talaria_proto::v1::{
    GetJobRequest, GetSummaryRequest, Job, control_service_client::ControlServiceClient,
    job_service_client::JobServiceClient, status_service_client::StatusServiceClient,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use url::Url;

/// A page of quarantined callbacks has at most 1,000 payloads, each of 1 MiB by default.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than the relay's own deadline for operators' requests, which is 30 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(45);

/// The same for a submit. A relay waits 80 s for OpenRouter's answer, after it has asked for the model.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval of keep-alive pings, and the time to answer one. Also while no request is under way, as in a watch.
const PING: Duration = Duration::from_secs(10);

/// A connection whose requests carry the user's token.
type Authenticated = InterceptedService<Channel, Bearer>;

/// A client of the relay's status service.
pub(crate) type StatusClient = StatusServiceClient<Authenticated>;

/// A client of the relay's control service.
pub(crate) type ControlClient = ControlServiceClient<Authenticated>;

/// A client of the relay's job service.
pub(crate) type JobClient = JobServiceClient<Authenticated>;

/// Adds the token to each request, if there is one.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Connects to the relay's status service.
pub(crate) async fn status(ask: &Ask, config: &Path) -> Result<StatusClient, Failure> {
    let (channel, bearer) = channel(ask, config, RESPONSE_TIMEOUT).await?;
    let client = StatusServiceClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(MAX_RESPONSE_BYTES))
}

/// Connects to the relay's control service.
pub(crate) async fn control(ask: &Ask, config: &Path) -> Result<ControlClient, Failure> {
    let (channel, bearer) = channel(ask, config, RESPONSE_TIMEOUT).await?;
    let client = ControlServiceClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(MAX_RESPONSE_BYTES))
}

/// Connects to the relay's job service.
pub(crate) async fn jobs(ask: &Ask, config: &Path) -> Result<JobClient, Failure> {
    jobs_within(ask, config, RESPONSE_TIMEOUT).await
}

/// Connects to the relay's job service, to submit a job.
pub(crate) async fn submits(ask: &Ask, config: &Path) -> Result<JobClient, Failure> {
    jobs_within(ask, config, SUBMIT_TIMEOUT).await
}

async fn jobs_within(ask: &Ask, config: &Path, timeout: Duration) -> Result<JobClient, Failure> {
    let (channel, bearer) = channel(ask, config, timeout).await?;
    let client = JobServiceClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(MAX_RESPONSE_BYTES))
}

/// The ledger of a job; `None` for a job that was only called back, or that is not known.
pub(crate) async fn ledger(
    relay: &mut JobClient,
    id: &str,
    tenant: Option<&str>,
) -> Result<Option<Job>, Failure> {
    let request = GetJobRequest { job_id: id.to_owned(), tenant: tenant.unwrap_or_default().to_owned() };
    match relay.get_job(request).await {
        Ok(answer) => Ok(answer.into_inner().job),
        // While partitions are missing, events of the job may be known all the same. An older relay has no ledgers.
        Err(status)
            if matches!(status.code(), Code::NotFound | Code::Unimplemented | Code::Unavailable)
                && !is_job(id) =>
        {
            Ok(None)
        }
        Err(status) => Err(status.into()),
    }
}

/// Awaits the response to a request that only reads.
pub(crate) async fn ask<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    Ok(call.await?.into_inner())
}

/// Awaits the response to an operator's command. Without a response it is unknown whether the relay executed it.
pub(crate) async fn change<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    change_or(call, "it may still be done, and `talaria actions` shows whether it was").await
}

/// The same with another advice for a response that was lost.
pub(crate) async fn change_or<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
    if_lost: &str,
) -> Result<T, Failure> {
    call.await.map(Response::into_inner).map_err(|status| {
        // A status that the relay sent has no source.
        let is_from_relay = status.source().is_none();
        match Failure::from(status) {
            Failure::Unreachable(why) if !is_from_relay => Failure::Unreachable(format!("{if_lost}: {why}")),
            failure => failure,
        }
    })
}

/// Fails if the relay does not know the tenant.
pub(crate) async fn check_tenant(relay: &mut StatusClient, tenant: Option<&str>) -> Result<(), Failure> {
    if let Some(tenant) = tenant {
        ask(relay.get_summary(GetSummaryRequest { tenant: tenant.to_owned() })).await?;
    }
    Ok(())
}

/// The addresses in a configuration. An invalid file gives those that can be read in it and otherwise the defaults, with a
/// warning: the running process was started with an earlier, valid file.
pub(crate) fn addresses(config: &Path) -> io::Result<Addresses> {
    let error = match config::load_addresses(config) {
        Ok(addresses) => return Ok(addresses),
        Err(error) => error,
    };
    let addresses = config::guess_addresses(config);
    // The first problem only; `talaria check` shows all.
    let path = config.display().to_string();
    let why = match &error {
        config::Error::Invalid { problems, .. } => problems.first().map_or_else(
            || path.clone(),
            |problem| {
                let location = if problem.line == 0 {
                    String::new()
                } else {
                    format!(":{}:{}", problem.line, problem.column)
                };
                format!("{path}{location}: {}", problem.what)
            },
        ),
        config::Error::Unreadable { source, .. } => format!("cannot read {path}: {source}"),
    };
    writeln!(
        io::stderr().lock(),
        "warning: {why}; asking at {}, the admin port at {}",
        addresses.grpc,
        addresses.admin
    )?;
    Ok(addresses)
}

/// The address to connect to on this machine: loopback instead of an unspecified address.
pub(crate) fn from_here(mut listens: SocketAddr) -> SocketAddr {
    match listens {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => listens.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => listens.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listens
}

/// The operator's name: from `--as`, the environment or the system.
pub(crate) fn user_name(name: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = name {
        return Ok(name.to_owned());
    }
    let variables = ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(|name| env::var(name).ok());
    // Without a login, as in containers, no variable may be set.
    let id = || Command::new("id").arg("-un").stderr(Stdio::null()).output().ok();
    let id = iter::once_with(id).flatten().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    variables
        .chain(id)
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty())
        .ok_or_else(|| Failure::Usage("your user name is unknown: give it with --as NAME".into()))
}

/// A URL for messages: a user name or password in it is left out.
pub(crate) fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // Fails for URLs without a host, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

async fn channel(ask: &Ask, config: &Path, timeout: Duration) -> Result<(Channel, Bearer), Failure> {
    let url = match &ask.relay {
        Some(url) => url.clone(),
        None => {
            let addresses = addresses(config)?;
            let scheme = if addresses.grpc_tls { "https" } else { "http" };
            let address = from_here(addresses.grpc);
            Url::parse(&format!("{scheme}://{address}")).map_err(anyhow::Error::from)?
        }
    };
    let bearer = Bearer(token(ask)?.as_ref().map(header).transpose()?);
    let unreachable = |error: tonic::transport::Error| {
        if let Some(failure) = tls::failure(&error) {
            return failure;
        }
        let error = anyhow::Error::from(error);
        let cause = error.root_cause();
        let url = without_credentials(&url);
        Failure::Unreachable(format!(
            "cannot reach the relay at {url}: {cause}\n  help: is `talaria up` or `talaria relay` running there?"
        ))
    };
    let mut endpoint = Endpoint::from_shared(url.to_string())
        .map_err(unreachable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    if url.scheme() == "https" {
        endpoint = endpoint.tls_config(client_tls(ask)?).map_err(|error| tls::unusable(ask, &error))?;
    }
    Ok((endpoint.connect().await.map_err(unreachable)?, bearer))
}

fn client_tls(ask: &Ask) -> Result<ClientTlsConfig, Failure> {
    let mut tls = match &ask.ca {
        Some(path) => {
            let pem = read("--ca", path)?;
            if !CertificateDer::pem_slice_iter(&pem).any(|found| found.is_ok()) {
                let what = format!("--ca cannot be used: no certificate in PEM is in {}", path.display());
                return Err(Failure::Usage(what));
            }
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&ask.cert, &ask.key) {
        tls = tls.identity(Identity::from_pem(read("--cert", cert)?, read("--key", key)?));
    }
    Ok(tls.timeout(CONNECT_TIMEOUT))
}

/// The token: from `--token-file`, TALARIA_TOKEN or TALARIA_TOKEN_FILE.
fn token(ask: &Ask) -> Result<Option<SecretString>, Failure> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let in_file = |option: &str, path: &Path| {
        let bytes = read(option, path)?;
        Ok(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').trim().into())
    };
    match (&ask.token_file, variable("TALARIA_TOKEN"), variable("TALARIA_TOKEN_FILE")) {
        (Some(path), ..) => in_file("--token-file", path).map(Some),
        (None, Some(token), _) => Ok(Some(token.trim().into())),
        (None, None, Some(path)) => in_file("TALARIA_TOKEN_FILE", &config::expand_home(path)).map(Some),
        (None, None, None) => Ok(None),
    }
}

fn header(token: &SecretString) -> Result<MetadataValue<Ascii>, Failure> {
    let text = token.expose_secret();
    let mut header: MetadataValue<Ascii> = format!("Bearer {text}")
        .parse()
        .ok()
        .filter(|_| !text.is_empty())
        .ok_or_else(|| Failure::Usage("the token is not one: it is a line such as tlr_…".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .map_err(|error| Failure::Usage(format!("{option}: cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        for (url, expected) in [
            ("http://u:p@host:1/x", "http://host:1/x"),
            ("https://token@host/", "https://host/"),
            ("http://host/?a=b", "http://host/?a=b"),
        ] {
            assert_eq!(without_credentials(&Url::parse(url).unwrap()).as_str(), expected);
        }
    }
}
