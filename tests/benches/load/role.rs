//! The other processes of a run: this same program in another role, and Talaria with one of its own.

use serde_json::Value;
use std::{
    env, fs,
    fs::Permissions,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    thread,
};
use talaria_tests::{binary, stack::Written};

/// The axum stack that Talaria is compared with.
pub const BARE: &str = "bare";

/// The stand-in Hermes.
pub const HERMES: &str = "hermes";

/// The stand-in Hermes that fails.
pub const BROKEN: &str = "broken";

/// The ingress that one would write at first.
pub const BASELINE_INGRESS: &str = "baseline-ingress";

/// The relay that one would write at first.
pub const BASELINE_RELAY: &str = "baseline-relay";

const VARIABLE: &str = "TALARIA_BENCH_ROLE";

/// The role of this process; `None` for the one that measures.
pub fn mine() -> Option<String> {
    env::var(VARIABLE).ok()
}

/// Another process. It ends with this value.
pub struct Other {
    child: Child,
    /// Where it listens; for one that listens nowhere, where it sends.
    pub address: SocketAddr,
    /// Its files go with it.
    _config: Option<Written>,
}

impl Other {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a role, and waits until it listens.
    pub fn start(role: &str) -> Self {
        Self::start_with(role, &[])
    }

    /// Starts a role with arguments.
    pub fn start_with(role: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(arguments)
            .env(VARIABLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap(), _config: None }
    }

    /// Starts `talaria ingress` or `talaria relay`, and waits until it has logged where it listens. What it complains
    /// of goes to standard error.
    pub fn talaria(role: &str, config: Written) -> Self {
        // Talaria would warn of secrets that everybody can read.
        for file in fs::read_dir(config.path()).unwrap() {
            fs::set_permissions(file.unwrap().path(), Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = Command::new(binary::talaria());
        command.arg(role).arg("--config").arg(&config.config).env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let key = if role == "ingress" { "ingress" } else { "grpc" };
        let address = log
            .by_ref()
            .find_map(|line| {
                let said = serde_json::from_str::<Value>(&line).ok();
                let address = said.as_ref().and_then(|line| line[key].as_str()).map(str::to_owned);
                if address.is_none() {
                    pass_on(&line);
                }
                address
            })
            .expect("talaria ended");
        // Read to its end, or it would wait for us.
        thread::spawn(move || log.for_each(|line| pass_on(&line)));
        Self { child, address: address.parse().unwrap(), _config: Some(config) }
    }
}

fn pass_on(line: &str) {
    if !line.contains("\"level\":\"INFO\"") {
        eprintln!("{line}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
