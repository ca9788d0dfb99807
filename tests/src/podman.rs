//! Podman with a store of its own, which runs Kubernetes manifests without a cluster.

use crate::until;
use serde_json::Value;
use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

/// Limits that need no privilege. Podman would raise them, which is not allowed everywhere.
const CONFIGURATION: &str = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=2048:2048\"]\n";

/// Images, pods and volumes that end with it.
#[derive(Debug)]
pub struct Podman {
    directory: TempDir,
}

impl Podman {
    /// Begins with nothing.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("containers.conf"), CONFIGURATION).unwrap();
        Self { directory }
    }

    /// The standard output of a podman command, which has to succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments);
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "podman {arguments:?}:\n{out}\n{err}");
        out.into_owned()
    }

    /// Builds an image from a directory with a Dockerfile.
    pub fn build(&self, image: &str, directory: &Path) {
        self.run(&["build", "--quiet", "--tag", image, directory.to_str().unwrap()]);
    }

    /// Copies an image from Docker, under another name.
    pub fn load(&self, from_docker: &str, image: &str) {
        let archive = self.directory.path().join("image.tar");
        let saved =
            Command::new("docker").arg("save").arg("--output").arg(&archive).arg(from_docker).output();
        let saved = saved.unwrap_or_else(|error| panic!("docker: {error}"));
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        let said = self.run(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
        self.run(&["tag", said.trim().trim_start_matches("Loaded image: "), image]);
    }

    /// Runs manifests, and waits until a pod has this container.
    pub async fn play(&self, manifests: &Path, container: &str) -> Container<'_> {
        self.run(&["kube", "play", manifests.to_str().unwrap()]);
        let id = until(&format!("the container {container}"), async || {
            let names = self.run(&["ps", "--format", "{{.ID}} {{.Names}}"]);
            let line = names.lines().find(|line| line.ends_with(&format!("-{container}")))?;
            Some(line.split(' ').next()?.to_owned())
        })
        .await;
        Container { podman: self, id }
    }

    /// Ends the pods of manifests, in order. Volumes stay.
    pub fn down(&self, manifests: &Path) {
        self.run(&["kube", "down", manifests.to_str().unwrap()]);
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let path = |name| self.directory.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.arg("--root").arg(path("root")).arg("--runroot").arg(path("run"));
        command.args(arguments).output().unwrap_or_else(|error| panic!("podman: {error}"))
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.command(&["pod", "rm", "--all", "--force"]);
        self.command(&["system", "reset", "--force"]);
    }
}

/// One of a pod's containers.
#[derive(Debug)]
pub struct Container<'a> {
    podman: &'a Podman,
    id: String,
}

impl Container<'_> {
    /// Podman's description of it.
    pub fn inspect(&self) -> Value {
        let said = self.podman.run(&["inspect", "--type", "container", &self.id]);
        let mut list: Value = serde_json::from_str(&said).unwrap();
        list[0].take()
    }

    /// Its pod's address.
    pub fn address(&self) -> IpAddr {
        let pod = self.podman.run(&["inspect", "--format", "{{.Pod}}", &self.id]);
        let infra = self.podman.run(&["pod", "inspect", "--format", "{{.InfraContainerID}}", pod.trim()]);
        let said = self.podman.run(&["inspect", "--type", "container", infra.trim()]);
        let list: Value = serde_json::from_str(&said).unwrap();
        let networks = list[0]["NetworkSettings"]["Networks"].as_object().unwrap();
        networks.values().next().unwrap()["IPAddress"].as_str().unwrap().parse().unwrap()
    }

    /// Runs a command in it, which has to end well.
    pub fn exec(&self, command: &[&str]) -> String {
        self.podman.run(&[&["exec", &self.id], command].concat())
    }

    /// The content of one of its files.
    pub fn read(&self, path: &str) -> String {
        let copy = self.podman.directory.path().join("copy");
        self.podman.run(&["cp", &format!("{}:{path}", self.id), copy.to_str().unwrap()]);
        fs::read_to_string(copy).unwrap()
    }

    /// Its log.
    pub fn log(&self) -> String {
        let Output { stdout, stderr, .. } = self.podman.command(&["logs", &self.id]);
        String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
    }
}
