//! Reports of how the agent's runs ended, by a client that is made by hand.

use super::{
    cluster::{name, two_relays},
    commands::{json, works},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use talaria_core::report::sign;
use talaria_proto::v1::{
    Delivery, DeliveryFilter, GetDeliveryRequest, ListDeliveriesRequest, ReplayDeliveriesRequest,
    ReplayFilter, Run, RunOutcome, WatchDeliveriesRequest, WatchKind,
};
use talaria_tests::{
    http, nats,
    openrouter::event_id,
    scrape::Scrape,
    sink::{self, Sink},
    stack::{Builder, Stack, stack},
    until,
};

/// A report, as it goes out.
struct Report<'a> {
    stack: &'a Stack,
    path: &'a str,
    secret: &'a str,
    sent: Timestamp,
    content_type: &'a str,
}

impl<'a> Report<'a> {
    fn to(stack: &'a Stack, path: &'a str) -> Self {
        let sent = Timestamp::now();
        Self { stack, path, secret: sink::SECRET, sent, content_type: "application/json" }
    }

    fn request(&self, body: impl Into<Vec<u8>>) -> reqwest::RequestBuilder {
        let (body, url) = (body.into(), format!("http://{}/runs/{}", self.stack.console(), self.path));
        http()
            .post(url)
            .header("content-type", self.content_type)
            .header("webhook-id", "report-1")
            .header("webhook-timestamp", self.sent.as_second().to_string())
            .header("webhook-signature", sign(&self.secret.into(), "report-1", self.sent, &body))
            // From anywhere: the signature admits it.
            .header("host", "talaria.example.com")
            .header("origin", "https://evil.example")
            .body(body)
    }

    async fn send(&self, body: impl Into<Vec<u8>>) -> u16 {
        answer(self.request(body)).await.0
    }
}

