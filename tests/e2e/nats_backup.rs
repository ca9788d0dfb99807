//! `talaria backup` and `talaria restore` over NATS, as in docs/backup.md.

use async_nats::jetstream;
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    binary,
    nats::{Cluster, Server},
    openrouter::event_id,
    sink::{Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};

const STREAMS: [&str; 2] = ["talaria-events", "talaria-journal"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration over this server with two routes, of which one fails for some time.
fn over(url: &str, keys: &str, sink: &Sink) -> Builder {
    stack().with(&format!("bus: {{nats: {{servers: [\"{url}\"]{keys}}}}}")).tenant("acme", |t| {
        t.route("now", &sink.url("now"), "pace: off").route(
            "later",
            &sink.url("later"),
            "pace: off\nretry: {schedule: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}",
        )
    })
}

/// Lets the configuration name other servers, or have other keys.
fn reconfigure(directory: &Path, from: &str, to: &str) {
    let file = directory.join("talaria.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

async fn run(directory: &Path, args: &[&str]) -> Output {
    let (directory, args) =
        (directory.to_owned(), args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
    let run = move || binary::run(&directory, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn works(directory: &Path, args: &[&str]) -> Value {
    let output = run(directory, &[args, &["--json"]].concat()).await;
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn refused(directory: &Path, args: &[&str], why: &str) {
    let output = run(directory, args).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(said(&output).contains(why), "{args:?}: {}", said(&output));
}

/// Messages, first and last sequence of a stream; `None` if it does not exist.
async fn extent(url: &str, stream: &str) -> Option<(u64, u64, u64)> {
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = jetstream.get_stream(stream).await.ok()?;
    let state = &stream.cached_info().state;
    Some((state.messages, state.first_sequence, state.last_sequence))
}

async fn extents(url: &str) -> Vec<Option<(u64, u64, u64)>> {
    let mut extents = Vec::new();
    for stream in STREAMS {
        extents.push(extent(url, stream).await);
    }
    extents
}

async fn config(url: &str, stream: &str) -> jetstream::stream::Config {
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    jetstream.get_stream(stream).await.unwrap().cached_info().config.clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copied(from: &Path, to: &Path) -> PathBuf {
    let copied = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
    to.to_owned()
}

/// Sends these jobs, and waits until each is delivered.
async fn delivered(stack: &Stack, jobs: impl Iterator<Item = String>) {
    let openrouter = stack.openrouter("acme");
    let mut events = Vec::new();
    for job in jobs {
        events.push(openrouter.send(&job, "completed").await);
    }
    for event in events {
        stack.finished(&event, "now").await;
    }
}

fn numbered(what: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{what}{number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_everything_that_was_answered_before_and_what_waits_goes_out_of_it() {
    let (server, empty, sink) = (Server::start().await, Server::start().await, Sink::start().await);
    sink.set("later", Does::Answer(503, serde_json::json!({})));
    let mut stack = over(&server.url(), "", &sink).start().await;
    let directory = stack.written.path().to_owned();
    delivered(&stack, numbered("before", 50)).await;
    let before = |job: u32| event_id("acme", &format!("before{job}"), "completed");
    let (openrouter, stop) = (stack.openrouter("acme"), AtomicBool::new(false));
    let load = async {
        let mut job = 0;
        while !stop.load(Ordering::Relaxed) {
            openrouter.send(&format!("during{job}"), "completed").await;
            job += 1;
        }
    };
    let backup = async {
        let saved = works(&directory, &["backup", "copy"]).await;
        stop.store(true, Ordering::Relaxed);
        saved
    };
    let ((), saved) = tokio::join!(load, backup);
    let [journal, events] = &saved["streams"].as_array().unwrap()[..] else { panic!("{saved}") };
    assert_eq!([&journal["name"], &events["name"]], ["talaria-journal", "talaria-events"]);
    assert!(events["messages"].as_u64().unwrap() >= 50, "{saved}");
    assert_eq!(saved["recorded"], true);
    let copy = directory.join("copy");
    assert_eq!(names(&copy), ["talaria-events", "talaria-journal", "talaria.json"]);
    for stream in STREAMS {
        assert_eq!(names(&copy.join(stream)), ["backup.json", "stream.tar.s2"]);
        assert_eq!(mode(&copy.join(stream).join("stream.tar.s2")), 0o600, "it has payloads");
    }
    assert_eq!(mode(&copy), 0o700);
    assert!(!names(&directory).iter().any(|name| name.ends_with(".partial")));
    let time: Timestamp = saved["time"].as_str().unwrap().parse().unwrap();
    let metadata = config(&server.url(), "talaria-journal").await.metadata;
    assert_eq!(metadata["talaria-backup"], time.as_second().to_string());
    assert_eq!(metadata["talaria-partitions"], "64", "other metadata stays");

    refused(&directory, &["backup", "copy"], "it is there already").await;
    refused(&directory, &["restore", "copy", "--force"], "cannot restore while relays run: relay-").await;
    assert_eq!(stack.admin_get("/readyz").await.0, 200);

    stack.terminate().await;
    let sent_before: HashMap<String, usize> =
        sink.requests_to("now").into_iter().fold(HashMap::new(), |mut count, request| {
            *count.entry(request.id).or_default() += 1;
            count
        });
    let restored = {
        reconfigure(&directory, &server.url(), &empty.url());
        works(&directory, &["restore", "copy"]).await
    };
    let by_name = |streams: &Value| {
        let streams = streams.as_array().unwrap().clone();
        streams.into_iter().map(|one| (one["name"].to_string(), one)).collect::<HashMap<_, _>>()
    };
    assert_eq!(by_name(&restored["streams"]), by_name(&saved["streams"]));
    let metadata = config(&empty.url(), "talaria-journal").await.metadata;
    assert_eq!(
        metadata["talaria-backup"],
        time.as_second().to_string(),
        "it is the last backup of these streams"
    );

    sink.set("later", Does::Accept);
    stack.restart_with(|text| text).await;
    for job in 0..50 {
        let found = stack.finished(&before(job), "later").await;
        assert_eq!(found.delivery.unwrap().state(), State::Delivered, "{job}");
        let delivered = stack.finished(&before(job), "now").await.delivery.unwrap();
        let id = sent_before.keys().find(|id| id.starts_with(&delivered.id)).unwrap();
        let count = sink.requests_to("now").iter().filter(|request| request.id == *id).count();
        assert_eq!(count, sent_before[id], "{job} was delivered before the backup, and is not again");
    }
    // Whatever went out again went out under the ids that Hermes had seen, so that no agent ran twice.
    let mut ran: Vec<_> =
        sink.requests_to("now").into_iter().filter(|request| request.ran).map(|request| request.id).collect();
    let count = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), count);
    // A callback of before is known, and a new one is delivered.
    delivered(&stack, ["before0", "after"].map(str::to_owned).into_iter()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_replaced_with_force_alone_and_are_kept_and_a_bad_backup_changes_nothing() {
    let (server, sink) = (Server::start().await, Sink::start().await);
    let url = server.url();
    let mut stack = over(&url, "", &sink).start().await;
    let directory = stack.written.path().to_owned();
    delivered(&stack, numbered("first", 10)).await;
    works(&directory, &["backup", "copy"]).await;
    let of_the_copy = extent(&url, STREAMS[0]).await;
    delivered(&stack, numbered("second", 10)).await;
    stack.terminate().await;
    let present = extents(&url).await;

    refused(&directory, &["restore", "copy"], "--force backs them up beside it, and replaces them").await;
    let copy = directory.join("copy");
    let damaged = copied(&copy, &directory.join("damaged"));
    let data = damaged.join("talaria-journal/stream.tar.s2");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    refused(&directory, &["restore", "damaged", "--force"], "stream.tar.s2 is damaged: its SHA-256").await;
    let cut = copied(&copy, &directory.join("cut"));
    fs::remove_file(cut.join("talaria.json")).unwrap();
    refused(&directory, &["restore", "cut", "--force"], "there is no talaria.json").await;
    let newer = copied(&copy, &directory.join("newer"));
    let text = fs::read_to_string(newer.join("talaria.json")).unwrap();
    fs::write(newer.join("talaria.json"), text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    refused(&directory, &["restore", "newer", "--force"], "it has format 2").await;
    let servers = format!("servers: [\"{url}\"]");
    reconfigure(&directory, &servers, &format!("{servers}, prefix: other"));
    let why = "it has the prefix talaria, and bus.nats.prefix is other";
    refused(&directory, &["restore", "copy", "--force"], why).await;
    reconfigure(&directory, ", prefix: other", "");
    assert_eq!(extents(&url).await, present, "nothing is changed");
    assert!(!names(&directory).iter().any(|name| name.contains("-replaced-")));

    let restored = works(&directory, &["restore", "copy", "--force"]).await;
    assert_eq!(extent(&url, STREAMS[0]).await, of_the_copy);
    let kept = PathBuf::from(restored["kept"].as_str().unwrap());
    assert!(kept.to_str().unwrap().contains("/copy-replaced-"), "{restored}");
    let back = works(&directory, &["restore", kept.to_str().unwrap(), "--force"]).await;
    assert_eq!(extents(&url).await, present, "{back}");
    stack.restart_with(|text| text).await;
    delivered(&stack, ["third".to_owned()].into_iter()).await;
    assert_eq!(sink.requests_to("now").len(), 21, "nothing goes out again");
}

/// The description of the backup is wrong, so that the fault is found when both streams are restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_breaks_off_leaves_nothing_and_says_where_the_present_streams_are() {
    let (server, sink) = (Server::start().await, Sink::start().await);
    let url = server.url();
    let mut stack = over(&url, "", &sink).start().await;
    let directory = stack.written.path().to_owned();
    delivered(&stack, numbered("j", 20)).await;
    stack.terminate().await;
    works(&directory, &["backup", "copy"]).await;
    let present = extents(&url).await;
    let text = fs::read_to_string(directory.join("copy/talaria.json")).unwrap();
    // The journal has one message more than the server will have.
    let mut wrong: Value = serde_json::from_str(&text).unwrap();
    let messages = wrong["streams"][0]["messages"].as_u64().unwrap();
    wrong["streams"][0]["messages"] = (messages + 1).into();
    fs::write(directory.join("copy/talaria.json"), wrong.to_string()).unwrap();
    let output = run(&directory, &["restore", "copy", "--force"]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = said(&output);
    assert!(error.contains("what was restored so far was removed"), "{error}");
    assert!(error.contains("the streams that were there are in "), "{error}");
    assert_eq!(extents(&url).await, [None, None]);
    let kept = names(&directory).into_iter().find(|name| name.starts_with("copy-replaced-")).unwrap();
    works(&directory, &["restore", &kept]).await;
    assert_eq!(extents(&url).await, present);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_one_server_is_restored_into_a_cluster_and_back() {
    let (server, last, mut cluster, sink) =
        (Server::start().await, Server::start().await, Cluster::start(3).await, Sink::start().await);
    let mut stack = over(&server.url(), "", &sink).start().await;
    let directory = stack.written.path().to_owned();
    delivered(&stack, numbered("j", 10)).await;
    stack.terminate().await;
    works(&directory, &["backup", "one"]).await;
    let present = extents(&server.url()).await;

    let node = cluster.node(0).url();
    let of = |url: &str| format!("servers: [\"{url}\"]");
    reconfigure(&directory, &of(&server.url()), &format!("{}, replicas: 3", of(&node)));
    works(&directory, &["restore", "one"]).await;
    cluster.healthy().await;
    for stream in STREAMS {
        assert_eq!(config(&node, stream).await.num_replicas, 3, "{stream}");
    }
    assert_eq!(extents(&node).await, present);
    stack.restart_with(|text| text).await;
    delivered(&stack, ["in-the-cluster".to_owned()].into_iter()).await;
    stack.terminate().await;
    // Each server can lead a stream, and any can be asked.
    let present = extents(&node).await;
    reconfigure(&directory, &node, &cluster.node(1).url());
    works(&directory, &["backup", "three"]).await;

    let node = cluster.node(1).url();
    reconfigure(&directory, &format!("{}, replicas: 3", of(&node)), &of(&last.url()));
    works(&directory, &["restore", "three"]).await;
    assert_eq!(config(&last.url(), STREAMS[1]).await.num_replicas, 1);
    assert_eq!(extents(&last.url()).await, present);
    stack.restart_with(|text| text).await;
    delivered(&stack, ["again".to_owned()].into_iter()).await;
    let mut ids: Vec<_> = sink.requests_to("now").into_iter().map(|request| request.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), sink.requests_to("now").len()), (12, 12), "each is delivered once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_leaves_nothing_and_old_copies_are_removed_after_one_that_works() {
    let (server, sink) = (Server::start().await, Sink::start().await);
    let stack = over(&server.url(), "", &sink).start().await;
    let directory = stack.written.path().to_owned();
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());

    let backups = directory.join("backups");
    let old =
        ["talaria-2026-01-01T00-00-00Z", "talaria-2026-01-02T00-00-00Z", "talaria-2026-01-03T00-00-00Z"];
    for name in old.iter().chain(&["mine", "talaria-2026-01-01T00-00-00Z.x.partial"]) {
        fs::create_dir_all(backups.join(name)).unwrap();
        fs::write(backups.join(name).join("talaria.json"), "{}").unwrap();
    }
    let saved = works(&directory, &["backup", "--into", "backups", "--keep", "2"]).await;
    let new = saved["directory"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(names(&backups), ["mine", old[2], new.as_str()].map(str::to_owned));
    assert_eq!(saved["removed"].as_array().unwrap().len(), 3, "{saved}");

    let packed = run(&directory, &["backup", "-"]).await;
    assert_eq!(packed.status.code(), Some(2));
    assert!(said(&packed).contains("a directory of several files"), "{}", said(&packed));

    jetstream.delete_stream(STREAMS[0]).await.unwrap();
    let why = "cannot back up the stream talaria-events: stream not found";
    // Copies of the same second have the same name.
    let first = Timestamp::now().as_second();
    until("the next second", async || (Timestamp::now().as_second() > first).then_some(())).await;
    refused(&directory, &["backup", "copy"], why).await;
    refused(&directory, &["backup", "--into", "backups", "--keep", "1"], why).await;
    assert_eq!(names(&backups).len(), 3, "a failed backup removes none");
    assert!(!names(&directory).iter().any(|name| name.starts_with("copy")));
    let nowhere = run(&directory, &["backup", "--into", "nowhere"]).await;
    assert_eq!(nowhere.status.code(), Some(1), "{}", said(&nowhere));
}
