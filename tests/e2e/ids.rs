//! No more of an id has to be given than tells it from others.

use std::{path::Path, process::Output};
use talaria_core::{id::DeliveryId, short_id::short};
use talaria_tests::{
    binary,
    openrouter::event_id,
    sink::{Does, Sink},
    stack::stack,
};

/// The exit code and the output of a command.
fn run(directory: &Path, relay: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = binary::run(directory, &[args, &["--relay", relay]].concat());
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_beginning_of_an_id_suffices_in_every_command() {
    let sink = Sink::start().await;
    sink.set("b", Does::Answer(500, serde_json::json!({})));
    let keys = "pace: off\nbreaker: off\nretry: {schedule: []}";
    let stack = stack()
        .tenant("acme", |t| t.route("a", &sink.url("a"), keys).route("b", &sink.url("b"), keys))
        .tenant("other", |t| t)
        .start()
        .await;
    let event = stack.openrouter("acme").send("gen_abc1", "completed").await;
    stack.openrouter("acme").send("gen_abc2", "completed").await;
    let id = |route: &str| DeliveryId::new(event.parse().unwrap(), route).to_string();
    let (a, b) = (id("a"), id("b"));
    stack.finished(&event, "a").await;
    stack.finished(&event, "b").await;
    stack.finished(&event_id("acme", "gen_abc2", "completed"), "b").await;
    let relay = stack.relay();
    let run = |args: &[&str]| run(stack.written.path(), &relay, args);
    let works = |args: &[&str]| {
        let (code, out, err) = run(args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out
    };

    // Events and deliveries, asked for and intervened with.
    for part in [&event[..16], &event[..30], &format!("{}…", &event[..20])] {
        assert!(works(&["status", part]).starts_with(&event), "{part}");
        assert!(works(&["explain", part]).starts_with(&event), "{part}");
    }
    for part in [short(&a), a[..43].to_owned()] {
        assert!(works(&["status", &part]).starts_with(&a), "{part}");
        assert!(works(&["explain", &part]).contains("acme/a  DELIVERED"), "{part}");
    }
    assert!(works(&["replay", &short(&b), "--as", "ana"]).contains(&b));
    assert!(works(&["replay", &event[..16], "--route", "a", "--as", "ana"]).contains(&a));
    works(&["pause", "acme/a", "--as", "ana"]);
    works(&["replay", &short(&a), "--as", "ana"]);
    assert!(works(&["cancel", &short(&a), "--as", "ana"]).contains("CANCELLED"));

    works(&["resume", "acme/a", "--as", "ana"]);

    // Jobs at OpenRouter, and replay jobs.
    let (code, out, err) = run(&["status", "gen_abc1"]);
    assert!(
        code == Some(0) && err.is_empty() && out.contains(&event),
        "a whole one is nothing to talk about: {err}"
    );
    stack.openrouter("acme").send("unlike", "completed").await;
    stack.finished(&event_id("acme", "unlike", "completed"), "a").await;
    let (_, out, err) = run(&["status", "unl"]);
    assert!(out.contains("unlike") && err.contains("unl is taken for the job unlike"), "{err}");
    assert!(works(&["explain", "unl"]).contains("job unlike"));
    assert!(works(&["status", "--job", "unl"]).contains("unlike"));
    let dry = ["replay", "--job", "unl", "--state", "parked", "--dry-run", "--as", "ana"];
    assert!(works(&dry).starts_with("1 match"));
    let replayed = works(&["replay", "--job", "unlike", "--detach", "--as", "ana"]);
    let job = replayed.lines().find_map(|line| line.split_once(" has begun")).unwrap().0;
    assert!(works(&["replays", &job[..12]]).contains(job));

    // Several fit, or none.
    for (args, code, says) in [
        (&["status", &a[..20]][..], 2, vec![short(&a), short(&b), "acme/a".into(), "acme/b".into()]),
        (&["replay", &a[..20], "--as", "ana"], 2, vec!["more than one delivery".into()]),
        (&["status", "gen_abc"], 2, vec!["gen_abc1".into(), "gen_abc2".into(), "give more of it".into()]),
        (&["explain", "evt_"], 2, vec!["more than one event".into()]),
        (&["status", "gen_abc1", "--tenant", "other"], 4, vec!["no job gen_abc1 is known".into()]),
        (&["status", "gen_x"], 4, vec!["no job gen_x is known".into()]),
        (&["status", "evt_aaaaaaaaaaaa"], 4, vec!["no event evt_aaaaaaaaaaaa is known".into()]),
        (
            &["cancel", "dlv_aaaaaaaaaaaa-aaaa", "--as", "ana"],
            4,
            vec!["no delivery dlv_aaaaaaaaaaaa-aaaa".into()],
        ),
        (&["replays", "rpl_x"], 4, vec!["no replay job rpl_x".into()]),
        (&["status", "evt_1"], 2, vec!["not an event id".into()]),
    ] {
        let (found, _, err) = run(args);
        assert_eq!(found, Some(code), "{args:?}: {err}");
        for says in says {
            assert!(err.contains(&says), "{args:?}: {says}: {err}");
        }
    }
}
