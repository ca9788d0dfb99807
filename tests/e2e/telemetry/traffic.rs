//! An installation with traffic of every kind that metrics show.

use crate::{certificates::Authority, jobs::request};
use jiff::Timestamp;
use serde_json::json;
use std::fs;
use talaria_core::report;
use talaria_proto::v1::{PauseRequest, SubmitJobRequest};
use talaria_tests::{
    binary::run,
    http,
    openrouter::{OpenRouter, event_id, payload},
    openrouter_api::{End, OpenRouterApi, VIDEO},
    sink::{self, Does, Sink},
    stack::{Stack, stack},
};
use tempfile::TempDir;

/// The keys of a route whose deliveries are parked after two attempts.
const RETRIED: &str = "pace: off\nretry: {schedule: [0s]}";

/// A running Talaria with what it talks to.
pub(super) struct Installation {
    pub(super) stack: Stack,
    pub(super) sink: Sink,
    api: OpenRouterApi,
    _copies: TempDir,
}

impl Installation {
    /// Starts one with these keys.
    pub(super) async fn start(keys: &str) -> Self {
        let (sink, api) = (Sink::start().await, OpenRouterApi::start().await);
        sink.set("broken", Does::Answer(500, json!({})));
        sink.set("refused", Does::Answer(404, json!({})));
        sink.set("ignored", Does::Answer(200, json!({"status": "ignored", "reason": "filter"})));
        sink.set("odd", Does::Answer(200, json!({"status": "of another version"})));
        let copies = tempfile::tempdir().unwrap();
        let media = format!("mode: keep, directory: '{}'", copies.path().join("videos").display());
        let polls = "poll: {first: 200ms, every: 200ms, slowest: 400ms, give_up: 1h}";
        let only = |job: &str, keys: &str| format!("filters: {{field: data.id, regex: ^{job}}}\n{keys}");
        let written = stack()
            .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
            .with(keys)
            .environment("OTEL_BSP_SCHEDULE_DELAY", "50")
            .tenant("acme", |t| {
                t.route("ran", &sink.url("ran"), &only("ran", "pace: off\nruns: 1h\ntls: {ca: ca.pem}"))
                    .route("slow", &sink.url("slow"), &only("slow", "pace: 1/h"))
                    .route("broken", &sink.url("broken"), &only("broken", RETRIED))
                    .route("refused", &sink.url("refused"), &only("refused", "pace: off"))
                    .route("paused", &sink.url("paused"), &only("paused", "pace: off"))
                    .route("ignored", &sink.url("ignored"), &only("ignored", "pace: off"))
                    .route("odd", &sink.url("odd"), &only("odd", "pace: off"))
                    .notices("told", &sink.url("told"))
            })
            .tenant("films", |t| {
                let prompt = "pace: off\nprompt: 'See {talaria.media.url}'";
                t.jobs(&api, polls).media(&media).route("video", &sink.url("video"), prompt)
            })
            .tenant("down", |t| t)
            .write();
        fs::remove_file(written.path().join("openrouter-down")).unwrap();
        Authority::new().write_client(written.path(), "talaria");
        Self { stack: written.start().await, sink, api, _copies: copies }
    }

    /// Traffic of every kind, with so many deliveries that wait for the paused route.
    pub(super) async fn traffic(&self, paused: usize) {
        let acme = self.stack.openrouter("acme");
        let stranger = OpenRouter::new(self.stack.ingress(), "acme", "another");
        assert_eq!(stranger.try_send("ran", "completed").await, Some(401));
        assert_eq!(self.stack.openrouter("down").try_send("ran", "completed").await, Some(503));
        assert_eq!(acme.send_bytes(b"no event".to_vec()).await, Some(422));
        let ran = acme.send("ran", "completed").await;
        acme.send("ran", "completed").await;
        let mut conflict = payload("ran", "completed");
        conflict["data"]["model"] = "another".into();
        acme.send_payload(&conflict).await;
        self.report(&ran).await;

        let request =
            PauseRequest { tenant: "acme".into(), route: "paused".into(), ..PauseRequest::default() };
        let request = PauseRequest { requested_by: "ana".into(), reason: "Hermes moves".into(), ..request };
        self.stack.control().await.pause(request).await.unwrap();
        for number in 0..paused {
            acme.send(&format!("paused {number}"), "completed").await;
        }
        for job in ["slow", "slow, too", "broken", "refused", "ignored", "odd", "unmatched"] {
            acme.send(job, "completed").await;
        }
        self.film().await;

        let made = run(self.stack.written.path(), &["backup", "copy"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let url = format!("http://{}/talaria.v1.StatusService/Nothing", self.stack.console());
        let asked = http().post(url).header("content-type", "application/json").body("{}").send().await;
        assert_eq!(asked.unwrap().status(), 501);
        self.stack.finished(&event_id("acme", "broken", "completed"), "broken").await;
        self.stack.rewrite(|text| text.replace("[0s]", "[1s]"));
        self.stack.generation(2).await;
    }

    /// Reports that the agent's run on an event has finished.
    async fn report(&self, event: &str) {
        let delivery = self.stack.finished(event, "ran").await.delivery.unwrap();
        let body = json!({
            "delivery": format!("{}.{}", delivery.id, delivery.generation),
            "outcome": "finished",
            "ended_at": "2026-01-01T00:00:00.123Z",
            "duration_ms": 41_000,
        });
        let (body, now) = (body.to_string(), Timestamp::now());
        let signature = report::sign(&sink::SECRET.into(), "report-1", now, body.as_bytes());
        let request = http()
            .post(format!("http://{}/runs/acme/ran", self.stack.console()))
            .header("content-type", "application/json")
            .header(report::ID, "report-1")
            .header(report::TIMESTAMP, now.as_second().to_string())
            .header(report::SIGNATURE, signature);
        assert_eq!(request.body(body).send().await.unwrap().status(), 204);
    }

    /// Submits a job, whose end a poll finds, and asks for its file by the link.
    async fn film(&self) {
        let submit = SubmitJobRequest { tenant: "films".into(), ..request("r1") };
        let job = self.stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
        self.api.end(&job.openrouter_id, End::completed(2.5)).await;
        let event = event_id("films", &job.openrouter_id, "completed");
        self.stack.finished(&event, "video").await;
        let prompt = self.sink.requests_to("video").pop().unwrap().prompt();
        let path = prompt.strip_prefix("See https://hooks.example.com").unwrap_or_else(|| panic!("{prompt}"));
        let file = http().get(format!("http://{}{path}", self.stack.ingress())).send().await.unwrap();
        assert_eq!(&file.bytes().await.unwrap()[..], VIDEO);
    }
}
