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
    removed.unsent = empty_queue(home, &mut removed.left)?;
    remove_file(&Manifest::path(home))?;
    // Fails for directories that have other files, which is right.
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
        Ok(edited) if edited.is_empty() && manifest.made_config => remove_file(&file),
        Ok(edited) if edited == text => Ok(()),
        Ok(edited) => write(home, &file, &edited, Mode::CONFIG, None),
        Err(why) => {
            left.push(format!(
                "talaria in plugins.enabled and mcp_servers of config.yaml, because {why}; take it out by hand"
            ));
            Ok(())
        }
    }
}

/// Removes the reports that wait. Returns how many these were.
fn empty_queue(home: &Path, left: &mut Vec<String>) -> Result<usize, Failure> {
    let queue = home.join(PLUGIN).join("queue");
    match fs::symlink_metadata(&queue) {
        Err(_) => return Ok(0),
        Ok(found) if !found.is_dir() => {
            left.push(format!("{PLUGIN}/queue, which is no directory, or a link to one"));
            return Ok(0);
        }
        Ok(_) => {}
    }
    let (mut unsent, mut others) = (0, 0);
    for file in entries(&queue) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_report(&name) && is_file(&file) {
            unsent += usize::from(name.ends_with(".json"));
            remove_file(&file)?;
        } else {
            others += 1;
        }
    }
    if others > 0 {
        left.push(format!("{PLUGIN}/queue, which has other files or directories: {others}"));
    }
    let _ = fs::remove_dir(&queue);
    Ok(unsent)
}

/// Whether the extension names a report so, `TIME-run_ID.json` with a time in nanoseconds, or one that it had not written to the
/// end, `.TIME-run_ID` or `TIME-run_ID.half`.
fn is_report(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    let name = name.strip_suffix(".json").or(name.strip_suffix(".half")).unwrap_or(name);
    let Some((time, id)) = name.split_once("-run_") else { return false };
    time.len() == 19
        && time.bytes().all(|byte| byte.is_ascii_digit())
        && id.len() == 32
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is a file, and no link to one.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Removes what Python has compiled a file of ours to.
fn compiled(file: &Path) -> Result<(), Failure> {
    let (Some(directory), Some(stem)) = (file.parent(), file.file_stem()) else { return Ok(()) };
    let cache = directory.join("__pycache__");
    if !fs::symlink_metadata(&cache).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let prefix = format!("{}.cpython-", stem.to_string_lossy());
    for file in entries(&cache) {
        let is_ours = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        if is_ours && is_file(&file) {
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
