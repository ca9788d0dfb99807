//! The client of OpenRouter's video API, against the stand-in with its oddities.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};
use std::{
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use talaria_core::{
    config::Api,
    id::EventId,
    network::Network,
    openrouter::{
        event::Envelope,
        signature::{HEADER, Signature},
    },
};
use talaria_openrouter::{Client, Reading, Terminal, VideoModel, check, find, fit};
use talaria_proto::v1::{Made, Model, VideoRequest, submitted::Outcome};
use talaria_tests::openrouter_api::{End, KEY, OnPoll, OnSubmit, OpenRouterApi, models};
use tokio::{net::TcpListener, time::Instant};
use url::Url;

const SECRET: &str = "the workspace's secret";

fn api_of(openrouter: &OpenRouterApi) -> Api {
    api(&openrouter.base_url(), KEY)
}

fn api(base_url: &str, key: &str) -> Api {
    let networks = ["loopback".parse::<Network>().unwrap()].into_iter().collect();
    Api { key: key.into(), base_url: Url::parse(base_url).unwrap(), networks }
}

fn video() -> VideoRequest {
    VideoRequest { model: "google/veo-3.1".into(), prompt: "a lighthouse".into(), ..VideoRequest::default() }
}

async fn submit(openrouter: &OpenRouterApi) -> Outcome {
    submit_video(openrouter, &video(), Some("https://me.example/callbacks/me/token")).await
}

async fn submit_video(
    openrouter: &OpenRouterApi,
    video: &VideoRequest,
    callback_url: Option<&str>,
) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(85);
    Client::new().submit(&api_of(openrouter), video, callback_url, deadline).await.outcome.unwrap()
}

async fn made(openrouter: &OpenRouterApi) -> Made {
    match submit(openrouter).await {
        Outcome::Made(made) => made,
        other => panic!("{other:?}"),
    }
}

async fn reading(openrouter: &OpenRouterApi, id: &str) -> Reading {
    Client::new().poll(&api_of(openrouter), id, "google/veo-3.1").await.reading
}

async fn terminal(openrouter: &OpenRouterApi, id: &str) -> Terminal {
    match reading(openrouter, id).await {
        Reading::Ended(terminal) => terminal,
        other => panic!("{other:?}"),
    }
}

/// Paths, headers and bodies.
type Callbacks = Arc<Mutex<Vec<(String, HeaderMap, Vec<u8>)>>>;

/// An ingress that verifies nothing, and keeps what it gets.
async fn ingress() -> (SocketAddr, Callbacks) {
    let got = Callbacks::default();
    let keep = Arc::clone(&got);
    let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
        keep.lock().unwrap().push((uri.path().to_owned(), headers, body.to_vec()));
        ready(StatusCode::NO_CONTENT)
    };
    let router = Router::new().fallback(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, got)
}

#[tokio::test]
async fn a_job_is_made_followed_and_ends_as_its_callback_says() {
    let openrouter = OpenRouterApi::start().await;
    let (address, callbacks) = ingress().await;
    openrouter.callbacks_to(address, SECRET);
    let made = made(&openrouter).await;
    assert_eq!(made.status, "pending");
    openrouter.run(&made.openrouter_id, "in_progress");
    let running = Reading::Running { status: "in_progress".into() };
    assert_eq!(reading(&openrouter, &made.openrouter_id).await, running);

    for (end, event_type) in [
        (End::completed(0.5), "video.generation.completed"),
        (End::with_error("failed", "no faces"), "video.generation.failed"),
        (End::with_error("failed", json!({"code": 1, "message": "no faces"})), "video.generation.failed"),
        (End::with_error("cancelled", Value::Null), "video.generation.cancelled"),
        (End::with_error("expired", "Job exceeded maximum time to live"), "video.generation.expired"),
        (End::with_error("dead", Value::Null), "video.generation.failed"),
    ] {
        assert_eq!(openrouter.end(&made.openrouter_id, end.clone()).await, Some(204));
        let found = terminal(&openrouter, &made.openrouter_id).await;
        assert_eq!((found.status.as_str(), found.event_type.as_str()), (end.status.as_str(), event_type));
        let (path, headers, body) = callbacks.lock().unwrap().pop().unwrap();
        assert_eq!(path, "/callbacks/me/token");
        let signature = Signature::parse(headers[HEADER].to_str().unwrap()).unwrap();
        let now = jiff::Timestamp::now();
        assert_eq!(signature.verify(&[SECRET.into()], Duration::from_secs(300), now, &body), Ok(()));
        let (polled, called) = (Envelope::read(&found.payload).unwrap(), Envelope::read(&body).unwrap());
        let event = |event: &Envelope| EventId::new("me", &event.job_id, &event.event_type).to_string();
        assert_eq!(event(&polled), event(&called));
        assert_eq!(
            (polled.unsigned_urls, polled.cost_micros, polled.model),
            (called.unsigned_urls, called.cost_micros, called.model)
        );
    }
    let job = openrouter.job(&made.openrouter_id);
    assert_eq!((job.polls, job.callbacks.len()), (7, 6));
}

