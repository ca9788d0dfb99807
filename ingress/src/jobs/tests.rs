//! Questions over the embedded bus, and a stand-in for OpenRouter over real sockets.

use super::Jobs;
use prost::Message as _;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use talaria_bus::{Bus, Incoming, Partition};
use talaria_core::{
    config::{self, Config, testing::Files},
    id::EventId,
};
use talaria_openrouter::Client;
use talaria_proto::v1::{
    AskModels, AskPoll, AskSubmit, Event, EventSource, NotAskedKind, OpenRouterAnswer, OpenRouterQuestion,
    VideoRequest, open_router_answer::Answer, open_router_question::Ask, polled, submitted,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const KEY: &str = "sk-or-v1-hunter2";

/// A request to the stand-in.
#[derive(Clone, Debug)]
struct Asked {
    /// "POST /api/v1/videos"
    line: String,
    head: String,
    body: Value,
}

/// A stand-in that answers each request line with a status and a body.
struct OpenRouter {
    url: String,
    answers: Arc<Mutex<HashMap<&'static str, (u16, Value)>>>,
    asked: watch::Sender<Vec<Asked>>,
    /// While this is false, no request is answered.
    answering: watch::Sender<bool>,
}

impl OpenRouter {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let standin = Arc::new(Self {
            url: format!("http://{}/api/v1", listener.local_addr().unwrap()),
            answers: Arc::default(),
            asked: watch::Sender::default(),
            answering: watch::Sender::new(true),
        });
        standin.says("GET /api/v1/videos/models", 200, json!({"data": [{
            "id": "google/veo-3.1", "supported_durations": [8, 4, 6], "generate_audio": true,
            "pricing_skus": {"duration_seconds_with_audio": "0.40", "duration_seconds_without_audio": "0.20"},
        }]}));
        let serving = Arc::clone(&standin);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        standin
    }

    fn says(&self, line: &'static str, status: u16, body: Value) {
        self.answers.lock().unwrap().insert(line, (status, body));
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                if body.len() >= length {
                    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                    let body = serde_json::from_str(body).unwrap_or_default();
                    self.asked.send_modify(|asked| asked.push(Asked { line, head: head.into(), body }));
                    break;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                return;
            }
        }
        self.answering.subscribe().wait_for(|answering| *answering).await.unwrap();
        let line = self.asked.borrow().last().unwrap().line.clone();
        let (status, body) =
            self.answers.lock().unwrap().get(line.as_str()).cloned().unwrap_or_else(|| panic!("{line}"));
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close");
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn asked(&self, line: &str) -> Vec<Asked> {
        self.asked.borrow().iter().filter(|asked| asked.line == line).cloned().collect()
    }
}

/// Answers of an ingress with the tenants acme, `keyless` without a key, and `unread` whose key cannot be read.
struct Running {
    openrouter: Arc<OpenRouter>,
    bus: Bus,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _config: watch::Sender<Arc<Config>>,
    _files: Files,
}

impl Running {
    async fn start(ingress: &str) -> Self {
        let openrouter = OpenRouter::start().await;
        let tenant =
            |key: &str| format!("{{networks: [loopback], openrouter: {{secrets: [{{file: secret}}]{key}}}}}");
        let with_key =
            |file: &str| tenant(&format!(", api_key: {{file: {file}}}, base_url: '{}'", openrouter.url));
        let text = format!(
            "ingress: {{listen: 127.0.0.1:0{ingress}}}\ntenants:\n  acme: {}\n  keyless: {}\n  unread: {}\n",
            with_key("key"),
            tenant(""),
            with_key("away"),
        );
        let files = Files::new(&text, &[("secret", "s3cret"), ("key", KEY)]);
        let path = files.path("talaria.yaml");
        let config = config::read_for(&path, config::Role::Both, config::Missing::Tolerated).config.unwrap();
        let config = watch::Sender::new(Arc::new(config));
        let bus = Bus::embedded(&files.path("")).await.unwrap();
        let stop = CancellationToken::new();
        let jobs = Arc::new(Jobs::new(config.subscribe(), bus.publisher(), Client::new()));
        let serving = tokio::spawn(jobs.serve(stop.clone(), || Duration::from_secs(20)));
        Self { openrouter, bus, stop, serving, _config: config, _files: files }
    }

    async fn ask(&self, tenant: &str, ask: Ask) -> Answer {
        let question = OpenRouterQuestion { tenant: tenant.into(), ask: Some(ask) };
        self.ask_bytes(question.encode_to_vec()).await
    }

