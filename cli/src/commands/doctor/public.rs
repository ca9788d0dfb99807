//! The public URL: whether an ingress answers there. And the clock, by the Date of the answer.

use super::finding::Finding;
use crate::client::without_credentials;
use jiff::Timestamp;
use reqwest::{Client, header, redirect::Policy};
use std::time::{Duration, SystemTime};
use talaria_core::{
    config::{Config, Role},
    time::since,
};
use url::Url;

const PUBLIC: &str = "public url";
const CLOCK: &str = "clock";

const DEADLINE: Duration = Duration::from_secs(10);

/// An ingress' own answer has a few hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Difference below which clocks agree: a Date has whole seconds.
const PRECISION: Duration = Duration::from_secs(3);

/// The answer to an unsigned callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Whether it is a problem document, as an ingress answers.
    is_problem: bool,
    body: String,
    /// The target of a redirect.
    location: String,
}

/// The findings for the public URL and for the clock.
pub(super) async fn check(config: &Config, role: Role, url: Option<&str>) -> (Vec<Finding>, Vec<Finding>) {
    let not_compared = |why: &str| {
        Finding::warning(
            CLOCK,
            format!("not compared with another one: {why}"),
            "`timedatectl` says whether this machine's is synchronized; signatures hold for minutes alone",
        )
    };
    if !role.has_ingress() {
        return (Vec::new(), vec![not_compared("a relay has no public URL to ask")]);
    }
    let Some(url) = url else {
        if config.tenants.values().all(|tenant| tenant.only_polls()) {
            return (Vec::new(), Vec::new());
        }
        let finding = Finding::warning(
            PUBLIC,
            "none is configured, so it was not asked whether OpenRouter can reach this machine",
            "write ingress.public_url, or name it with --public-url; `talaria up --tunnel` says its own",
        );
        return (vec![finding], vec![not_compared("no public URL is known")]);
    };
    let Some(tenant) = config.tenants.keys().next() else { return (Vec::new(), Vec::new()) };
    let callback = format!("{url}/callbacks/{tenant}");
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    // For messages.
    let shown =
        Url::parse(&callback).map_or_else(|_| callback.clone(), |url| without_credentials(&url).into());
    match ask(&callback).await {
        Ok((answer, date, took)) => {
            let clock = match date {
                Some(date) => {
                    let shortest = config.tenants.values().map(|tenant| tenant.tolerance).min();
                    of_clock(&host, date, Timestamp::now(), took, shortest.unwrap_or_default())
                }
                None => not_compared("the public URL's answer has no Date"),
            };
            (vec![of_answer(&shown, &answer)], vec![clock])
        }
        Err(why) => {
            let help = "is the name right, does its tunnel or reverse proxy run, and is its certificate valid? A machine behind a \
                        router may not reach its own public name: then ask from elsewhere, with curl --request POST";
            let finding = Finding::fault(PUBLIC, format!("{shown} cannot be reached: {why}"), help);
            (vec![finding], vec![not_compared("the public URL does not answer")])
        }
    }
}

async fn ask(url: &str) -> Result<(Answer, Option<Timestamp>, Duration), String> {
    let cause = |error: reqwest::Error| anyhow::Error::from(error.without_url()).root_cause().to_string();
    let client = Client::builder().redirect(Policy::none()).timeout(DEADLINE).build().map_err(cause)?;
    let begun = std::time::Instant::now();
    let request = client.post(url).header(header::CONTENT_TYPE, "application/json").body("{}");
    let request = request.header(header::USER_AGENT, concat!("talaria-doctor/", env!("CARGO_PKG_VERSION")));
    let mut response = request.send().await.map_err(cause)?;
    let took = begun.elapsed();
    let text = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (kind, location, date) = (text(header::CONTENT_TYPE), text(header::LOCATION), text(header::DATE));
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES
        && let Some(chunk) = response.chunk().await.map_err(cause)?
    {
        body.extend_from_slice(&chunk);
    }
    let date =
        httpdate::parse_http_date(&date).ok().and_then(|date: SystemTime| Timestamp::try_from(date).ok());
    let answer = Answer {
        status,
        is_problem: kind.starts_with("application/problem+json"),
        body: String::from_utf8_lossy(&body).into_owned(),
        location,
    };
    Ok((answer, date, took))
}

