//! Parsers of single values, such as URLs, sizes and shares. An error names the remedy.

use super::{EventPattern, Pace, problem::Fault};
use crate::{
    hermes::template::Template,
    json::Value,
    time::{DAY, HOUR, MINUTE, SECOND, parse_duration},
};
use std::{ops::RangeInclusive, time::Duration};
use url::{Position, Url};

/// The smallest limit for bytes of many bodies or messages together.
pub(super) const LEAST_BYTES: u64 = 1 << 20;
/// The largest number of bytes in NATS, which counts them in signed numbers.
pub(super) const MOST_BYTES: u64 = i64::MAX.unsigned_abs();
/// The range of a limit for one body.
const BODY_BYTES: RangeInclusive<u64> = 1..=64 << 20;
/// Units of bytes, in powers of 1024.
const BYTE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

pub(super) fn body_limit(text: &str) -> Result<usize, Fault> {
    length(text, "max_body_bytes", BODY_BYTES)
}

/// A number of bytes that fit into memory.
pub(super) fn length(text: &str, key: &str, range: RangeInclusive<u64>) -> Result<usize, Fault> {
    usize::try_from(bytes(text, key, range)?)
        .map_err(|_| (format!("{key} is out of range"), "write less than this machine can count".to_owned()))
}

/// The limit of a relay's exchanges in flight.
pub(super) fn exchanges(count: usize) -> Result<usize, Fault> {
    within(count, "in_flight", 1..=65_536)
}

/// How many tenants metrics count by name.
pub(super) fn counted_tenants(count: usize) -> Result<usize, Fault> {
    within(count, "counted_tenants", 0..=10_000)
}

/// How long evidence is kept.
pub(super) fn evidence(text: &str) -> Result<Option<Duration>, Fault> {
    let kept = parse_duration(text).filter(|kept| (SECOND..=30 * DAY).contains(kept));
    match kept {
        None if text != "off" => Err((
            "not a time to keep evidence".into(),
            "write a time from 1s to 30d, such as 24h, or off".into(),
        )),
        kept => Ok(kept),
    }
}

pub(super) fn within(number: usize, key: &str, range: RangeInclusive<usize>) -> Result<usize, Fault> {
    let (least, most) = (range.start(), range.end());
    if range.contains(&number) {
        return Ok(number);
    }
    Err((format!("{key} is out of range"), format!("write a number from {least} to {most}")))
}

/// The public URL of the ingress, without a trailing slash and without the path of the callbacks.
pub fn public_url(text: &str) -> Result<String, Fault> {
    const EXAMPLE: &str = "https://hooks.example.com";
    let url = http_url(text, EXAMPLE, "OpenRouter shows who it is by its signature")?;
    let base = url.as_str().trim_end_matches('/').to_owned();
    if url.scheme() != "https" {
        let help = format!(
            "write https:// and lead that here with a reverse proxy or `talaria up --tunnel`, as in {EXAMPLE}"
        );
        return Err(("OpenRouter calls https:// alone, and the public URL begins with http://".into(), help));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("the public URL must end before ? and #".into(), format!("write it as in {EXAMPLE}")));
    }
    let segments: Vec<&str> = base.split('/').collect();
    if let Some(at) =
        segments.iter().rposition(|segment| *segment == "callbacks").filter(|at| at + 2 >= segments.len())
    {
        let without = segments.get(..at).unwrap_or_default().join("/");
        let what = "the public URL holds the path of the callbacks, which comes behind it by itself";
        return Err((
            what.into(),
            format!("write {without}: OpenRouter then calls {without}/callbacks/TENANT"),
        ));
    }
    Ok(base)
}

