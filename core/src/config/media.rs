//! A tenant's files of completed jobs: the links to them, and whether they are kept.

use super::{Problem, compile::Compiler, expand_home, problem::Problems, raw, value::bytes};
use crate::time::{DAY, HOUR, MINUTE, SECOND};
use serde_saphyr::Spanned;
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

const DEFAULT_LIFE: Duration = DAY;
const DEFAULT_MAX_BYTES: u64 = 256 << 20;
const MAX_BYTES: RangeInclusive<u64> = 1 << 10..=16 << 30;
const DEFAULT_WAIT: Duration = Duration::from_secs(120);

/// A tenant that gives links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// How long a link gives its file, from the end of the job.
    pub link_life: Duration,
    /// Bytes of a file after which it is cut off.
    pub max_bytes: u64,
    /// Whether files are kept; otherwise each request for one fetches it from OpenRouter.
    pub keep: Option<Keep>,
}

/// A tenant that keeps the files of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long deliveries wait for the files at most.
    pub wait: Duration,
    /// Where the relay puts a copy of each file, for programs that read files.
    pub directory: Option<PathBuf>,
}

/// The tokens of `talaria.` that a tenant with links has for completed jobs.
pub(super) const LINK_TOKENS: &[&str] = &["media", "media.url", "media.files"];

/// Those of a tenant that keeps files.
pub(super) const KEEP_TOKENS: &[&str] = &["media", "media.url", "media.files", "media.path", "media.note"];

pub(super) fn tokens(media: Option<&Media>) -> &'static [&'static str] {
    match media {
        None => &[],
        Some(Media { keep: None, .. }) => LINK_TOKENS,
        Some(Media { keep: Some(_), .. }) => KEEP_TOKENS,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Link,
    Keep,
}

/// `None` where the mode is off.
pub(super) fn compile(
    c: &mut Compiler<'_>,
    tenant: &str,
    raw: Option<&Spanned<raw::Media>>,
    has_key: bool,
) -> Option<Media> {
    let raw = &raw?.value;
    let p = &mut c.problems;
    let mode = p.or(raw.mode.as_ref(), Mode::Off, |mode| match mode.as_str() {
        "link" => Ok(Mode::Link),
        "keep" => Ok(Mode::Keep),
        "off" => Ok(Mode::Off),
        _ => Err(("unknown mode".to_owned(), "write mode: link, mode: keep or mode: off".to_owned())),
    });
    let link_life = p.duration(raw.link_life.as_ref(), "media.link_life", DEFAULT_LIFE, MINUTE..=30 * DAY);
    let max_bytes =
        p.or(raw.max_bytes.as_ref(), DEFAULT_MAX_BYTES, |text| bytes(text, "media.max_bytes", MAX_BYTES));
    let wait = p.duration(raw.wait.as_ref(), "media.wait", DEFAULT_WAIT, SECOND..=HOUR);
    let directory = raw.directory.as_ref().map(|written| {
        let directory = expand_home(&written.value);
        // Hermes reads it in another process, whose working directory is another.
        if !directory.is_absolute() {
            let what = format!("media.directory of tenant {tenant} is not an absolute path");
            p.add(written, what, "write the whole path, as in directory: ~/.hermes/cache/videos");
        }
        directory
    });
    warn_of_unused(&mut c.warnings, tenant, raw, mode);
    if mode == Mode::Off {
        return None;
    }
    if let Some(written) = raw.mode.as_ref().filter(|_| !has_key) {
        let mode = &written.value;
        let what = format!(
            "tenant {tenant} has media.mode: {mode} and no openrouter.api_key, which files are fetched with"
        );
        let help =
            format!("name the key, as in api_key: {{file: secrets/{tenant}-api-key}}, or leave media out");
        p.add(written, what, help);
    }
    if let Some(written) = raw.mode.as_ref().filter(|_| !c.has_public_url) {
        let mode = &written.value;
        let what = format!(
            "tenant {tenant} has media.mode: {mode}, and there is no ingress.public_url to begin links with"
        );
        p.add(written, what, "write ingress: {public_url: https://…}, which leads to the ingress");
    }
    let keep = (mode == Mode::Keep).then_some(Keep { wait, directory });
    Some(Media { link_life, max_bytes, keep })
}

/// Warns of keys that nothing uses.
fn warn_of_unused(warnings: &mut Problems, tenant: &str, raw: &raw::Media, mode: Mode) {
    let keys = [
        ("link_life", raw.link_life.as_ref(), Mode::Link),
        ("max_bytes", raw.max_bytes.as_ref(), Mode::Link),
        ("wait", raw.wait.as_ref(), Mode::Keep),
        ("directory", raw.directory.as_ref(), Mode::Keep),
    ];
    for (key, written, needs) in keys {
        let is_used = mode == needs || mode == Mode::Keep;
        let Some(written) = written.filter(|_| !is_used) else { continue };
        let needed = if needs == Mode::Keep { "keep" } else { "link" };
        let what = format!("tenant {tenant} has media.{key} and no mode: {needed}, so it is never used");
        let help = format!("write mode: {needed}, or leave {key} out");
        warnings.0.push(Problem::at(written.referenced, what, help));
    }
}
