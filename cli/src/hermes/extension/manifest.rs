//! The manifest beside the plugin: what was installed into a Hermes home.

use super::{Edit, Mode, PLUGIN, VERSION, make_directories, read_file, write};
use crate::Failure;
use anyhow::anyhow;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const FILE: &str = "manifest.json";

/// What was installed. It has secrets.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Manifest {
    version: String,
    /// The hashes of the files, by their paths in the home.
    pub files: BTreeMap<String, String>,
    /// The directories that were made, the outermost first.
    pub directories: Vec<String>,
    /// The routes, by their names at Hermes.
    pub routes: BTreeMap<String, Installed>,
    /// The file of subscriptions before the first route; `None` if there was none.
    pub subscriptions: Option<Subscriptions>,
    /// The edits of `config.yaml`.
    pub edits: Vec<Edit>,
    /// Whether there was no `config.yaml`.
    pub made_config: bool,
}

/// An installed route.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Installed {
    /// The hash of its subscription as it was written; `None` for a route of `config.yaml`.
    pub subscription: Option<String>,
    /// The subscription of that name before, as it was written there; `None` if there was none.
    pub before: Option<Box<RawValue>>,
}

/// The layout of a file of subscriptions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Subscriptions {
    /// Whether it ends with a newline. Hermes writes none.
    pub newline: bool,
}

impl Manifest {
    pub(crate) fn path(home: &Path) -> PathBuf {
        home.join(PLUGIN).join(FILE)
    }

    /// The manifest in a home; `None` if there is none.
    pub(crate) fn read(home: &Path) -> Result<Option<Self>, Failure> {
        let file = Self::path(home);
        let Some(text) = read_file(&file)? else { return Ok(None) };
        let wrong = |error: serde_json::Error| {
            anyhow!("{} cannot be read: {error}; mend or remove it", file.display())
        };
        Ok(Some(serde_json::from_str(&text).map_err(wrong)?))
    }

    pub(crate) fn write(&mut self, home: &Path) -> Result<(), Failure> {
        VERSION.clone_into(&mut self.version);
        let file = Self::path(home);
        self.directories.extend(make_directories(home, &file)?);
        let text = serde_json::to_string_pretty(self).map_err(anyhow::Error::from)?;
        // For the owner alone: it has subscriptions, which have secrets.
        write(home, &file, &format!("{text}\n"), Mode::PRIVATE, None)
    }
}

pub(crate) fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}
