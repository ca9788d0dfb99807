//! Links to the files of completed jobs.

use super::{FAST, job_when, request};
use jiff::Timestamp;
use reqwest::Response;
use serde_json::json;
use std::{fs, sync::Arc};
use talaria_core::media::{Claims, sign};
use talaria_proto::v1::{
    ExplainRequest, GetEventRequest, GetEvidenceRequest, GetMediaRequest, GetMediaResponse, JobState,
    ListEventsRequest, SubmitJobRequest, explain_request::Subject,
};
use talaria_tests::{
    binary::run,
    http,
    openrouter::event_id,
    openrouter_api::{End, KEY, OnContent, OpenRouterApi, VIDEO},
    sink::Sink,
    stack::{Stack, openrouter_secret, stack},
    until,
};
use tonic::{Code, Status};

const PUBLIC: &str = "https://hooks.example.com";

/// The tenant acme gives links, and `silent`, with the same key, gives none.
struct World {
    api: OpenRouterApi,
    stack: Stack,
    sink: Sink,
}

/// With these keys of `openrouter` of acme.
async fn world(openrouter: &str) -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let keys = "pace: off\nprompt: 'See {talaria.media.url}'\nextra: {files: '{talaria.media.files}'}\n\
                events: [video.generation.completed]";
    let stack = stack()
        .with(&format!("ingress: {{listen: 127.0.0.1:0, public_url: {PUBLIC}}}"))
        .tenant("acme", |t| {
            t.jobs(&api, openrouter).media("mode: link, max_bytes: 1MiB").route(
                "video",
                &sink.url("video"),
                keys,
            )
        })
        .tenant("silent", |t| t.jobs(&api, "").route("video", &sink.url("silent"), "pace: off"))
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    World { api, stack, sink }
}

impl World {
    /// Submits a job that completes with so many videos; its id at OpenRouter.
    async fn completed(&self, videos: usize) -> String {
        let submit = request("r1");
        let job = self.stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
        self.api.end(&job.openrouter_id, End { videos, ..End::completed(1.0) }).await;
        self.stack.finished(&event_id("acme", &job.openrouter_id, "completed"), "video").await;
        job.openrouter_id
    }

    /// The link in the prompt that Hermes got.
    fn link(&self) -> String {
        let prompt = self.sink.requests_to("video").pop().unwrap().prompt();
        prompt.strip_prefix("See ").unwrap_or_else(|| panic!("{prompt}")).to_owned()
    }

    async fn get(&self, link: &str) -> Response {
        http().get(self.at_ingress(link)).send().await.unwrap()
    }

    /// A proxy leads the public name to the ingress.
    fn at_ingress(&self, link: &str) -> String {
        let path = link.strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{link}"));
        assert!(path.starts_with("/media/"), "{link}");
        format!("http://{}{path}", self.stack.ingress())
    }

    async fn media(&self, job_id: &str, tenant: &str) -> Result<GetMediaResponse, Status> {
        let request = GetMediaRequest { job_id: job_id.into(), tenant: tenant.into() };
        self.stack.jobs().await.get_media(request).await.map(tonic::Response::into_inner)
    }

