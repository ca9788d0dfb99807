//! `--tunnel`: an installed cloudflared, kept running, so that OpenRouter reaches this machine.
//!
//! The program is checked before anything else starts, and started once the ingress listens. Its log contains the public URL of
//! a quick tunnel ([`line`]), which is announced ([`announce`]) whenever it changes. When it ends it is restarted after a delay
//! ([`restart`]). It ends with this process; if this process is killed, its next log line ends it with a broken pipe.

mod announce;
mod line;
mod restart;

use crate::Failure;
use anyhow::anyhow;
use line::{Level, Line, News};
use restart::Restarts;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret as _;
use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use talaria_core::config::{self, NamedTunnel};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// For `cloudflared --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// For the URL of a quick tunnel: cloudflared itself waits 15 s for Cloudflare and ends.
const URL_TIMEOUT: Duration = Duration::from_secs(20);
/// Consecutive refusals after which a quick tunnel is given up. A fresh one may be refused once or twice.
const MAX_REFUSALS: u32 = 5;
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// For the rest of the log of an ended process.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer lines are split.
const MAX_LINE_BYTES: u64 = 8192;

/// The environment variables that cloudflared gets: paths, certificates, proxies and its transport. Others may be secrets or settings
/// of other tunnels.
const ENVIRONMENT: [&str; 16] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "TUNNEL_TRANSPORT_PROTOCOL",
    "TUNNEL_EDGE_IP_VERSION",
    "TUNNEL_EDGE_BIND_ADDRESS",
    "TUNNEL_REGION",
    "TUNNEL_POST_QUANTUM",
];

const HOW_TO_GET_IT: &str = "install it: on macOS with `brew install cloudflared`, on Debian, Ubuntu and Fedora as the package \
    cloudflared from Cloudflare's package repository, elsewhere from the releases of cloudflare/cloudflared on GitHub; or \
    say where it is with tunnel: {cloudflared: PATH}; or leave --tunnel out and lead a public name here yourself; see \
    docs/errors/cloudflared-missing.md";

/// A tunnel, and its state.
pub(crate) struct Tunnel {
    config: config::Tunnel,
    tenants: Vec<String>,
    /// The public URL that was announced last.
    announced: Option<String>,
    /// The last error in its log.
    last_error: String,
}

/// Why the program does not run any more.
enum End {
    /// This process stops.
    Stopped,
    Ended(io::Result<ExitStatus>),
    NotStarted(io::Error),
    /// It was ended because it got no URL.
    Nameless,
    /// It was ended because Cloudflare has forgotten its tunnel.
    Forgotten,
}

impl Tunnel {
    /// Checks that the program can be run.
    pub(crate) async fn find(config: &config::Config) -> Result<Self, Failure> {
        let program = &config.tunnel.cloudflared;
        let version = timeout(VERSION_TIMEOUT, command(program).arg("--version").output()).await;
        let shown = program.display();
        match version {
            Ok(Ok(answer)) if answer.status.success() => {
                let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
                tracing::info!(version, "found cloudflared");
            }
            Ok(Ok(answer)) => {
                return Err(
                    anyhow!("`{shown} --version` failed: {}; is it cloudflared?", answer.status).into()
                );
            }
            Err(_) => return Err(anyhow!("`{shown} --version` does not answer; is it cloudflared?").into()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let missing = if program.components().count() == 1 {
                    "--tunnel needs the program cloudflared, and it is not on the PATH".to_owned()
                } else {
                    format!("there is no {shown}, which tunnel.cloudflared names")
                };
                return Err(anyhow!("{missing}\n  help: {HOW_TO_GET_IT}").into());
            }
            Ok(Err(error)) => {
                return Err(anyhow!("cannot run {shown}: {error}\n  help: {HOW_TO_GET_IT}").into());
            }
        }
        let takes_callbacks = config.tenants.values().filter(|tenant| !tenant.only_polls());
        let tenants = takes_callbacks.map(|tenant| tenant.name.clone()).collect();
        Ok(Self { config: config.tunnel.clone(), tenants, announced: None, last_error: String::new() })
    }

