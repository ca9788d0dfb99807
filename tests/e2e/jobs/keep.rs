//! Files of completed jobs that are kept.

use super::{FAST, job_when, request};
use rand::Rng as _;
use reqwest::Response;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{fs, path::PathBuf, time::Duration};
use talaria_core::media::kept_name;
use talaria_proto::v1::job_service_client::JobServiceClient;
use talaria_proto::v1::{Delivery, DeliveryState, FilesState, Job, ListJobsRequest};
use talaria_tests::{
    http,
    openrouter::event_id,
    openrouter_api::{End, KEY, OnContent, OpenRouterApi, VIDEO},
    seeded,
    sink::Sink,
    stack::{Stack, openrouter_secret, stack},
    until, until_within,
};

const PUBLIC: &str = "https://hooks.example.com";
const PROMPT: &str = "pace: off\nprompt: 'See {talaria.media.url} or [{talaria.media.path}] ({talaria.media.note})'\n\
                      events: [video.generation.completed]";

struct World {
    api: OpenRouterApi,
    stack: Stack,
    sink: Sink,
    /// Where copies of the files are.
    copies: PathBuf,
    _directory: tempfile::TempDir,
}

/// A tenant that keeps files, with these further keys of `media`.
async fn world(media: &str) -> World {
    world_with(media, FAST, "").await
}

/// With these keys of `openrouter`, and of the top.
async fn world_with(media: &str, openrouter: &str, top: &str) -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    let directory = tempfile::tempdir().unwrap();
    let copies = directory.path().join("a/videos");
    let media = format!("mode: keep, directory: '{}'{media}", copies.display());
    let stack = stack()
        .with(&format!("ingress: {{listen: 127.0.0.1:0, public_url: {PUBLIC}}}\n{top}"))
        .tenant("acme", |t| t.jobs(&api, openrouter).media(&media).route("video", &sink.url("video"), PROMPT))
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    World { api, stack, sink, copies, _directory: directory }
}

impl World {
    /// Submits a job that completes with so many videos.
    async fn completed(&self, id: &str, videos: usize) -> Job {
        let job = self.stack.jobs().await.submit_job(request(id)).await.unwrap().into_inner().job.unwrap();
        self.api.end(&job.openrouter_id, End { videos, ..End::completed(1.0) }).await;
        job
    }

    async fn with_files(&self, job: &Job, state: FilesState) -> Job {
        let has_state = |job: &Job| job.files.as_ref().is_some_and(|files| files.state() == state);
        job_when(&mut self.stack.jobs().await, &job.id, has_state).await
    }

    async fn delivered(&self, job: &Job) -> String {
        self.stack.finished(&event_id("acme", &job.openrouter_id, "completed"), "video").await;
        self.sink.requests_to("video").pop().unwrap().prompt()
    }

    async fn get(&self, link: &str, range: Option<&str>) -> Response {
        let path = link.strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{link}"));
        let mut request = http().get(format!("http://{}{path}", self.stack.ingress()));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.send().await.unwrap()
    }

    /// How often a file was asked for at OpenRouter.
    fn fetches(&self) -> usize {
        self.api.seen().iter().filter(|seen| seen.path.contains("/content")).count()
    }
}

