//! One process of a fleet.

use crate::{binary, until};
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, RwLock},
};
use talaria_proto::v1::status_service_client::StatusServiceClient;
use tonic::transport::{Channel, Endpoint};

/// The address of a running ingress.
pub(super) type Entrance = Arc<RwLock<Option<SocketAddr>>>;

/// Lines of a log in messages.
const LINES: usize = 12;

/// A process that can be ended and restarted on the same files.
#[derive(Debug)]
pub struct Part {
    role: &'static str,
    config: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    frozen: bool,
    /// Length of the log of earlier runs.
    logged_before: usize,
    grpc: Option<SocketAddr>,
    console: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    pub(super) entrance: Entrance,
}

impl Part {
    pub(super) fn new(role: &'static str, config: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self {
            role,
            config,
            environment,
            child: None,
            frozen: false,
            logged_before: 0,
            grpc: None,
            console: None,
            admin: None,
            entrance: Entrance::default(),
        }
    }

    /// Starts it, and waits for nothing.
    pub(super) fn launch(&mut self) {
        self.logged_before = self.log().len();
        let log =
            OpenOptions::new().create(true).append(true).open(self.config.with_extension("log")).unwrap();
        let mut command = Command::new(binary::talaria());
        command.args([self.role, "--config"]).arg(&self.config).env_remove("RUST_LOG");
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it listens.
    pub(super) async fn listens(&mut self) {
        let listening = until(&format!("{} to listen", self.name()), async || {
            assert!(self.runs(), "{} ended: {}", self.name(), self.log());
            let log = self.log();
            let mut lines = log.get(self.logged_before..)?.lines();
            lines.find_map(|line| {
                serde_json::from_str::<Value>(line).ok().filter(|line| line["admin"].is_string())
            })
        })
        .await;
        let address = |key: &str| listening[key].as_str().map(|address| address.parse().unwrap());
        (self.grpc, self.console, self.admin) = (address("grpc"), address("console"), address("admin"));
        *self.entrance.write().unwrap() = address("ingress");
    }

    /// Starts it again on the same files, and waits until it listens.
    pub async fn start_again(&mut self) {
        self.launch();
        self.listens().await;
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        // Another process may get the address.
        *self.entrance.write().unwrap() = None;
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.frozen = false;
    }

    /// Sends SIGTERM and waits for the end. Returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        *self.entrance.write().unwrap() = None;
        self.signal("-TERM");
        let mut child = self.child.take().unwrap();
        until(&format!("{} to stop", self.name()), async || child.try_wait().unwrap()).await.code()
    }

    /// Sends SIGSTOP. Connections stay open.
    pub fn freeze(&mut self) {
        self.signal("-STOP");
        self.frozen = true;
    }

    /// Lets it run on.
    pub fn thaw(&mut self) {
        self.signal("-CONT");
        self.frozen = false;
    }

    /// Whether it runs and is not frozen.
    pub fn is_live(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    /// Its name, which its files have too.
    pub fn name(&self) -> String {
        self.config.file_stem().unwrap().to_string_lossy().into_owned()
    }

    /// The log of all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    /// The last warnings and errors of its log, each of them once.
    pub(super) fn complaints(&self) -> String {
        let mut complaints: Vec<Value> = Vec::new();
        let log = self.log();
        for line in log.lines().rev() {
            // Other lines come from a panic.
            let line = serde_json::from_str(line).unwrap_or_else(|_| json!({"message": line}));
            let is_same =
                |other: &Value| other["message"] == line["message"] && other["error"] == line["error"];
            // Tests cause the warnings about unsigned headers and readable secrets.
            let is_usual = line["level"] == "INFO" || line["key"].is_string() || line["help"].is_string();
            if complaints.len() < LINES && !is_usual && !complaints.iter().any(is_same) {
                complaints.push(line);
            }
        }
        complaints.iter().rev().map(|line| format!("{line}\n")).collect()
    }

    /// The addresses for callbacks and of the admin port.
    pub(super) fn listens_on(&self) -> (SocketAddr, SocketAddr) {
        (self.entrance.read().unwrap().unwrap(), self.admin.unwrap())
    }

    /// The URL of a relay.
    pub fn relay(&self) -> String {
        format!("http://{}", self.grpc.unwrap())
    }

    /// The address of a relay's console.
    pub fn console(&self) -> SocketAddr {
        self.console.unwrap()
    }

    /// The address of an ingress.
    pub fn ingress(&self) -> SocketAddr {
        self.listens_on().0
    }

    /// A client of its status service.
    pub async fn status(&self) -> StatusServiceClient<Channel> {
        let url = format!("http://{}", self.grpc.unwrap());
        let channel = Endpoint::from_shared(url).unwrap().timeout(crate::PATIENCE).connect().await;
        StatusServiceClient::new(channel.unwrap_or_else(|error| panic!("{}: {error}", self.name())))
    }

    /// An answer of its admin port.
    pub async fn admin_get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin.unwrap());
        let response = crate::http().get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Requests to Hermes in this run.
    pub async fn attempts(&self) -> u64 {
        let (_, metrics) = self.admin_get("/metrics").await;
        let counts = metrics.lines().filter(|line| line.starts_with("talaria_attempts_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn signal(&self, signal: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
