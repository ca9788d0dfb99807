//! One trace, from OpenRouter's request to Hermes'.

use talaria_tests::{
    collector::{Collector, Span},
    fleet,
    nats::Server,
    openrouter::event_id,
    sink::{Does, Request, Sink},
    stack::stack,
    until,
};

/// The trace of the sender, whose sampling flag is ignored.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

fn sender() -> String {
    format!("00-{TRACE}-{SENDER}-00")
}

/// Spans are handed over at once.
const AT_ONCE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

async fn spans(collector: &Collector, trace: &str, count: usize) -> Vec<Span> {
    until("the spans of the trace", async || {
        let mut spans = collector.spans();
        spans.retain(|span| span.trace == trace);
        (spans.len() >= count).then_some(spans)
    })
    .await
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The trace and the parent span in a request to Hermes.
fn parent(request: &Request) -> (String, String) {
    let header = request.headers["traceparent"].to_str().unwrap();
    let parts: Vec<&str> = header.split('-').collect();
    assert_eq!((parts[0], parts[3]), ("00", "01"), "{header}");
    (parts[1].to_owned(), parts[2].to_owned())
}

/// The trace that a callback and its repeated delivery belong to.
fn is_one_trace(spans: &[Span], requests: &[Request], services: (&str, &str)) {
    let [callback] = named(spans, "callback")[..] else { panic!("{spans:#?}") };
    let [publish] = named(spans, "publish")[..] else { panic!("{spans:#?}") };
    let [plan] = named(spans, "plan")[..] else { panic!("{spans:#?}") };
    let attempts = named(spans, "attempt");
    assert_eq!((callback.parent.as_str(), callback.service.as_str()), (SENDER, services.0));
    assert_eq!((&publish.parent, publish.service.as_str()), (&callback.id, services.0));
    assert_eq!((&plan.parent, plan.service.as_str()), (&publish.id, services.1));
    assert_eq!(attempts.len(), requests.len());
    for (attempt, request) in attempts.iter().zip(requests) {
        assert_eq!((&attempt.parent, attempt.service.as_str()), (&publish.id, services.1));
        assert_eq!(parent(request), (TRACE.to_owned(), attempt.id.clone()), "Hermes' request is its child");
    }
    let kinds: Vec<i32> = [callback, publish, plan, attempts[0]].iter().map(|span| span.raw.kind).collect();
    assert_eq!(kinds, [2, 4, 5, 3], "server, producer, consumer, client");
    let event = callback.attribute("talaria.event.id").unwrap();
    assert_eq!(plan.attribute("talaria.event.id").as_ref(), Some(&event));
    assert!(attempts[0].attribute("talaria.delivery.id").unwrap().contains(event.trim_start_matches("evt_")));
    assert_eq!(callback.attribute("http.response.status_code").as_deref(), Some("204"));
    let outcomes: Vec<_> = attempts.iter().map(|it| it.attribute("talaria.outcome").unwrap()).collect();
    assert_eq!(outcomes, ["failed", "accepted"]);
    assert_eq!(attempts[0].attribute("error.type").as_deref(), Some("failed"));
    assert_eq!(attempts[1].attribute("http.response.status_code").as_deref(), Some("202"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_and_its_deliveries_are_one_trace_across_ingress_nats_and_relay() {
    let (server, sink, collector) = (Server::start().await, Sink::start().await, Collector::start().await);
    sink.set("route-0", Does::Answer(500, serde_json::json!({})));
    let fleet = fleet::leading_to(sink.address)
        .over(&[server.url()])
        .with(&collector.config())
        .ingresses(1)
        .relays(1)
        .tenants(1)
        .routes(1)
        .environment(AT_ONCE.0, AT_ONCE.1)
        .start()
        .await;
    fleet.openrouter("tenant-0").within(&sender()).send("job", "completed").await;
    until("the first attempt to fail", async || (!sink.requests().is_empty()).then_some(())).await;
    sink.set("route-0", Does::Accept);
    let spans = until("the trace to be whole", async || {
        let spans = spans(&collector, TRACE, 1).await;
        let is_whole = sink.requests().iter().any(|request| request.ran)
            && named(&spans, "attempt").len() == sink.requests().len()
            && ["callback", "publish", "plan"].iter().all(|name| named(&spans, name).len() == 1);
        is_whole.then_some(spans)
    })
    .await;
    let (attempts, requests) = (named(&spans, "attempt"), sink.requests());
    // It may have failed more than once before the change.
    let (first, last) = (attempts[0].clone(), (*attempts.last().unwrap()).clone());
    let others = spans.iter().filter(|span| span.name != "attempt").cloned();
    let spans: Vec<Span> = others.chain([first, last]).collect();
    let requests = [requests[0].clone(), requests.last().unwrap().clone()];
    is_one_trace(&spans, &requests, ("talaria-ingress", "talaria-relay"));
    // The line of the callback and that of each attempt name the trace, too.
    for part in [&fleet.ingresses[0], &fleet.relays[0]] {
        let named = format!("\"trace\":\"{TRACE}\"");
        until("the line that names the trace", async || part.log().contains(&named).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_it_is_one_trace_and_headers_go_along() {
    let (sink, collector) = (Sink::start().await, Collector::start().await);
    sink.set("r", Does::Answer(500, serde_json::json!({})));
    let keys = collector.config().replace('}', ", headers: {Authorization: {env: OTLP_TOKEN}}}");
    let mut stack = stack()
        .with(&keys)
        .environment(AT_ONCE.0, AT_ONCE.1)
        .environment("OTLP_TOKEN", "Bearer of traces")
        .tenant("acme", |t| t.route("r", &sink.url("r"), "retry: {schedule: [2s]}"))
        .start()
        .await;
    stack.openrouter("acme").within(&sender()).send("job", "completed").await;
    until("the first attempt to fail", async || (!sink.requests().is_empty()).then_some(())).await;
    sink.set("r", Does::Accept);
    let spans = spans(&collector, TRACE, 5).await;
    is_one_trace(&spans, &sink.requests(), ("talaria", "talaria"));
    assert!(collector.authorizations().iter().all(|it| it.as_deref() == Some("Bearer of traces")));
    assert!(!stack.log().join("\n").contains("Bearer of traces"));
    // A trace without a parent begins here, and spans that are left at the end are exported.
    sink.set("r", Does::Accept);
    let event = stack.openrouter("acme").send("other", "completed").await;
    stack.finished(&event, "r").await;
    assert_eq!(stack.terminate().await, Some(0));
    let spans = collector.spans();
    let callback =
        spans.iter().find(|it| it.attribute("talaria.job.id").as_deref() == Some("other")).unwrap();
    assert_eq!(callback.parent, "");
    assert!(spans.iter().any(|span| span.name == "attempt" && span.trace == callback.trace));
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_do_not_decide_sampling_and_refusals_leave_no_span() {
    let (sink, collector) = (Sink::start().await, Collector::start().await);
    let keys = collector.config().replace('}', ", sample: 0%}");
    let mut stack = stack().with(&keys).tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let wants_it = format!("00-{TRACE}-{SENDER}-01");
    let event = stack.openrouter("acme").within(&wants_it).send("job", "completed").await;
    stack.finished(&event, "r").await;
    let header = sink.requests()[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
    assert_eq!(stack.terminate().await, Some(0));
    assert!(collector.spans().is_empty());

    stack.restart_with(|text| text.replace("0%", "100%")).await;
    let stranger = talaria_tests::openrouter::OpenRouter::new(stack.ingress(), "acme", "another secret");
    assert_eq!(stranger.within(&wants_it).try_send("job", "completed").await, Some(401));
    stack.terminate().await;
    assert!(collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_senders_trace_goes_along_as_it_came() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let event = stack.openrouter("acme").within(&sender()).send("job", "completed").await;
    stack.finished(&event, "r").await;
    assert_eq!(sink.requests()[0].headers["traceparent"], sender().as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_collector_is_logged_once_and_delays_nothing() {
    let sink = Sink::start().await;
    let gone = Collector::start().await;
    let (address, keys) = (gone.address, gone.config());
    drop(gone);
    let stack = stack()
        .with(&keys)
        .environment(AT_ONCE.0, AT_ONCE.1)
        .tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off"))
        .start()
        .await;
    let said = || stack.log().iter().filter(|line| line.contains("the collector takes no traces")).count();
    for round in 0..3 {
        let event = stack.openrouter("acme").send(&format!("job {round}"), "completed").await;
        assert_eq!(event, event_id("acme", &format!("job {round}"), "completed"));
        stack.finished(&event, "r").await;
        until("the loss to be counted", async || {
            let (_, metrics) = stack.admin_get("/metrics").await;
            (!metrics.contains("talaria_spans_total{result=\"failed\"} 0")).then_some(())
        })
        .await;
    }
    assert_eq!(said(), 1, "{:#?}", stack.log());
    let back = Collector::start_on(address).await;
    until("traces to come again", async || {
        stack.openrouter("acme").send(&format!("more {}", back.spans().len()), "completed").await;
        (!back.spans().is_empty()).then_some(())
    })
    .await;
    until("that to be said", async || {
        stack.log().iter().any(|line| line.contains("the collector takes traces again")).then_some(())
    })
    .await;
    assert_eq!(said(), 1);
}