    /// Keeps a tunnel to this address open until `stop`.
    pub(crate) async fn run(mut self, ingress: SocketAddr, stop: CancellationToken) {
        let origin = origin(ingress);
        if let Some(named) = self.config.named.clone() {
            tracing::info!("a tunnel that was set up at Cloudflare has to lead to {origin} there");
            self.announce(named.public_url, announce::Url::Permanent);
        }
        let mut restarts = Restarts::default();
        loop {
            let started = Instant::now();
            let why = match self.once(&origin, &stop).await {
                End::Stopped => break,
                End::Ended(Ok(status)) => format!("cloudflared ended ({status})"),
                End::Ended(Err(error)) => format!("cloudflared was lost: {error}"),
                End::NotStarted(error) => format!("cloudflared could not be started: {error}"),
                End::Nameless => format!("cloudflared had no public URL after {URL_TIMEOUT:?} and was ended"),
                End::Forgotten => {
                    "Cloudflare does not know the tunnel any more: cloudflared was ended".to_owned()
                }
            };
            let pause = restarts.after(started.elapsed());
            tracing::warn!(
                said = std::mem::take(&mut self.last_error),
                "{why}; it is started again in {pause:?}"
            );
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
    }

    /// Runs it once, to its end.
    async fn once(&mut self, origin: &str, stop: &CancellationToken) -> End {
        let mut child = match self.program(origin).spawn() {
            Ok(child) => child,
            Err(error) => return End::NotStarted(error),
        };
        let mut lines = lines(child.stderr.take());
        let (mut logs, mut connected, mut refusals) = (true, false, 0);
        let mut has_url = self.config.named.is_some();
        let deadline = Instant::now() + URL_TIMEOUT;
        loop {
            let line = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    end(child).await;
                    return End::Stopped;
                }
                line = lines.recv(), if logs => line,
                status = child.wait() => {
                    let rest = async { while let Some(line) = lines.recv().await { self.forward(&line); } };
                    let _ = timeout(LOG_TIMEOUT, rest).await;
                    return End::Ended(status);
                }
                () = sleep_until(deadline), if !has_url => {
                    end(child).await;
                    return End::Nameless;
                }
            };
            let Some(line) = line else {
                logs = false;
                continue;
            };
            match self.forward(&line) {
                Some(News::Url(found)) if !has_url => {
                    has_url = true;
                    match &self.announced {
                        None => self.announce(found, announce::Url::Temporary),
                        Some(before) if *before != found => self.announce(found, announce::Url::Changed),
                        Some(_) => {}
                    }
                }
                Some(News::Connected) => {
                    refusals = 0;
                    if !connected {
                        tracing::info!("the tunnel is connected to Cloudflare");
                    }
                    connected = true;
                }
                Some(News::Refused) => {
                    refusals += 1;
                    // A restart helps quick tunnels alone: a named one keeps its name.
                    if refusals >= MAX_REFUSALS && self.config.named.is_none() {
                        end(child).await;
                        return End::Forgotten;
                    }
                }
                Some(News::Url(_)) | None => {}
            }
        }
    }

    /// Ignores the user's configuration of cloudflared, whose rules could answer callbacks.
    fn program(&self, origin: &str) -> Command {
        let mut command = command(&self.config.cloudflared);
        // Its own metrics, which are unused, get any free port.
        command.args(["tunnel", "--config=", "--no-autoupdate", "--metrics", "127.0.0.1:0"]);
        match &self.config.named {
            None => command.args(["--url", origin]),
            // Every user of the machine can see command lines.
            Some(NamedTunnel { token, .. }) => command.arg("run").env("TUNNEL_TOKEN", token.expose_secret()),
        };
        command.stderr(Stdio::piped());
        command
    }

    fn announce(&mut self, public: String, url: announce::Url) {
        announce::announce(&public, self.tenants.iter().map(String::as_str), url);
        self.announced = Some(public);
    }

    /// Logs a line of its log.
    fn forward(&mut self, line: &str) -> Option<News> {
        let Line { level, mut text, news } = line::read(line);
        if let Some(named) = &self.config.named {
            text = text.replace(named.token.expose_secret(), "(secret)");
        }
        if text.is_empty() {
            return news;
        }
        match level {
            Level::Error => tracing::warn!("cloudflared: {text}"),
            Level::Info | Level::Plain => tracing::debug!("cloudflared: {text}"),
        }
        if level != Level::Info {
            self.last_error = text;
        }
        news
    }
}

/// The program with a minimal environment, in a process group of its own, so that Ctrl-C reaches this process alone.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

/// The lines of its log.
fn lines(log: Option<ChildStderr>) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(64);
    if let Some(log) = log {
        tokio::spawn(async move {
            let mut log = BufReader::new(log);
            let mut line = Vec::new();
            while matches!((&mut log).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await, Ok(1..)) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).await.is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    lines
}

/// Ends it and its child processes: SIGTERM, then SIGKILL.
async fn end(mut child: Child) {
    // Its id cannot be reused before the wait below.
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
        if timeout(GRACE, child.wait()).await.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    let _ = child.wait().await;
}

/// The ingress' URL on this machine.
fn origin(ingress: SocketAddr) -> String {
    let ip = match ingress.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, ingress.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_can_be_connected_to() {
        for (ingress, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("192.0.2.7:8080", "http://192.0.2.7:8080"),
        ] {
            assert_eq!(origin(ingress.parse().unwrap()), expected);
        }
    }
}
