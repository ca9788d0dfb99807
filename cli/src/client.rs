//! Asks a relay.

use crate::{Failure, args::Ask, tls};
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
use talaria_core::config::{self, Addresses};
use talaria_proto::v1::{
    GetSummaryRequest, control_service_client::ControlServiceClient,
    status_service_client::StatusServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// Payloads of quarantined callbacks come a thousand at a time at most, and are a mebibyte long by default.
const LARGEST_ANSWER: usize = 1 << 30;

/// How long a relay may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a relay may take to begin its answer. Longer than it gives itself for what operators ask for, which is 30 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(45);

/// A relay that says nothing, also while nothing is asked of it, is pinged this often, and is given up when a ping has no
/// answer for as long.
const PING: Duration = Duration::from_secs(10);

/// A connection on which each request shows who asks.
pub(crate) type Shown = InterceptedService<Channel, Bearer>;

/// What each request shows: a token, or nothing.
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

/// Connects to the relay that is meant, to ask.
pub(crate) async fn connect(ask: &Ask, config: &Path) -> Result<StatusServiceClient<Shown>, Failure> {
    let (channel, bearer) = channel(ask, config).await?;
    let client = StatusServiceClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(LARGEST_ANSWER))
}

/// Fails where a tenant is named that there is not.
pub(crate) async fn knows_tenant(
    relay: &mut StatusServiceClient<Shown>,
    tenant: Option<&str>,
) -> Result<(), Failure> {
    if let Some(tenant) = tenant {
        relay.get_summary(GetSummaryRequest { tenant: tenant.to_owned() }).await?;
    }
    Ok(())
}

/// The same, to intervene.
pub(crate) async fn control(ask: &Ask, config: &Path) -> Result<ControlServiceClient<Shown>, Failure> {
    let (channel, bearer) = channel(ask, config).await?;
    let client = ControlServiceClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(LARGEST_ANSWER))
}

/// The answer to a request by which an operator intervenes. Where none comes, it is not known whether it was done.
pub(crate) fn done<T>(answer: Result<Response<T>, Status>) -> Result<T, Failure> {
    answer.map(Response::into_inner).map_err(|status| {
        // What a relay says itself has no source.
        let is_said = status.source().is_none();
        match Failure::from(status) {
            Failure::Unreachable(why) if !is_said => Failure::Unreachable(format!(
                "it may still be done, and `talaria actions` shows whether it was: {why}"
            )),
            failure => failure,
        }
    })
}

/// The addresses of the process that runs by a configuration. Where that cannot be read any more it is asked at what can be made out
/// of it, or at the default: what runs was started with another, and somebody wants to know how it is.
pub(crate) fn addresses(config: &Path) -> io::Result<Addresses> {
    let error = match config::load_addresses(config) {
        Ok(addresses) => return Ok(addresses),
        Err(error) => error,
    };
    let addresses = config::guess_addresses(config);
    // One problem is enough here; `talaria check` shows all.
    let path = config.display().to_string();
    let why = match &error {
        config::Error::Invalid { problems, .. } => problems.first().map_or_else(
            || path.clone(),
            |problem| {
                let place = if problem.line == 0 {
                    String::new()
                } else {
                    format!(":{}:{}", problem.line, problem.column)
                };
                format!("{path}{place}: {}", problem.what)
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
    // Without a login, as in containers, the variable may not be set.
    let told = || Command::new("id").arg("-un").stderr(Stdio::null()).output().ok();
    let told = iter::once_with(told).flatten().map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    variables
        .chain(told)
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty())
        .ok_or_else(|| Failure::Usage("this system does not tell who you are: say it with --as NAME".into()))
}

async fn channel(ask: &Ask, config: &Path) -> Result<(Channel, Bearer), Failure> {
    let url = match &ask.relay {
        Some(url) => url.to_string(),
        None => {
            let addresses = addresses(config)?;
            let scheme = if addresses.grpc_tls { "https" } else { "http" };
            format!("{scheme}://{}", from_here(addresses.grpc))
        }
    };
    let bearer = Bearer(token(ask)?.as_ref().map(header).transpose()?);
    let unreachable = |error: tonic::transport::Error| {
        if let Some(failure) = tls::failure(&error) {
            return failure;
        }
        let error = anyhow::Error::from(error);
        let cause = error.root_cause();
        Failure::Unreachable(format!(
            "cannot reach the relay at {url}: {cause}\n  help: is `talaria up` or `talaria relay` running there?"
        ))
    };
    let mut endpoint = Endpoint::from_shared(url.clone())
        .map_err(unreachable)?
        .connect_timeout(PATIENCE)
        .timeout(ANSWER_DEADLINE)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    if url.starts_with("https:") {
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
    Ok(tls.timeout(PATIENCE))
}

/// The token to show: in a file that is named, in a variable, or in a file that a variable names.
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
