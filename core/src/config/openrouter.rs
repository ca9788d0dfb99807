//! A tenant's jobs at OpenRouter: the key, when to poll, and what may be spent.

use super::{
    Problem,
    compile::Compiler,
    outbound,
    problem::{Fault, Problems},
    raw, secret,
    value::http_url,
};
use crate::{
    hermes::gateway::Gateway,
    money,
    network::Networks,
    time::{DAY, HOUR, SECOND},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::Spanned;
use std::{sync::Arc, time::Duration};
use url::{Host, Url};

const DEFAULT_BASE_URL: &str = "https://openrouter.ai/api/v1";
const DEFAULT_POLL: Poll = Poll {
    first: Duration::from_secs(90),
    every: Duration::from_secs(30),
    slowest: Duration::from_secs(300),
    give_up: Duration::from_secs(3 * 3_600),
};
/// The largest budget, in dollars. A larger one is a slip.
const LARGEST_BUDGET: i64 = 1_000_000_000;

/// The jobs of a tenant with an API key.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// Only in an ingress that could read the key.
    pub api: Option<Api>,
    /// When a job is polled.
    pub poll: Poll,
    /// What jobs may cost.
    pub budget: Budget,
}

/// How to ask OpenRouter.
#[derive(Clone, Debug)]
pub struct Api {
    /// The API key.
    pub key: SecretString,
    /// The URL that the paths of the API are appended to; without a slash at its end, unless it has no path.
    pub base_url: Url,
    /// The networks, beside the public one, that the tenant allows.
    pub networks: Networks,
}

/// When a job is polled whose callback does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// How long after its submission it is polled first.
    pub first: Duration,
    /// The first pause between two polls; later ones are longer.
    pub every: Duration,
    /// The longest pause.
    pub slowest: Duration,
    /// How long after its submission it is given up.
    pub give_up: Duration,
}

/// What jobs may cost, in millionths of a US dollar; `None` without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// One job, by its estimate.
    pub per_job: Option<i64>,
    /// All jobs of a day.
    pub per_day: Option<i64>,
}

/// The jobs, and why the key could not be read. `None` without a key.
pub(super) fn compile(
    c: &mut Compiler<'_>,
    tenant: &str,
    raw: &raw::OpenRouter,
    networks: Option<&Networks>,
) -> (Option<Arc<Jobs>>, Vec<Problem>) {
    let base_url = base_url(c, tenant, raw.base_url.as_ref(), networks);
    let poll = poll(c, raw.poll.as_ref().map(|poll| &poll.value));
    let budget = budget(&mut c.problems, raw.budget.as_ref().map(|budget| &budget.value));
    let Some(written) = &raw.api_key else {
        warn_without_key(&mut c.warnings, tenant, raw);
        return (None, Vec::new());
    };
    let mut unread = Problems::default();
    let key = c
        .role
        .asks_openrouter()
        .then(|| api_key(c, written))
        .and_then(|key| key.map_err(|problem| unread.0.push(problem)).ok());
    let unread =
        c.unread(&format_args!("tenant {tenant}"), unread, "its jobs are neither submitted nor polled");
    let networks = networks.cloned().unwrap_or_default();
    let api = key.zip(base_url).map(|(key, base_url)| Api { key, base_url, networks });
    (Some(Arc::new(Jobs { api, poll, budget })), unread)
}

fn api_key(c: &mut Compiler<'_>, written: &Spanned<secret::Origin>) -> Result<SecretString, Problem> {
    let key = secret::read(c, written)?;
    if key.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    let origin = written.value.below(c.base);
    let what = format!(
        "the key in {origin} has a blank, or a character beyond ASCII, which no key of OpenRouter has"
    );
    Err(Problem::at(written.referenced, what, "write the key alone, as OpenRouter shows it: sk-or-…"))
}