/// A webhook of Hermes.
pub(super) fn hermes_url(text: &str) -> Result<Url, Fault> {
    const EXAMPLE: &str = "http://127.0.0.1:8644/webhooks/openrouter-video";
    let url = http_url(text, EXAMPLE, "Hermes knows us by the signature")?;
    let path = url.path();
    let stem = path.trim_end_matches('/');
    let origin = &url[..Position::BeforePath];
    if stem.is_empty() {
        let help = format!("write {origin}/webhooks/NAME, with the name that the route has at Hermes");
        return Err(("the URL has no path, and Hermes takes webhooks at /webhooks/NAME".into(), help));
    }
    if stem == "/webhooks" || stem.ends_with("/webhooks") {
        let help = format!("write {origin}{stem}/NAME, with the name that the route has at Hermes");
        return Err(("the URL ends before the route's name".into(), help));
    }
    if stem != path && stem.rsplit('/').nth(1) == Some("webhooks") {
        let what = "the URL ends with a slash, and Hermes does not serve the route there";
        return Err((what.into(), format!("write {origin}{stem}")));
    }
    Ok(url)
}

/// `why_no_user` is the reason against a user name and a password.
pub(super) fn http_url(text: &str, example: &str, why_no_user: &str) -> Result<Url, Fault> {
    let help = || format!("write a URL such as {example}");
    let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), help()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(("the URL must begin with http:// or https:// and name a host".into(), help()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("the URL must not hold a user name or password".into(), why_no_user.into()));
    }
    Ok(url)
}

/// A pattern that some event type matches: types are open text, but none has the special characters of other programs' patterns.
pub(super) fn event_pattern(text: &str) -> Result<EventPattern, Fault> {
    let is_special = |c: char| c.is_whitespace() || c.is_control() || "?,;|^$()[]{}\\".contains(c);
    let is_type = !text.starts_with('.') && !text.ends_with('.') && !text.contains(is_special);
    text.parse().ok().filter(|_| is_type).ok_or_else(|| {
        let help = "write a whole type, or its beginning and .* as in video.generation.*, or * for all";
        ("not an event pattern".into(), help.into())
    })
}

