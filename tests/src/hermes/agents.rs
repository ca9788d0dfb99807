//! The real gateway, `hermes gateway run`, whose agents ask a stand-in for a model.

use super::{Version, model::Model};
use crate::{PATIENCE, free_port, http, sink::SECRET, until, until_within};
use serde_json::json;
use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};
use talaria_core::hermes::signature;
use tempfile::TempDir;

/// A Hermes home with one route, and the gateway in it. It is killed in the end.
pub struct Agents {
    /// The home.
    pub home: TempDir,
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    version: Version,
    port: u16,
    child: Option<Child>,
}

impl Agents {
    /// Writes the configuration for a version.
    pub fn write(version: &Version, model: &Model) -> Self {
        let (home, port) = (tempfile::tempdir().unwrap(), free_port());
        // Newer versions ask a model that fails again for minutes, in these cycles.
        let config = format!(
            "model:\n  provider: custom\n  default: test-model\n  base_url: {}\n  api_key: none\n  context_length: 100000\n\
             agent:\n  api_max_retries: 1\n  auto_recovery_cycles: 0\n  restart_drain_timeout: 1\n\
             platforms:\n  webhook:\n    enabled: true\n    extra: {{host: 127.0.0.1, port: {port}, rate_limit: 1000}}\n",
            model.url()
        );
        fs::write(home.path().join("config.yaml"), config).unwrap();
        Self { home, environment: Vec::new(), version: version.clone(), port, child: None }
    }

    /// The URL of a route.
    pub fn url(&self, route: &str) -> String {
        format!("http://127.0.0.1:{}/webhooks/{route}", self.port)
    }

    /// Starts the gateway.
    pub async fn start(&mut self) {
        let home = self.home.path();
        let log = File::create(home.join("gateway.log")).unwrap();
        let mut command = Command::new(self.version.program("hermes"));
        command.args(["gateway", "run"]).env("HERMES_HOME", home).env("HOME", home);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.current_dir(home).spawn().unwrap();
        let health = format!("http://127.0.0.1:{}/health", self.port);
        // Newer versions take a minute and more where their files are read from the disk for the first time.
        until_within(2 * PATIENCE, "the real gateway to listen", async || {
            assert!(child.try_wait().unwrap().is_none(), "Hermes ended: {}", self.log());
            http().get(&health).send().await.ok()
        })
        .await;
        self.child = Some(child);
    }

    /// The output of the gateway that was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("gateway.log")).unwrap_or_default()
    }

    /// Hands a delivery over, as a relay does.
    pub async fn deliver(&self, route: &str, delivery: &str, prompt: &str) {
        let body = json!({"type": "video.generation.completed", "prompt": prompt}).to_string();
        let signature = signature::sign(&SECRET.into(), body.as_bytes());
        let request = http().post(self.url(route)).header("X-GitHub-Delivery", delivery);
        let request = request.header("X-Request-ID", delivery).header(signature::HEADER, signature);
        assert_eq!(request.body(body).send().await.unwrap().status(), 202);
    }

    /// Asks the gateway to end, and waits until it has.
    pub async fn terminate(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        until("the gateway to end", async || child.try_wait().unwrap()).await;
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