    async fn counted(&self, outcome: &str, count: u64) {
        let series = format!("talaria_media_requests_total{{outcome=\"{outcome}\"}} {count}");
        until(&series, async || {
            let metrics = self.stack.admin_get("/metrics").await.1;
            metrics.lines().any(|line| line == series).then_some(())
        })
        .await;
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_gives_the_file_as_often_as_it_is_asked_also_after_a_restart() {
    let mut world = world("").await;
    let job = world.completed(2).await;
    let link = world.link();
    let first = world.get(&link).await;
    assert_eq!(first.status(), 200);
    assert_eq!(header(&first, "content-type"), "video/mp4");
    let name = format!("attachment; filename=\"{job}-0.mp4\"");
    assert_eq!(header(&first, "content-disposition"), name);
    assert_eq!(
        (header(&first, "x-content-type-options"), header(&first, "cache-control")),
        ("nosniff", "private")
    );
    for name in ["set-cookie", "x-generation-id", "server", "authorization"] {
        assert!(first.headers().get(name).is_none(), "{name}");
    }
    assert_eq!(first.bytes().await.unwrap(), VIDEO);

    world.stack.kill_and_restart().await;
    world.api.on_next_contents([OnContent::WithLength, OnContent::WithLength]);
    let head = http().head(world.at_ingress(&link)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-disposition")), (200, name.as_str()));
    assert_eq!(header(&head, "content-length"), VIDEO.len().to_string());
    assert!(head.bytes().await.unwrap().is_empty());
    let of_range = http().get(world.at_ingress(&link)).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!((of_range.status().as_u16(), header(&of_range, "accept-ranges")), (200, "none"));
    assert_eq!(of_range.bytes().await.unwrap(), VIDEO, "no ranges are given");

    // All files, with their numbers.
    let request = world.sink.requests_to("video").pop().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let media = &body["talaria"]["media"];
    assert_eq!((&media["url"], &media["files"][0]), (&json!(link), &json!({"url": link, "index": 0})));
    let second = media["files"][1]["url"].as_str().unwrap();
    assert_eq!(media["files"].as_array().unwrap().len(), 2);
    assert!(body["extra"]["files"].as_str().unwrap().contains(second), "{body}");
    assert_eq!(world.get(second).await.bytes().await.unwrap(), VIDEO);
    let asked = world.api.seen().pop().unwrap();
    assert_eq!(asked.path, format!("/api/v1/videos/{job}/content?index=1"));
    assert_eq!(asked.authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
}

/// The file of a job whose callback was lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_poll_finds_has_links_too() {
    let world = world(FAST).await;
    world.api.lose_callbacks(true);
    world.completed(1).await;
    assert_eq!(world.get(&world.link()).await.bytes().await.unwrap(), VIDEO);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_valid_link_gets_the_same_answer_for_every_reason() {
    let world = world("").await;
    let job = world.completed(1).await;
    let link = world.link();
    let (stem, token) = link.split_at(PUBLIC.len() + "/media/".len());
    let now = Timestamp::now();
    let made = |key: &str, tenant: &str, minutes: i64| {
        let expires_at = Timestamp::from_second(now.as_second() + 60 * minutes).unwrap();
        let claims = Claims { tenant: tenant.into(), job_id: job.clone(), index: 0, expires_at };
        format!("{stem}{}", sign(&key.into(), &claims).unwrap())
    };
    assert_eq!(world.get(&made(KEY, "acme", 5)).await.status(), 200);
    let other = if token.as_bytes()[20] == b'x' { "y" } else { "x" };
    let changed = format!("{stem}{}{other}{}", &token[..20], &token[21..]);
    let mut answers = Vec::new();
    for wrong in [
        format!("{stem}nonsense"),
        format!("{link}x"),
        format!("{link}/"),
        changed,
        made(KEY, "acme", -2),
        made("sk-or-v1-another", "acme", 5),
        made(KEY, "silent", 5),
        made(KEY, "nobody", 5),
    ] {
        let answer = world.get(&wrong).await;
        assert_eq!(answer.status(), 404, "{wrong}");
        let mut headers = answer.headers().clone();
        headers.remove("date");
        answers.push((headers, answer.text().await.unwrap()));
    }
    // And a file that OpenRouter does not have any more.
    world.api.on_next_contents([OnContent::Refuse(404, None, json!({"error": {"message": KEY}}))]);
    let gone = world.get(&link).await;
    let mut headers = gone.headers().clone();
    headers.remove("date");
    answers.push((headers, gone.text().await.unwrap()));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert!(answers[0].1.contains("There is no such file, or its link has expired."));
    let posted = http().post(world.at_ingress(&link)).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), header(&posted, "allow")), (405, "GET, HEAD"));
    world.counted("refused", 9).await;
    world.counted("gone", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_file_of_media_is_a_success() {
    let (world, elsewhere) = (world("").await, OpenRouterApi::start().await);
    world.completed(1).await;
    let link = world.link();
    let refusals = [
        OnContent::Page(200),
        OnContent::Page(502),
        OnContent::Redirect(format!("{}/videos/x/content", elsewhere.base_url())),
        OnContent::revoked(),
        OnContent::LoseAnswer,
    ];
    for does in refusals {
        world.api.on_next_contents([does.clone()]);
        let answer = world.get(&link).await;
        assert_eq!(answer.status(), 502, "{does:?}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("The file cannot be fetched now."), "{text}");
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    world.counted("failed", 5).await;

    // A half of it is no file. It is longer than a server's buffer, so that its beginning goes out.
    world.api.set_content([VIDEO, &vec![7; 1_000_000]].concat());
    world.api.on_next_contents([OnContent::BreakOff]);
    assert!(world.get(&link).await.bytes().await.is_err());
    world.counted("broken_off", 1).await;
    assert_eq!(world.get(&link).await.bytes().await.unwrap().len(), VIDEO.len() + 1_000_000);
    // Nor is one that is longer than max_bytes.
    world.api.set_content([VIDEO, &vec![7; 3 << 20]].concat());
    assert!(world.get(&link).await.bytes().await.is_err());
    world.counted("too_long", 1).await;
    world.api.on_next_contents([OnContent::WithLength]);
    assert_eq!(world.get(&link).await.status(), 502);
    world.counted("too_long", 2).await;
    world.counted("ok", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_the_key_are_in_no_log_and_no_status() {
    let world = world("").await;
    let job = world.completed(1).await;
    let link = world.link();
    world.get(&link).await.bytes().await.unwrap();
    // Behind a proxy that leaves something in front of the path, and by another method.
    let token = link.rsplit('/').next().unwrap();
    let ingress = world.stack.ingress();
    for path in ["talaria/media", "/media", "callbacks/media"] {
        assert_eq!(
            http().get(format!("http://{ingress}/{path}/{token}")).send().await.unwrap().status(),
            404
        );
    }
    http().put(world.at_ingress(&link)).body("x").send().await.unwrap();
    world.counted("ok", 1).await;
    world.stack.logged("/talaria/media").await;
    world.stack.logged("file sent").await;

    let event = event_id("acme", &job, "completed");
    let mut status = world.stack.status().await;
    let request = GetEventRequest { event_id: event.clone(), include_payload: true };
    let got = status.get_event(request).await.unwrap().into_inner();
    let listed = status.list_events(ListEventsRequest::default()).await.unwrap().into_inner();
    let delivered = world.stack.finished(&event, "video").await;
    let delivery_id = delivered.delivery.clone().unwrap().id;
    let request = GetEvidenceRequest { delivery_id, attempt: 0 };
    let evidence = status.get_evidence(request).await.unwrap().into_inner();
    assert!(evidence.attempts[0].request_body.contains("/media/(secret)"), "{evidence:?}");
    let subject = Some(Subject::EventId(event));
    let explain = ExplainRequest { subject, tenant: String::new() };
    let explained = world.stack.control().await.explain(explain).await.unwrap().into_inner();
    let mut texts = vec![
        ("event", format!("{got:?}")),
        ("events", format!("{listed:?}")),
        ("delivery", format!("{delivered:?}")),
        ("evidence", format!("{evidence:?}")),
        ("explanation", format!("{explained:?}")),
        ("log", world.stack.log().join("\n")),
    ];
    for path in ["/metrics", "/config", "/readyz"] {
        texts.push((path, world.stack.admin_get(path).await.1));
    }
    for (place, text) in &texts {
        assert!(!text.contains(&token[..30]) && !text.contains(KEY), "{place}: {text}");
    }
    assert!(got.event.unwrap().media_urls.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_gives_the_links_of_a_job_and_talaria_fetches_the_file() {
    let world = world("").await;
    let running = world.stack.jobs().await.submit_job(request("r0")).await.unwrap().into_inner().job.unwrap();
    let refused = world.media(&running.id, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().ends_with("has no files: it is RUNNING"), "{refused:?}");
    assert_eq!(world.media("job_none", "").await.unwrap_err().code(), Code::NotFound);
    // Of the tenant without links.
    let submit = SubmitJobRequest { tenant: "silent".into(), ..request("r2") };
    let silent = world.stack.jobs().await.submit_job(submit).await.unwrap().into_inner().job.unwrap();
    world.api.callbacks_to(world.stack.ingress(), &openrouter_secret("silent"));
    world.api.end(&silent.openrouter_id, End::completed(1.0)).await;
    let is_completed = |job: &talaria_proto::v1::Job| job.state() == JobState::Completed;
    job_when(&mut world.stack.jobs().await, &silent.id, is_completed).await;
    let refused = world.media(&silent.id, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("media: {mode: link}"), "{refused:?}");
    world.api.callbacks_to(world.stack.ingress(), &openrouter_secret("acme"));

    let openrouter_id = world.completed(2).await;
    let media = world.media(&openrouter_id, "acme").await.unwrap();
    assert_eq!(media.files.iter().map(|file| file.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(media.files[0].url, world.link());
    let life = media.files[0].expires_at.unwrap().seconds - Timestamp::now().as_second();
    assert!((86_000..=86_461).contains(&life), "{life}");
    assert_eq!(world.media(&openrouter_id, "silent").await.unwrap_err().code(), Code::NotFound);

    let world = Arc::new(world);
    let fetch = async |args: &[&str]| {
        let (world, id) = (Arc::clone(&world), openrouter_id.clone());
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        tokio::task::spawn_blocking(move || {
            let (relay, ingress) = (world.stack.relay(), format!("http://{}", world.stack.ingress()));
            let mut all = vec!["fetch", &id, "--relay", &relay, "--ingress", &ingress];
            all.extend(args.iter().map(String::as_str));
            let output = run(world.stack.written.path(), &all);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
        })
        .await
        .unwrap()
    };
    let directory = world.stack.written.path();
    let name = format!("{openrouter_id}-0.mp4");
    let (code, said, why) = fetch(&[]).await;
    assert_eq!((code, said.as_str()), (0, format!("{name} ({} bytes)\n", VIDEO.len()).as_str()), "{why}");
    assert_eq!(fs::read(directory.join(&name)).unwrap(), VIDEO);
    let (code, _, why) = fetch(&[]).await;
    assert!(code == 1 && why.contains("exists; --force replaces it"), "{why}");
    world.api.set_content([VIDEO, b"2"].concat());
    let (code, _, why) = fetch(&["--force", "--out", &name, "--index", "1"]).await;
    assert_eq!(code, 0, "{why}");
    assert_eq!(fs::read(directory.join(&name)).unwrap(), [VIDEO, b"2"].concat());
    let (code, _, why) = fetch(&["--index", "2"]).await;
    assert!(code == 2 && why.contains("the job has 2 files"), "{why}");
    world.api.set_content([VIDEO, &vec![7; 1_000_000]].concat());
    world.api.on_next_contents([OnContent::BreakOff, OnContent::Page(200)]);
    let (code, _, why) = fetch(&["--out", "half.mp4"]).await;
    assert!(code == 5 && why.contains("broke off"), "{why}");
    let (code, _, why) = fetch(&["--out", "half.mp4"]).await;
    assert!(code == 5 && why.contains("cannot fetch the file from OpenRouter"), "{why}");
    assert!(!directory.join("half.mp4").exists());
    let left = fs::read_dir(directory)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
    assert_eq!(left.count(), 0);
    let (code, said, _) = fetch(&["--json"]).await;
    let links: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, links["files"].as_array().unwrap().len()), (0, 2));
}