#[tokio::test]
async fn the_account_of_the_stand_in_has_each_job_that_was_made() {
    let openrouter = OpenRouterApi::start().await;
    for (does, is_made, expected) in [
        (OnSubmit::Accept, true, "Made"),
        (OnSubmit::CallbackFirst(End::completed(0.1)), true, "Made"),
        (OnSubmit::LoseAnswer, true, "Unknown(\"OpenRouter's answer was lost: "),
        // The head of the answer may be lost, too.
        (OnSubmit::CutAnswer, true, "Unknown(\"OpenRouter"),
        (
            OnSubmit::MakeAnd(500, json!({"error": "oops"})),
            true,
            "Unknown(\"OpenRouter's answer does not say whether it made the job (500): oops",
        ),
        (OnSubmit::MakeAnd(202, json!({"ok": true})), true, "so it made a job, but without the job's id"),
        (
            OnSubmit::Page(524),
            false,
            "Unknown(\"OpenRouter's answer does not say whether it made the job (524, with a page",
        ),
        (
            OnSubmit::Redirect("/api/v1/videos".into()),
            false,
            "Unknown(\"OpenRouter's answer is a redirect (307)",
        ),
        (
            OnSubmit::no_credits(),
            false,
            "Refused(\"the account at OpenRouter lacks credits (402): Insufficient credits.",
        ),
        (OnSubmit::key_limit(), false, "Refused(\"the key's limit at OpenRouter is reached (402)"),
        (
            OnSubmit::in_flight_budget("60"),
            false,
            "Refused(\"OpenRouter waits for other jobs of the account to end",
        ),
        (OnSubmit::too_many(Some("60")), false, "Refused(\"OpenRouter takes no more requests now (429)"),
    ] {
        let before = (openrouter.jobs().len(), openrouter.seen().len());
        openrouter.on_submit(does.clone());
        let outcome = format!("{:?}", submit(&openrouter).await);
        assert!(outcome.contains(expected), "{does:?}: {outcome}");
        assert!(!outcome.contains("user_2w"), "{outcome}");
        let after = (openrouter.jobs().len(), openrouter.seen().len());
        assert_eq!(after, (before.0 + usize::from(is_made), before.1 + 1), "{does:?}");
    }
    // What certainly made no job is sent again.
    openrouter.on_submit(OnSubmit::Accept);
    openrouter.on_next_submits([OnSubmit::too_many(None)]);
    let before = (openrouter.jobs().len(), openrouter.seen().len());
    made(&openrouter).await;
    assert_eq!((openrouter.jobs().len(), openrouter.seen().len()), (before.0 + 1, before.1 + 2));
}

#[tokio::test]
async fn the_key_goes_nowhere_else() {
    let (openrouter, elsewhere) = (OpenRouterApi::start().await, OpenRouterApi::start().await);
    let to = format!("{}/videos", elsewhere.base_url());
    openrouter.on_submit(OnSubmit::Redirect(to.clone()));
    assert!(matches!(submit(&openrouter).await, Outcome::Unknown(_)));
    openrouter.on_submit(OnSubmit::Accept);
    let made = made(&openrouter).await;
    openrouter.on_poll(&made.openrouter_id, OnPoll::Redirect(to));
    let failed = reading(&openrouter, &made.openrouter_id).await;
    assert!(
        matches!(&failed, Reading::Failed { message } if message.contains("redirect (307)")),
        "{failed:?}"
    );
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    let bearer = Some(format!("Bearer {KEY}"));
    assert!(openrouter.authorizations().iter().all(|seen| *seen == bearer));
}

