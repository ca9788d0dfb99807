//! Output on a terminal, compared with that for programs.

use std::process::{Command, Output};
use talaria_proto::v1::DeliveryState as State;
use talaria_tests::{
    binary,
    openrouter::OpenRouter,
    sink::{Does, Sink},
    stack::{Stack, openrouter_secret, stack},
    terminal::OnTerminal,
    until,
};

const COLUMNS: u16 = 80;

/// The output of a command on a terminal.
fn on_terminal(stack: &Stack, args: &[&str]) -> String {
    let relay = stack.relay();
    let args = [args, &["--relay", &relay]].concat();
    let (code, shown) = OnTerminal::start(binary::command(stack.written.path(), &args), COLUMNS).end();
    assert_eq!(code, Some(0), "{args:?}: {shown}");
    shown
}

/// The output for a program.
fn in_a_pipe(stack: &Stack, args: &[&str]) -> String {
    let relay = stack.relay();
    let Output { status, stdout, stderr } =
        binary::run(stack.written.path(), &[args, &["--relay", &relay]].concat());
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn fits(shown: &str) -> bool {
    shown.lines().all(|line| line.chars().count() <= usize::from(COLUMNS))
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_the_terminal_and_programs_get_all() {
    let sink = Sink::start().await;
    let broken = "pace: off\nbreaker: off\nretry: {schedule: []}";
    sink.set(
        "a-broken-route",
        Does::Answer(500, serde_json::json!({"error": "there is no room for it now"})),
    );
    let stack = stack()
        .tenant("acme", |t| {
            t.route("video-for-everybody", &sink.url("video"), "pace: off").route(
                "a-broken-route",
                &sink.url("a-broken-route"),
                broken,
            )
        })
        .start()
        .await;
    let job = "a_job_of_openrouter_with_a_long_id";
    let event = stack.openrouter("acme").send(job, "completed").await;
    let whole = stack.finished(&event, "video-for-everybody").await.delivery.unwrap().id;
    stack.finished(&event, "a-broken-route").await;
    stack.openrouter("acme").send_bytes(b"no event".to_vec()).await;
    for args in [
        &[
            "pause",
            "acme/a-broken-route",
            "--as",
            "ana",
            "--reason",
            "a reason of some length, so that it is cut",
        ][..],
        &[
            "replay",
            "--all",
            "--detach",
            "--as",
            "ana",
            "--reason",
            "a reason of some length, so that it is cut",
        ],
        &["replay", &whole, "--as", "ana"],
    ] {
        in_a_pipe(&stack, args);
    }
    let short = format!("{}-{}", &whole[..16], &whole[36..40]);
    for args in [
        &["status"][..],
        &["status", job],
        &["status", "--routes"],
        &["status", "--state", "delivered", "--state", "parked"],
        &["status", "--quarantined"],
        &["actions"],
        &["replays"],
    ] {
        let (narrow, all) = (on_terminal(&stack, args), in_a_pipe(&stack, args));
        assert!(fits(&narrow), "{args:?}:\n{narrow}");
        assert!(
            !fits(&all) || args.contains(&"--quarantined") || args.contains(&"--routes"),
            "{args:?}:\n{all}"
        );
        // Everything is there for those who ask for it.
        assert_eq!(
            on_terminal(&stack, &[args, &["--wide"]].concat()).lines().count(),
            all.lines().count(),
            "{args:?}"
        );
    }
    let (narrow, all) = (on_terminal(&stack, &["status"]), in_a_pipe(&stack, &["status"]));
    assert!(narrow.contains(&short) && !narrow.contains(&whole), "{narrow}");
    assert!(all.contains(&whole) && all.contains(job) && all.contains("video.generation.completed"), "{all}");
    assert!(narrow.contains("Left out: ") && !all.contains("Left out: "), "{narrow}");
    assert!(on_terminal(&stack, &["status", "--wide"]).contains(&whole));
    // Commands take the shown id.
    assert!(on_terminal(&stack, &["status", &short]).starts_with(&whole));

    // Times are of one format everywhere.
    let received = narrow.lines().find(|line| line.contains(&short)).unwrap();
    let (time, _) = received.split_at(20);
    assert!(
        time.parse::<jiff::Timestamp>().is_ok() && time.as_bytes()[10] == b' ' && time.ends_with('Z'),
        "{time}"
    );
}

/// A `talaria up` that people look at, and where it listens.
async fn up_on_terminal(written: &talaria_tests::stack::Written) -> (OnTerminal, std::net::SocketAddr) {
    let mut command: Command = binary::command(written.path(), &["up", "--config"]);
    command.arg(&written.config);
    let up = OnTerminal::start(command, COLUMNS);
    let address = until("talaria to listen", async || {
        let shown = up.shown();
        let (_, rest) = shown.split_once("callbacks on http://")?;
        rest.split_once("/callbacks")?.0.parse().ok()
    })
    .await;
    (up, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_prints_a_line_for_each_delivery_and_problems_as_text() {
    let sink = Sink::start().await;
    sink.set("refuses", Does::Answer(401, serde_json::json!({"error": "Invalid signature"})));
    let written = stack()
        .tenant("acme", |t| {
            t.route("works", &sink.url("works"), "pace: off\nevents: [video.*]").route(
                "refuses",
                &sink.url("refuses"),
                "pace: off\nevents: [video.generation.failed]",
            )
        })
        .write();
    let (up, ingress) = up_on_terminal(&written).await;
    let openrouter = OpenRouter::new(ingress, "acme", &openrouter_secret("acme"));
    openrouter.send("job 1", "completed").await;
    openrouter.send("job 2", "failed").await;
    let shown = until("both routes to have lines", async || {
        let shown = up.shown();
        let works = shown.matches("DELIVERED  acme/works").count();
        (works == 2 && shown.contains("the route is shut") && shown.contains("acme/refuses")).then_some(shown)
    })
    .await;
    let lines = |of: &str| shown.lines().filter(|line| line.contains(of)).collect::<Vec<_>>();
    let [delivered] = lines("video.generation.completed")[..] else { panic!("one line a delivery: {shown}") };
    let columns: Vec<&str> =
        delivered.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert!(columns[0].parse::<jiff::Timestamp>().is_ok(), "{delivered}");
    assert_eq!(columns[1..4], ["DELIVERED", "acme/works", "video.generation.completed"], "{delivered}");
    assert!(columns[4].starts_with("dlv_") && columns[4].len() == 21, "{delivered}");
    assert!(columns[5].starts_with("after ") && columns[5].contains(": "), "{delivered}");
    let shut = lines("the route is shut")[0];
    assert!(
        shut.contains("Z  warning: the route is shut: 401") && shut.contains("tenant acme, route refuses"),
        "{shut}"
    );
    assert_eq!(lines("acme/refuses").len(), 1, "that it waits is said once: {shown}");
    assert!(!shown.lines().any(|line| line.starts_with('{')), "no JSON lines: {shown}");
    assert!(!shown.contains(&openrouter_secret("acme")), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_its_filter_and_an_outage_once() {
    let sink = Sink::start().await;
    let mut stack = stack().tenant("acme", |t| t.route("r", &sink.url("r"), "pace: off")).start().await;
    let relay = stack.relay();
    let args = ["watch", "--tenant", "acme", "--snapshot", "--relay", &relay];
    let watch = OnTerminal::start(binary::command(stack.written.path(), &args), COLUMNS);
    let shows = async |what: &str| {
        until(what, async || Some(watch.shown()).filter(|shown| shown.contains(what))).await
    };
    shows("Watching deliveries of tenant acme: the present ones and every change. Ctrl-C ends it.").await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.finished(&event, "r").await;
    shows("DELIVERED  acme/r").await;

    // It is away for some of watch's tries, and back.
    let grpc = relay.trim_start_matches("http://").to_owned();
    stack.terminate().await;
    shows("the relay is away").await;
    let away = tokio::net::TcpListener::bind(&grpc).await.unwrap();
    for _ in 0..3 {
        drop(away.accept().await.unwrap());
    }
    drop(away);
    stack
        .restart_with(|text| {
            text.replace("relay: {grpc: 127.0.0.1:0}", &format!("relay: {{grpc: '{grpc}'}}"))
        })
        .await;
    shows("the relay is back").await;
    let event = stack.openrouter("acme").send("another job", "failed").await;
    assert_eq!(stack.finished(&event, "r").await.delivery.unwrap().state(), State::Delivered);
    let shown = shows("ation.failed").await;
    assert_eq!(shown.matches("the relay is away").count(), 1, "{shown}");
    assert_eq!(shown.matches("the relay is back").count(), 1, "{shown}");

    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("Watching "), "{shown}");
    assert!(lines[1].starts_with("CHANGED ") && lines[1].contains("TYPE"), "{shown}");
    // Every row is aligned with the names of its columns.
    let rows: Vec<&str> = lines.iter().filter(|line| line.contains("acme/r")).copied().collect();
    for head in ["STATE", "ROUTE", "TYPE"] {
        let at = lines[1].find(head).unwrap();
        let below = |row: &&str| {
            row.chars().nth(at - 1) == Some(' ') && row.chars().nth(at).is_some_and(|c| c != ' ')
        };
        assert!(rows.iter().all(below), "{head}: {shown}");
    }
}
