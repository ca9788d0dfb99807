//! Counters by tenant: whose series there are, and when they end.

#![allow(clippy::float_cmp, reason = "counts are exact")]

use super::scrape::{look, look_until};
use std::collections::BTreeSet;
use talaria_proto::v1::DeliveryState;
use talaria_tests::{
    http,
    openrouter::OpenRouter,
    scrape::Scrape,
    sink::{Does, Sink},
    stack::{Stack, stack},
};

const COUNTERS: [&str; 3] = ["talaria_callbacks_total", "talaria_deliveries_total", "talaria_runs_total"];

/// The tenants that a counter has series for.
fn tenants(scrape: &Scrape, name: &str) -> BTreeSet<String> {
    scrape.series.iter().filter(|it| it.name == name).map(|it| it.labels["tenant"].clone()).collect()
}

/// A counter's value for a tenant; `None` without a series.
fn of(scrape: &Scrape, name: &str, tenant: &str, value: &str) -> Option<f64> {
    let has = |label: &str| label == tenant || label == value;
    let mut found = scrape.series.iter().filter(|it| it.name == name && it.labels.values().all(|it| has(it)));
    found.next().map(|it| it.value)
}

fn accepted(scrape: &Scrape, tenant: &str) -> Option<f64> {
    of(scrape, "talaria_callbacks_total", tenant, "accepted")
}

fn parked(scrape: &Scrape, tenant: &str) -> Option<f64> {
    of(scrape, "talaria_deliveries_total", tenant, "parked")
}

