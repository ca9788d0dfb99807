//! The metrics of a process after real traffic, compared with the catalogue.

#![allow(clippy::float_cmp, reason = "counts are exact")]

use std::{collections::BTreeSet, path::Path};
use talaria::metrics::{CATALOGUE, Metric, Of, Values};
use talaria_proto::v1::{DeliveryState, PauseRequest, ResumeRequest};
use talaria_tests::{
    binary::workspace,
    fleet::{self, Part},
    nats::Server,
    openrouter::{OpenRouter, payload},
    scrape::Scrape,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

/// Gauges that are left out where there is nothing that they are of: these processes name no certificate, and have no backup.
const LEFT_OUT: [&str; 2] =
    ["talaria_certificate_expiry_timestamp_seconds", "talaria_last_backup_timestamp_seconds"];

/// Holds everything that a process shows to the catalogue, and the other way round.
fn is_as_catalogued(scrape: &Scrape, has: &[Of]) {
    let ours: Vec<&Metric> = CATALOGUE.iter().filter(|metric| has.contains(&metric.of)).collect();
    for metric in ours.iter().filter(|metric| !LEFT_OUT.contains(&metric.name)) {
        assert_eq!(
            scrape.types.get(metric.name).map(String::as_str),
            Some(metric.kind.name()),
            "{}",
            metric.name
        );
        assert_eq!(scrape.helps.get(metric.name).map(String::as_str), Some(metric.help), "{}", metric.name);
    }
    for series in &scrape.series {
        let name = scrape.metric(series);
        let metric = ours.iter().find(|metric| metric.name == name);
        let metric =
            metric.unwrap_or_else(|| panic!("{name} is not in the catalogue, or not of this process"));
        let mut labels = series.labels.clone();
        labels.remove("le");
        let names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(names, metric.labels.iter().map(|label| label.name).collect(), "{name}");
        for label in metric.labels {
            if let Values::Known(values) = label.values {
                assert!(values.split(' ').any(|known| known == labels[label.name]), "{series:?}");
            }
        }
    }
    // Every value that a label can have is there before it is first seen.
    for metric in ours.iter().filter(|metric| metric.kind.name() == "counter") {
        for label in metric.labels {
            let Values::Known(values) = label.values else { continue };
            for value in values.split(' ') {
                let found = scrape
                    .series
                    .iter()
                    .any(|series| series.name == metric.name && series.labels[label.name] == value);
                assert!(found, "{} of {value}", metric.name);
            }
        }
    }
}

pub(super) async fn look(stack: &Stack) -> Scrape {
    Scrape::read(&stack.admin_get("/metrics").await.1)
}

/// A look that finds this.
pub(super) async fn look_until(what: &str, stack: &Stack, is_so: impl Fn(&Scrape) -> bool) -> Scrape {
    until(what, async || {
        let scrape = look(stack).await;
        is_so(&scrape).then_some(scrape)
    })
    .await
}

fn of(scrape: &Scrape, name: &str, route: &str) -> f64 {
    scrape.sum(name, Some(("route", route)))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_happens_is_counted_and_how_things_stand_is_shown() {
    let sink = Sink::start().await;
    sink.set("broken", Does::Answer(500, serde_json::json!({})));
    sink.set("refused", Does::Answer(404, serde_json::json!({})));
    let only = |job: &str| format!("filters: {{field: data.id, equals: {job}}}\npace: off");
    let stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, max_body_bytes: 4096}")
        .tenant("acme", |tenant| {
            tenant
                .route("slow", &sink.url("slow"), "filters: {field: data.id, regex: ^slow}\npace: 1/h")
                .route("broken", &sink.url("broken"), &(only("broken") + "\nretry: {schedule: [0s]}"))
                .route("refused", &sink.url("refused"), &only("refused"))
                .route("paused", &sink.url("paused"), &only("paused"))
        })
        .start()
        .await;
    // Before anything has happened. A relay shows routes once it owns their partition.
    let scrape =
        look_until("the routes", &stack, |scrape| scrape.types.contains_key("talaria_backlog")).await;
    is_as_catalogued(&scrape, &[Of::Every, Of::Ingress, Of::Relay]);

    let openrouter = stack.openrouter("acme");
    assert_eq!(
        OpenRouter::new(stack.ingress(), "acme", "another").try_send("j", "completed").await,
        Some(401)
    );
    assert_eq!(openrouter.send_bytes(b"no event".to_vec()).await, Some(422));
    assert_eq!(openrouter.send_bytes(vec![b'x'; 5000]).await, Some(413));
    let slow = openrouter.send("slow", "completed").await;
    openrouter.send("slow", "completed").await;
    let mut other = payload("slow", "completed");
    other["data"]["model"] = "another".into();
    openrouter.send_payload(&other).await;
    stack.finished(&slow, "slow").await;
    let waits = openrouter.send("slow, too", "completed").await;
    stack.delivery_when(&waits, "slow", |delivery| delivery.reason.contains("waiting for its turn")).await;
    let broken = openrouter.send("broken", "completed").await;
    stack.finished(&broken, "broken").await;
    openrouter.send("refused", "completed").await;
    let request = PauseRequest { tenant: "acme".into(), route: "paused".into(), ..PauseRequest::default() };
    let request = PauseRequest { requested_by: "ana".into(), reason: "Hermes moves".into(), ..request };
    stack.control().await.pause(request).await.unwrap();
    openrouter.send("paused", "completed").await;
    openrouter.send("nobody's", "completed").await;

    let scrape = look_until("everything to be seen", &stack, |scrape| {
        of(scrape, "talaria_route_shut", "refused") == 1.0
            && of(scrape, "talaria_backlog", "paused") == 1.0
            && of(scrape, "talaria_route_paused", "paused") == 1.0
            && scrape.sum("talaria_events_planned_total", Some(("routes", "none"))) == 1.0
    })
    .await;
    is_as_catalogued(&scrape, &[Of::Every, Of::Ingress, Of::Relay]);
    let count = |name: &str, label: &str, value: &str| scrape.sum(name, Some((label, value)));
    for (result, expected) in [
        ("accepted", 8.0),
        ("quarantined", 1.0),
        ("unauthorized", 1.0),
        ("too_large", 1.0),
        ("unavailable", 0.0),
    ] {
        assert_eq!(count("talaria_callbacks_total", "result", result), expected, "{result}");
        assert_eq!(count("talaria_callback_seconds_count", "result", result), expected, "{result}");
    }
    assert_eq!(count("talaria_callbacks_refused_total", "reason", "mismatch"), 1.0);
    assert_eq!(count("talaria_events_planned_total", "routes", "some"), 5.0);
    assert_eq!(count("talaria_events_repeated_total", "body", "same"), 1.0);
    assert_eq!(count("talaria_events_repeated_total", "body", "other"), 1.0);
    assert_eq!(count("talaria_attempts_total", "outcome", "accepted"), 1.0);
    assert_eq!(count("talaria_attempts_total", "outcome", "failed"), 2.0);
    assert!(count("talaria_attempts_total", "outcome", "route_fault") >= 1.0);
    assert_eq!(count("talaria_deliveries_total", "state", "delivered"), 1.0);
    assert_eq!(count("talaria_deliveries_total", "state", "parked"), 1.0);
    assert_eq!(scrape.sum("talaria_first_attempt_seconds_count", None), 3.0);
    assert_eq!(scrape.sum("talaria_delivery_seconds_count", None), 2.0);
    assert!(scrape.sum("talaria_attempt_seconds_count", None) >= 4.0);
    assert!(scrape.sum("talaria_pace_waits_total", None) >= 1.0);
    for (route, backlog) in [("slow", 1.0), ("broken", 0.0), ("refused", 1.0), ("paused", 1.0)] {
        assert_eq!(of(&scrape, "talaria_backlog", route), backlog, "{route}");
        assert_eq!(of(&scrape, "talaria_oldest_waiting_seconds", route) > 0.0, backlog > 0.0, "{route}");
        // Its time has not come, or it may not be sent.
        assert_eq!(of(&scrape, "talaria_backlog_due", route), 0.0, "{route}");
    }
    for (name, value) in [
        ("talaria_ready", 1.0),
        ("talaria_partitions_owned", 1.0),
        ("talaria_events_unplanned", 0.0),
        ("talaria_replay_jobs", 0.0),
        ("talaria_build_info", 1.0),
    ] {
        assert_eq!(scrape.sum(name, None), value, "{name}");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(scrape.sum(name, None) > 0.0, "{name}");
    }

    // Retried deliveries end, and leave the gauges.
    let request = ResumeRequest { tenant: "acme".into(), route: "paused".into(), ..ResumeRequest::default() };
    let request = ResumeRequest { requested_by: "ana".into(), reason: "it has".into(), ..request };
    stack.control().await.resume(request).await.unwrap();
    look_until("the paused one to go", &stack, |scrape| {
        of(scrape, "talaria_backlog", "paused") == 0.0 && of(scrape, "talaria_route_paused", "paused") == 0.0
    })
    .await;
}

/// Alerts ask for parked deliveries by the metric.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_ends_without_an_attempt_is_counted() {
    let sink = Sink::start().await;
    let keys = "pace: 1/h\nretry: {max_age: 1s}";
    let stack = stack().tenant("acme", |tenant| tenant.route("r", &sink.url("r"), keys)).start().await;
    let openrouter = stack.openrouter("acme");
    let first = openrouter.send("first", "completed").await;
    stack.finished(&first, "r").await;
    let second = openrouter.send("second", "completed").await;
    let delivery = stack.finished(&second, "r").await.delivery.unwrap();
    assert_eq!((delivery.state(), delivery.attempts), (DeliveryState::Parked, 0));
    let scrape = look(&stack).await;
    for (state, expected) in [("delivered", 1.0), ("parked", 1.0)] {
        assert_eq!(scrape.sum("talaria_deliveries_total", Some(("state", state))), expected, "{state}");
    }
}

