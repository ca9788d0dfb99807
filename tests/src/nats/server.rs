//! One server for one test.

use super::program;
use crate::{at_the_end_of_this_process, free_port, until};
use std::{
    fs::{self, OpenOptions},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

/// Builds a server.
#[derive(Debug, Default)]
pub struct Builder {
    sync_always: bool,
    config: String,
}

/// Begins a server.
pub fn server() -> Builder {
    Builder::default()
}

impl Builder {
    /// Every message is on the disk before it is acknowledged.
    #[must_use]
    pub fn sync_always(mut self) -> Self {
        self.sync_always = true;
        self
    }

    /// Adds lines to the server's configuration file, such as accounts.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.config += &format!("{lines}\n");
        self
    }

    /// Starts it on a port of its own.
    pub async fn start(self) -> Server {
        loop {
            let mut server = self.launch(free_port());
            if server.listens().await {
                return server;
            }
        }
    }

    /// Starts it on this port, and waits for nothing.
    pub(super) fn launch(&self, port: u16) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let (path, sync) = (directory.path().display(), if self.sync_always { "always" } else { "2m" });
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{store_dir: \"{path}/store\", sync_interval: \"{sync}\"}}\n{}",
            self.config
        );
        fs::write(directory.path().join("nats.conf"), config).unwrap();
        let child = run(&directory);
        Server { child, directory, port }
    }
}

/// A running server with JetStream, on loopback. It is killed when it is dropped, and its files go with it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Starts one as servers are by default.
    pub async fn start() -> Self {
        server().start().await
    }

    /// Where it listens, now and after it was started again.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self) {
        self.signal("-TERM");
        until("the NATS server to stop", async || self.child.try_wait().unwrap()).await;
    }

    /// Has it read its configuration again, and waits until it has.
    pub async fn reload(&self) {
        let reloads = || self.log().matches("Reloaded server configuration").count();
        let before = reloads();
        self.signal("-HUP");
        until("the NATS server to reload", async || (reloads() > before).then_some(())).await;
    }

    /// Stops it with SIGSTOP: connections stay open without answers until it is thawed.
    pub async fn freeze(&self) {
        self.signal("-STOP");
        until("the NATS server to freeze", async || self.state().starts_with('T').then_some(())).await;
    }

    /// Lets it run on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Starts it again on the same port and the same files.
    pub async fn start_again(&mut self) {
        self.child = run(&self.directory);
        assert!(self.listens().await, "another process has taken the port: {}", self.log());
    }

    /// Starts an ended server again on the same port, without its stored data.
    pub async fn start_empty(&mut self) {
        fs::remove_dir_all(self.directory.path().join("store")).unwrap();
        self.start_again().await;
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(log_of(&self.directory)).unwrap()
    }

    pub(super) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it answers. Returns false if another process got the port.
    pub(super) async fn listens(&mut self) -> bool {
        until("the NATS server to listen", async || {
            if !self.runs() {
                let log = self.log();
                assert!(log.contains("address already in use"), "the NATS server ended: {log}");
                return Some(false);
            }
            // A client is greeted once JetStream has read its files.
            let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.ok()?;
            let mut greeting = String::new();
            BufReader::new(connection).read_line(&mut greeting).await.ok()?;
            (greeting.starts_with("INFO ") && greeting.contains("\"jetstream\":true")).then_some(true)
        })
        .await
    }

    /// Lets it run until this process ends, and gives its URL.
    pub(super) fn leave_to_the_end_of_this_process(self) -> String {
        let (url, process) = (self.url(), self.child.id().to_string());
        let directory = self.directory.path().to_str().unwrap();
        at_the_end_of_this_process("kill -9 \"$1\"; rm -rf \"$2\"", &[&process, directory]);
        std::mem::forget(self);
        url
    }

    fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    fn state(&self) -> String {
        let process = self.child.id().to_string();
        let output = Command::new("ps").args(["-o", "state=", "-p", &process]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(directory: &TempDir) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log_of(directory)).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(directory.path().join("nats.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn log_of(directory: &TempDir) -> PathBuf {
    directory.path().join("log")
}
