//! Takes a route, and with the last one the extension, out of a Hermes home.

use super::{
    FILE, Manifest, Mode, PLUGIN, SETTINGS, config, entry_hash, hash, lock, read_file, read_text, settings,
    write, yaml,
};
use crate::{
    Failure,
    hermes::file::{remove, target},
};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The result of a removal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Whether anything of the route was there.
    pub any: bool,
    /// Whether it was the last route, so that the extension went with it.
    pub all: bool,
    /// Reports that were not sent.
    pub unsent: usize,
    /// The files that were left, and why.
    pub left: Vec<String>,
}

/// Removes a route by its name at Hermes.
pub(crate) fn uninstall(home: &Path, name: &str) -> Result<Removed, Failure> {
    let _lock = lock(home)?;
    let Some(mut manifest) = Manifest::read(home)? else { return Ok(Removed::default()) };
    let Some(route) = manifest.routes.remove(name) else { return Ok(Removed::default()) };
    let mut removed = Removed { any: true, all: manifest.routes.is_empty(), ..Removed::default() };
    let file = target(home)?;
    match (route.subscription, entry_hash(home, name)?) {
        (_, None) => {}
        (Some(installed), Some(found)) if installed == found => {
            // The layout of before counts for the last one of ours.
            let before = manifest.subscriptions.filter(|_| removed.all);
            let goes = removed.all && manifest.subscriptions.is_none();
            remove(home, &file, name, before.is_none_or(|before| before.newline), goes)?;
        }
        (Some(_), Some(_)) => {
            removed.left.push(format!("the subscription {name} in {FILE}, which was changed since"));
        }
        (None, Some(_)) => {
            removed.left.push(format!("the subscription {name} in {FILE}, which was there before"));
        }
    }
    leave(home, name, removed.all, &mut removed.left)?;
    if !removed.all {
        manifest.write(home)?;
        return Ok(removed);
    }
    take_edits_back(home, &manifest, &mut removed.left)?;
    for (path, installed) in &manifest.files {
        let file = home.join(path);
        match read_file(&file)? {
            None => {}
            Some(found) if hash(&found) == *installed => remove_file(&file)?,
            Some(_) => removed.left.push(format!("{path}, which was changed since")),
        }
        compiled(&file)?;
    }
    let queue = home.join(PLUGIN).join("queue");
    for file in entries(&queue) {
        removed.unsent += usize::from(file.extension().is_some_and(|extension| extension == "json"));
        remove_file(&file)?;
    }
    remove_file(&Manifest::path(home))?;
    // Fails for directories that have other files, which is right.
    let _ = fs::remove_dir(&queue);
    for directory in manifest.directories.iter().rev() {
        let _ = fs::remove_dir(home.join(directory));
    }
    Ok(removed)
}

/// Takes the route out of the settings, and removes them with the last one.
fn leave(home: &Path, name: &str, is_last: bool, left: &mut Vec<String>) -> Result<(), Failure> {
    let mut settings = settings(home)?;
    if let Some(routes) = settings.get_mut("routes").and_then(Value::as_object_mut) {
        routes.remove(name);
    }
    let file = home.join(SETTINGS);
    let is_ours = |key: &String| ["url", "version", "routes"].contains(&key.as_str());
    let has_others = settings.get("routes").is_some_and(|routes| *routes != json!({}));
    match (is_last, settings.is_empty()) {
        (_, true) => Ok(()),
        (true, _) if !has_others && settings.keys().all(is_ours) => remove_file(&file),
        (true, _) => {
            left.push(format!("{SETTINGS}, which has settings of your own"));
            Ok(())
        }
        (false, _) => write(home, &file, &format!("{:#}\n", Value::Object(settings)), Mode::PUBLIC, None),
    }
}

fn take_edits_back(home: &Path, manifest: &Manifest, left: &mut Vec<String>) -> Result<(), Failure> {
    if manifest.edits.is_empty() {
        return Ok(());
    }
    let file = config(home)?;
    let Some(text) = read_text(&file)? else { return Ok(()) };
    match yaml::take_back(&text, &manifest.edits) {
        Ok(text) if text.is_empty() && manifest.made_config => remove_file(&file),
        Ok(text) => write(home, &file, &text, Mode::CONFIG, None),
        Err(why) => {
            left.push(format!(
                "talaria in plugins.enabled and mcp_servers of config.yaml, because {why}; take it out by hand"
            ));
            Ok(())
        }
    }
}

/// Removes what Python has compiled a file of ours to.
fn compiled(file: &Path) -> Result<(), Failure> {
    let (Some(directory), Some(stem)) = (file.parent(), file.file_stem()) else { return Ok(()) };
    let cache = directory.join("__pycache__");
    let prefix = format!("{}.cpython-", stem.to_string_lossy());
    for file in entries(&cache) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
            remove_file(&file)?;
        }
    }
    let _ = fs::remove_dir(&cache);
    Ok(())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn remove_file(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow!("cannot remove {}: {error}", file.display()).into())
        }
        _ => Ok(()),
    }
}
