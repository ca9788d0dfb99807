//! Configurations for tests: a text, with the files that it names, in a directory of its own.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use super::{Config, Role, load_for};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A directory with `talaria.yaml` and the files that it names.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// Writes the configuration, and the other files with their contents.
    pub fn new(text: &str, others: &[(&str, &str)]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("talaria.yaml", text);
        for (name, content) in others {
            files.write(name, content);
        }
        files
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// The configuration for a role; must be valid.
    pub fn load(&self, role: Role) -> Config {
        load_for(&self.path("talaria.yaml"), role).unwrap()
    }
}

/// A valid configuration whose secrets are all `{file: secret}` with this content.
pub fn config(text: &str, secret: &str) -> Config {
    Files::new(text, &[("secret", secret)]).load(Role::Both)
}