/// The metric by which relays are scaled.
#[tokio::test(flavor = "multi_thread")]
async fn due_deliveries_that_are_not_under_way_are_counted_separately() {
    let sink = Sink::start().await;
    sink.set("r", Does::Hang);
    let keys = "pace: off\nin_flight: 1\ntimeout: 60s";
    let stack = stack().tenant("acme", |tenant| tenant.route("r", &sink.url("r"), keys)).start().await;
    for job in 0..3 {
        stack.openrouter("acme").send(&job.to_string(), "completed").await;
    }
    look_until("two to be due behind the one in hand", &stack, |scrape| {
        of(scrape, "talaria_backlog", "r") == 3.0
            && of(scrape, "talaria_backlog_due", "r") == 2.0
            && scrape.sum("talaria_deliveries_in_hand", None) == 1.0
    })
    .await;
    sink.set("r", Does::Accept);
    look_until("all to be sent", &stack, |scrape| {
        of(scrape, "talaria_backlog", "r") == 0.0 && of(scrape, "talaria_backlog_due", "r") == 0.0
    })
    .await;
}

async fn look_at(part: &Part) -> Scrape {
    Scrape::read(&part.admin_get("/metrics").await.1)
}

/// Each process has the metrics of its role, and each route has one series.
#[tokio::test(flavor = "multi_thread")]
async fn over_nats_each_process_shows_its_own_and_every_route_is_shown_by_one() {
    let (server, sink) = (Server::start().await, Sink::start().await);
    for route in 0..4 {
        sink.set(&format!("route-{route}"), Does::Hang);
    }
    let fleet = fleet::leading_to(sink.address)
        .over(&[server.url()])
        .ingresses(1)
        .relays(2)
        // So many that each relay owns some, however partitions fall.
        .tenants(16)
        .routes(4)
        .start()
        .await;
    for tenant in 0..16 {
        fleet.openrouter(&format!("tenant-{tenant}")).send("job", "completed").await;
    }
    let ingress = look_at(&fleet.ingresses[0]).await;
    is_as_catalogued(&ingress, &[Of::Every, Of::Ingress, Of::Nats]);
    assert_eq!(ingress.sum("talaria_callbacks_total", Some(("result", "accepted"))), 16.0);
    let relays = until("each route to be shown with what waits, by one relay", async || {
        let mut relays = Vec::new();
        for relay in &fleet.relays {
            relays.push(look_at(relay).await);
        }
        let sum = |name: &str| relays.iter().map(|scrape| scrape.sum(name, None)).sum::<f64>();
        let routes =
            relays.iter().flat_map(|scrape| &scrape.series).filter(|it| it.name == "talaria_backlog");
        let share = |scrape: &Scrape| scrape.sum("talaria_partitions_owned", None);
        let is_so = routes.count() == 64
            && sum("talaria_backlog") == 64.0
            && sum("talaria_partitions_owned") == 64.0
            && relays.iter().all(|relay| share(relay) > 0.0)
            && sum("talaria_events_planned_total") == 16.0;
        is_so.then_some(relays)
    })
    .await;
    let planning: Vec<bool> =
        relays.iter().map(|relay| relay.types.contains_key("talaria_events_unplanned")).collect();
    assert_eq!(planning.iter().filter(|plans| **plans).count(), 1, "one plans");
    for (relay, plans) in relays.iter().zip(planning) {
        if plans {
            is_as_catalogued(relay, &[Of::Every, Of::Relay, Of::Nats]);
        }
        assert_eq!(relay.sum("talaria_nats_connected", None), 1.0);
        assert_eq!(relay.sum("talaria_ready", None), 1.0);
    }
    for route in 0..4 {
        sink.set(&format!("route-{route}"), Does::Accept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_gone_is_shown_and_so_is_its_return() {
    let (mut server, sink) = (Server::start().await, Sink::start().await);
    let keys = format!("bus: {{nats: {{servers: [\"{}\"]}}}}", server.url());
    let stack =
        stack().with(&keys).tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "")).start().await;
    let connected = |scrape: &Scrape| scrape.sum("talaria_nats_connected", None);
    look_until("it to be connected", &stack, |scrape| connected(scrape) == 1.0).await;
    server.kill();
    let scrape = look_until("it to be seen as gone", &stack, |scrape| {
        connected(scrape) == 0.0 && scrape.sum("talaria_ready", None) == 0.0
    })
    .await;
    assert_eq!(scrape.sum("talaria_nats_disconnects_total", None), 1.0);
    server.start_again().await;
    look_until("it to be seen again", &stack, |scrape| {
        connected(scrape) == 1.0 && scrape.sum("talaria_ready", None) == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_gone_is_shown_until_nothing_waits_for_it() {
    let sink = Sink::start().await;
    sink.set("gone", Does::Answer(500, serde_json::json!({})));
    let keys = "retry: {schedule: [1h]}";
    let mut stack = stack()
        .tenant("acme", |t| t.route("stays", &sink.url("stays"), keys).route("gone", &sink.url("gone"), keys))
        .start()
        .await;
    stack.openrouter("acme").send("job", "completed").await;
    until("one to wait for an hour", async || {
        let deliveries = stack.deliveries().await;
        deliveries.iter().any(|it| it.route == "gone" && it.reason.contains("500")).then_some(())
    })
    .await;
    stack.restart_with(|text| text.split_once("      gone:").unwrap().0.to_owned()).await;
    let shows = |scrape: &Scrape, route: &str| {
        scrape.series.iter().any(|it| it.labels.get("route").is_some_and(|it| it == route))
    };
    look_until("both to be shown", &stack, |scrape| shows(scrape, "gone") && shows(scrape, "stays")).await;
}

/// The code and the catalogue name the same metrics.
#[test]
fn the_code_and_the_catalogue_have_the_same_metrics() {
    fn walk(directory: &Path, counted: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, counted);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for macro_name in ["counter!(", "gauge!(", "histogram!(", "TenantCounter::new("] {
                    let calls = text.split(macro_name).skip(1);
                    let names =
                        calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
                    counted.extend(names.filter(|name| name.starts_with("talaria_")).map(str::to_owned));
                }
            }
        }
    }
    let mut counted = BTreeSet::new();
    for directory in ["core", "bus", "ingress", "relay", "cli"] {
        walk(&workspace().join(directory).join("src"), &mut counted);
    }
    let names = CATALOGUE.iter().map(|metric| metric.name.to_owned());
    assert_eq!(counted, names.filter(|name| name.starts_with("talaria_")).collect());
}
