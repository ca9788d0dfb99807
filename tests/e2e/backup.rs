//! `talaria backup` and `talaria restore`, as in docs/backup.md.

use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    binary,
    openrouter::event_id,
    sink::{Does, Sink},
    stack::stack,
};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_load_has_everything_that_was_answered_before_and_starts() {
    let sink = Sink::start().await;
    sink.set("later", Does::Answer(503, serde_json::json!({})));
    let mut stack = stack()
        .tenant("acme", |t| {
            t.route("now", &sink.url("now"), "pace: off").route(
                "later",
                &sink.url("later"),
                "pace: off\nretry: {schedule: [1s, 1s, 1s, 1s, 1s, 1s, 1s]}",
            )
        })
        .start()
        .await;
    let openrouter = stack.openrouter("acme");
    for job in 0..50 {
        openrouter.send(&format!("before{job}"), "completed").await;
    }
    let (stop, copy) = (AtomicBool::new(false), stack.written.path().join("copy.db"));
    let load = async {
        let mut job = 0;
        while !stop.load(Ordering::Relaxed) {
            openrouter.send(&format!("during{job}"), "completed").await;
            job += 1;
        }
    };
    let backup = async {
        let (directory, to) = (stack.written.path().to_path_buf(), copy.display().to_string());
        let run = move || binary::run(&directory, &["backup", &to, "--json"]);
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        output
    };
    let ((), output) = tokio::join!(load, backup);
    assert!(output.status.success(), "{}", said(&output));
    let saved: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(saved["events"].as_u64().unwrap() >= 50, "{saved}");
    assert_eq!(saved["bytes"].as_u64().unwrap(), fs::metadata(&copy).unwrap().len());
    assert_eq!(mode(&copy), 0o600, "it holds payloads");
    let whole = binary::run(stack.written.path(), &["backup", "-"]);
    assert!(whole.status.success(), "{}", said(&whole));
    assert!(whole.stdout.starts_with(b"SQLite format 3\0"), "the copy itself goes to standard output");
    assert!(said(&whole).starts_with("standard output: "), "{}", said(&whole));
    let left = fs::read_dir(stack.written.path().join("talaria-data")).unwrap();
    let left =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("backup."));
    assert_eq!(left.count(), 0, "nothing of it stays");
    let to = copy.display().to_string();
    let refused = binary::run(stack.written.path(), &["restore", &to, "--force"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("another Talaria is running"), "{}", said(&refused));
    let partial = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".partial");
    assert!(!fs::read_dir(stack.written.path()).unwrap().any(|entry| partial(&entry.unwrap().file_name())));

    // Back to it: everything else is gone.
    stack.terminate().await;
    let data = stack.written.path().join("talaria-data");
    let restore = |more: &[&str]| {
        let file = copy.display().to_string();
        let arguments = [&["restore", &file], more].concat();
        binary::run(stack.written.path(), &arguments)
    };
    let refused = restore(&[]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("--force"), "{}", said(&refused));
    let restored = restore(&["--force", "--json"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!((&restored["events"], &restored["bytes"]), (&saved["events"], &saved["bytes"]));
    assert!(Path::new(restored["kept"].as_str().unwrap()).exists(), "{restored}");
    assert_eq!(mode(&data.join("bus.db")), 0o600);
    assert!(!data.join("view.db").exists(), "it is built again");
    sink.set("later", Does::Accept);
    stack.restart_with(|text| text).await;
    for job in 0..50 {
        let event = event_id("acme", &format!("before{job}"), "completed");
        for route in ["now", "later"] {
            let found = stack.finished(&event, route).await;
            assert_eq!(found.delivery.unwrap().state(), State::Delivered, "{job} {route}");
        }
    }
    // Whatever went out again went out under the ids that Hermes had seen, so that no agent ran twice.
    let ran = sink.requests_to("now").into_iter().filter(|request| request.ran);
    let mut ids: Vec<String> = ran.map(|request| request.id).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_replaces_no_file_and_names_a_missing_directory() {
    let written = stack().tenant("acme", |t| t).write();
    let run = |args: &[&str]| binary::run(written.path(), args);
    let nothing = run(&["backup", "copy.db"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(said(&nothing).contains("bus.db: there is none; `talaria up` makes it"), "{}", said(&nothing));

    fs::create_dir(written.path().join("talaria-data")).unwrap();
    fs::write(written.path().join("talaria-data/bus.db"), "no database, and long enough to be looked at")
        .unwrap();
    let damaged = run(&["backup", "copy.db"]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(said(&damaged).contains("file is not a database"), "{}", said(&damaged));
    let left = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("copy.db");
    assert!(!fs::read_dir(written.path()).unwrap().any(|entry| left(&entry.unwrap().file_name())));

    fs::write(written.path().join("copy.db"), "somebody's").unwrap();
    let there = run(&["backup", "copy.db"]);
    assert_eq!(there.status.code(), Some(1));
    assert!(said(&there).contains("it is there already"), "{}", said(&there));
    assert_eq!(fs::read_to_string(written.path().join("copy.db")).unwrap(), "somebody's");

    let text = fs::read_to_string(&written.config).unwrap();
    fs::write(&written.config, format!("bus: {{nats: {{servers: [nats://127.0.0.1:4222]}}}}\n{text}"))
        .unwrap();
    let restored = run(&["restore", "copy.db"]);
    assert_eq!(restored.status.code(), Some(1));
    assert!(said(&restored).contains("cannot restore copy.db"), "{}", said(&restored));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_name_themselves_by_the_time_and_the_oldest_go() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("now", &sink.url("now"), "pace: off")).start().await;
    let backups = stack.written.path().join("backups");
    fs::create_dir(&backups).unwrap();
    for name in
        ["talaria-2026-01-01T00-00-00Z.db", "talaria-2026-01-02T00-00-00Z.db", "talaria-2026-01-01T00-00-00Z"]
    {
        fs::write(backups.join(name), "old").unwrap();
    }
    let output = binary::run(stack.written.path(), &["backup", "--into", "backups", "--keep", "2"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("backups/talaria-20") && text.contains("Z.db: 0 events"), "{text}");
    assert!(text.contains("removed backups/talaria-2026-01-01T00-00-00Z.db"), "{text}");
    assert_eq!(fs::read_dir(&backups).unwrap().count(), 3);
    let recorded = fs::read_to_string(stack.written.path().join("talaria-data/last-backup")).unwrap();
    let age = jiff::Timestamp::now().as_second() - recorded.trim_end().parse::<i64>().unwrap();
    assert!((0..3600).contains(&age), "{recorded}");
    let usage = binary::run(stack.written.path(), &["backup", "--keep", "2"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[cfg(unix)]
fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}
