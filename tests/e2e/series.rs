//! Counts over time: `GetSeries` and `talaria stats`.

use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use talaria_proto::{
    time::{duration_from_proto, to_proto},
    v1::{GetSeriesRequest, Series, SeriesResolution},
};
use talaria_tests::{
    binary::run,
    nats,
    sink::{Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn series_count_events_deliveries_and_attempts_embedded() {
    counts(stack()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_count_events_deliveries_and_attempts_over_nats() {
    let (server, prefix) = (nats::shared().await, format!("series-{:016x}", rand::random::<u64>()));
    counts(stack().with(&format!("bus: {{nats: {{servers: [\"{server}\"], prefix: {prefix}}}}}"))).await;
}

async fn series(stack: &Stack, request: GetSeriesRequest) -> Vec<Series> {
    let answer = stack.status().await.get_series(request).await.unwrap().into_inner();
    assert!(!answer.incomplete);
    answer.series
}

/// Tenant, route, events, unmatched, delivered, parked and failed attempts.
type Sums<'a> = (&'a str, &'a str, [u64; 5]);

fn sums(series: &[Series]) -> Vec<Sums<'_>> {
    series
        .iter()
        .map(|series| {
            let total = series.total.as_ref().unwrap();
            let counts =
                [total.events, total.unmatched, total.delivered, total.parked, total.failed_attempts];
            (series.tenant.as_str(), series.route.as_str(), counts)
        })
        .collect()
}

async fn counts(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("broken", Does::Answer(500, serde_json::json!({})));
    let keys = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}\nevents: ['video.generation.completed']";
    let stack = builder
        .tenant("acme", |t| {
            t.route("video", &sink.url("video"), keys).route("broken", &sink.url("broken"), keys)
        })
        .tenant("globex", |t| t.route("video", &sink.url("globex"), keys))
        .start()
        .await;
    for job in ["one", "two", "three"] {
        stack.openrouter("acme").send(job, "completed").await;
    }
    stack.openrouter("acme").send("four", "failed").await;
    stack.openrouter("globex").send("one", "completed").await;
    let by_route = GetSeriesRequest { by_route: true, ..GetSeriesRequest::default() };
    let expected: [Sums<'_>; 5] = [
        ("acme", "", [4, 1, 3, 3, 6]),
        ("acme", "broken", [3, 0, 0, 3, 6]),
        ("acme", "video", [3, 0, 3, 0, 0]),
        ("globex", "", [1, 0, 1, 0, 0]),
        ("globex", "video", [1, 0, 1, 0, 0]),
    ];
    until("everything to be counted", async || {
        (sums(&series(&stack, by_route.clone()).await) == expected).then_some(())
    })
    .await;
    let all = series(&stack, GetSeriesRequest::default()).await;
    assert_eq!(sums(&all), [("", "", [5, 1, 4, 3, 6])]);
    let of = |tenant: &str, route: &str| GetSeriesRequest {
        tenant: tenant.into(),
        route: route.into(),
        resolution: SeriesResolution::Minute.into(),
        ..GetSeriesRequest::default()
    };
    assert_eq!(sums(&series(&stack, of("acme", "broken")).await), expected[1..2]);
    let of_acme = series(&stack, of("acme", "")).await;
    assert_eq!(sums(&of_acme), expected[..1]);
    let points = &of_acme[0].points;
    assert!(points.iter().all(|point| point.start.unwrap().seconds % 60 == 0));
    assert_eq!(points.iter().map(|point| point.delivered).sum::<u64>(), 3);
    let latency = of_acme[0].total.as_ref().unwrap().delivery_latency.unwrap();
    let (p50, p99) = (duration_from_proto(latency.p50.as_ref()), duration_from_proto(latency.p99.as_ref()));
    assert!(latency.samples == 3 && Duration::ZERO < p50 && p50 <= p99, "{latency:?}");
    check_errors(&stack).await;
    check_commands(&stack);
}

async fn check_errors(stack: &Stack) {
    let mut status = stack.status().await;
    let long_ago = Some(to_proto(Timestamp::now() - Duration::from_secs(70 * 24 * 3_600)));
    let unknown = |tenant: &str, route: &str| GetSeriesRequest {
        tenant: tenant.into(),
        route: route.into(),
        ..GetSeriesRequest::default()
    };
    for (request, code, says) in [
        (GetSeriesRequest { since: long_ago, ..unknown("", "") }, Code::InvalidArgument, "at most 1500"),
        (unknown("", "video"), Code::InvalidArgument, "needs its tenant"),
        (unknown("nobody", ""), Code::NotFound, "there is no tenant nobody; there is: acme, globex"),
        (unknown("globex", "broken"), Code::NotFound, "the tenant globex has no route broken; it has video"),
    ] {
        let error = status.get_series(request).await.unwrap_err();
        assert!(error.code() == code && error.message().contains(says), "{error}");
    }
}

fn check_commands(stack: &Stack) {
    let works = |args: &[&str]| {
        let output = run(stack.written.path(), &[args, &["--relay", &stack.relay()]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let table = works(&["stats", "acme/broken"]);
    let last = cells(table.lines().last().unwrap());
    assert_eq!(last, ["all", "3", "-", "-", "-", "3", "-", "-", "6", "-"], "{table}");
    assert!(table.starts_with("HOUR"), "{table}");
    assert!(works(&["stats", "--minutes", "--since", "10m"]).starts_with("MINUTE"));
    let routes = works(&["stats", "--routes"]);
    let names: Vec<_> = routes.lines().skip(1).map(|line| cells(line)[0].clone()).collect();
    assert_eq!(names, ["acme", "acme/broken", "acme/video", "globex", "globex/video"], "{routes}");
    let document: Value = serde_json::from_str(&works(&["stats", "globex", "--json"])).unwrap();
    assert_eq!(document["series"][0]["total"]["delivered"], "1", "{document}");
    assert_eq!(works(&["stats", "--until", "3h"]), "Nothing happened.\n");
}
