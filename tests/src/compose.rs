//! `deploy/compose.yaml` in a real Docker engine, as a project of its own.
//!
//! `make test-stack` builds the images first, also those of others that cannot be pulled.

use crate::{binary, free_port, until_within};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// For the start of a container. Hermes is slow.
const START_TIMEOUT: Duration = Duration::from_secs(240);

/// An image with an interpreter, for containers that do something to the stack or look at it from inside.
const PYTHON: &str = "talaria-hermes:0.19.0";

/// The stack. Its containers, networks and volumes are removed when it is dropped.
#[derive(Debug)]
pub struct Compose {
    project: String,
    port: u16,
    console: u16,
    config: PathBuf,
}

impl Compose {
    /// A stack on free ports, with the configuration in this directory.
    pub fn new(config: &Path) -> Self {
        let project = format!("talaria-test-{:08x}", rand::random::<u32>());
        Self { project, port: free_port(), console: free_port(), config: config.into() }
    }

    /// Starts it, and waits until everything is healthy.
    pub async fn up(config: &Path) -> Self {
        let stack = Self::new(config);
        stack.works(&["up", "--detach", "--no-build"]);
        for service in ["nats", "ingress", "relay", "hermes"] {
            stack.is_healthy(service).await;
        }
        stack
    }

    /// The ingress' address.
    pub fn ingress(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The address of the console, where it is on.
    pub fn console(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.console))
    }

    /// Runs compose to its end.
    pub fn compose(&self, arguments: &[&str]) -> Output {
        let (program, first) = program();
        let mut command = Command::new(program);
        command.args(first).args(["--file", "compose.yaml", "--project-name", &self.project]).args(arguments);
        command.current_dir(binary::workspace().join("deploy")).stdin(Stdio::null());
        command.env("TALARIA_CONFIG_DIR", &self.config).env("TALARIA_HTTP_PORT", self.port.to_string());
        command.env("TALARIA_CONSOLE_PORT", self.console.to_string());
        command.output().unwrap()
    }

    /// The standard output of a compose command, which has to succeed.
    pub fn works(&self, arguments: &[&str]) -> String {
        let output = self.compose(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "compose {arguments:?}: {said}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `talaria` in a service's container.
    pub fn talaria(&self, service: &str, arguments: &[&str]) -> String {
        self.works(&[&["exec", "-T", service, "talaria"], arguments].concat())
    }

    /// Docker's description of a service's container.
    pub fn inspect(&self, service: &str) -> Value {
        let id = self.works(&["ps", "--all", "--quiet", service]);
        let known: Value = serde_json::from_str(&docker(&["inspect", id.trim()])).unwrap();
        known[0].clone()
    }

    /// Waits until a service runs and is healthy, if its image has a health check.
    pub async fn is_healthy(&self, service: &str) {
        until_within(START_TIMEOUT, &format!("{service} to be healthy"), async || {
            let state = self.inspect(service)["State"].clone();
            let healthy = state["Health"].is_null() || state["Health"]["Status"] == "healthy";
            (state["Running"] == true && healthy).then_some(())
        })
        .await;
    }

    /// The last start and the last end of a service's container.
    pub fn times(&self, service: &str) -> (Timestamp, Timestamp) {
        let state = self.inspect(service)["State"].clone();
        let time = |name: &str| state[name].as_str().unwrap().parse().unwrap();
        (time("StartedAt"), time("FinishedAt"))
    }

    /// Kills a service's process with SIGKILL, and waits until the engine has restarted it. The signal comes from another
    /// container, because the engine does not restart a container that it killed itself.
    pub async fn kill(&self, service: &str) {
        let state = self.inspect(service)["State"].clone();
        let script = format!("import os; os.kill({}, 9)", state["Pid"]);
        let around =
            ["run", "--rm", "--pid", "host", "--user", "0", "--cap-drop", "ALL", "--cap-add", "KILL"];
        docker(&[&around[..], &["--entrypoint", "python3", PYTHON, "-c", &script]].concat());
        until_within(START_TIMEOUT, &format!("{service} to be started again"), async || {
            let now = self.inspect(service)["State"].clone();
            (now["Running"] == true && now["StartedAt"] != state["StartedAt"]).then_some(())
        })
        .await;
        self.is_healthy(service).await;
    }

    /// The end of all logs.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&self.compose(&["logs", "--no-color", "--tail", "30"]).stdout).into_owned()
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print(&self.logs());
        }
        let output = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]);
        print(&String::from_utf8_lossy(&output.stderr));
    }
}

/// The address by which containers know this machine, as `host.docker.internal`. A container looks it up, because
/// `docker network inspect bridge` does not always have it: Docker 20.10 omits `Gateway` when it has just created `docker0`.
pub fn host() -> IpAddr {
    let script = "import socket; print(socket.gethostbyname('host.docker.internal'))";
    let run = ["run", "--rm", "--add-host", "host.docker.internal:host-gateway", "--entrypoint", "python3"];
    docker(&[&run[..], &[PYTHON, "-c", script]].concat()).trim().parse().unwrap()
}

/// The standard output of a docker command, which has to succeed.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `docker compose`, or else docker-compose.
fn program() -> (&'static str, &'static [&'static str]) {
    static PROGRAM: OnceLock<(&str, &[&str])> = OnceLock::new();
    *PROGRAM.get_or_init(|| {
        let plugin = Command::new("docker").args(["compose", "version"]).output();
        if plugin.is_ok_and(|output| output.status.success()) {
            ("docker", &["compose"])
        } else {
            ("docker-compose", &[])
        }
    })
}

#[expect(clippy::print_stderr, reason = "tests show what they found")]
fn print(text: &str) {
    eprintln!("{text}");
}
