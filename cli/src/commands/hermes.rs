//! `talaria hermes`: how to subscribe a route at Hermes, or doing it.
//!
//! Hermes keeps subscriptions in `webhook_subscriptions.json` in its home and reads the file again when its
//! modification time has grown. One entry that is not an object makes it refuse the whole file, so a file that it
//! could not read is not touched.

use crate::{Failure, args::Hermes};
use anyhow::{Context as _, anyhow};
use indexmap::IndexMap;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use talaria_core::config::{self, BodyMode, Route, SecretOrigin, Tenant};

const FILE: &str = "webhook_subscriptions.json";

/// What the route's prompt is at Hermes: ours, whole.
const PROMPT: &str = "{prompt}";

pub(crate) fn run(path: &Path, args: &Hermes) -> Result<(), Failure> {
    let config = config::load(path)?;
    let (tenant, route) = super::route(&config, args.route.as_deref())?;
    let mut out = io::stdout().lock();
    let Some(home) = &args.install else {
        writeln!(out, "{}", subscribe_command(tenant, route, args.deliver.as_deref()))?;
        return Ok(());
    };
    let name = subscription_name(route)?;
    if route.deliver_only && args.deliver.is_none() {
        return Err(Failure::Usage(
            "a deliver_only route needs a target: --deliver telegram, discord, slack, …".into(),
        ));
    }
    let what = install(home, name, tenant, route, args.deliver.as_deref())?;
    writeln!(out, "{what} the subscription {name} in {}.", home.join(FILE).display())?;
    writeln!(out, "A running gateway with webhooks enabled takes it up with its next request.")?;
    Ok(())
}

/// The name that Hermes knows the route by.
fn subscription_name(route: &Route) -> Result<&str, Failure> {
    let valid = |name: &&str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        name.bytes().next().is_some_and(known) && name.bytes().all(|b| known(b) || matches!(b, b'-' | b'_'))
    };
    route.hermes_name().filter(valid).ok_or_else(|| {
        Failure::Other(anyhow!(
            "the route's url is {}, and Hermes serves http://HOST:PORT/webhooks/NAME with a NAME of a-z, 0-9, - and _",
            route.url
        ))
    })
}

/// The command that subscribes a route, with its secret named and not shown.
pub(crate) fn subscribe_command(tenant: &Tenant, route: &Route, deliver: Option<&str>) -> String {
    let name = route.hermes_name().unwrap_or("NAME");
    let secret = match &route.secret_origin {
        SecretOrigin::Env(name) => format!("\"${name}\""),
        SecretOrigin::File(path) => format!("\"$(cat {})\"", quoted(&path.display().to_string())),
    };
    let mut command = format!("hermes webhook subscribe {name} --secret {secret}");
    if route.body == BodyMode::Prompt {
        command += &format!(" --prompt {}", quoted(PROMPT));
    }
    command += &format!(" --description {}", quoted(&description(tenant, route)));
    match deliver {
        Some(target) => command += &format!(" --deliver {}", quoted(target)),
        None if route.deliver_only => command += " --deliver TARGET",
        None => {}
    }
    if route.deliver_only {
        command += " --deliver-only";
    }
    if route.extra.get("chat_id").is_some() {
        command += &format!(" --deliver-chat-id {}", quoted("{extra.chat_id}"));
    }
    command
}

fn description(tenant: &Tenant, route: &Route) -> String {
    format!("Talaria {}/{}", tenant.name, route.name)
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':');
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Merges the subscription into the file: every other entry stays, and in this one what the operator has added.
fn install(
    home: &Path,
    name: &str,
    tenant: &Tenant,
    route: &Route,
    deliver: Option<&str>,
) -> Result<&'static str, Failure> {
    if !home.is_dir() {
        return Err(
            anyhow!("{} is no directory; name the Hermes home, such as ~/.hermes", home.display()).into()
        );
    }
    // One after the other, or two that install at once would each keep only their own.
    let lock = fs::File::open(home).and_then(|home| home.lock().map(|()| home));
    let _lock = lock.with_context(|| format!("cannot lock {}", home.display()))?;
    let file = target(home)?;
    let old_time = fs::metadata(&file).and_then(|file| file.modified()).ok();
    let mut entries = read(&file)?;
    let known = entries.contains_key(name);
    let mut entry: Map<String, Value> = match entries.get(name) {
        Some(entry) => serde_json::from_str(entry.get()).map_err(anyhow::Error::from)?,
        None => Map::new(),
    };
    subscribe(&mut entry, tenant, route, deliver);
    entries.insert(name.to_owned(), serde_json::value::to_raw_value(&entry).map_err(anyhow::Error::from)?);
    write(&file, &entries, old_time)?;
    Ok(if known { "Updated" } else { "Added" })
}