fn link(prompt: &str) -> &str {
    prompt.strip_prefix("See ").and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{prompt}"))
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_once_before_its_deliveries_and_given_from_here() {
    let mut world = world("").await;
    let job = world.completed("r1", 2).await;
    let prompt = world.delivered(&job).await;
    let path = world.copies.join(format!("talaria-{}-0.mp4", job.openrouter_id));
    assert!(prompt.ends_with(&format!(" or [{}] ()", path.display())), "{prompt}");
    assert_eq!(fs::read(&path).unwrap(), VIDEO);
    let kept = world.with_files(&job, FilesState::Kept).await.files.unwrap();
    assert_eq!((kept.count, kept.kept.len(), kept.tries), (2, 2, 0));
    let first = &kept.kept[0];
    assert_eq!((first.size, first.media_type.as_str()), (VIDEO.len() as u64, "video/mp4"));
    assert_eq!(first.sha256, Sha256::digest(VIDEO).as_slice());
    assert_eq!((first.path.as_str(), world.fetches()), (path.to_str().unwrap(), 2));
    let body: Value = serde_json::from_slice(&world.sink.requests_to("video").pop().unwrap().body).unwrap();
    let second = &body["talaria"]["media"]["files"][1];
    assert_eq!(
        (second["bytes"].as_u64(), second["type"].as_str()),
        (Some(VIDEO.len() as u64), Some("video/mp4"))
    );

    // OpenRouter has it no longer, and the process is a new one.
    world.api.on_content(OnContent::Page(502));
    world.stack.kill_and_restart().await;
    let link = link(&prompt).to_owned();
    let whole = world.get(&link, None).await;
    assert_eq!((whole.status().as_u16(), header(&whole, "accept-ranges")), (200, "bytes"));
    assert_eq!(
        (header(&whole, "content-type"), header(&whole, "content-length")),
        ("video/mp4", VIDEO.len().to_string().as_str())
    );
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    assert_eq!(whole.bytes().await.unwrap(), VIDEO);
    let last = VIDEO.len() - 1;
    for (range, from, to) in [
        ("bytes=0-3", 0, 3),
        ("bytes=4-", 4, last),
        ("bytes=-5", last - 4, last),
        ("bytes=4-1000000", 4, last),
        ("bytes=-1000000", 0, last),
    ] {
        let part = world.get(&link, Some(range)).await;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(header(&part, "content-range"), format!("bytes {from}-{to}/{}", VIDEO.len()), "{range}");
        assert_eq!(header(&part, "content-length"), (to - from + 1).to_string(), "{range}");
        assert_eq!(part.bytes().await.unwrap(), VIDEO[from..=to], "{range}");
    }
    let beyond = world.get(&link, Some("bytes=1000-")).await;
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, "content-range")),
        (416, format!("bytes */{}", VIDEO.len()).as_str())
    );
    for whole in ["bytes=0-1,3-4", "bytes=0-3,2-5", "lines=1-2", "bytes=x"] {
        let answer = world.get(&link, Some(whole)).await;
        assert_eq!(
            (answer.status().as_u16(), answer.bytes().await.unwrap().len()),
            (200, VIDEO.len()),
            "{whole}"
        );
    }
    assert_eq!(world.fetches(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_waits_for_its_file_and_goes_when_the_file_is_here() {
    let world = world(", wait: 10m").await;
    world.api.on_next_contents([
        OnContent::BreakOff,
        OnContent::Page(200),
        OnContent::Slow(Duration::from_secs(1)),
    ]);
    let job = world.completed("r1", 1).await;
    let event = event_id("acme", &job.openrouter_id, "completed");
    let waits = |delivery: &Delivery| delivery.reason.contains("waiting for the file of its job");
    let waiting = world.stack.delivery_when(&event, "video", waits).await.delivery.unwrap();
    assert_eq!(waiting.attempts, 0);
    let prompt = world.delivered(&job).await;
    assert!(prompt.ends_with("] ()") && !prompt.contains("[]"), "{prompt}");
    let files = world.with_files(&job, FilesState::Kept).await.files.unwrap();
    assert_eq!((files.tries, world.fetches()), (2, 3));
    assert_eq!(world.sink.requests_to("video").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_goes_without_its_file_and_says_so() {
    let world = world(", wait: 1s, max_bytes: 1MiB").await;
    world.api.on_content(OnContent::Page(502));
    let prompt = world.delivered(&world.completed("r1", 1).await).await;
    assert!(
        prompt.contains(" or [] (The file is not here yet: OpenRouter answers 502. The link"),
        "{prompt}"
    );
    world.api.on_content(OnContent::Send);
    world.api.set_content([VIDEO, &vec![7; 3 << 20]].concat());
    let job = world.completed("r2", 1).await;
    let prompt = world.delivered(&job).await;
    assert!(
        prompt.contains("(The file could not be kept: the file is longer than 1048576 bytes"),
        "{prompt}"
    );
    let files = world.with_files(&job, FilesState::NotKept).await.files.unwrap();
    assert_eq!((files.tries, files.kept.len()), (1, 0));
    let directory = world.stack.written.path().join("talaria-data/media");
    // The first job's file is still tried, and begins to be written.
    let is_empty = async || (fs::read_dir(&directory).unwrap().count() == 0).then_some(());
    until("nothing to be left of what was not kept", is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_another_programs_job_is_kept_too() {
    let world = world("").await;
    world.api.default_callback("/callbacks/acme");
    let made = http().post(format!("{}/videos", world.api.base_url())).bearer_auth(KEY);
    let request = json!({"model": "google/veo-3.1", "prompt": "by another program"}).to_string();
    let made = made.header("content-type", "application/json").body(request).send().await.unwrap();
    let made: Value = serde_json::from_slice(&made.bytes().await.unwrap()).unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.api.end(id, End::completed(1.0)).await, Some(204));
    let known = Job { id: id.to_owned(), ..Job::default() };
    let job = world.with_files(&known, FilesState::Kept).await;
    assert!(job.tracked, "{job:?}");
    let prompt = world.delivered(&job).await;
    assert!(prompt.contains(&format!("talaria-{id}-0.mp4")), "{prompt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_removed_with_their_jobs() {
    let world = world_with("", "poll: {give_up: 5s}", "retention: 5s").await;
    let job = world.completed("r1", 1).await;
    world.delivered(&job).await;
    let kept =
        world.stack.written.path().join("talaria-data/media").join(kept_name("acme", &job.openrouter_id, 0));
    let copy = world.copies.join(format!("talaria-{}-0.mp4", job.openrouter_id));
    assert!(kept.exists() && copy.exists());
    until_within(Duration::from_secs(60), "the end of the retention", async || {
        (!kept.exists() && !copy.exists()).then_some(())
    })
    .await;
}

/// Compares the ledger with the videos.
fn all_kept(ledger: &[Job]) {
    for job in ledger {
        let files = job.files.as_ref().unwrap_or_else(|| panic!("{job:?}"));
        assert_eq!(files.kept.len(), 1, "{job:?}");
        assert_eq!(files.kept[0].sha256, Sha256::digest(VIDEO).as_slice(), "{job:?}");
    }
}

async fn kept(client: &mut JobServiceClient<tonic::transport::Channel>, count: usize) -> Vec<Job> {
    until_within(Duration::from_secs(90), "the files of all jobs", async || {
        let request = ListJobsRequest { page_size: 1000, ..ListJobsRequest::default() };
        let page = client.list_jobs(request).await.ok()?.into_inner();
        let is_kept = |job: &Job| job.files.as_ref().is_some_and(|files| files.state() == FilesState::Kept);
        let all = !page.incomplete && page.jobs.len() == count && page.jobs.iter().all(is_kept);
        all.then_some(page.jobs)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_kept_when_the_process_is_killed_while_files_are_fetched() {
    let mut random = seeded("every_file_is_kept_when_the_process_is_killed_while_files_are_fetched");
    let mut world = world("").await;
    world.api.on_content(OnContent::Slow(Duration::from_millis(60)));
    world.api.end_after(Duration::from_millis(50), End::completed(0.5));
    for round in 0..8 {
        for number in 0..5 {
            let job = world.stack.jobs().await.submit_job(request(&format!("r{round}-{number}"))).await;
            job.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..400))).await;
        world.stack.kill_and_restart().await;
        world.api.callbacks_to(world.stack.ingress(), &openrouter_secret("acme"));
    }
    let ledger = kept(&mut world.stack.jobs().await, 40).await;
    all_kept(&ledger);
    for job in &ledger {
        let delivery = world.stack.finished(&job.event_id, "video").await.delivery.unwrap();
        assert_eq!(delivery.state(), DeliveryState::Delivered, "{delivery:?}");
        assert_eq!(fs::read(&job.files.as_ref().unwrap().kept[0].path).unwrap(), VIDEO);
    }
    let names = fs::read_dir(world.stack.written.path().join("talaria-data/media")).unwrap();
    let unfinished =
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(unfinished.count(), 0, "the last start removed what was not finished");
}
