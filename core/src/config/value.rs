//! What single values mean: addresses, times, sizes, shares and the like, each with what to write instead.

use super::{
    EventPattern, Pace,
    problem::{Fault, Problems},
};
use crate::{hermes::template::Template, json::Value};
use serde_saphyr::Spanned;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use url::Url;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The smallest number of bytes that can be written as a limit.
const LEAST_BYTES: u64 = 1 << 20;
/// NATS counts bytes in signed numbers.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

pub(super) fn listen(p: &mut Problems, value: Option<&Spanned<String>>, key: &str, port: u16) -> SocketAddr {
    p.or(value, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), |text| {
        text.parse().map_err(|_| {
            let help = format!("write an IP address and a port, such as 127.0.0.1:{port} or [::1]:{port}");
            (format!("{key} is not an address"), help)
        })
    })
}

pub(super) fn duration(
    p: &mut Problems,
    value: Option<&Spanned<String>>,
    key: &str,
    fallback: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Duration {
    p.or(value, fallback, |text| {
        let between = || {
            let (least, most) = (in_one_unit(*range.start()), in_one_unit(*range.end()));
            format!("write a time from {least} to {most}, such as 500ms, 30s, 5m, 2h or 7d")
        };
        let duration =
            humantime::parse_duration(text).map_err(|_| (format!("{key} is not a duration"), between()))?;
        if range.contains(&duration) {
            Ok(duration)
        } else {
            Err((format!("{key} is out of range"), between()))
        }
    })
}

/// The bounds above, as one would write them: "7d" and not "1week".
fn in_one_unit(duration: Duration) -> String {
    let unit = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")]
        .into_iter()
        .find(|(unit, _)| !duration.is_zero() && duration.as_millis().is_multiple_of(unit.as_millis()));
    match unit {
        Some((unit, name)) => format!("{}{name}", duration.as_millis() / unit.as_millis()),
        None => format!("{}ms", duration.as_millis()),
    }
}

pub(super) fn body_limit(bytes: usize) -> Result<usize, Fault> {
    match bytes {
        1..=67_108_864 => Ok(bytes),
        _ => Err((
            "max_body_bytes is out of range".into(),
            "write a number from 1 to 67108864 (64 MiB)".into(),
        )),
    }
}

/// How many exchanges a relay may have under way.
pub(super) fn exchanges(count: usize) -> Result<usize, Fault> {
    match count {
        1..=65_536 => Ok(count),
        _ => Err(("in_flight is out of range".into(), "write a number from 1 to 65536".into())),
    }
}

pub(super) fn public_url(text: &str) -> Result<String, Fault> {
    hermes_url(text).map(|url| url.as_str().trim_end_matches('/').to_owned())
}

pub(super) fn hermes_url(text: &str) -> Result<Url, Fault> {
    let help = || "write a URL such as http://127.0.0.1:8644/webhooks/openrouter-video".to_owned();
    let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), help()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(("the URL must begin with http:// or https:// and name a host".into(), help()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "the URL must not hold a user name or password".into(),
            "Hermes knows us by the signature".into(),
        ));
    }
    Ok(url)
}

pub(super) fn event_pattern(text: &str) -> Result<EventPattern, Fault> {
    match text.strip_suffix('*') {
        None if !text.is_empty() => Ok(EventPattern::Exactly(text.to_owned())),
        Some("") => Ok(EventPattern::Every),
        Some(start) if start.ends_with('.') && !start.contains('*') => {
            Ok(EventPattern::Below(start.to_owned()))
        }
        _ => {
            let help = "write a whole type, or its beginning and .* as in video.generation.*, or * for all";
            Err(("not an event pattern".into(), help.into()))
        }
    }
}

pub(super) fn extra(value: &Value) -> Result<Value, Fault> {
    let Value::Object(members) = value else {
        return Err((
            "extra must be a map".into(),
            "write names and values, such as {chat_id: \"{data.chat}\"}".into(),
        ));
    };
    for (key, value) in members {
        let Value::String(template) = value else { continue };
        if template.is_empty() {
            let what = format!(
                "extra.{} is empty, which Hermes' rules render as a dump of the payload",
                key.to_str_lossy()
            );
            return Err((what, "leave the key out".into()));
        }
        if Template::new(template).mentions("event_type") {
            let what = format!(
                "extra.{} uses {{event_type}}, which Hermes' rules render as nothing",
                key.to_str_lossy()
            );
            return Err((what, "use {type}".into()));
        }
    }
    Ok(value.clone())
}

pub(super) fn pace(text: &str) -> Result<Option<Pace>, Fault> {
    if text == "off" {
        return Ok(None);
    }
    let read = || {
        let (count, unit) = text.split_once('/')?;
        let window = match unit.trim() {
            "s" => SECOND,
            "min" => MINUTE,
            "h" => HOUR,
            _ => return None,
        };
        let count = count.trim().parse().ok().filter(|count| (1..=100_000).contains(count))?;
        Some(Pace { count, window })
    };
    read().map(Some).ok_or_else(|| ("not a pace".into(), "write 30/min, 5/s, 100/h or off".into()))
}

pub(super) fn breaker(text: &str) -> Result<Option<u32>, Fault> {
    match (text, text.parse()) {
        ("off", _) => Ok(None),
        (_, Ok(failures @ 1..=1_000)) => Ok(Some(failures)),
        _ => Err((
            "not a number of failures".into(),
            "write a number from 1 to 1000, such as 5, or off".into(),
        )),
    }
}

pub(super) fn percent(text: &str) -> Result<f64, Fault> {
    let number: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    match number {
        Some(number) if (0.0..=50.0).contains(&number) => Ok(number / 100.0),
        _ => Err(("not a share".into(), "write a percentage from 0% to 50%, such as 20%".into())),
    }
}

/// A share of something, as a number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, Fault> {
    let number: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err(("not a share".into(), "write a percentage from 0% to 100%, such as 10%".into())),
    }
}

/// A number of bytes, plain or with a binary unit.
pub(super) fn bytes(text: &str, key: &str) -> Result<u64, Fault> {
    let help = || "write 1MiB or more, such as 512MiB, 10GiB, 1TiB or a plain number of bytes".to_owned();
    let text = text.trim();
    let (number, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), unit)))
        .unwrap_or((text, 1_u64));
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err((format!("{key} is not a number of bytes"), help()));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| (LEAST_BYTES..=MOST_BYTES).contains(bytes))
        .ok_or_else(|| (format!("{key} is out of range"), help()))
}