fn of_answer(callback: &str, answer: &Answer) -> Finding {
    let Answer { status, is_problem, body, location } = answer;
    let is_ingress = *is_problem && body.contains("not signed by a sender that is known here");
    let fault = |what: &str, help: &str| Finding::fault(PUBLIC, format!("{callback} {what}"), help);
    let not_ours = format!("answers {status}, and not as an ingress does: something in front of it answers");
    match status {
        401 if is_ingress => {
            Finding::ok(PUBLIC, format!("{callback} leads to an ingress, which refuses unsigned callbacks"))
        }
        401 => fault(&not_ours, "let POST /callbacks/… pass without other credentials: OpenRouter has none"),
        200..=299 => fault(&not_ours, "lead the public name to ingress.listen, with the path as it came"),
        300..=399 => fault(
            &format!("redirects to {location}, and OpenRouter's callbacks do not follow"),
            "write the public URL as that ends, or answer it at once",
        ),
        404 | 405 => fault(
            &format!("answers {status}"),
            "lead the public name to ingress.listen with the path as it came: /callbacks/TENANT, and nothing in front of it",
        ),
        403 => fault(
            &not_ours,
            "let POST /callbacks/… pass: no rule against bots, countries or other methods may hold it",
        ),
        429 => Finding::warning(
            PUBLIC,
            format!("{callback} answers 429, so the ingress was not reached"),
            "ask again in a minute; behind a proxy, write its address into ingress.trusted_proxies",
        ),
        502..=504 | 520..=530 => fault(
            &format!("answers {status}: the proxy in front of the ingress does not reach it"),
            "does Talaria run, and does the proxy or tunnel lead to ingress.listen?",
        ),
        _ => fault(&not_ours, "lead the public name to ingress.listen"),
    }
}

/// Compares this clock with the time in an answer that took `took`.
fn of_clock(host: &str, theirs: Timestamp, ours: Timestamp, took: Duration, tolerance: Duration) -> Finding {
    let off = since(ours, theirs).max(since(theirs, ours));
    let direction = if ours > theirs { "ahead of" } else { "behind" };
    let text = crate::print::duration(off);
    if off <= PRECISION.saturating_add(took) {
        return Finding::ok(CLOCK, format!("agrees with the Date of {host}"));
    }
    let what = format!("{text} {direction} the Date of {host}");
    let help = "synchronize it: `timedatectl set-ntp true`, or the host's where this is a container";
    if off >= tolerance {
        let what = format!(
            "{what}: signatures hold for {}, so every callback is refused",
            crate::print::duration(tolerance)
        );
        return Finding::fault(CLOCK, what, help);
    }
    Finding::warning(CLOCK, what, help)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};
    use talaria_core::time::{after, before};

    #[test]
    fn a_proxy_in_front_of_an_ingress_is_recognized() {
        let problem =
            r#"{"status":401,"detail":"The callback is not signed by a sender that is known here."}"#;
        let answer = |status: u16, body: &str| Answer { status, body: body.into(), ..Answer::default() };
        let ours = Answer { is_problem: true, ..answer(401, problem) };
        assert_eq!(of_answer("https://h/callbacks/a", &ours).level, Level::Ok);
        for (answer, level, says) in [
            (answer(401, "log in"), Level::Fault, "something in front"),
            (answer(200, "<html>"), Level::Fault, "not as an ingress does"),
            (
                Answer { location: "https://x/".into(), ..answer(308, "") },
                Level::Fault,
                "redirects to https://x/",
            ),
            (answer(404, ""), Level::Fault, "answers 404"),
            (answer(403, ""), Level::Fault, "something in front"),
            (answer(429, ""), Level::Warning, "429"),
            (answer(502, ""), Level::Fault, "does not reach it"),
            (answer(530, ""), Level::Fault, "does not reach it"),
        ] {
            let finding = of_answer("https://h/callbacks/a", &answer);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(says) && !finding.help.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn a_clock_is_right_within_seconds_and_a_fault_where_signatures_are_stale_by_it() {
        let (now, tolerance) = (Timestamp::from_second(1_777_000_000).unwrap(), Duration::from_secs(300));
        let took = Duration::from_millis(500);
        let level = |theirs| of_clock("h", theirs, now, took, tolerance).level;
        for (off, expected) in
            [(0, Level::Ok), (3, Level::Ok), (5, Level::Warning), (299, Level::Warning), (300, Level::Fault)]
        {
            let off = Duration::from_secs(off);
            assert_eq!([level(after(now, off)), level(before(now, off))], [expected; 2], "{off:?}");
        }
        let said = of_clock("h", before(now, Duration::from_secs(30)), now, took, tolerance);
        assert_eq!(said.what, "30 s ahead of the Date of h");
    }
}
