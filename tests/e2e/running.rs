//! A process that runs on: retention, draining, other configurations, a bus that is not to be had.

use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};
use talaria_proto::v1::{AttemptOutcome, DeliveryState as State, GetEventRequest};
use talaria_tests::{
    binary,
    openrouter::{OpenRouter, payload},
    sink::{Does, Sink},
    stack::{openrouter_secret, stack},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn old_events_and_finished_deliveries_go_and_waiting_ones_never() {
    let sink = Sink::start().await;
    // Its attempt outlasts the retention; whatever else waits is parked at an age that is no greater.
    sink.set("waits", Does::Hang);
    let stack = stack()
        .with("retention: 2s")
        .tenant("acme", |t| {
            t.route("done", &sink.url("done"), "filters: {field: data.id, equals: done}").route(
                "waits",
                &sink.url("waits"),
                "filters: {field: data.id, equals: waits}\ntimeout: 60s",
            )
        })
        .start()
        .await;
    let openrouter = stack.openrouter("acme");
    let done = openrouter.send("done", "completed").await;
    stack.finished(&done, "done").await;
    let waits = openrouter.send("waits", "completed").await;
    assert_eq!(openrouter.send_bytes(b"no event".to_vec()).await, Some(422));
    let mut status = stack.status().await;
    until("the finished one to go", async || {
        let request = GetEventRequest { event_id: done.clone(), include_payload: true };
        status.get_event(request).await.err().filter(|error| error.code() == tonic::Code::NotFound)
    })
    .await;
    until("the quarantined one to go", async || {
        let list =
            status.list_quarantined(talaria_proto::v1::ListQuarantinedRequest::default()).await.unwrap();
        (list.into_inner().total == 0).then_some(())
    })
    .await;
    // The one that waits is still there, whole, though it is as old.
    let found = stack.event(&waits).await;
    assert_eq!(found.event.unwrap().payload, payload("waits", "completed").to_string());
    assert_eq!(found.deliveries[0].state(), State::Waiting);
    // A forgotten event is new again.
    openrouter.send("done", "completed").await;
    stack.finished(&done, "done").await;
    assert_eq!(sink.requests_to("done").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_completes_requests_under_way_and_exits_with_0() {
    let sink = Sink::start().await;
    sink.set("r", Does::Hang);
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "timeout: 60s")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    until("the attempt to begin", async || (sink.requests().len() == 1).then_some(())).await;
    let ingress = stack.ingress();
    let let_go = async {
        // The port is closed, and the attempt is still under way.
        until("the ingress to close", async || tokio::net::TcpStream::connect(ingress).await.err()).await;
        sink.set("r", Does::Accept);
    };
    let (code, ()) = tokio::join!(stack.terminate(), let_go);
    assert_eq!(code, Some(0));
    stack.restart_with(|text| text).await;
    let found = stack.finished(&event, "r").await;
    assert_eq!(found.attempts.len(), 1, "{found:?}");
    assert_eq!(found.attempts[0].outcome(), AttemptOutcome::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_shown_at_once_and_callbacks_are_taken_for_as_long_as_it_lingers() {
    let sink = Sink::start().await;
    let lingers = |time| {
        let ingress = format!("ingress: {{listen: 127.0.0.1:0, linger: {time}}}");
        stack().with(&ingress).tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start()
    };
    let mut stack = lingers("1h").await;
    stack.signal("-TERM");
    until("it to say so", async || {
        (stack.admin_get("/readyz").await == (503, "stopping\n".into())).then_some(())
    })
    .await;
    assert_eq!(stack.admin_get("/healthz").await.0, 200, "nobody has to end it");
    let event = stack.openrouter("acme").send("job", "completed").await;
    assert_eq!(stack.finished(&event, "r").await.delivery.unwrap().state(), State::Delivered);
    // A second signal does not wait for anything.
    assert_eq!(stack.terminate().await, Some(130));
    // And without one it ends by itself.
    assert_eq!(lingers("500ms").await.terminate().await, Some(0));
}

/// The admin port has a bound on connections: who is silent makes room for who asks, and takes no file from callbacks.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_of_the_admin_port_keep_no_client_out() {
    use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream};
    let stack = stack().tenant("acme", |t| t).start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut client = TcpStream::connect(stack.admin()).await.unwrap();
        client.write_all(b"GET /h").await.unwrap();
        silent.push(client);
    }
    assert_eq!(stack.admin_get("/healthz").await.0, 200);
    // All but a hundred were closed, those first that were silent the longest.
    for client in &mut silent[..200] {
        // Reset where its bytes had not been read.
        assert_eq!(client.read(&mut [0; 64]).await.unwrap_or(0), 0);
    }
    // Junk is refused, and not answered without end.
    let mut junk = TcpStream::connect(stack.admin()).await.unwrap();
    junk.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    junk.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    stack.openrouter("acme").send("job", "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_do_not_keep_it_from_stopping() {
    use tokio::{io::AsyncWriteExt as _, net::TcpStream};
    let mut stack = stack().tenant("acme", |t| t).start().await;
    let grpc = stack.relay().trim_start_matches("http://").to_owned();
    let _silent = TcpStream::connect(grpc).await.unwrap();
    let mut half = TcpStream::connect(stack.admin()).await.unwrap();
    half.write_all(b"GET /h").await.unwrap();
    // An answer on another connection: by then the ones before it were accepted.
    assert_eq!(stack.admin_get("/healthz").await.0, 200);
    stack.status().await.get_summary(talaria_proto::v1::GetSummaryRequest::default()).await.unwrap();
    assert_eq!(stack.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_does_not_finish_in_time_is_interrupted_and_repeated() {
    let sink = Sink::start().await;
    sink.set("r", Does::Hang);
    let mut stack = stack()
        .with("relay: {grpc: 127.0.0.1:0, drain: 100ms}")
        .tenant("acme", |t| t.route("r", &sink.url("r"), "timeout: 60s"))
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    until("the attempt to begin", async || (sink.requests().len() == 1).then_some(())).await;
    assert_eq!(stack.terminate().await, Some(0));
    sink.set("r", Does::Accept);
    stack.restart_with(|text| text).await;
    let found = stack.finished(&event, "r").await;
    let outcomes: Vec<_> = found.attempts.iter().map(talaria_proto::v1::Attempt::outcome).collect();
    assert_eq!(outcomes[0], AttemptOutcome::Interrupted);
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_route_parks_its_waiting_deliveries() {
    let sink = Sink::start().await;
    sink.set("gone", Does::Answer(500, serde_json::json!({})));
    let keys = "retry: {schedule: [2s, 2s, 2s]}";
    let mut stack = stack()
        .tenant("acme", |t| t.route("stays", &sink.url("stays"), keys).route("gone", &sink.url("gone"), keys))
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.delivery_when(&event, "gone", |delivery| delivery.attempts == 1).await;
    stack.finished(&event, "stays").await;
    stack
        .restart_with(|text| {
            let (before, _) = text.split_once("      gone:").unwrap();
            before.to_owned()
        })
        .await;
    let found = stack.finished(&event, "gone").await;
    let delivery = found.delivery.unwrap();
    assert_eq!((delivery.state(), found.attempts.len()), (State::Parked, 1));
    assert!(
        delivery.reason.contains("not configured any more; replay once it is back"),
        "{}",
        delivery.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_rebuilt_from_the_journal_when_its_file_is_lost() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start().await;
    let mut events = Vec::new();
    for index in 0..50 {
        events.push(stack.openrouter("acme").send(&format!("job {index}"), "completed").await);
    }
    for event in &events {
        stack.finished(event, "r").await;
    }
    let before = stack.deliveries().await;
    let directory = stack.written.path().join("talaria-data");
    stack
        .restart_with(|text| {
            fs::remove_file(directory.join("view.db")).unwrap();
            text
        })
        .await;
    // A relay is ready before its status is rebuilt.
    until("the status to be as before", async || (stack.deliveries().await == before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_locked_is_503_for_callbacks_and_readiness_and_loses_nothing() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let openrouter = stack.openrouter("acme");
    let file = stack.written.path().join("talaria-data/bus.db");
    let intruder = rusqlite::Connection::open(file).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(openrouter.try_send("job", "completed").await, Some(503));
    assert_eq!(stack.admin_get("/readyz").await.0, 503);
    assert_eq!(stack.admin_get("/healthz").await.0, 200, "the process lives");
    drop(intruder);
    let event = openrouter.send("job", "completed").await;
    assert_eq!(stack.finished(&event, "r").await.delivery.unwrap().state(), State::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_is_its_users_alone_and_is_mended_at_the_start() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.finished(&event, "r").await;
    let data = stack.written.path().join("talaria-data");
    let modes = || {
        let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let modes: BTreeMap<String, u32> = files
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), mode(&path)))
            .collect();
        (mode(&data), modes)
    };
    let are_private = |files: &BTreeMap<String, u32>| {
        let expected = ["bus.db", "bus.db-wal", "evidence.db", "lock", "relay-id", "view.db", "view.db-wal"];
        expected.iter().all(|name| files.contains_key(*name)) && files.values().all(|mode| *mode == 0o600)
    };
    let (directory, files) = modes();
    assert!(directory == 0o700 && are_private(&files), "{directory:o} {files:?}");

    // As an earlier version left them, which was killed.
    stack
        .restart_with(|text| {
            fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
            for name in files.keys() {
                fs::set_permissions(data.join(name), Permissions::from_mode(0o644)).unwrap();
            }
            text
        })
        .await;
    let (directory, files) = modes();
    assert!(directory == 0o700 && are_private(&files), "{directory:o} {files:?}");
    assert_eq!(stack.event(&event).await.deliveries.len(), 1);
}

/// Ends a process with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_log_delays_nothing_and_dropped_lines_are_counted() {
    let sink = Sink::start().await;
    let written = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).write();
    let mut command = Command::new(binary::talaria());
    command.args(["up", "--config"]).arg(&written.config).env("RUST_LOG", "trace");
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(running.0.stderr.take().unwrap());
    // Read up to the addresses, and then never again: the pipe is full at once.
    let (mut line, mut listens) = (String::new(), None);
    while listens.is_none() {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        listens = serde_json::from_str::<Value>(&line).ok().filter(|line| line["ingress"].is_string());
    }
    let listens = listens.unwrap();
    let address = |of: &str| -> SocketAddr { listens[of].as_str().unwrap().parse().unwrap() };
    let openrouter = OpenRouter::new(address("ingress"), "acme", &openrouter_secret("acme"));
    let mut sent = 0;
    until("lines to be left out", async || {
        for _ in 0..50 {
            openrouter.send(&format!("job {sent}"), "completed").await;
            sent += 1;
        }
        let of_admin = |path: &str| format!("http://{}{path}", address("admin"));
        let answer = talaria_tests::http().get(of_admin("/healthz")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let metrics =
            talaria_tests::http().get(of_admin("/metrics")).send().await.unwrap().text().await.unwrap();
        let left_out =
            metrics.lines().find_map(|line| line.strip_prefix("talaria_log_lines_left_out_total "));
        (left_out.unwrap() != "0").then_some(())
    })
    .await;
    until("all of it to be delivered", async || (sink.requests_to("r").len() == sent).then_some(())).await;
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_explained_with_advice() {
    let sink = Sink::start().await;
    let running = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let directory = running.written.path();
    // The same data directory.
    let second = binary::run(directory, &["up"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another Talaria is running in this data directory"), "{said}");
    // An address in use.
    let taken = format!("ingress: {{listen: {}}}\ndata_dir: elsewhere\n", running.ingress());
    let text = fs::read_to_string(&running.written.config).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("ingress")).map(|line| format!("{line}\n")).collect();
    fs::write(directory.join("second.yaml"), taken + &text).unwrap();
    let second = binary::run(directory, &["up", "--config", "second.yaml"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("cannot listen on") && said.contains("ingress.listen"), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
}

/// Like a laptop's sleep: overdue deliveries go out at once, not when a timer ends.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_became_due_while_it_was_stopped_go_out_at_the_start() {
    let sink = Sink::start().await;
    sink.set("r", Does::Answer(503, serde_json::json!({})));
    let mut stack = stack()
        .tenant("acme", |t| t.route("r", &sink.url("r"), "retry: {schedule: [1s, 1s, 1s]}"))
        .start()
        .await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let found = stack.delivery_when(&event, "r", |delivery| delivery.attempts == 1).await;
    let due = talaria_proto::time::from_proto(found.delivery.unwrap().next_attempt_at.as_ref());
    stack.terminate().await;
    sink.set("r", Does::Accept);
    until("its next attempt to be overdue", async || (Timestamp::now() > due).then_some(())).await;
    stack.restart_with(|text| text).await;
    let found = stack.finished(&event, "r").await;
    assert_eq!((found.attempts.len(), found.delivery.unwrap().state()), (2, State::Delivered));
}