/// Removes a tenant, and returns its lines.
fn remove(stack: &Stack, tenant: &str) -> String {
    let mut removed = String::new();
    stack.rewrite(|text| {
        let mut kept = String::new();
        let mut is_its = false;
        for line in text.split_inclusive('\n') {
            if !line.starts_with("   ") {
                is_its = line.trim_end() == format!("  {tenant}:");
            }
            if is_its { &mut removed } else { &mut kept }.push_str(line);
        }
        kept
    });
    removed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_removes_a_tenant_ends_its_series_and_a_tenant_that_comes_back_begins_with_0() {
    let sink = Sink::start().await;
    sink.set("fails", Does::Answer(500, serde_json::json!({})));
    let only = |job: &str| format!("filters: {{field: data.id, equals: {job}}}\npace: off");
    let often = format!("{}\nretry: {{jitter: 0%, schedule: [{}]}}", only("fails"), ["1s"; 100].join(", "));
    let stack = stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off"))
        .tenant("films", |t| {
            t.route("r", &sink.url("r"), &only("works")).route("fails", &sink.url("fails"), &often)
        })
        .start()
        .await;
    let scrape = look(&stack).await;
    for name in COUNTERS {
        let mut expected = BTreeSet::from(["acme", "films", "_other"].map(str::to_owned));
        expected.extend((name == "talaria_callbacks_total").then(|| "_unknown".to_owned()));
        assert_eq!(tenants(&scrape, name), expected, "{name}");
        assert_eq!(scrape.sum(name, None), 0.0, "{name}");
    }

    for tenant in ["acme", "films"] {
        let event = stack.openrouter(tenant).send("works", "completed").await;
        stack.finished(&event, "r").await;
    }
    let waits = stack.openrouter("films").send("fails", "completed").await;
    stack.delivery_when(&waits, "fails", |delivery| delivery.attempts > 0).await;
    let scrape = look(&stack).await;
    let delivered =
        |scrape: &Scrape, tenant: &str| of(scrape, "talaria_deliveries_total", tenant, "delivered");
    assert_eq!((accepted(&scrape, "acme"), accepted(&scrape, "films")), (Some(1.0), Some(2.0)));
    assert_eq!((delivered(&scrape, "acme"), delivered(&scrape, "films")), (Some(1.0), Some(1.0)));

    let films = remove(&stack, "films");
    stack.generation(2).await;
    let delivery = stack.finished(&waits, "fails").await.delivery.unwrap();
    assert_eq!(delivery.state(), DeliveryState::Parked, "its route was removed");
    // Gauges end with what waited.
    let scrape = look_until("the end of all its series", &stack, |scrape| {
        !scrape.series.iter().any(|it| it.labels.get("tenant").is_some_and(|it| it == "films"))
    })
    .await;
    assert_eq!((accepted(&scrape, "acme"), delivered(&scrape, "acme")), (Some(1.0), Some(1.0)));
    assert_eq!((parked(&scrape, "_other"), parked(&scrape, "acme")), (Some(1.0), Some(0.0)));
    assert_eq!(stack.openrouter("films").try_send("late", "completed").await, Some(401));
    let scrape = look(&stack).await;
    assert_eq!(of(&scrape, "talaria_callbacks_total", "_unknown", "unauthorized"), Some(1.0));

    stack.rewrite(|text| text + &films);
    stack.generation(3).await;
    let scrape = look(&stack).await;
    assert_eq!((accepted(&scrape, "films"), delivered(&scrape, "films")), (Some(0.0), Some(0.0)));
    stack.openrouter("films").send("again", "completed").await;
    assert_eq!(accepted(&look(&stack).await, "films"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_150_tenants_100_are_counted_by_name_and_paths_of_strangers_make_no_series() {
    let name = |number: u32| format!("tenant-{number:03}");
    let all = "admin: {listen: 127.0.0.1:0}";
    let written = (0..150).fold(stack().with(all), |stack, number| stack.tenant(&name(number), |t| t));
    let stack = written.start().await;
    for number in [0, 99, 100, 149] {
        stack.openrouter(&name(number)).send("job", "completed").await;
    }
    let counts = |scrape: &Scrape| [0, 99, 100].map(|number| accepted(scrape, &name(number)));
    let scrape = look(&stack).await;
    assert_eq!(counts(&scrape), [Some(1.0), Some(1.0), None]);
    assert_eq!(accepted(&scrape, "_other"), Some(2.0));
    for (counter, count) in COUNTERS.into_iter().zip([102, 101, 101]) {
        assert_eq!(tenants(&scrape, counter).len(), count, "{counter}");
    }

    let series = |scrape: &Scrape| COUNTERS.map(|counter| tenants(scrape, counter));
    let before = series(&scrape);
    for tenant in ["nobody", "tenant-150", "_other"] {
        let stranger = OpenRouter::new(stack.ingress(), tenant, "a secret");
        assert_eq!(stranger.try_send("job", "completed").await, Some(401), "{tenant}");
    }
    let odd = format!("http://{}/callbacks/a%22%7D%0Ab", stack.ingress());
    assert!(http().post(odd).body("{}").send().await.unwrap().status().is_client_error());
    let known = OpenRouter::new(stack.ingress(), &name(0), "a secret");
    assert_eq!(known.try_send("job", "completed").await, Some(401));
    let scrape = look(&stack).await;
    assert_eq!(series(&scrape), before);
    let unauthorized = |tenant: &str| of(&scrape, "talaria_callbacks_total", tenant, "unauthorized");
    assert!(unauthorized("_unknown") >= Some(3.0), "{:?}", unauthorized("_unknown"));
    assert_eq!((unauthorized("_other"), unauthorized(&name(0))), (Some(0.0), Some(1.0)));

    // All of them by name, and none.
    for (generation, counted, expected) in [(2, 1000, [Some(1.0), Some(1.0), Some(0.0)]), (3, 0, [None; 3])] {
        stack.rewrite(|text| {
            let (before, rest) = text.split_once("admin: {").unwrap();
            let (_, after) = rest.split_once('}').unwrap();
            format!("{before}admin: {{listen: 127.0.0.1:0, counted_tenants: {counted}}}{after}")
        });
        stack.generation(generation).await;
        let scrape = look(&stack).await;
        assert_eq!(counts(&scrape), expected, "{counted}");
        assert_eq!(accepted(&scrape, "_other"), Some(2.0), "{counted}");
    }
    stack.openrouter(&name(0)).send("another", "completed").await;
    assert_eq!(accepted(&look(&stack).await, "_other"), Some(3.0));
}
