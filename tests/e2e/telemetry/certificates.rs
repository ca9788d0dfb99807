//! When the certificates expire that a configuration names.

#![allow(clippy::float_cmp, reason = "seconds are exact")]

use super::scrape::look_until;
use crate::certificates::Authority;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use std::{collections::BTreeMap, fs};
use talaria_tests::{scrape::Scrape, sink::Sink, stack::stack};

const METRIC: &str = "talaria_certificate_expiry_timestamp_seconds";

fn in_days(days: i32) -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date() + days.days()
}

#[expect(clippy::cast_precision_loss, reason = "as metrics are")]
fn seconds(date: Date) -> f64 {
    date.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second() as f64
}

/// The ends by key.
fn ends(scrape: &Scrape) -> BTreeMap<&str, f64> {
    let series = scrape.series.iter().filter(|it| it.name == METRIC);
    series.map(|it| (it.labels["use"].as_str(), it.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_tomorrow_is_shown_and_so_is_the_one_that_replaces_it() {
    const CERT: &str = "tenants.acme.routes.r.tls.cert";
    const CA: &str = "tenants.acme.routes.r.tls.ca";
    let (sink, authority) = (Sink::start().await, Authority::new());
    let keys = "tls: {ca: ca.pem, cert: client.pem, key: client-key.pem}";
    let written = stack().tenant("acme", |t| t.route("r", &sink.url("r"), keys)).write();
    let tomorrow = in_days(1);
    authority.write_client_until(written.path(), "talaria", tomorrow);
    let stack = written.start().await;
    let scrape =
        look_until("the end", &stack, |scrape| ends(scrape).get(CERT) == Some(&seconds(tomorrow))).await;
    assert_eq!(ends(&scrape).into_keys().collect::<Vec<_>>(), [CA, CERT]);
    let series = scrape.series.iter().find(|it| it.name == METRIC && it.labels["use"] == CERT).unwrap();
    assert_eq!(series.labels["file"], stack.written.path().join("client.pem").to_str().unwrap());

    let next_year = in_days(365);
    authority.write_client_until(stack.written.path(), "talaria", next_year);
    look_until("the new one", &stack, |scrape| ends(scrape).get(CERT) == Some(&seconds(next_year))).await;

    // The configuration that names it stays in force.
    fs::remove_file(stack.written.path().join("ca.pem")).unwrap();
    look_until("the authority to be left out", &stack, |scrape| ends(scrape).into_keys().eq([CERT])).await;
    stack.rewrite(|text| text.split("        tls:").next().unwrap().to_owned());
    look_until("nothing to be named", &stack, |scrape| ends(scrape).is_empty()).await;
}
