//! With very many deliveries.

use std::time::Duration;
use talaria_proto::v1::{GetSummaryRequest, PauseRequest};
use talaria_tests::{browser::Browser, sink::Sink, stack::stack, until_within};
use tokio::time::Instant;

/// Each event goes to every route.
const ROUTES: usize = 50;
const EVENTS: usize = 2_000;

/// The largest page, in bytes.
const LARGEST: usize = 100_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn pages_stay_small_with_a_hundred_thousand_deliveries() {
    let sink = Sink::start().await;
    let builder = stack().tenant("acme", |mut tenant| {
        for route in 0..ROUTES {
            tenant = tenant.route(&format!("route-{route}"), &sink.url("route"), "pace: off");
        }
        tenant
    });
    let stack = builder.start().await;
    // So that they wait, and nothing is sent.
    let pause = PauseRequest { tenant: "acme".into(), requested_by: "ana".into(), ..PauseRequest::default() };
    stack.control().await.pause(pause).await.unwrap();
    let sender = stack.openrouter("acme");
    let began = Instant::now();
    let last = sender.send("job-0", "completed").await;
    let senders = (0..8).map(|part| {
        let sender = sender.clone();
        async move {
            for number in (1..EVENTS).filter(|number| number % 8 == part) {
                sender.send(&format!("job-{number}"), "completed").await;
            }
        }
    });
    futures_util::future::join_all(senders).await;
    let mut status = stack.status().await;
    until_within(Duration::from_secs(300), "all to wait", async || {
        let summary = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
        let backlog: u64 = summary.routes.iter().map(|route| route.backlog).sum();
        (backlog == (ROUTES * EVENTS) as u64 && summary.view_behind == 0).then_some(())
    })
    .await;
    eprintln!("{} deliveries after {:?}", ROUTES * EVENTS, began.elapsed());
    let delivery = stack.event(&last).await.deliveries[0].id.clone();
    let browser = Browser::start(stack.console()).await;
    for path in [
        "/".to_owned(),
        "/inbox".to_owned(),
        "/inbox?show=unmatched".to_owned(),
        "/deliveries".to_owned(),
        "/deliveries?state=waiting&route=route-7".to_owned(),
        "/deliveries?job=job-1999".to_owned(),
        "/deliveries?state=parked".to_owned(),
        format!("/deliveries/{delivery}"),
        format!("/events/{last}"),
        "/jobs".to_owned(),
        "/routes".to_owned(),
        "/routes/acme/route-7".to_owned(),
        "/search?q=dlv_".to_owned(),
        "/configuration".to_owned(),
    ] {
        let began = Instant::now();
        let answer =
            talaria_tests::http().get(format!("http://{}{path}", stack.console())).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let (length, took) = (answer.bytes().await.unwrap().len(), began.elapsed());
        eprintln!("{path}: {length} bytes in {took:?}");
        assert!(length < LARGEST, "{path}: {length} bytes");
    }
    browser.open("/deliveries").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 50);
    browser.follow("Older").await;
    assert_eq!(browser.count("#deliveries tbody tr").await, 50);
    browser.open("/").await;
    browser.shows("main", &["Waiting\n100,000", "PAUSED"]).await;
}