/// The status, and the problem if there is one.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    if status == 204 {
        assert!(body.is_empty());
        return (status, Value::Null);
    }
    assert_eq!(headers["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem)
}

fn report(delivery: &Delivery, outcome: &str, with: &Value) -> String {
    let mut report = json!({
        "delivery": format!("{}.{}", delivery.id, delivery.generation),
        "outcome": outcome,
        "ended_at": "2026-01-01T00:00:00.123Z",
        "duration_ms": 41_000,
    });
    report.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    report.to_string()
}

async fn delivery(stack: &Stack, id: &str) -> Delivery {
    let request = GetDeliveryRequest { delivery_id: id.into() };
    stack.status().await.get_delivery(request).await.unwrap().into_inner().delivery.unwrap()
}

async fn delivered(stack: &Stack, tenant: &str, job: &str) -> Delivery {
    let event = stack.openrouter(tenant).send(job, "completed").await;
    stack.finished(&event, "r").await.delivery.unwrap()
}

/// The jobs whose deliveries have such a run.
async fn jobs_with(stack: &Stack, run: RunOutcome) -> Vec<String> {
    let filter = DeliveryFilter { runs: vec![run.into()], ..DeliveryFilter::default() };
    let request = ListDeliveriesRequest { filter: Some(filter), ..ListDeliveriesRequest::default() };
    let found = stack.status().await.list_deliveries(request).await.unwrap().into_inner();
    let mut jobs: Vec<String> = found.deliveries.into_iter().map(|delivery| delivery.job_id).collect();
    jobs.sort();
    jobs
}

async fn counted(stack: &Stack) -> [u64; 4] {
    let scrape = Scrape::read(&stack.admin_get("/metrics").await.1);
    let sum = |outcome: RunOutcome| scrape.sum("talaria_runs_total", Some(("outcome", outcome.name())));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
    RunOutcome::REPORTED.map(|outcome| sum(outcome) as u64)
}

async fn on_nats(builder: Builder) -> Builder {
    let (server, prefix) = (nats::shared().await, format!("runs-{:016x}", rand::random::<u64>()));
    builder.with(&format!("bus: {{nats: {{servers: [\"{server}\"], prefix: {prefix}}}}}"))
}

fn tenants(sink: &Sink) -> Builder {
    let keys = "pace: off\nruns: 1h";
    stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), keys).route("other", &sink.url("other"), keys))
        .tenant("globex", |t| t.route("r", &sink.url("globex"), keys))
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_shown_on_the_embedded_bus() {
    let sink = Sink::start().await;
    runs_are_shown(tenants(&sink)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_shown_on_nats() {
    let sink = Sink::start().await;
    runs_are_shown(on_nats(tenants(&sink)).await).await;
}

async fn runs_are_shown(builder: Builder) {
    let mut stack = builder.start().await;
    let mut reported = Vec::new();
    for (outcome, with) in [
        (
            RunOutcome::Finished,
            json!({"answer": "It is\ndone.", "session": "s1", "tokens": {"input": 12, "output": 3}, "calls": 2}),
        ),
        (RunOutcome::Failed, json!({"error": {"status": 401, "message": "invalid api key"}})),
        (RunOutcome::Interrupted, json!({})),
        (RunOutcome::Command, json!({"command": "help"})),
    ] {
        let sent = delivered(&stack, "acme", outcome.name()).await;
        let body = report(&sent, outcome.name(), &with);
        // A repetition changes nothing.
        for _ in 0..2 {
            assert_eq!(Report::to(&stack, "acme/r").send(body.clone()).await, 204, "{body}");
        }
        let now = delivery(&stack, &sent.id).await;
        assert_eq!(Delivery { run: None, ..now.clone() }, sent, "a run changes nothing else");
        assert_eq!(now.run.as_ref().unwrap().outcome(), outcome);
        reported.push(now);
    }
    assert_eq!(counted(&stack).await, [1; 4]);
    delivered(&stack, "acme", "silent").await;
    let expected = Run {
        outcome: RunOutcome::Finished.into(),
        session: "s1".into(),
        ended_at: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 123_000_000 }),
        duration: Some(prost_types::Duration { seconds: 41, nanos: 0 }),
        answer: "It is done.".into(),
        input_tokens: Some(12),
        output_tokens: Some(3),
        calls: Some(2),
        report_id: "report-1".into(),
        generation: 1,
        ..Run::default()
    };
    assert_eq!(reported[0].run.as_ref().unwrap(), &expected);

    for restarted in [false, true] {
        if restarted {
            stack.kill_and_restart().await;
            until("the status to be there", async || {
                (jobs_with(&stack, RunOutcome::Command).await.len() == 1).then_some(())
            })
            .await;
        }
        for outcome in RunOutcome::REPORTED {
            assert_eq!(jobs_with(&stack, outcome).await, [outcome.name()]);
        }
        until("the other route's deliveries, and the silent one", async || {
            (jobs_with(&stack, RunOutcome::None).await.len() == 5 + 1).then_some(())
        })
        .await;
        let (directory, relay) = (stack.written.path(), stack.relay());
        for (reported, said) in reported.iter().zip([
            "run finished in 41 s",
            "run failed: 401 invalid api key",
            "run interrupted after 41 s",
            "the prompt was taken as the command /help: a fault of the guard",
        ]) {
            assert_eq!(&delivery(&stack, &reported.id).await, reported);
            for command in ["status", "explain"] {
                let shown = works(directory, &[command, &reported.id, "--relay", &relay]);
                assert!(shown.contains(said), "{command}: {shown}");
            }
            let run = RunOutcome::try_from(reported.run.as_ref().unwrap().outcome).unwrap().name();
            for path in [format!("deliveries/{}", reported.id), format!("deliveries?run={run}")] {
                let page = http().get(format!("http://{}/{path}", stack.console())).send().await.unwrap();
                let page = String::from_utf8(page.bytes().await.unwrap().to_vec()).unwrap();
                assert!(page.contains(said), "{path}: {page}");
            }
        }
        let shown = works(directory, &["status", &reported[0].id, "--relay", &relay]);
        for part in ["12 tokens in, 3 tokens out, 2 calls, session s1", "answer: It is done."] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let listed = json(directory, &["status", "--run", "failed", "--json", "--relay", &relay]);
        assert_eq!(listed["deliveries"][0]["run"]["errorStatus"], 401, "{listed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_reports_change_nothing() {
    let sink = Sink::start().await;
    let stack = tenants(&sink).start().await;
    let sent = delivered(&stack, "acme", "job").await;
    let theirs = delivered(&stack, "globex", "job").await;
    let to = |path| Report::to(&stack, path);
    let right = report(&sent, "failed", &json!({}));

    // All that is not signed gets the same answer, whether there is such a route or not.
    let (status, refused) = answer(Report { secret: "guessed", ..to("acme/r") }.request(right.clone())).await;
    assert_eq!(status, 401);
    let stale = Timestamp::from_second(Timestamp::now().as_second() - 400).unwrap();
    for (report, body) in [
        (to("acme/unknown"), right.clone()),
        (to("nobody/r"), right.clone()),
        (to("acme"), right.clone()),
        (to("acme/r/more"), right.clone()),
        (Report { secret: "guessed", ..to("acme/unknown") }, right.clone()),
        (Report { secret: "guessed", ..to("acme/r") }, "[".repeat(9_000)),
        (Report { sent: stale, ..to("acme/r") }, right.clone()),
    ] {
        assert_eq!(answer(report.request(body)).await, (401, refused.clone()), "{}", report.path);
    }
    let unsigned = http().post(format!("http://{}/runs/acme/r", stack.console()));
    let unsigned = unsigned.header("content-type", "application/json").body(right.clone());
    assert_eq!(answer(unsigned).await, (401, refused.clone()));
    let twice = to("acme/r").request(right.clone()).header("webhook-id", "report-2");
    assert_eq!(answer(twice).await, (401, refused), "which id is signed is not known");

    // Signed rightly, and about nothing that this route sent.
    let other = event_id("acme", "job", "completed");
    let other = stack.finished(&other, "other").await.delivery.unwrap();
    let unknown = Delivery { id: sent.id.replace(&sent.id[4..12], "aaaaaaaa"), ..sent.clone() };
    let next = Delivery { generation: 2, ..sent.clone() };
    for delivery in [&theirs, &other, &unknown, &next] {
        assert_eq!(to("acme/r").send(report(delivery, "failed", &json!({}))).await, 404, "{}", delivery.id);
    }
    let late = report(&sent, "failed", &json!({"ended_at": "2999-01-01T00:00:00Z"}));
    let huge = report(&sent, "failed", &json!({"answer": "x".repeat(17 * 1024)}));
    for (body, status) in [
        (late, 400),
        ("[".repeat(9_000), 400),
        ("{}".to_owned(), 400),
        (report(&sent, "lost", &json!({})), 400),
        (huge, 413),
    ] {
        assert_eq!(to("acme/r").send(body.clone()).await, status, "{body:.99}");
    }
    let text = Report { content_type: "text/plain", ..to("acme/r") };
    assert_eq!(text.send(right.clone()).await, 415);
    let get = http().get(format!("http://{}/runs/acme/r", stack.console()));
    assert_eq!(answer(get).await.0, 405);

    for before in [&sent, &theirs, &other] {
        assert_eq!(&delivery(&stack, &before.id).await, before);
    }
    assert_eq!(counted(&stack).await, [0; 4]);

    // Many that are refused do not stop the right one, nor fill the log.
    let guess = Report { secret: "guessed", ..to("acme/r") };
    let mut last = 401;
    while last == 401 {
        last = guess.send(right.clone()).await;
    }
    assert_eq!(last, 429);
    assert_eq!(to("acme/r").send(right).await, 204);
    let run = delivery(&stack, &sent.id).await.run.unwrap();
    assert_eq!((run.outcome(), run.generation), (RunOutcome::Failed, 1));
    // A newer end replaces it, and an older one does not.
    let newer = report(&sent, "finished", &json!({"ended_at": "2026-01-02T00:00:00Z"}));
    let older = report(&sent, "interrupted", &json!({"ended_at": "2025-01-02T00:00:00Z"}));
    for body in [newer, older] {
        assert_eq!(to("acme/r").send(body).await, 204);
    }
    assert_eq!(delivery(&stack, &sent.id).await.run.unwrap().outcome(), RunOutcome::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_runs_are_watched_and_replayed_on_the_embedded_bus() {
    let sink = Sink::start().await;
    failed_runs_are_watched_and_replayed(tenants(&sink), &sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_runs_are_watched_and_replayed_on_nats() {
    let sink = Sink::start().await;
    failed_runs_are_watched_and_replayed(on_nats(tenants(&sink)).await, &sink).await;
}

async fn failed_runs_are_watched_and_replayed(builder: Builder, sink: &Sink) {
    let stack = builder.start().await;
    let (failed, fine) = (delivered(&stack, "acme", "bad").await, delivered(&stack, "acme", "good").await);
    let runs = vec![RunOutcome::Failed.into()];
    let filter = DeliveryFilter { runs: runs.clone(), ..DeliveryFilter::default() };
    let watch = WatchDeliveriesRequest { filter: Some(filter), ..WatchDeliveriesRequest::default() };
    let mut watch = stack.status().await.watch_deliveries(watch).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.kind(), WatchKind::SnapshotDone, "no run failed so far");
    for (delivery, outcome) in [(&fine, "finished"), (&failed, "failed")] {
        assert_eq!(Report::to(&stack, "acme/r").send(report(delivery, outcome, &json!({}))).await, 204);
    }
    let change = watch.message().await.unwrap().unwrap().delivery.unwrap();
    assert_eq!((change.id.as_str(), change.job_id.as_str()), (failed.id.as_str(), "bad"));
    assert_eq!((change.state(), change.run.unwrap().outcome()), (failed.state(), RunOutcome::Failed));

    let request = ReplayDeliveriesRequest {
        filter: Some(ReplayFilter { runs, ..ReplayFilter::default() }),
        requested_by: "ana".into(),
        rate_per_minute: 60_000,
        ..ReplayDeliveriesRequest::default()
    };
    let answer = stack.control().await.replay_deliveries(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.matching, answer.replayable), (1, 1));
    let event = event_id("acme", "bad", "completed");
    let is_again = |delivery: &Delivery| delivery.generation == 2 && delivery.state().is_final();
    let again = stack.delivery_when(&event, "r", is_again).await.delivery.unwrap();
    assert!(sink.requests_to("r").iter().any(|request| request.id == format!("{}.2", failed.id)));
    assert_eq!(again.run.as_ref().unwrap().generation, 1, "the run before stays to be seen");
    assert!(jobs_with(&stack, RunOutcome::Failed).await.is_empty(), "and is not the delivery's any more");
    let shown = works(stack.written.path(), &["status", &failed.id, "--relay", &stack.relay()]);
    assert!(shown.contains("before it was sent again: run failed"), "{shown}");
    let none = stack.control().await.replay_deliveries(request).await.unwrap().into_inner();
    assert_eq!(none.matching, 0);

    // Its run under the new generation, and then a late report about the first one.
    assert_eq!(Report::to(&stack, "acme/r").send(report(&again, "finished", &json!({}))).await, 204);
    let late = report(&failed, "failed", &json!({"ended_at": Timestamp::now().to_string()}));
    assert_eq!(Report::to(&stack, "acme/r").send(late).await, 204);
    let run = delivery(&stack, &failed.id).await.run.unwrap();
    assert_eq!((run.outcome(), run.generation), (RunOutcome::Finished, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_relay_takes_reports_for_all() {
    let sink = Sink::start().await;
    let [first, second] = two_relays(&sink, "pace: off").await;
    for tenant in 0..12 {
        let name = name(tenant);
        first.openrouter(&name).send("job", "completed").await;
        let sent = second.finished(&event_id(&name, "job", "completed"), "r").await.delivery.unwrap();
        let (path, relay) = (format!("{name}/r"), if tenant % 2 == 0 { &first } else { &second });
        assert_eq!(Report::to(relay, &path).send(report(&sent, "finished", &json!({}))).await, 204);
        for relay in [&first, &second] {
            let run = delivery(relay, &sent.id).await.run.unwrap();
            assert_eq!(run.outcome(), RunOutcome::Finished);
        }
        let unknown = Delivery { generation: 7, ..sent };
        assert_eq!(Report::to(relay, &path).send(report(&unknown, "failed", &json!({}))).await, 404);
    }
    let [one, other] = [counted(&first).await, counted(&second).await];
    assert_eq!((one[0] + other[0], one[1] + other[1]), (12, 0), "once each, by the owner");
}
