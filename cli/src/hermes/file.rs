//! `webhook_subscriptions.json` in a Hermes home.
//!
//! Hermes reads the file again when its modification time has grown. One entry that is not an object makes it refuse the file, so
//! an invalid file is left unchanged.

use super::{
    disk::{self, Mode},
    subscription::{Needs, Refusal, reconcile},
};
use crate::Failure;
use anyhow::{Context as _, anyhow};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, value::RawValue};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

pub(crate) const FILE: &str = "webhook_subscriptions.json";

/// A subscription in the file.
#[derive(Debug)]
pub(crate) struct Installed {
    pub verb: &'static str,
    /// The values that were replaced in an existing entry.
    pub lines: Vec<String>,
}

/// A subscription that is going to be written.
pub(crate) struct Change<'a> {
    /// The entry before, as it is written; `None` if there is none.
    pub before: Option<&'a RawValue>,
    pub after: &'a RawValue,
    /// Whether the file ends with a newline; `None` if there is no file.
    pub newline: Option<bool>,
}

/// Merges a subscription into the file. Other entries, and the operator's own keys in this one, are unchanged. `record` comes before
/// the file is written, so that an interrupted installation can be taken back.
pub(crate) fn install(
    home: &Path,
    name: &str,
    needs: &Needs<'_>,
    record: impl FnOnce(&Change<'_>) -> Result<(), Failure>,
) -> Result<Installed, Failure> {
    // Two processes that install at once must not overwrite each other.
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
    let newline = fs::read(&file).ok().map(|text| text.ends_with(b"\n"));
    let after = serde_json::value::to_raw_value(&entry).map_err(anyhow::Error::from)?;
    record(&Change { before: entries.get(name).map(AsRef::as_ref), after: &after, newline })?;
    entries.insert(name.to_owned(), after);
    write(home, &file, &entries, old_time, true)?;
    let verb = match (known, lines.is_empty()) {
        (false, _) => "Added",
        (true, false) => "Updated",
        (true, true) => "Nothing was to be changed in",
    };
    Ok(Installed { verb, lines: if known { lines } else { Vec::new() } })
}

/// Puts a subscription back as it was.
pub(crate) fn restore(
    home: &Path,
    file: &Path,
    name: &str,
    entry: &RawValue,
    newline: bool,
) -> Result<(), Failure> {
    let old_time = fs::metadata(file).and_then(|file| file.modified()).ok();
    let mut entries = read(file)?;
    entries.insert(name.to_owned(), entry.to_owned());
    write(home, file, &entries, old_time, newline)
}

/// Takes a subscription out of the file, and removes the file if none is left and it `goes` then.
pub(crate) fn remove(home: &Path, file: &Path, name: &str, newline: bool, goes: bool) -> Result<(), Failure> {
    let old_time = fs::metadata(file).and_then(|file| file.modified()).ok();
    let mut entries = read(file)?;
    entries.shift_remove(name);
    if entries.is_empty() && goes {
        return Ok(fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?);
    }
    write(home, file, &entries, old_time, newline)
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

/// The file, or the file that it links to.
pub(crate) fn target(home: &Path) -> Result<PathBuf, Failure> {
    let file = home.join(FILE);
    match fs::canonicalize(&file) {
        Ok(target) => Ok(target),
        Err(_) if fs::symlink_metadata(&file).is_ok() => {
            Err(anyhow!("{} is a link that leads nowhere; mend or remove it", file.display()).into())
        }
        Err(_) => Ok(file),
    }
}

/// The subscriptions in their order, unparsed.
pub(crate) type Entries = IndexMap<String, Box<RawValue>>;

pub(crate) fn read(file: &Path) -> Result<Entries, Failure> {
    let text = match fs::read_to_string(file) {
        // Hermes 0.19 cannot read a byte order mark, which Windows editors write.
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

/// Replaces the file, with a later modification time, so that Hermes reads it again.
fn write(
    home: &Path,
    file: &Path,
    entries: &Entries,
    old_time: Option<SystemTime>,
    newline: bool,
) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(entries).map_err(anyhow::Error::from)?;
    text += if newline { "\n" } else { "" };
    disk::write(home, file, &text, Mode::SUBSCRIPTIONS, old_time)
}
