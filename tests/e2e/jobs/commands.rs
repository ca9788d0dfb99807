//! The commands for jobs.

use super::{World, world};
use serde_json::Value;
use talaria_tests::{binary, openrouter_api::End};

/// The exit code and the output of a command that asks the relay.
fn run(world: &World, args: &[&str]) -> (Option<i32>, String, String) {
    let relay = world.stack.relay();
    let output = binary::run(world.stack.written.path(), &[args, &["--relay", &relay]].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The output of a command that has to succeed.
fn works(world: &World, args: &[&str]) -> String {
    let (code, out, err) = run(world, args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

fn json(world: &World, args: &[&str]) -> Value {
    serde_json::from_str(&works(world, &[args, &["--json"]].concat())).unwrap()
}

const SUBMIT: [&str; 13] = [
    "submit",
    "--model",
    "google/veo-3.1",
    "--duration",
    "6",
    "--resolution",
    "720p",
    "--context",
    "chat_id=-100123",
    "--as",
    "ana",
    "--request-id",
    "r-1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_once_followed_and_shown_with_its_cost() {
    let world = world("", "").await;
    let submit = |prompt: &str, more: &[&str]| run(&world, &[&SUBMIT, more, &[prompt]].concat());
    let first = json(&world, &[&SUBMIT[..], &["a lighthouse"]].concat());
    assert_eq!(
        (&first["known"], &first["job"]["state"]),
        (&false.into(), &"JOB_STATE_RUNNING".into()),
        "{first}"
    );
    assert_eq!(first["job"]["estimateMicros"], "2400000", "six seconds with sound: {first}");
    let text = |key: &str| first["job"][key].as_str().unwrap().to_owned();
    let (id, openrouter_id) = (text("id"), text("openrouterId"));
    let (code, out, err) = submit("a lighthouse", &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with(&format!("{id}  RUNNING")) && out.contains("nothing was sent"), "{out}");
    assert!(out.contains("estimate $2.40"), "{out}");
    assert_eq!(world.api.jobs().len(), 1, "the same request is the same job");
    let (code, _, err) = submit("another prompt", &[]);
    assert!(code == Some(1) && err.contains("take another --request-id"), "{err}");

    let (code, _, err) = submit("a lighthouse", &["--wait=100ms"]);
    assert!(code == Some(5) && err.contains("is RUNNING, and its end is not known in time"), "{err}");
    assert!(works(&world, &["jobs"]).contains(&id));
    assert_eq!(works(&world, &["jobs", "--state", "completed"]), "No jobs.\n");
    world.api.end(&openrouter_id, End::completed(2.5)).await;
    let (code, out, err) = submit("a lighthouse", &["--wait=1min"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&format!("{id}  COMPLETED")) && out.contains("estimate $2.40, cost $2.50"), "{out}");

    let event = json(&world, &["status", &id])["job"]["eventId"].as_str().unwrap().to_owned();
    world.stack.finished(&event, "video").await;
    for name in [id.as_str(), &id[..16], &openrouter_id] {
        let shown = works(&world, &["status", name]);
        assert!(shown.starts_with(&format!("{id}  COMPLETED\n")), "{name}: {shown}");
        for says in ["intent recorded", "callback came", "context chat_id=-100123", "acme/video", "DELIVERED"]
        {
            assert!(shown.contains(says), "{name}: {says}: {shown}");
        }
    }
    assert!(works(&world, &["explain", &id]).starts_with(&event));
    let costs = works(&world, &["costs"]);
    assert!(costs.contains("$2.50") && costs.contains("$2.50 for 1 event."), "{costs}");
    let (code, _, err) = run(&world, &["stop-job", &id, "--as", "ana"]);
    assert!(code == Some(1) && err.contains("has ended already"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_program_is_tracked_and_stopped() {
    let world = world("", "").await;
    let track = ["track", "job-of-another", "--route", "acme/video", "--as", "ana"];
    let tracked = json(&world, &track);
    let id = tracked["job"]["id"].as_str().unwrap();
    assert_eq!((&tracked["known"], &tracked["job"]["tracked"]), (&false.into(), &true.into()), "{tracked}");
    assert!(works(&world, &track).contains("It was known already"));
    let stopped = works(&world, &["stop-job", &id[..16], "--as", "ana", "--reason", "not ours"]);
    assert!(stopped.contains("STOPPED: ana stopped waiting: not ours"), "{stopped}");
    assert!(
        stopped.ends_with("OpenRouter cannot cancel a job: it goes on there, and its cost stays.\n"),
        "{stopped}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn models_show_their_values_and_refuse_others() {
    let world = world("", "").await;
    let all = works(&world, &["models"]);
    let veo = all.lines().find(|line| line.starts_with("google/veo-3.1 ")).unwrap();
    assert!(veo.contains("4, 6, 8") && veo.contains("720p 1080p 4K") && veo.contains("first last"), "{veo}");
    assert!(veo.ends_with("0.20–0.60 $/s"), "{veo}");
    let one = works(&world, &["models", "google/veo-3.1"]);
    assert!(one.contains("  aspect ratios     16:9, 9:16\n"), "{one}");
    assert_eq!(json(&world, &["models", "google/veo-3.1"])["models"].as_array().unwrap().len(), 1);
    let (code, _, err) = run(&world, &["models", "google/veo-3.2"]);
    assert!(code == Some(4) && err.contains("there is google/veo-3.1"), "{err}");
    let submit = ["submit", "--model", "google/veo-3.1", "--duration", "5", "--as", "ana", "p"];
    let (code, _, err) = run(&world, &submit);
    assert!(code == Some(2) && err.contains("request id cli-") && err.contains('8'), "{err}");
    assert!(world.api.jobs().is_empty());
}