pub(super) fn extra(value: &Value) -> Result<Value, Fault> {
    let Value::Object(members) = value else {
        return Err((
            "extra must be a map".into(),
            "write names and values, such as {chat_id: \"-100123\", job: \"{data.id}\"}".into(),
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

/// The time in which a run is reported; `None` if no report is expected.
pub(super) fn runs(text: &str) -> Result<Option<Duration>, Fault> {
    match (text, parse_duration(text)) {
        ("off", _) => Ok(None),
        (_, Some(within)) if (MINUTE..=7 * DAY).contains(&within) => Ok(Some(within)),
        _ => Err(("not a time for runs".into(), "write a time from 1m to 7d, such as 1h, or off".into())),
    }
}

/// A percentage up to `most`, as a number from 0 to 1.
pub(super) fn percent(text: &str, most: u8) -> Result<f64, Fault> {
    let number: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    match number {
        Some(number) if (0.0..=f64::from(most)).contains(&number) => Ok(number / 100.0),
        _ => Err(("not a share".into(), format!("write a percentage from 0% to {most}%, such as 10%"))),
    }
}

/// A number of bytes, plain or with a binary unit.
pub(super) fn bytes(text: &str, key: &str, range: RangeInclusive<u64>) -> Result<u64, Fault> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len()));
    let (number, unit) = (number.replace('_', ""), unit.trim());
    let help = || {
        let (least, most) = (range.start(), range.end());
        // This range has no upper bound but NATS' numbers.
        if *most == MOST_BYTES {
            return format!(
                "write {}MiB or more, such as 512MiB, 10GiB, 1TiB or a plain number of bytes",
                least >> 20
            );
        }
        format!("write a number from {least} to {most}, or one with a unit such as 512KiB or 1MiB")
    };
    let factor = match BYTE_UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) {
        Some((_, factor)) => Some(*factor),
        // `MB` and `M` are refused: they mean a million or 1,048,576.
        None => matches!(unit, "" | "B").then_some(1),
    };
    let Some(factor) = factor.filter(|_| !number.is_empty()) else {
        return Err((format!("{key} is not a number of bytes"), help()));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| range.contains(bytes))
        .ok_or_else(|| (format!("{key} is out of range"), help()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_plain_numbers_or_have_a_binary_unit() {
        let read = |text: &str| bytes(text, "k", 1..=64 << 20);
        for (text, expected) in [
            ("1048576", 1 << 20),
            ("1_048_576", 1 << 20),
            ("1MiB", 1 << 20),
            ("1 mib", 1 << 20),
            ("512KiB", 512 << 10),
            ("7B", 7),
            (" 7 ", 7),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        let help = "write a number from 1 to 67108864, or one with a unit such as 512KiB or 1MiB";
        let (no_number, out) = ("k is not a number of bytes", "k is out of range");
        for (text, what) in [
            ("", no_number),
            ("-1", no_number),
            ("many", no_number),
            ("MiB", no_number),
            ("1MB", no_number),
            ("1m", no_number),
            ("1.5MiB", no_number),
            ("1 0", no_number),
            ("0", out),
            ("1GiB", out),
            ("99999999999999999999", out),
            ("99999999999TiB", out),
        ] {
            assert_eq!(read(text).unwrap_err(), (what.to_owned(), help.to_owned()), "{text}");
        }
        let (_, help) = bytes("0", "k", LEAST_BYTES..=MOST_BYTES).unwrap_err();
        assert!(help.starts_with("write 1MiB or more, "), "{help}");
    }

    #[test]
    fn evidence_is_kept_for_a_time_or_not_at_all() {
        assert_eq!(evidence("off").unwrap(), None);
        assert_eq!(evidence("24h").unwrap(), Some(DAY));
        for text in ["", "on", "0s", "500ms", "31d", "24"] {
            let (what, help) = evidence(text).unwrap_err();
            assert!(what == "not a time to keep evidence" && help.ends_with("or off"), "{text}");
        }
    }

    #[test]
    fn patterns_are_whole_types_or_their_beginnings() {
        for text in ["*", "video.generation.*", "video.*", "größe.✓", "a", "x-y_z.1"] {
            assert_eq!(event_pattern(text).unwrap().to_string(), text);
        }
        for text in [
            "video.*.completed",
            "*.completed",
            "**",
            "video*",
            ".*",
            "",
            "video.generation.",
            ".completed",
            "a.b, a.c",
            "a.b a.c",
            "video.generation.(completed|failed)",
            "video.generation.?",
            " a.b",
        ] {
            let (what, help) = event_pattern(text).unwrap_err();
            assert!(what == "not an event pattern" && help.contains("or its beginning and .*"), "{text}");
        }
    }

    #[test]
    fn a_public_url_is_https_and_ends_before_the_path_of_the_callbacks() {
        for (text, expected) in [
            ("https://h", "https://h"),
            ("https://h/", "https://h"),
            ("https://h/talaria/", "https://h/talaria"),
            ("https://h/callbacks/v2/x", "https://h/callbacks/v2/x"),
        ] {
            assert_eq!(public_url(text).unwrap(), expected);
        }
        for (text, what, help) in [
            ("http://h", "OpenRouter calls https:// alone", "write https://"),
            (
                "https://h/callbacks/me",
                "holds the path of the callbacks",
                "write https://h: OpenRouter then calls https://h/callbacks/TENANT",
            ),
            ("https://h/t/callbacks/", "holds the path of the callbacks", "write https://h/t: "),
            ("https://h/?a", "before ? and #", "https://hooks.example.com"),
            ("h.example.com", "not a URL", "https://hooks.example.com"),
        ] {
            let (found, remedy) = public_url(text).unwrap_err();
            assert!(found.contains(what) && remedy.contains(help), "{text}: {found}: {remedy}");
        }
    }

    #[test]
    fn a_routes_url_names_the_route() {
        for text in [
            "http://h:1/webhooks/v",
            "http://h/p/work/webhooks/v",
            "https://h/hooks/of-a-proxy",
            "https://h/a/",
        ] {
            assert_eq!(hermes_url(text).unwrap().as_str(), text);
        }
        for (text, help) in [
            ("http://h:8644", "write http://h:8644/webhooks/NAME"),
            ("http://h:8644/", "write http://h:8644/webhooks/NAME"),
            ("http://h:8644/webhooks", "write http://h:8644/webhooks/NAME"),
            ("http://h/p/work/webhooks/", "write http://h/p/work/webhooks/NAME"),
            ("http://h/webhooks/v/", "write http://h/webhooks/v"),
        ] {
            let (_, remedy) = hermes_url(text).unwrap_err();
            assert!(remedy.starts_with(help), "{text}: {remedy}");
        }
    }
}
