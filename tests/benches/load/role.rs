//! The other processes of a run: this same program, in another role.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

/// The axum stack that Talaria is compared with.
pub const BARE: &str = "bare";

/// The stand-in Hermes.
pub const HERMES: &str = "hermes";

const VARIABLE: &str = "TALARIA_BENCH_ROLE";

/// What this process is to be; `None` for the one that measures.
pub fn mine() -> Option<String> {
    env::var(VARIABLE).ok()
}

/// Another process. It ends with this value.
pub struct Other {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Other {
    /// Starts a role, and waits until it has said where it listens.
    pub fn start(role: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(VARIABLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
