//! `talaria hermes`: how to subscribe a route at Hermes, or doing it.
//!
//! Hermes keeps subscriptions in `webhook_subscriptions.json` in its home and reads the file again when its
//! modification time has grown. One entry that is not an object makes it refuse the whole file, so a file that it
//! could not read is not touched.

pub(crate) mod home;
mod subscription;

use crate::{Failure, args::Hermes};
use anyhow::{Context as _, anyhow};
use home::Home;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, value::RawValue};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use subscription::{CHAT_ID, Needs, Refusal, against, reconcile};
use talaria_core::{
    config::{self, BodyMode, Route, SecretOrigin, Tenant},
    hermes::gateway::Finding,
    json::print::dump_line,
};

const FILE: &str = "webhook_subscriptions.json";

/// What the route's prompt is at Hermes: ours, whole.
const PROMPT: &str = "{prompt}";

pub(crate) fn run(path: &Path, args: &Hermes) -> Result<(), Failure> {
    let config = config::load(path)?;
    let (tenant, route) = super::route(&config, args.route.as_deref())?;
    let deliver = args.deliver.as_deref();
    let needs = Needs { tenant, route, deliver, force: args.force };
    if let Some(target) = deliver.filter(|target| !is_known_target(target)) {
        warn(&format!("Hermes 0.19 has no target {target} of its own, so a plugin of it has to bring one"))?;
    }
    let mut out = io::stdout().lock();
    let Some(directory) = &args.install else {
        writeln!(out, "{}", subscribe_command(tenant, route, deliver))?;
        if let Some(profile) = route.hermes_profile() {
            writeln!(out, "# With Hermes 0.20 or newer, add: --route-profile {}", quoted(profile))?;
        }
        return Ok(());
    };
    let name = subscription_name(route)?;
    if !directory.is_dir() {
        let what =
            format!("{} is no directory; name the Hermes home, such as ~/.hermes", directory.display());
        return Err(anyhow!(what).into());
    }
    let home = Home::read(directory)?;
    if let Some(written) = home.gateway.static_route(name) {
        return static_route(&home, name, &dump_line(written), &needs);
    }
    let Installed { what, lines } = install(directory, name, &needs)?;
    writeln!(
        out,
        "{what} the subscription {name} in {}{}",
        directory.join(FILE).display(),
        if lines.is_empty() { "." } else { ":" }
    )?;
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    for Finding { what, help } in home.gateway.findings(&route.url, route.hermes_profile()) {
        warn(&format!("{}: {what}\n  help: {help}", home.config.display()))?;
    }
    writeln!(out, "A running gateway with webhooks enabled takes it up with its next request.")?;
    Ok(())
}

fn warn(what: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "warning: {what}")
}

/// A route of Hermes' own configuration wins over a subscription of its name, so a subscription would do nothing.
fn static_route(home: &Home, name: &str, written: &str, needs: &Needs<'_>) -> Result<(), Failure> {
    let lines = against(written, needs).map_err(anyhow::Error::from)?;
    if lines.is_empty() {
        let out = &mut io::stdout().lock();
        writeln!(
            out,
            "{name} is a route of {}, and is as {}/{} needs it.",
            home.config.display(),
            needs.tenant.name,
            needs.route.name
        )?;
        return Ok(());
    }
    let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    Err(anyhow!(
        "{name} is a route of {} already, which wins over any subscription, and is not as {}/{} needs it:{lines}\n  help: \
         change it there so, or remove it there and install again; then restart the gateway",
        home.config.display(),
        needs.tenant.name,
        needs.route.name
    )
    .into())
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
        command += &format!(" --deliver-chat-id {}", quoted(CHAT_ID));
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

/// The names that Hermes 0.19 delivers to by itself.
const TARGETS: [&str; 20] = [
    "log",
    "github_comment",
    "telegram",
    "discord",
    "slack",
    "signal",
    "sms",
    "whatsapp",
    "matrix",
    "mattermost",
    "homeassistant",
    "email",
    "dingtalk",
    "feishu",
    "wecom",
    "wecom_callback",
    "weixin",
    "bluebubbles",
    "qqbot",
    "yuanbao",
];

fn is_known_target(target: &str) -> bool {
    TARGETS.contains(&target)
}

/// What became of the file.
#[derive(Debug)]
struct Installed {
    what: &'static str,
    /// What was replaced in an entry that was there.
    lines: Vec<String>,
}

/// Merges the subscription into the file: every other entry stays, and in this one what is the operator's.
fn install(home: &Path, name: &str, needs: &Needs<'_>) -> Result<Installed, Failure> {
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
    let lines =
        reconcile(&mut entry, needs, Timestamp::now()).map_err(|refusal| refused(name, &file, refusal))?;
    entries.insert(name.to_owned(), serde_json::value::to_raw_value(&entry).map_err(anyhow::Error::from)?);
    write(&file, &entries, old_time)?;
    let what = match (known, lines.is_empty()) {
        (false, _) => "Added",
        (true, false) => "Updated",
        (true, true) => "Nothing was to be changed in",
    };
    Ok(Installed { what, lines: if known { lines } else { Vec::new() } })
}

fn refused(name: &str, file: &Path, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::NoTarget => Failure::Usage(
            "a deliver_only route needs a target: --deliver telegram, discord, slack, …".to_owned(),
        ),
        Refusal::IsTheirs { key, value } => Failure::Other(anyhow!(
            "the subscription {name} in {} has a {key} of its own, {value}: with that, the route's prompt and guard do nothing, \
             and a payload could write the agent's prompt\n  help: --force replaces it; to keep it, give the route a subscription \
             of another name, or write body: raw, with which Hermes renders it and nothing is guarded",
            file.display()
        )),
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
        // Editors of Windows write a byte order mark; Hermes 0.19 cannot read a file with one, and gets it without.
        Ok(text) => text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text),
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
