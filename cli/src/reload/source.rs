//! How this process reads its configuration, at the start and ever after: the file, and what the command line says instead.

use sha2::{Digest as _, Sha256};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use talaria_core::{
    config::{self, Config, Missing, Reading, Role},
    files,
};

/// How this process reads its configuration.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What the process does, and so which secrets it reads.
    pub role: Role,
    /// What the command line says.
    pub overrides: Overrides,
    /// Whether it opens a tunnel.
    pub tunnel: bool,
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `ingress.listen`.
    pub ingress: Option<SocketAddr>,
    /// `relay.grpc`.
    pub grpc: Option<SocketAddr>,
    /// `admin.listen`.
    pub admin: Option<SocketAddr>,
    /// `data_dir`, absolute.
    pub data_dir: Option<PathBuf>,
}

impl Overrides {
    /// The keys that it says something else about.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("ingress.listen", self.ingress.is_some()),
            ("relay.grpc", self.grpc.is_some()),
            ("admin.listen", self.admin.is_some()),
            ("data_dir", self.data_dir.is_some()),
        ];
        keys.into_iter().filter(|(_, is_said)| *is_said).map(|(key, _)| key).collect()
    }

    fn apply(&self, config: &mut Config) {
        config.ingress.listen = self.ingress.unwrap_or(config.ingress.listen);
        config.relay.grpc = self.grpc.unwrap_or(config.relay.grpc);
        config.admin.listen = self.admin.unwrap_or(config.admin.listen);
        if let Some(directory) = &self.data_dir {
            config.data_dir.clone_from(directory);
        }
    }
}

/// What stands in some files.
pub(super) type Contents = [u8; 32];

impl Source {
    /// A file, by which the command line goes.
    pub fn new(path: &Path, role: Role) -> Self {
        Self { path: path.to_owned(), role, overrides: Overrides::default(), tunnel: false }
    }

    /// What the file says now.
    pub(super) fn read(&self) -> Reading {
        let mut reading = config::read_for(&self.path, self.role, Missing::Tolerated);
        if let Ok(config) = &mut reading.config {
            self.overrides.apply(config);
            if !self.tunnel {
                // So that no restart is asked for because of a file that is not there.
                config.tunnel = config::Tunnel { cloudflared: PathBuf::new(), named: None };
            }
        }
        reading
    }

    /// What stands in the file and in these others, to tell whether reading it again would be of use.
    pub(super) async fn contents(&self, others: &[PathBuf]) -> Option<Contents> {
        let paths: Vec<PathBuf> = [&self.path].into_iter().chain(others).cloned().collect();
        let digest = move || {
            let mut digest = Sha256::new();
            for path in paths {
                digest.update(path.as_os_str().as_encoded_bytes());
                // What cannot be read is as if it were not there.
                digest.update(files::read(&path).map(Sha256::digest).unwrap_or_default());
            }
            digest.finalize().into()
        };
        tokio::task::spawn_blocking(digest).await.ok()
    }
}