fn subscribe(entry: &mut Map<String, Value>, tenant: &Tenant, route: &Route, deliver: Option<&str>) {
    // Hermes has one, so while there are two it is to have the new one.
    let secret = route.secrets.first().map_or("", |secret| secret.expose_secret());
    entry.insert("secret".into(), secret.into());
    if let Some(deliver) = deliver {
        entry.insert("deliver".into(), deliver.into());
    }
    if route.deliver_only {
        entry.insert("deliver_only".into(), true.into());
    } else {
        entry.remove("deliver_only");
    }
    let prompt = if route.body == BodyMode::Prompt { PROMPT } else { "" };
    let mut defaults = vec![
        ("description", Value::from(description(tenant, route))),
        // Talaria has chosen already; Hermes takes all that it sends.
        ("events", json!([])),
        ("prompt", prompt.into()),
        ("skills", json!([])),
        ("deliver", "log".into()),
        ("created_at", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
    ];
    if route.extra.get("chat_id").is_some() {
        defaults.push(("deliver_extra", json!({"chat_id": "{extra.chat_id}"})));
    }
    for (key, value) in defaults {
        entry.entry(key).or_insert(value);
    }
}

/// The file itself, where it is a link to one.
fn target(home: &Path) -> Result<PathBuf, Failure> {
    let file = home.join(FILE);
    match fs::canonicalize(&file) {
        Ok(target) => Ok(target),
        Err(_) if fs::symlink_metadata(&file).is_ok() => {
            Err(anyhow!("{} is a link that leads nowhere; mend or remove it", file.display()).into())
        }
        Err(_) => Ok(file),
    }
}

/// The subscriptions that are there, in their order and each as it is written.
type Entries = IndexMap<String, Box<RawValue>>;

fn read(file: &Path) -> Result<Entries, Failure> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::new()),
        Err(error) => return Err(anyhow!("cannot read {}: {error}", file.display()).into()),
    };
    let wrong =
        |why: &str| Failure::Other(anyhow!("{} is left as it is: {why}; mend it first", file.display()));
    if let Err(error) = serde_json::from_str::<IgnoredAny>(&text) {
        return Err(wrong(&format!("it is not JSON ({error})")));
    }
    let entries: Entries = serde_json::from_str(&text).map_err(|_| wrong("it is not a JSON object"))?;
    match entries.iter().find(|(_, entry)| !entry.get().starts_with('{')) {
        Some((name, _)) => {
            Err(wrong(&format!("its entry {name:?} is no object, and Hermes refuses the whole file")))
        }
        None => Ok(entries),
    }
}

/// Replaces the file in one step, readable by its owner alone, with a time that has grown.
fn write(file: &Path, entries: &Entries, old_time: Option<SystemTime>) -> Result<(), Failure> {
    let attempt = || -> anyhow::Result<()> {
        let directory = file.parent().unwrap_or(Path::new("/"));
        let mut temporary =
            tempfile::Builder::new().prefix(".webhook_subscriptions.").tempfile_in(directory)?;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        temporary.write_all(format!("{}\n", serde_json::to_string_pretty(entries)?).as_bytes())?;
        if let Some(old) = old_time.filter(|old| *old >= SystemTime::now()) {
            temporary.as_file().set_modified(old + Duration::from_millis(10))?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        Ok(())
    };
    Ok(attempt().with_context(|| format!("cannot write {}", file.display()))?)
}

#[cfg(test)]
mod tests;
