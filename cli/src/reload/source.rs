//! The configuration file, and the settings on the command line that override it.

use sha2::{Digest as _, Sha256};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use talaria_core::{
    config::{self, Config, Missing, Reading, Role},
    files,
};

/// The source of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    /// Decides which secrets are read.
    pub role: Role,
    pub overrides: Overrides,
    /// `--tunnel`.
    pub tunnel: bool,
}

/// Settings on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
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
    /// The overridden keys.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("ingress.listen", self.ingress.is_some()),
            ("relay.grpc", self.grpc.is_some()),
            ("admin.listen", self.admin.is_some()),
            ("data_dir", self.data_dir.is_some()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
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

/// A hash over some files.
pub(super) type Contents = [u8; 32];

impl Source {
    /// A file without overrides.
    pub(crate) fn new(path: &Path, role: Role) -> Self {
        Self { path: path.to_owned(), role, overrides: Overrides::default(), tunnel: false }
    }

    pub(super) fn read(&self) -> Reading {
        let mut reading = config::read_for(&self.path, self.role, Missing::Tolerated);
        if let Ok(config) = &mut reading.config {
            self.overrides.apply(config);
            if !self.tunnel {
                // A missing token file must not ask for a restart.
                config.tunnel = config::Tunnel { cloudflared: PathBuf::new(), named: None };
            }
        }
        reading
    }

    /// A hash over the file and these others. If it has not changed, reading them again is useless.
    pub(super) async fn contents(&self, others: &[PathBuf]) -> Option<Contents> {
        let paths: Vec<PathBuf> = [&self.path].into_iter().chain(others).cloned().collect();
        let digest = move || {
            let mut digest = Sha256::new();
            for path in paths {
                digest.update(path.as_os_str().as_encoded_bytes());
                // An unreadable file counts as missing.
                digest.update(files::read(&path).map(Sha256::digest).unwrap_or_default());
            }
            digest.finalize().into()
        };
        tokio::task::spawn_blocking(digest).await.ok()
    }
}