/// `None` if the URL is not valid.
fn base_url(
    c: &mut Compiler<'_>,
    tenant: &str,
    written: Option<&Spanned<String>>,
    networks: Option<&Networks>,
) -> Option<Url> {
    let Some(written) = written else { return Url::parse(DEFAULT_BASE_URL).ok() };
    let url = c.problems.or(Some(written), None, |text| api_url(text).map(Some))?;
    let networks = networks?;
    let is_plain = url.scheme() == "http";
    if let Some((why, help)) = outbound::refused(&url, tenant, networks, "the API") {
        c.problems.add(written, format!("openrouter.base_url {why}"), help);
    } else if is_plain && !is_within(&url, networks) {
        let what =
            "openrouter.base_url begins with http://, and the key would go to a public address in plain text";
        let help = "write https://; http:// is for the tenant's networks alone, as in http://127.0.0.1:8081/api/v1 \
                    with networks: [loopback]";
        c.problems.add(written, what, help);
    } else if is_plain && !Gateway::is_here(&url) {
        let what = "openrouter.base_url begins with http://, so the networks between could read the key";
        c.warnings.add(written, what, "write https:// if the server there has it");
    }
    Some(url)
}

/// Whether a URL leads to the networks, as far as it can be known before a name is looked up.
fn is_within(url: &Url, networks: &Networks) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => networks.contain(v4.into()),
        Some(Host::Ipv6(v6)) => networks.contain(v6.into()),
        Some(Host::Domain(_)) | None => !networks.is_empty(),
    }
}

fn api_url(text: &str) -> Result<Url, Fault> {
    let mut url = http_url(text, DEFAULT_BASE_URL, "OpenRouter knows us by the key")?;
    if url.query().is_some() || url.fragment().is_some() {
        let what = "openrouter.base_url must end before ? and #";
        return Err((what.into(), format!("write it as in {DEFAULT_BASE_URL}")));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn poll(c: &mut Compiler<'_>, raw: Option<&raw::Poll>) -> Poll {
    let none = raw::Poll::default();
    let raw = raw.unwrap_or(&none);
    let (p, retention) = (&mut c.problems, c.retention);
    let give_up = DEFAULT_POLL.give_up.min(retention);
    let give_up = p.duration(raw.give_up.as_ref(), "poll.give_up", give_up, SECOND..=retention);
    let first =
        p.duration(raw.first.as_ref(), "poll.first", DEFAULT_POLL.first.min(give_up), SECOND / 10..=HOUR);
    let every = p.duration(raw.every.as_ref(), "poll.every", DEFAULT_POLL.every, SECOND / 10..=HOUR);
    let slowest =
        p.duration(raw.slowest.as_ref(), "poll.slowest", DEFAULT_POLL.slowest.max(every), SECOND / 10..=DAY);
    if let Some(written) = raw.slowest.as_ref().filter(|_| slowest < every) {
        p.add(written, "poll.slowest is less than poll.every", "write the longest pause between two polls");
    }
    if let Some(written) = raw.first.as_ref().filter(|_| first > give_up) {
        let what = "poll.first is more than poll.give_up, so that no job is ever polled";
        p.add(written, what, "write a shorter time, or a longer give_up");
    }
    Poll { first, every, slowest, give_up }
}

fn budget(p: &mut Problems, raw: Option<&raw::Budget>) -> Budget {
    let Some(raw) = raw else { return Budget::default() };
    let per_job = p.or(raw.per_job.as_ref(), None, |text| dollars(text, "budget.per_job").map(Some));
    let per_day = p.or(raw.per_day.as_ref(), None, |text| dollars(text, "budget.per_day").map(Some));
    Budget { per_job, per_day }
}

/// An amount in dollars, in micros.
fn dollars(text: &str, key: &str) -> Result<i64, Fault> {
    let help =
        || format!("write US dollars, from 0 to {LARGEST_BUDGET}, with at most six decimals, such as 2.50");
    let amount = money::parse(text).ok_or_else(|| (format!("{key} is not an amount of money"), help()))?;
    if !amount.is_exact || amount.micros > LARGEST_BUDGET * 1_000_000 {
        return Err((format!("{key} is out of range"), help()));
    }
    Ok(amount.micros)
}

/// Warns of keys that nothing uses.
fn warn_without_key(warnings: &mut Problems, tenant: &str, raw: &raw::OpenRouter) {
    let mut warn = |key: &str, location| {
        let what =
            format!("tenant {tenant} has openrouter.{key} and no openrouter.api_key, so it is never used");
        let help =
            format!("name the key, as in api_key: {{file: secrets/{tenant}-api-key}}, or leave {key} out");
        warnings.0.push(Problem::at(location, what, help));
    };
    if let Some(written) = &raw.base_url {
        warn("base_url", written.referenced);
    }
    if let Some(written) = &raw.poll {
        warn("poll", written.referenced);
    }
    if let Some(written) = &raw.budget {
        warn("budget", written.referenced);
    }
}
