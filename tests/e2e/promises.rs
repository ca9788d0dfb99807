//! The promises of the README, a test for each, by number.

use rand::Rng as _;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, RwLock, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};
use talaria_proto::v1::{
    AttemptOutcome, DeliveryState, GetJobRequest, JobState, SubmitJobRequest, VideoRequest,
};
use talaria_tests::{
    binary,
    openrouter::{OpenRouter, event_id, payload},
    openrouter_api::{End, OnSubmit, OpenRouterApi},
    seeded,
    sink::{self, Does, Sink},
    stack::{openrouter_secret, stack},
    until,
};
use tokio::task::JoinSet;

/// Promises 1, 2, 3 and 5 under the worst that can happen to a process: it is killed at random moments under load,
/// twenty times, and started again.
#[tokio::test(flavor = "multi_thread")]
async fn promises_1_2_3_5_hold_when_the_process_is_killed_at_random_moments_under_load() {
    const ROUNDS: usize = 20;
    const SENDERS: usize = 12;
    let mut random = seeded("killed at random moments");
    let sink = Sink::start().await;
    let keys =
        "pace: off\nprompt: '{data.id}'\nretry: {schedule: [100ms, 100ms, 100ms, 1s, 1s, 5s, 5s, 5s, 5s]}";
    let mut stack = stack()
        .tenant("acme", |t| t.route("one", &sink.url("one"), keys).route("two", &sink.url("two"), keys))
        .start()
        .await;

    let openrouter = Arc::new(RwLock::new(stack.openrouter("acme")));
    let acknowledged = Arc::<Mutex<BTreeSet<String>>>::default();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (openrouter, acknowledged, stop) =
            (Arc::clone(&openrouter), Arc::clone(&acknowledged), Arc::clone(&stop));
        senders.spawn(async move {
            for number in 0.. {
                let (job, to) = (format!("job-{sender}-{number}"), openrouter.read().unwrap().clone());
                if to.try_send(&job, "completed").await == Some(204) {
                    acknowledged.lock().unwrap().insert(job);
                } else {
                    // Connections are refused at the moment.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
    }
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..250))).await;
        stack.kill_and_restart().await;
        *openrouter.write().unwrap() = stack.openrouter("acme");
    }
    stop.store(true, Ordering::Relaxed);
    senders.join_all().await;

    let acknowledged = acknowledged.lock().unwrap().clone();
    eprintln!("{} callbacks were acknowledged", acknowledged.len());
    assert!(acknowledged.len() > ROUNDS, "there was load");
    let deliveries = until("every delivery to end", async || {
        let deliveries = stack.deliveries().await;
        let done = deliveries.iter().all(|delivery| delivery.state() != DeliveryState::Waiting);
        (done && deliveries.len() >= 2 * acknowledged.len()).then_some(deliveries)
    })
    .await;

    // 1 and 2: whatever was acknowledged is there, and has one final state for each route.
    let mut states: BTreeMap<(&str, &str), Vec<DeliveryState>> = BTreeMap::new();
    for delivery in &deliveries {
        states.entry((&delivery.job_id, &delivery.route)).or_default().push(delivery.state());
    }
    for job in &acknowledged {
        for route in ["one", "two"] {
            let found = states.get(&(job.as_str(), route));
            assert_eq!(found, Some(&vec![DeliveryState::Delivered]), "{job} to {route}");
        }
    }
    // 3: no agent ran twice, and nothing reached Hermes under two ids for the same generation.
    let known: BTreeSet<&str> = deliveries.iter().map(|delivery| delivery.id.as_str()).collect();
    let mut runs: HashMap<(String, String), usize> = HashMap::new();
    let mut ids: HashMap<(String, u64), BTreeSet<String>> = HashMap::new();
    for request in sink.requests() {
        assert!(request.signed);
        let delivery = request.talaria("delivery_id").as_str().unwrap().to_owned();
        assert!(
            known.contains(delivery.as_str()),
            "Hermes saw {delivery}, of which the status knows nothing"
        );
        let generation = request.talaria("generation").as_u64().unwrap();
        ids.entry((delivery, generation)).or_default().insert(request.id.clone());
        *runs.entry((request.prompt(), request.route.clone())).or_default() += usize::from(request.ran);
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert!(
        runs.values().all(|runs| *runs == 1),
        "{:?}",
        runs.iter().filter(|(_, runs)| **runs != 1).collect::<Vec<_>>()
    );
    // 5: the status has the attempts that Hermes saw.
    let attempts: u32 = deliveries.iter().map(|delivery| delivery.attempts).sum();
    let requests = u32::try_from(sink.requests().len()).unwrap();
    assert!(attempts >= requests, "{requests} requests were made and {attempts} are known");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_accepted_means_durable() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    for index in 0..10 {
        let event = stack.openrouter("acme").send(&format!("job {index}"), "completed").await;
        // After the acknowledgement a crash must not matter.
        stack.kill_and_restart().await;
        assert_eq!(stack.finished(&event, "r").await.delivery.unwrap().state(), DeliveryState::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_one_event_has_one_final_state_for_each_matching_route() {
    let sink = Sink::start().await;
    sink.set("ignores", Does::Answer(200, serde_json::json!({"status": "ignored", "reason": "filter"})));
    sink.set("fails", Does::Answer(500, serde_json::json!({})));
    sink.set("riddles", Does::Answer(200, serde_json::json!({"hello": "world"})));
    let fast = "retry: {schedule: [50ms, 50ms]}";
    let stack = stack()
        .tenant("acme", |t| {
            t.route("takes", &sink.url("takes"), fast)
                .route("ignores", &sink.url("ignores"), fast)
                .route("fails", &sink.url("fails"), fast)
                .route("riddles", &sink.url("riddles"), fast)
                .route("other", &sink.url("other"), "events: ['image.*']")
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    for (route, state, attempts) in [
        ("takes", DeliveryState::Delivered, 1),
        ("ignores", DeliveryState::Ignored, 1),
        ("fails", DeliveryState::Parked, 3),
        ("riddles", DeliveryState::Ambiguous, 1),
    ] {
        let found = stack.finished(&event, route).await;
        let delivery = found.delivery.unwrap();
        assert_eq!(
            (delivery.state(), found.attempts.len()),
            (state, attempts),
            "{route}: {}",
            delivery.reason
        );
        assert!(!delivery.reason.is_empty() && delivery.next_attempt_at.is_none());
    }
    assert_eq!(stack.event(&event).await.deliveries.len(), 4, "the fifth route does not match");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_a_repeated_callback_never_runs_an_agent_twice() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    // The same callback a thousand times from fifty connections.
    let mut senders = JoinSet::new();
    for _ in 0..50 {
        let openrouter = stack.openrouter("acme");
        senders.spawn(async move {
            for _ in 0..20 {
                openrouter.send("job", "completed").await;
            }
        });
    }
    senders.join_all().await;
    let event = event_id("acme", "job", "completed");
    stack.finished(&event, "r").await;
    // Again after a restart of ours, after a restart of Hermes, and under another idempotency key.
    stack.kill_and_restart().await;
    sink.forget_ids();
    for _ in 0..10 {
        stack.openrouter("acme").send("job", "completed").await;
    }
    // Another job goes all the way behind them.
    let last = stack.openrouter("acme").send("last", "completed").await;
    stack.finished(&last, "r").await;
    let ids: Vec<_> = sink.requests().into_iter().map(|request| request.id).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(stack.deliveries().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_a_slow_or_broken_hermes_delays_no_other() {
    const EVENTS: usize = 200;
    let sink = Sink::start().await;
    sink.set("hangs", Does::Hang);
    let nobody = "http://127.0.0.1:1/webhooks/nobody";
    let stack = stack()
        .tenant("acme", |t| {
            t.route("hangs", &sink.url("hangs"), "pace: off\nin_flight: 4\ntimeout: 60s")
                .route("broken", nobody, "pace: off\nretry: {schedule: [5s, 5s, 5s, 5s]}")
                .route("good", &sink.url("good"), "pace: off")
        })
        .tenant("other", |t| t.route("good", &sink.url("theirs"), "pace: off"))
        .start()
        .await;
    for index in 0..EVENTS {
        let (job, acme, other) =
            (format!("job {index}"), stack.openrouter("acme"), stack.openrouter("other"));
        tokio::join!(acme.send(&job, "completed"), other.send(&job, "completed"));
    }
    // All other deliveries end while every slot of the hanging route is in use.
    let good = until("the healthy routes", async || {
        let mut deliveries = stack.deliveries().await;
        deliveries
            .retain(|delivery| delivery.route == "good" && delivery.state() == DeliveryState::Delivered);
        (deliveries.len() == 2 * EVENTS).then_some(deliveries)
    })
    .await;
    assert!(good.iter().all(|delivery| delivery.attempts == 1));
    let hanging = sink.requests_to("hangs");
    assert_eq!(hanging.len(), 4, "no more than its window");
    let deliveries = stack.deliveries().await;
    let waiting =
        deliveries.iter().filter(|d| d.route == "hangs" && d.state() == DeliveryState::Waiting).count();
    assert_eq!(waiting, EVENTS);
    // And when it comes back to life, it catches up.
    sink.set("hangs", Does::Accept);
    let deliveries = until("the route that hung", async || {
        let deliveries = stack.deliveries().await;
        let is_done =
            |d: &&talaria_proto::v1::Delivery| d.route == "hangs" && d.state() == DeliveryState::Delivered;
        (deliveries.iter().filter(is_done).count() == EVENTS).then_some(deliveries)
    })
    .await;
    // Behind the broken one there is no server, and its backlog burns no attempts to find that out.
    let broken: Vec<_> = deliveries.iter().filter(|d| d.route == "broken").collect();
    for delivery in &broken {
        let is_held = delivery.state() == DeliveryState::Waiting && delivery.reason.contains("is shut");
        assert!(is_held, "{delivery:?}");
    }
    let attempts: u32 = broken.iter().map(|d| d.attempts).sum();
    assert!((5..50).contains(&attempts), "{attempts} attempts for {EVENTS} deliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_an_attempt_is_recorded_before_it_is_made() {
    let sink = Sink::start().await;
    sink.set("r", Does::Hang);
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "timeout: 60s")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    until("Hermes to see the request", async || (sink.requests().len() == 1).then_some(())).await;
    stack.kill_and_restart().await;
    until("Hermes to see it again", async || (sink.requests().len() == 2).then_some(())).await;
    sink.set("r", Does::Accept);
    let found = stack.finished(&event, "r").await;
    let outcomes: Vec<_> = found.attempts.iter().map(|attempt| (attempt.number, attempt.outcome())).collect();
    assert_eq!(outcomes, [(1, AttemptOutcome::Interrupted), (2, AttemptOutcome::Accepted)]);
    let ids: BTreeSet<_> = sink.requests().into_iter().map(|request| request.id).collect();
    assert_eq!(ids.len(), 1, "the same generation has the same id");

    // A lost answer is not counted as a failure.
    sink.set("r", Does::LoseAnswer);
    let event = stack.openrouter("acme").send("lost", "completed").await;
    stack.delivery_when(&event, "r", |delivery| delivery.attempts == 1).await;
    sink.set("r", Does::Accept);
    let found = stack.finished(&event, "r").await;
    let outcomes: Vec<_> = found.attempts.iter().map(talaria_proto::v1::Attempt::outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::AnswerLost, AttemptOutcome::Duplicate]);
    let delivery = found.delivery.unwrap();
    assert_eq!(delivery.state(), DeliveryState::Delivered);
    assert!(delivery.reason.contains("since attempt 1, whose answer was lost"), "{}", delivery.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_nothing_unsigned_or_stale_gets_in_and_a_refusal_tells_nothing() {
    let sink = Sink::start().await;
    let stack = stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), ""))
        .tenant("other", |t| t.route("r", &sink.url("r"), ""))
        .start()
        .await;
    let client = talaria_tests::http();
    let body = payload("job", "completed").to_string();
    let sign = |secret: &str, age: i64| {
        let at = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - age).unwrap();
        talaria_core::openrouter::signature::sign(&secret.into(), at, body.as_bytes())
    };
    let (ours, theirs) = (openrouter_secret("acme"), openrouter_secret("other"));
    let mut answers = BTreeSet::new();
    for (tenant, signature, reason) in [
        ("acme", None, "missing"),
        ("acme", Some("nonsense".to_owned()), "malformed"),
        ("acme", Some(sign("guessed", 0)), "mismatch"),
        ("acme", Some(sign(&theirs, 0)), "misdirected"),
        ("acme", Some(sign(&ours, 3_600)), "stale"),
        ("nobody", Some(sign("guessed", 0)), "unknown_tenant"),
        ("nobody", Some(sign(&ours, 0)), "misdirected"),
    ] {
        let mut request =
            client.post(format!("http://{}/callbacks/{tenant}", stack.ingress())).body(body.clone());
        if let Some(signature) = &signature {
            request = request.header("X-OpenRouter-Signature", signature);
        }
        let answer = request.send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove("date");
        answers.insert(format!("{status} {headers:?} {}", answer.text().await.unwrap()));
        // The operator gets the reason, the sender does not.
        let (_, metrics) = stack.admin_get("/metrics").await;
        assert!(
            !metrics.contains(&format!("talaria_callbacks_refused_total{{reason=\"{reason}\"}} 0\n")),
            "{metrics}"
        );
        stack.logged(&format!("\"reason\":\"{reason}\"")).await;
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(answers.first().unwrap().starts_with("401 "));
    // A refused callback is stored nowhere.
    let event = stack.openrouter("acme").send("good", "completed").await;
    stack.finished(&event, "r").await;
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_no_secret_is_ever_printed() {
    let sink = Sink::start().await;
    sink.set("refuses", Does::Answer(401, serde_json::json!({"error": "Invalid signature"})));
    let mut stack = stack()
        .environment("RUST_LOG", "trace")
        .environment("OPENROUTER_FROM_ENVIRONMENT", "an environment's secret")
        .tenant("acme", |t| t.route("r", &sink.url("r"), "").route("refuses", &sink.url("refuses"), ""))
        .start()
        .await;
    let openrouter = stack.openrouter("acme");
    let event = openrouter.send("job", "completed").await;
    openrouter.send_bytes(b"no event".to_vec()).await;
    OpenRouter::new(stack.ingress(), "acme", "a stranger's").try_send("job", "completed").await;
    stack.finished(&event, "r").await;
    let refused = stack.delivery_when(&event, "refuses", |delivery| delivery.attempts == 1).await;
    let refused = refused.delivery.unwrap().id;

    let mut printed = vec![stack.admin_get("/metrics").await.1, stack.admin_get("/readyz").await.1];
    let relay = stack.relay();
    let directory = stack.written.path().to_path_buf();
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["status", "--relay", &relay, "--json"],
        &["status", "--relay", &relay, "--payload", &event],
        &["status", "--relay", &relay, "--evidence", &refused],
        &["status", "--relay", &relay, "--quarantined", "--payload"],
        &["hermes", "acme/r"],
        &["render", "acme/r"],
        &["send", "--url", "http://127.0.0.1:1/"],
        &["render", "acme/nowhere"],
    ] {
        let output = binary::run(&directory, args);
        printed
            .extend([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    // A configuration with the secret itself in it.
    let text = std::fs::read_to_string(&stack.written.config).unwrap();
    let wrong = directory.join("wrong.yaml");
    std::fs::write(&wrong, text.replace("{file: hermes}", &format!("\"{}\"", sink::SECRET))).unwrap();
    for command in ["check", "up", "hermes"] {
        let output = binary::run(&directory, &[command, "--config", "wrong.yaml"]);
        assert_eq!(output.status.code(), Some(3));
        printed
            .extend([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    stack.terminate().await;
    printed.extend(stack.log());
    assert!(printed.len() > 100, "there was something to look at");
    let shown = AtomicUsize::new(0);
    for secret in [sink::SECRET.to_owned(), openrouter_secret("acme"), "an environment's secret".into()] {
        for text in printed.iter().filter(|text| text.contains(&secret)) {
            shown.fetch_add(1, Ordering::Relaxed);
            eprintln!("a secret was printed: {text}");
        }
    }
    assert_eq!(shown.into_inner(), 0);
}

/// Promise 8: by its callback, by a poll, or given up; and a lost answer is never asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_submitted_job_gets_an_end_and_is_never_submitted_twice() {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let keys = "poll: {first: 200ms, every: 200ms, slowest: 200ms, give_up: 4s}";
    let mut stack = stack()
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| t.jobs(&api, keys).route("video", &sink.url("video"), "pace: off"))
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    let request = |id: &str| SubmitJobRequest {
        tenant: "acme".into(),
        request_id: id.into(),
        video: Some(VideoRequest {
            model: "google/veo-3.1".into(),
            prompt: id.into(),
            duration: Some(4),
            ..VideoRequest::default()
        }),
        requested_by: "test".into(),
        ..SubmitJobRequest::default()
    };
    let mut ids = BTreeMap::new();
    for id in ["callback", "poll", "lost"] {
        if id == "lost" {
            api.on_next_submits([OnSubmit::LoseAnswer]);
        }
        let job = stack.jobs().await.submit_job(request(id)).await.unwrap().into_inner().job.unwrap();
        ids.insert(id, job);
    }
    assert_eq!(api.end(&ids["callback"].openrouter_id, End::completed(1.0)).await, Some(204));
    api.lose_callbacks(true);
    stack.kill_and_restart().await;
    api.end(&ids["poll"].openrouter_id, End::completed(1.0)).await;
    for (id, state) in
        [("callback", JobState::Completed), ("poll", JobState::Completed), ("lost", JobState::Abandoned)]
    {
        let asked = GetJobRequest { job_id: ids[id].id.clone(), tenant: String::new() };
        let mut jobs = stack.jobs().await;
        until(&format!("the end of {id}"), async || {
            let job = jobs.get_job(asked.clone()).await.ok()?.into_inner().job.unwrap();
            (job.state() == state).then_some(())
        })
        .await;
        // The same request is the same job, also after its end.
        assert!(jobs.submit_job(request(id)).await.unwrap().into_inner().known);
    }
    assert_eq!(api.jobs().len(), 3);
}
