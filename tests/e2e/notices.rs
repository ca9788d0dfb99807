//! Notices, at a webhook and at a route of Hermes, on both buses.

#![allow(clippy::float_cmp, reason = "counts are exact")]

use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, process::Command};
use talaria_proto::v1::{Delivery, DeliveryState, JobState, SubmitJobRequest, VideoRequest};
use talaria_tests::{
    binary::{run, workspace},
    nats,
    openrouter_api::OpenRouterApi,
    scrape::Scrape,
    sink::{self, Does, Request, Sink},
    stack::{Builder, Stack, stack},
    until,
};

/// A configuration on each bus.
async fn on_both() -> [Builder; 2] {
    let (url, prefix) = (nats::shared().await, format!("notices-{:016x}", rand::random::<u64>()));
    let over_nats = format!("bus: {{nats: {{servers: [\"{url}\"], prefix: {prefix}}}}}");
    [stack(), stack().with(&over_nats)]
}

/// Waits for so many notices at the route "ops".
async fn notices(sink: &Sink, count: usize) -> Vec<Request> {
    until(&format!("{count} notices"), async || {
        let requests = sink.requests_to("ops");
        (requests.len() >= count).then_some(requests)
    })
    .await
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// The output of a command that has to succeed.
fn works(stack: &Stack, args: &[&str]) -> String {
    let output = run(stack.written.path(), &[args, &["--relay", &stack.relay()]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a command says this: the status follows what was done.
async fn says(stack: &Stack, args: &[&str], text: &str) {
    until(&format!("{args:?} to say {text:?}"), async || works(stack, args).contains(text).then_some(()))
        .await;
}

async fn counted(stack: &Stack, outcome: &str) -> f64 {
    let scrape = Scrape::read(&stack.admin_get("/metrics").await.1);
    scrape.sum("talaria_notices_total", Some(("outcome", outcome)))
}

/// Waits until so many deliveries to the route "r" are in this state.
async fn in_state(stack: &Stack, state: DeliveryState, count: usize) {
    until(&format!("{count} deliveries {}", state.name()), async || {
        let is_it = |delivery: &&Delivery| delivery.route == "r" && delivery.state() == state;
        (stack.deliveries().await.iter().filter(is_it).count() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_shuts_and_opens_is_told_of_in_a_signed_webhook() {
    for builder in on_both().await {
        let sink = Sink::start().await;
        sink.set("r", Does::Answer(401, json!({"error": "Invalid signature"})));
        let stack = builder
            .tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off").notices("ops", &sink.url("ops")))
            .start()
            .await;
        stack.openrouter("acme").send("job", "completed").await;
        let shut = notices(&sink, 1).await.remove(0);
        assert!(shut.signed && !shut.headers.contains_key("x-github-event"), "{:?}", shut.headers);
        let (told, data) = (body(&shut), body(&shut)["data"].clone());
        assert_eq!(told["type"], "talaria.route.shut");
        assert_eq!(
            (&data["tenant"], &data["route"], &data["waiting"]),
            (&json!("acme"), &json!("r"), &json!(1))
        );
        assert!(data["reason"].as_str().unwrap().starts_with("401: "), "{data}");
        let command = data["command"].as_str().unwrap().strip_prefix("talaria ").unwrap();
        says(&stack, &command.split(' ').collect::<Vec<_>>(), "shut").await;

        for command in [["render", "acme/ops"], ["hermes", "acme/ops"]] {
            let output = run(stack.written.path(), &command);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("is a webhook"), "{command:?}: {said}");
        }

        sink.set("r", Does::Accept);
        works(&stack, &["probe", "acme/r"]);
        let open = notices(&sink, 2).await.remove(1);
        assert_eq!(body(&open)["type"], "talaria.route.open");
        in_state(&stack, DeliveryState::Delivered, 1).await;
        assert_eq!(sink.requests_to("ops").len(), 2, "{:?}", sink.requests_to("ops"));
        assert!(
            sink.requests_to("r").iter().all(|request| body(request)["type"] == "video.generation.completed")
        );

        // It has all that a delivery has.
        let delivery = shut.id.split('.').next().unwrap();
        says(&stack, &["status", delivery], "the receiver took it").await;
        let event = format!("evt_{}", &delivery[4..36]);
        for text in ["it takes every type but notices", "nothing more: the receiver has it"] {
            says(&stack, &["explain", &event], text).await;
        }
        works(&stack, &["replay", delivery]);
        let again = notices(&sink, 3).await.remove(2);
        assert_eq!((again.body, again.id), (shut.body, format!("{delivery}.2")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_has_one_id_over_a_kill_and_is_made_once() {
    for builder in on_both().await {
        let sink = Sink::start().await;
        sink.set("r", Does::Answer(500, json!({})));
        sink.set("ops", Does::Hang);
        let keys = "pace: off\nbreaker: off\nretry: {schedule: []}";
        let mut stack = builder
            .tenant("acme", |t| t.route("r", &sink.url("r"), keys).notices("ops", &sink.url("ops")))
            .start()
            .await;
        for job in 0..3 {
            stack.openrouter("acme").send(&format!("job {job}"), "completed").await;
        }
        in_state(&stack, DeliveryState::Parked, 3).await;
        stack.kill_and_restart().await;
        sink.set("ops", Does::Accept);
        until("three notices to be delivered", async || {
            let is_it = |of: &&Delivery| of.route == "ops" && of.state() == DeliveryState::Delivered;
            (stack.deliveries().await.iter().filter(is_it).count() == 3).then_some(())
        })
        .await;
        let ran: Vec<Request> = sink.requests_to("ops").into_iter().filter(|request| request.ran).collect();
        let about: BTreeSet<String> =
            ran.iter().map(|request| body(request)["data"]["delivery"].to_string()).collect();
        assert_eq!((ran.len(), about.len()), (3, 3), "{ran:?}");
        let known: BTreeSet<String> = sink.requests_to("ops").into_iter().map(|request| request.id).collect();
        assert_eq!(known.len(), 3, "an attempt that is repeated has its id: {known:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_parked_deliveries_ten_are_told_and_the_others_counted() {
    const EVENTS: usize = 40;
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(500, json!({})));
    let keys = "pace: off\nbreaker: off\nretry: {schedule: []}";
    let stack = stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), keys).notices("ops", &sink.url("ops")))
        .start()
        .await;
    for job in 0..EVENTS {
        stack.openrouter("acme").send(&format!("job {job}"), "completed").await;
    }
    in_state(&stack, DeliveryState::Parked, EVENTS).await;
    notices(&sink, 10).await;
    assert_eq!((counted(&stack, "told").await, counted(&stack, "left_out").await), (10.0, 30.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_notices_that_fails_leads_to_no_notice_and_delays_no_delivery() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(401, json!({})));
    sink.set("ops", Does::Answer(410, json!({})));
    let stack = stack()
        .tenant("acme", |t| {
            let t = t.route("r", &sink.url("r"), "pace: off").route("other", &sink.url("other"), "pace: off");
            t.notices("ops", &sink.url("ops"))
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    notices(&sink, 1).await;
    says(&stack, &["status", "--routes"], "410: the receiver takes no webhooks there").await;
    assert!(works(&stack, &["status", "--routes"]).contains("410: the receiver takes no webhooks there"));
    stack.finished(&event, "other").await;
    assert_eq!(counted(&stack, "told").await, 1.0, "the one about r");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_callback_and_a_refused_configuration_are_told_of() {
    for builder in on_both().await {
        let sink = Sink::start().await;
        let stack = builder
            .tenant("acme", |t| t.route("r", &sink.url("r"), "").notices("ops", &sink.url("ops")))
            .tenant("globex", |t| t.route("r", &sink.url("r"), ""))
            .start()
            .await;
        let openrouter = stack.openrouter("acme");
        let is_spoofed = json!({"type": "talaria.route.shut", "data": {"id": "j"}});
        for bytes in [b"no event".to_vec(), is_spoofed.to_string().into_bytes()] {
            openrouter.send_bytes(bytes).await.unwrap();
        }
        let told: Vec<Value> = notices(&sink, 2).await.iter().map(body).collect();
        assert!(told.iter().all(|told| told["type"] == "talaria.callback.quarantined"), "{told:?}");
        assert!(
            told.iter()
                .any(|told| told["data"]["reason"].as_str().unwrap().contains("as only Talaria's own"))
        );

        let valid = fs::read_to_string(&stack.written.config).unwrap();
        for _ in 0..2 {
            // It stays one notice: only the change is told.
            stack.rewrite(|text| text + "nonsense: 1\n");
            stack.config_when("the fault", |config| !config["fault"].is_null()).await;
        }
        let refused = body(&notices(&sink, 3).await.remove(2));
        let data = refused["data"].clone();
        assert_eq!(
            (&refused["type"], &data["process"]),
            (&json!("talaria.configuration.refused"), &json!("up"))
        );
        assert_eq!((&data["command"], &data["problems"]), (&json!("talaria check"), &json!(1)));
        assert!(!data["message"].as_str().unwrap().contains("nonsense"), "no text of the file: {data}");
        stack.rewrite(|_| valid);
        stack.config_when("no fault", |config| config["fault"].is_null()).await;
        assert_eq!(sink.requests_to("ops").len(), 3);
        assert!(sink.requests_to("r").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_job_is_told_of() {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let keys = "poll: {first: 200ms, every: 200ms, slowest: 400ms, give_up: 1s}";
    let stack = stack()
        .tenant("acme", |t| {
            t.jobs(&api, keys).route("r", &sink.url("r"), "").notices("ops", &sink.url("ops"))
        })
        .start()
        .await;
    let video = VideoRequest {
        model: "google/veo-3.1".into(),
        prompt: "a very secret prompt".into(),
        duration: Some(6),
        resolution: "720p".into(),
        ..VideoRequest::default()
    };
    let request = SubmitJobRequest {
        tenant: "acme".into(),
        request_id: "one".into(),
        requested_by: "test".into(),
        video: Some(video),
        ..SubmitJobRequest::default()
    };
    let job = stack.jobs().await.submit_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Running);
    let overdue = body(&notices(&sink, 1).await.remove(0));
    assert_eq!((&overdue["type"], &overdue["data"]["job"]), (&json!("talaria.job.overdue"), &json!(job.id)));
    assert_eq!(overdue["data"]["state"], "abandoned");
    assert!(!overdue.to_string().contains("secret prompt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_hermes_gets_a_prompt_for_a_notice() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(401, json!({})));
    let stack = stack()
        .tenant("acme", |t| {
            let t = t.route("r", &sink.url("r"), "pace: off");
            t.route("ops", &sink.url("ops"), "events: [talaria.route.*]")
        })
        .start()
        .await;
    stack.openrouter("acme").send("job", "completed").await;
    let notice = notices(&sink, 1).await.remove(0);
    assert!(notice.signed && notice.ran);
    let (prompt, data) = (notice.prompt(), body(&notice)["data"].clone());
    for member in ["message", "command"] {
        assert!(prompt.contains(data[member].as_str().unwrap()), "{prompt}");
    }
}

/// The program of docs/notices.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_verifies_a_notice_as_the_page_shows() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(401, json!({})));
    let stack = stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off").notices("ops", &sink.url("ops")))
        .start()
        .await;
    stack.openrouter("acme").send("job", "completed").await;
    let notice = notices(&sink, 1).await.remove(0);
    let page = fs::read_to_string(workspace().join("docs/notices.md")).unwrap();
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let headers: Value = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .map(|name| (name.to_owned(), json!(notice.headers[name].to_str().unwrap())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let verify = |secret: &str, body: &str| {
        let call = format!("{program}\nimport json, sys\nprint(verify(*json.loads(sys.argv[1])))");
        let given = json!([secret, headers, body]).to_string();
        let output = Command::new("python3").args(["-c", &call, &given]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim() == "True"
    };
    let text = String::from_utf8(notice.body.to_vec()).unwrap();
    assert!(verify(sink::WEBHOOK_SECRET, &text));
    assert!(!verify(sink::WEBHOOK_SECRET, &text.replace("acme", "evil")));
    assert!(!verify("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &text));
}
