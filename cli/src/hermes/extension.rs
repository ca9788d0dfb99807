//! The extension that reports how runs end, and the skill, in a Hermes home.
//!
//! - This file: finding and installing the files. [`removal`]: taking it back.
//! - [`manifest`]: what was installed, so that no file of the operator's is ever replaced or removed.

pub(crate) mod manifest;
pub(crate) mod removal;

use super::{
    disk::{Mode, make_directories, write},
    file::Change,
    yaml::{self, Edit, Server},
};
use crate::Failure;
use anyhow::{Context as _, anyhow};
use manifest::{Manifest, Subscriptions, hash};
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};
use talaria_core::{config::Config, hermes::gateway::Gateway};
use url::Url;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The plugin's directory in a Hermes home.
pub(crate) const PLUGIN: &str = "plugins/talaria";

/// The extension's settings.
pub(crate) const SETTINGS: &str = "plugins/talaria/talaria.json";

/// The files, by their paths in a Hermes home.
pub(crate) const FILES: [(&str, &str); 7] = [
    ("plugins/talaria/plugin.yaml", include_str!("../../../hermes/talaria/plugin/plugin.yaml")),
    ("plugins/talaria/__init__.py", include_str!("../../../hermes/talaria/plugin/__init__.py")),
    ("plugins/talaria/talaria_runs.py", include_str!("../../../hermes/talaria/plugin/talaria_runs.py")),
    ("plugins/talaria/talaria_outbox.py", include_str!("../../../hermes/talaria/plugin/talaria_outbox.py")),
    ("hooks/talaria/HOOK.yaml", include_str!("../../../hermes/talaria/hook/HOOK.yaml")),
    ("hooks/talaria/handler.py", include_str!("../../../hermes/talaria/hook/handler.py")),
    ("skills/talaria-video/SKILL.md", include_str!("../../../hermes/skills/talaria-video/SKILL.md")),
];

/// A route whose runs are reported.
pub(crate) struct Reported<'a> {
    /// Its name at Hermes.
    pub name: &'a str,
    pub tenant: &'a str,
    pub route: &'a str,
    /// The relay's HTTP port, as the gateway reaches it.
    pub url: &'a str,
}

/// The result of an installation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Whether a file was written.
    pub any: bool,
    /// Files that were changed by hand and are left as they are.
    pub kept: Vec<PathBuf>,
}

/// The relay's HTTP port as programs on this machine reach it; `None` if it is off, or another one with each start.
pub(crate) fn console_url(config: &Config) -> Option<String> {
    let listen = config.console.listen.filter(|listen| listen.port() != 0)?;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if config.relay.tls.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{}", SocketAddr::new(ip, listen.port())))
}

/// Records a subscription before it is written. The home is locked by the caller.
pub(crate) fn record(home: &Path, name: &str, change: &Change<'_>) -> Result<(), Failure> {
    let mut manifest = Manifest::read(home)?.unwrap_or_default();
    if manifest.routes.values().all(|route| route.subscription.is_none()) {
        manifest.subscriptions = change.newline.map(|newline| Subscriptions { newline });
    }
    let route = manifest.routes.entry(name.to_owned()).or_default();
    if route.subscription.is_none() {
        route.before = change.before.map(ToOwned::to_owned);
    }
    route.subscription = Some(hash(&value(change.after)?.to_string()));
    manifest.write(home)
}

/// A subscription, whatever its layout is.
fn value(entry: &RawValue) -> Result<Value, Failure> {
    Ok(serde_json::from_str(entry.get()).map_err(anyhow::Error::from)?)
}

/// Installs the files, and enters the route into the settings.
pub(crate) fn install(home: &Path, reported: &Reported<'_>, force: bool) -> Result<Changes, Failure> {
    let _lock = lock(home)?;
    let mut manifest = Manifest::read(home)?.unwrap_or_default();
    manifest.routes.entry(reported.name.to_owned()).or_default();
    // The manifest first, so that an interrupted installation can be taken back. A file that it knows and that is not there does no
    // harm.
    for (path, content) in FILES {
        let file = home.join(path);
        manifest.directories.extend(make_directories(home, &file)?);
        if read_file(&file)?.is_none() {
            manifest.files.insert(path.to_owned(), hash(content));
        }
    }
    manifest.write(home)?;
    let mut changes = Changes::default();
    for (path, content) in FILES {
        let file = home.join(path);
        let found = read_file(&file)?;
        let is_ours = found.as_ref().is_none_or(|found| manifest.files.get(path) == Some(&hash(found)));
        if found.as_deref() == Some(content) {
            manifest.files.insert(path.to_owned(), hash(content));
        } else if is_ours || force {
            write(home, &file, content, Mode::PUBLIC, None)?;
            manifest.files.insert(path.to_owned(), hash(content));
            changes.any = true;
        } else {
            changes.kept.push(file);
        }
    }
    // Files of an older version that this one does not have.
    let is_old = |path: &String| FILES.iter().all(|(known, _)| known != path);
    for path in manifest.files.keys().filter(|path| is_old(path)).cloned().collect::<Vec<_>>() {
        let file = home.join(&path);
        if read_file(&file)?.is_some_and(|found| manifest.files.get(&path) == Some(&hash(&found))) {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        manifest.files.remove(&path);
        changes.any = true;
    }
    changes.any |= enter(home, reported)?;
    manifest.write(home)?;
    Ok(changes)
}

/// Whether `config.yaml` was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Enabled {
    Now,
    Before,
    /// Before, with another entry of the MCP server, which is the operator's own.
    Otherwise,
}

