//! A tenant's links to the files of completed jobs.

use super::{Problem, compile::Compiler, problem::Problems, raw, value::bytes};
use crate::time::{DAY, MINUTE};
use serde_saphyr::Spanned;
use std::{ops::RangeInclusive, time::Duration};

const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3_600);
const DEFAULT_MAX_BYTES: u64 = 256 << 20;
const MAX_BYTES: RangeInclusive<u64> = 1 << 10..=16 << 30;

/// A tenant that gives links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// How long a link gives its file, from the end of the job.
    pub link_life: Duration,
    /// Bytes of a file after which it is cut off.
    pub max_bytes: u64,
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
    let is_link = p.or(raw.mode.as_ref(), false, |mode| match mode.as_str() {
        "link" => Ok(true),
        "off" => Ok(false),
        _ => Err(("unknown mode".to_owned(), "write mode: link or mode: off".to_owned())),
    });
    let link_life = p.duration(raw.link_life.as_ref(), "media.link_life", DEFAULT_LIFE, MINUTE..=30 * DAY);
    let max_bytes =
        p.or(raw.max_bytes.as_ref(), DEFAULT_MAX_BYTES, |text| bytes(text, "media.max_bytes", MAX_BYTES));
    if !is_link {
        warn_without_mode(&mut c.warnings, tenant, raw);
        return None;
    }
    if let Some(written) = raw.mode.as_ref().filter(|_| !has_key) {
        let what = format!(
            "tenant {tenant} has media.mode: link and no openrouter.api_key, which files are fetched with"
        );
        let help =
            format!("name the key, as in api_key: {{file: secrets/{tenant}-api-key}}, or leave media out");
        p.add(written, what, help);
    }
    if let Some(written) = raw.mode.as_ref().filter(|_| !c.has_public_url) {
        let what = format!(
            "tenant {tenant} has media.mode: link, and there is no ingress.public_url to begin links with"
        );
        p.add(written, what, "write ingress: {public_url: https://…}, which leads to the ingress");
    }
    Some(Media { link_life, max_bytes })
}

/// Warns of keys that nothing uses.
fn warn_without_mode(warnings: &mut Problems, tenant: &str, raw: &raw::Media) {
    for (key, written) in [("link_life", raw.link_life.as_ref()), ("max_bytes", raw.max_bytes.as_ref())] {
        let Some(written) = written else { continue };
        let what = format!("tenant {tenant} has media.{key} and no mode: link, so it is never used");
        let help = format!("write mode: link, or leave {key} out");
        warnings.0.push(Problem::at(written.referenced, what, help));
    }
}
