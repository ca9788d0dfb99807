//! Takes a route, and with the last one the extension, out of a Hermes home.

use super::{
    Manifest, Mode, PLUGIN, SETTINGS, config, hash, lock, manifest::Installed, read_file, read_text,
    settings, value, write, yaml,
};
use crate::{
    Failure,
    hermes::file::{FILE, read, remove, restore, target},
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
    /// Whether the extension went with it.
    pub extension: bool,
    /// Whether other routes still use the extension.
    pub used: bool,
    /// Whether a subscription of the operator's own was put back.
    pub restored: bool,
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
    let mut removed = Removed { any: true, ..Removed::default() };
    take_subscription(home, name, &route, &manifest, &mut removed)?;
    // Routes that run no agent have no settings.
    let settings = settings(home)?;
    let reported = settings.get("routes").and_then(Value::as_object);
    removed.used =
        reported.is_some_and(|routes| manifest.routes.keys().any(|name| routes.contains_key(name)));
    leave(home, name, !removed.used, &mut removed.left)?;
    if removed.used {
        manifest.write(home)?;
        return Ok(removed);
    }
    removed.extension = !manifest.files.is_empty();
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
    let is_last = manifest.routes.is_empty();
    if is_last {
        remove_file(&Manifest::path(home))?;
    }
    // Fails for directories that have other files, which is right.
    for directory in manifest.directories.iter().rev() {
        let _ = fs::remove_dir(home.join(directory));
    }
    if !is_last {
        manifest.files.clear();
        manifest.edits.clear();
        manifest.made_config = false;
        manifest.directories.retain(|directory| home.join(directory).exists());
        manifest.write(home)?;
    }
    Ok(removed)
}

/// Takes the subscription out, or puts the one of before back, unless it was changed since.
fn take_subscription(
    home: &Path,
    name: &str,
    route: &Installed,
    manifest: &Manifest,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let file = target(home)?;
    let entries = read(&file)?;
    let Some(found) = entries.get(name) else { return Ok(()) };
    let found = value(found)?;
    let before = route.before.as_deref().map(value).transpose()?;
    let is_as_written = route.subscription.as_ref() == Some(&hash(&found.to_string()));
    // The layout of before counts for the last one of ours.
    let is_last = manifest.routes.values().all(|route| route.subscription.is_none());
    let newline = manifest.subscriptions.filter(|_| is_last).is_none_or(|before| before.newline);
    match &route.before {
        _ if route.subscription.is_none() || before.as_ref() == Some(&found) => {
            removed.left.push(format!("the subscription {name} in {FILE}, which was there before"));
        }
        _ if !is_as_written => {
            removed.left.push(format!("the subscription {name} in {FILE}, which was changed since"));
        }
        Some(before) => {
            restore(home, &file, name, before, newline)?;
            removed.restored = true;
        }
        None => remove(home, &file, name, newline, is_last && manifest.subscriptions.is_none())?,
    }
    Ok(())
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
            unsent += usize::from(file.extension().is_some_and(|extension| extension == "json"));
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