/// The text of `config.yaml`.
pub(crate) fn config_text(home: &Path) -> Result<String, Failure> {
    Ok(read_text(&config(home)?)?.unwrap_or_default())
}

/// Enables the extension and the MCP server in `config.yaml`, or says why it cannot be changed.
pub(crate) fn enable(home: &Path, server: &Server) -> Result<Result<Enabled, String>, Failure> {
    let _lock = lock(home)?;
    let mut manifest = Manifest::read(home)?.unwrap_or_default();
    let file = config(home)?;
    let found = read_text(&file)?;
    let before = found.as_deref().unwrap_or_default();
    let (text, edits) = match yaml::enable(before, server, &manifest.edits) {
        Ok(done) => done,
        Err(why) => return Ok(Err(why)),
    };
    if text == before {
        let is_same = yaml::is(&text, server).unwrap_or_default();
        return Ok(Ok(if is_same { Enabled::Before } else { Enabled::Otherwise }));
    }
    manifest.made_config |= found.is_none();
    manifest.edits = edits;
    // The manifest first: lines that it knows and that are not there do no harm.
    manifest.write(home)?;
    write(home, &file, &text, Mode::CONFIG, None)?;
    Ok(Ok(Enabled::Now))
}

/// Enters a route into the settings. Returns whether they changed.
fn enter(home: &Path, reported: &Reported<'_>) -> Result<bool, Failure> {
    let file = home.join(SETTINGS);
    let before = settings(home)?;
    let mut after = before.clone();
    let mut routes = after.get("routes").and_then(Value::as_object).cloned().unwrap_or_default();
    routes.insert(reported.name.to_owned(), json!({"tenant": reported.tenant, "route": reported.route}));
    after.insert("url".into(), reported.url.into());
    after.insert("version".into(), VERSION.into());
    after.insert("routes".into(), routes.into());
    if before != after {
        write(home, &file, &format!("{:#}\n", Value::Object(after.clone())), Mode::PUBLIC, None)?;
    }
    Ok(before != after)
}

/// The settings, empty if there are none.
pub(crate) fn settings(home: &Path) -> Result<Map<String, Value>, Failure> {
    let file = home.join(SETTINGS);
    match read_file(&file)?.map(|text| serde_json::from_str(&text)) {
        None => Ok(Map::new()),
        Some(Ok(Value::Object(settings))) => Ok(settings),
        Some(_) => {
            Err(anyhow!("{} is left as it is: it is not a JSON object; mend or remove it", file.display())
                .into())
        }
    }
}

/// `config.yaml`, or the file that it links to.
fn config(home: &Path) -> Result<PathBuf, Failure> {
    let file = home.join("config.yaml");
    match fs::canonicalize(&file) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&file).is_err() => {
            Ok(file)
        }
        Err(error) => Err(anyhow!("cannot read {}: {error}", file.display()).into()),
    }
}

/// Two processes that change a home at once must not overwrite each other.
fn lock(home: &Path) -> Result<fs::File, Failure> {
    let lock = fs::File::open(home).and_then(|home| home.lock().map(|()| home));
    Ok(lock.with_context(|| format!("cannot lock {}", home.display()))?)
}

fn read_file(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read(file) {
        // A text that is not UTF-8 is not ours, and so is its lossy form.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!("cannot read {}: {error}", file.display()).into()),
    }
}

/// A file that is going to be written again, so it has to be UTF-8.
fn read_text(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!("cannot read {}: {error}", file.display()).into()),
    }
}

/// Why the extension does not report a route's runs, one line for each reason; `None` if it is not installed for the route.
pub(crate) fn faults(
    home: &Path,
    name: &str,
    (tenant, route): (&str, &str),
    url: Option<&str>,
) -> Result<Option<Vec<String>>, Failure> {
    let settings = settings(home)?;
    let Some(entered) = settings.get("routes").and_then(|routes| routes.get(name)) else { return Ok(None) };
    let mut faults = Vec::new();
    let of = |key: &str| entered.get(key).and_then(Value::as_str).unwrap_or_default();
    if (of("tenant"), of("route")) != (tenant, route) {
        faults.push(format!("{SETTINGS} has {}/{} for {name}", of("tenant"), of("route")));
    }
    for (path, content) in FILES {
        match read_file(&home.join(path))? {
            None => faults.push(format!("{path} is missing")),
            Some(found) if found != content => {
                faults.push(format!("{path} is not that of version {VERSION}"));
            }
            Some(_) => {}
        }
    }
    let written = settings.get("url").and_then(Value::as_str).unwrap_or_default();
    let port = |url: &str| Url::parse(url).ok().filter(Gateway::is_here)?.port_or_known_default();
    // Elsewhere, or through a proxy, it may be any.
    if let Some(url) = url.filter(|url| port(written).is_some() && port(written) != port(url)) {
        faults.push(format!("{SETTINGS} has the url {written}, and the relay's HTTP port is {url}"));
    }
    let text = read_file(&config(home)?)?.unwrap_or_default();
    if !yaml::enabled(&text).is_ok_and(|(plugin, _)| plugin) {
        faults.push("config.yaml has no plugins: {enabled: [talaria]}".to_owned());
    }
    if yaml::disabled(&text).unwrap_or_default() {
        faults.push("config.yaml names talaria in plugins.disabled".to_owned());
    }
    Ok(Some(faults))
}

#[cfg(test)]
mod tests;