#[tokio::test]
async fn polls_are_read_with_their_oddities() {
    let openrouter = OpenRouterApi::start().await;
    openrouter.relative_polling_url(true);
    let id = made(&openrouter).await.openrouter_id;
    openrouter.run(&id, "validating");
    let running = Reading::Running { status: "validating".into() };
    assert_eq!(reading(&openrouter, &id).await, running);
    let busy =
        json!({"error": {"code": 429, "message": "slow down", "metadata": {"retry_after_seconds": 30}}});
    for (does, expected) in [
        (OnPoll::NotFound, "NotFound { message: \"OpenRouter does not know the job (404): Job gen-vid-"),
        (OnPoll::revoked(), "Denied { message: \"OpenRouter refuses the key (401): User not found; "),
        (OnPoll::Page(200), "Failed { message: \"OpenRouter answered 200 with a page instead of JSON"),
        (OnPoll::Page(404), "Failed { message: \"OpenRouter gave no status of the job (404, with a page"),
        (OnPoll::LoseAnswer, "Failed { message: \"OpenRouter's answer was lost: "),
        (
            OnPoll::Refuse(429, None, busy),
            "Failed { message: \"OpenRouter gave no status of the job (429): slow down",
        ),
    ] {
        openrouter.on_next_polls(&id, [does]);
        let reading = format!("{:?}", reading(&openrouter, &id).await);
        assert!(reading.starts_with(expected), "{reading}");
    }
    assert_eq!(reading(&openrouter, &id).await, running);
    let of_none = reading(&openrouter, "gen-vid-1-none").await;
    assert!(matches!(of_none, Reading::NotFound { .. }), "{of_none:?}");
    let other_key = Client::new().poll(&api(&openrouter.base_url(), "sk-or-another"), &id, "").await;
    assert!(matches!(other_key.reading, Reading::Denied { .. }), "{other_key:?}");
}

/// The check finds what the stand-in would refuse, and what passes it is accepted.
#[tokio::test]
async fn what_the_check_lets_through_is_accepted() {
    let openrouter = OpenRouterApi::start().await;
    let catalogue = Client::new().models(&api_of(&openrouter)).await.unwrap();
    assert_eq!(catalogue.len(), models()["data"].as_array().unwrap().len());
    let estimates: Vec<_> = catalogue.iter().map(|model| Model::from(model).second_micros_from).collect();
    assert_eq!(estimates, [Some(200_000), Some(68_040), Some(120_000), None, None]);
    let submit = async |model: &VideoModel, video: &VideoRequest| {
        let outcome = submit_video(&openrouter, video, None).await;
        assert!(!matches!(outcome, Outcome::Unknown(_)), "{}: {outcome:?}", model.id);
        matches!(outcome, Outcome::Made(_))
    };
    for model in &catalogue {
        for duration in [None, Some(5), Some(7)] {
            for (resolution, seed, audio) in
                [("", None, None), ("720p", None, Some(false)), ("4K", Some(1), None), ("", None, Some(true))]
            {
                let video = VideoRequest {
                    model: model.id.clone(),
                    duration,
                    resolution: resolution.into(),
                    seed,
                    generate_audio: audio,
                    ..video()
                };
                let fits = check(model, &video).is_ok();
                let sent = if fits { fit(model, &video) } else { video.clone() };
                assert_eq!(submit(model, &sent).await, fits, "{video:?}");
            }
        }
    }
    assert!(find(&catalogue, "google/veo-2").unwrap_err().contains("google/veo-3.1, bytedance/seedance-2.0"));
    let unknown = VideoRequest { model: "google/veo-2".into(), ..video() };
    let refused = submit_video(&openrouter, &unknown, None).await;
    let expected = "OpenRouter refuses the request (400): Model google/veo-2 does not exist";
    assert_eq!(refused, Outcome::Refused(expected.into()));
    let shapeless = VideoRequest { model: String::new(), ..video() };
    assert!(matches!(submit_video(&openrouter, &shapeless, None).await, Outcome::Refused(_)));
}