    async fn ask_bytes(&self, question: Vec<u8>) -> Answer {
        loop {
            match self.bus.ask_openrouter(question.clone().into()).await {
                Ok(answer) => return OpenRouterAnswer::decode(answer).unwrap().answer.unwrap(),
                // It takes a moment until the ingress takes questions.
                Err(error) => assert!(error.was_not_asked() && !self.serving.is_finished(), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn refused(&self, tenant: &str, ask: Ask) -> (NotAskedKind, String) {
        match self.ask(tenant, ask).await {
            Answer::NotAsked(not_asked) => (not_asked.kind(), not_asked.message),
            answer => panic!("{answer:?}"),
        }
    }

    async fn submit(&self) -> submitted::Outcome {
        let ask = AskSubmit { video: Some(video()), callback_token: "abc234".into() };
        match self.ask("acme", Ask::Submit(ask)).await {
            Answer::Submitted(submitted) => submitted.outcome.unwrap(),
            answer => panic!("{answer:?}"),
        }
    }

    async fn poll(&self, status: u16, body: Value) -> polled::Outcome {
        self.openrouter.says("GET /api/v1/videos/job-1", status, body);
        let (openrouter_id, callback_token) = ("job-1".into(), "abc234".into());
        let ask = AskPoll { openrouter_id, callback_token, model: "google/veo-3.1".into() };
        match self.ask("acme", Ask::Poll(ask)).await {
            Answer::Polled(polled) => polled.outcome.unwrap(),
            answer => panic!("{answer:?}"),
        }
    }

    /// The events that are stored now.
    async fn events(&self) -> Vec<Arc<Event>> {
        let count = self.bus.bounds().await.unwrap().last_event;
        let mut events = self.bus.events(Partition::ONLY, 0).await.unwrap();
        let mut stored = Vec::new();
        while (stored.len() as u64) < count {
            stored.extend(events.next(100).await.unwrap().into_iter().map(|stored| match stored.what {
                Incoming::Event(event) => event,
                other => panic!("{other:?}"),
            }));
        }
        stored
    }
}

fn video() -> VideoRequest {
    VideoRequest {
        model: "google/veo-3.1".into(),
        prompt: "a lighthouse".into(),
        duration: Some(4),
        ..VideoRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_fetched_once_and_requests_are_checked_against_them() {
    let running = Running::start("").await;
    let Answer::Models(models) = running.ask("acme", Ask::Models(AskModels {})).await else { panic!() };
    assert_eq!((models.models[0].id.as_str(), models.stale_because.as_str()), ("google/veo-3.1", ""));
    let Answer::Checked(checked) = running.ask("acme", Ask::Check(video())).await else { panic!() };
    assert_eq!(checked.estimate_micros, Some(1_600_000), "with sound, by default");
    let odd = VideoRequest { duration: Some(5), ..video() };
    let (kind, message) = running.refused("acme", Ask::Check(odd)).await;
    assert!(kind == NotAskedKind::Invalid && message.contains("duration"), "{message}");
    let unknown = VideoRequest { model: "veo".into(), ..video() };
    let (kind, message) = running.refused("acme", Ask::Check(unknown)).await;
    assert!(kind == NotAskedKind::Invalid && message.contains("google/veo-3.1"), "{message}");
    assert_eq!(running.openrouter.asked("GET /api/v1/videos/models").len(), 1);
    assert!(running.openrouter.asked("POST /api/v1/videos").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_of_models_nothing_is_asked() {
    let running = Running::start("").await;
    running.openrouter.says("GET /api/v1/videos/models", 500, json!({"error": {"message": "away"}}));
    for ask in [
        Ask::Models(AskModels {}),
        Ask::Check(video()),
        Ask::Submit(AskSubmit { video: Some(video()), callback_token: "abc".into() }),
    ] {
        let (kind, message) = running.refused("acme", ask).await;
        assert_eq!(kind, NotAskedKind::Unavailable);
        assert_eq!(message, "OpenRouter gives no list of models (500): away");
    }
    assert!(running.openrouter.asked("POST /api/v1/videos").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_once_with_its_own_callback_url() {
    let made = json!({"id": "job-1", "polling_url": "x", "status": "pending"});
    for (ingress, callback_url) in [
        (
            ", public_url: 'https://hooks.example.com/t'",
            json!("https://hooks.example.com/t/callbacks/acme/abc234"),
        ),
        ("", Value::Null),
    ] {
        let running = Running::start(ingress).await;
        running.openrouter.says("POST /api/v1/videos", 202, made.clone());
        let submitted::Outcome::Made(made) = running.submit().await else { panic!() };
        assert_eq!((made.openrouter_id.as_str(), made.status.as_str()), ("job-1", "pending"));
        let asked = running.openrouter.asked("POST /api/v1/videos");
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].body["callback_url"], callback_url);
        assert_eq!(asked[0].body["prompt"], "a lighthouse");
        assert!(asked[0].head.to_lowercase().contains(&format!("authorization: bearer {KEY}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_submit_says_whether_a_job_may_have_been_made() {
    let running = Running::start("").await;
    let error = json!({"error": {"code": 400, "message": "the moderation says no"}});
    running.openrouter.says("POST /api/v1/videos", 400, error.clone());
    let submitted::Outcome::Refused(why) = running.submit().await else { panic!() };
    assert!(why.contains("the moderation says no"), "{why}");
    running.openrouter.says("POST /api/v1/videos", 500, error);
    assert!(matches!(running.submit().await, submitted::Outcome::Unknown(_)));
    assert_eq!(running.openrouter.asked("POST /api/v1/videos").len(), 2, "neither is tried again");
    let ask = AskSubmit { video: Some(video()), callback_token: "No Token".into() };
    assert_eq!(running.refused("acme", Ask::Submit(ask)).await.0, NotAskedKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_poll_finds_is_stored_before_the_answer() {
    let running = Running::start("").await;
    let running_on =
        running.poll(200, json!({"id": "job-1", "polling_url": "x", "status": "in_progress"})).await;
    assert_eq!(running_on, polled::Outcome::Running("in_progress".into()));
    assert!(running.events().await.is_empty());
    let usage = json!({"cost": 0.25, "is_byok": false});
    let end = json!({"id": "job-1", "polling_url": "x", "status": "completed", "unsigned_urls": ["https://u"], "usage": usage});
    let polled::Outcome::Ended(ended) = running.poll(200, end).await else { panic!() };
    let events = running.events().await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&ended.event_id, ended.status.as_str()), (&event.id, "completed"));
    assert_eq!(
        event.id,
        EventId::new("acme", "job-1", "video.generation.completed").to_string(),
        "the callback's"
    );
    assert_eq!((event.source(), event.callback_token.as_str()), (EventSource::Poll, "abc234"));
    assert_eq!((event.cost_micros, event.model.as_deref()), (Some(250_000), Some("google/veo-3.1")));
    assert_eq!((event.idempotency_key.as_ref(), event.traceparent.len()), (None, 55));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_without_a_status_says_why() {
    let running = Running::start("").await;
    let error = |code: u16| json!({"error": {"code": code, "message": "Job job-1 not found"}});
    assert!(matches!(running.poll(404, error(404)).await, polled::Outcome::NotFound(_)));
    assert!(matches!(running.poll(401, error(401)).await, polled::Outcome::Denied(_)));
    assert!(matches!(running.poll(500, error(500)).await, polled::Outcome::Failed(_)));
    assert!(running.events().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_carried_out_says_what_to_do() {
    let running = Running::start("").await;
    for (tenant, says) in [
        ("nobody", "not in the ingress' configuration"),
        ("keyless", "no openrouter.api_key"),
        ("unread", "cannot read the openrouter.api_key"),
    ] {
        let (kind, message) = running.refused(tenant, Ask::Models(AskModels {})).await;
        assert!(kind == NotAskedKind::NotConfigured && message.contains(says), "{message}");
    }
    let none = OpenRouterQuestion { tenant: "acme".into(), ask: None }.encode_to_vec();
    for bytes in [none, vec![0xFF]] {
        let Answer::NotAsked(not_asked) = running.ask_bytes(bytes).await else { panic!() };
        assert_eq!(not_asked.kind(), NotAskedKind::Invalid);
    }
    assert!(running.openrouter.asked.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing() {
    let running = Running::start("").await;
    running.openrouter.says("POST /api/v1/videos", 202, json!({"id": "job-1", "status": "pending"}));
    running.ask("acme", Ask::Models(AskModels {})).await;
    running.openrouter.answering.send_replace(false);
    let mut asked = running.openrouter.asked.subscribe();
    let submit = async {
        let made = running.submit().await;
        assert!(matches!(made, submitted::Outcome::Made(_)), "{made:?}");
    };
    let stop = async {
        asked.wait_for(|asked| asked.iter().any(|asked| asked.line.starts_with("POST"))).await.unwrap();
        running.stop.cancel();
        // Until it takes no more questions.
        loop {
            let question = OpenRouterQuestion { tenant: "acme".into(), ask: Some(Ask::Models(AskModels {})) };
            match running.bus.ask_openrouter(question.encode_to_vec().into()).await {
                Err(error) if error.was_not_asked() => break,
                other => drop(other),
            }
        }
        running.openrouter.answering.send_replace(true);
    };
    tokio::join!(submit, stop);
    running.serving.await.unwrap();
}
