//! The commands for jobs.

use super::{World, world};
use serde_json::Value;
use talaria_tests::{binary, openrouter_api::End, terminal::OnTerminal};

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

const COLUMNS: u16 = 80;

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

    let explained = works(&world, &["explain", &id[..16]]);
    assert!(explained.starts_with(&format!("{id}  RUNNING")), "before there is an event: {explained}");
    for says in ["intent recorded", "OpenRouter has it", "gives it up at", "talaria stop-job job_"] {
        assert!(explained.contains(says), "{says}: {explained}");
    }
    let document = json(&world, &["explain", &id]);
    assert_eq!(
        (&document["job"]["id"], &document["explanations"]),
        (&id.clone().into(), &serde_json::json!([]))
    );
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
    for name in [id.as_str(), &id[..16], &openrouter_id] {
        let explained = works(&world, &["explain", name]);
        assert!(explained.starts_with(&format!("{id}  COMPLETED\n")), "{name}: {explained}");
        assert!(
            explained.contains(&format!("\n\n{event}  video.generation.completed\n")),
            "{name}: {explained}"
        );
        assert!(works(&world, &["status", "--job", name]).contains("DELIVERED"), "{name}");
        let dry = ["replay", "--job", name, "--state", "delivered", "--dry-run", "--as", "ana"];
        assert!(works(&world, &dry).starts_with("1 match"), "{name}");
    }
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
    assert!(works(&world, &["track", &id[..16], "--as", "ana"]).contains("It was known already"));
    let stopped = works(&world, &["stop-job", &id[..16], "--as", "ana", "--reason", "not ours"]);
    assert!(stopped.contains("STOPPED: ana stopped waiting: not ours"), "{stopped}");
    assert!(
        stopped.ends_with("OpenRouter cannot cancel a job: it goes on there, and its cost stays.\n"),
        "{stopped}"
    );
    let explained = works(&world, &["explain", id]);
    assert!(explained.contains("a late callback still ends it"), "{explained}");
    let submitted = json(&world, &[&SUBMIT[..], &["a lighthouse"]].concat());
    let submitted = submitted["job"]["id"].as_str().unwrap();
    let (code, _, err) = run(&world, &["explain", "job_"]);
    assert!(code == Some(2) && err.contains(&id[..16]) && err.contains(&submitted[..16]), "{err}");

    let actions = works(&world, &["actions"]);
    let lines: Vec<&str> = actions.lines().skip(1).collect();
    assert_eq!(lines.len(), 3, "what was known already was not done again: {actions}");
    for (line, did, what) in [
        (lines[0], "submitted", format!("acme {submitted}")),
        (lines[1], "stopped waiting for", format!("acme/video {id}")),
        (lines[2], "tracked", format!("acme/video {id}")),
    ] {
        assert!(line.contains("  ana  ") && line.contains(did) && line.contains(&what), "{did}: {line}");
    }
    assert!(lines[1].ends_with("not ours"), "{actions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_ledgers_and_errors_fit_a_terminal_and_no_id_is_cut() {
    const MODEL: &str = "black-forest-labs/flux-video-upscale";
    let world = world("", "").await;
    let submit = ["submit", "--model", MODEL, "--context", &format!("note={}", "of some length ".repeat(9))];
    let made = json(&world, &[&submit[..], &["--as", "ana", "a lighthouse"]].concat());
    let id = made["job"]["id"].as_str().unwrap();
    let openrouter_id = made["job"]["openrouterId"].as_str().unwrap();
    world.api.end(openrouter_id, End::completed(0.5)).await;
    world.job_when(id, |job| !job.event_id.is_empty()).await;
    let event = json(&world, &["status", id])["job"]["eventId"].as_str().unwrap().to_owned();
    world.stack.finished(&event, "video").await;
    let on_terminal = |args: &[&str]| {
        let relay = world.stack.relay();
        let args = [args, &["--relay", &relay]].concat();
        let (code, shown) =
            OnTerminal::start(binary::command(world.stack.written.path(), &args), COLUMNS).end();
        // A word that no line has room for, such as a URL, is not cut.
        let is_long = |word: &str| word.chars().count() > usize::from(COLUMNS) - 4;
        let fits = |line: &str| line.chars().count() <= usize::from(COLUMNS) || line.split(' ').any(is_long);
        let fits = shown.lines().all(fits);
        assert!(fits, "{args:?}:\n{shown}");
        (code, shown)
    };
    for args in [&["models"][..], &["jobs"], &["costs"], &["status", id], &["explain", id]] {
        let (code, shown) = on_terminal(args);
        assert_eq!(code, Some(0), "{args:?}: {shown}");
        assert!(shown.contains(MODEL), "{args:?}:\n{shown}");
    }
    assert!(on_terminal(&["jobs"]).1.contains(&id[..16]));
    let (code, shown) =
        on_terminal(&["submit", "--model", "google/veo-3.1", "--duration", "5", "--as", "ana", "p"]);
    assert!(code == Some(2) && shown.contains("error: --duration is 5"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_context_that_is_missing_is_named_with_the_delivery() {
    let world = world("", "prompt: '{talaria.job.context.chat_id} {talaria.job.context.thread_id}'").await;
    let made = json(&world, &[&SUBMIT[..], &["a lighthouse"]].concat());
    let (id, openrouter_id) =
        (made["job"]["id"].as_str().unwrap(), made["job"]["openrouterId"].as_str().unwrap());
    world.api.end(openrouter_id, End::completed(0.5)).await;
    let event = world.job_when(id, |job| !job.event_id.is_empty()).await.event_id;
    let delivery = world.stack.finished(&event, "video").await.delivery.unwrap().id;
    let note = "template: {talaria.job.context.thread_id} had no value, and stayed as it is written\n";
    for args in [["status", &delivery], ["explain", &delivery], ["explain", id]] {
        let shown = works(&world, &args);
        assert!(
            shown.contains(note) && !shown.contains("{talaria.job.context.chat_id}"),
            "{args:?}: {shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_options_and_what_gives_an_estimate() {
    let world = world("budget: {per_job: 3.00}", "").await;
    let submit = |model: &str, more: &[&str]| {
        run(&world, &[&["submit", "--model", model, "--as", "ana"], more, &["p"]].concat())
    };
    for (more, says) in [
        (&["--aspect-ratio", "1:1"][..], "--aspect-ratio is \"1:1\""),
        (&["--resolution", "480p"], "--resolution is \"480p\""),
        (&["--upscale-factor", "2"], "has no --upscale-factor"),
        (&["--request-id", "a b"], "--request-id has 1 to"),
    ] {
        let (code, _, err) = submit("google/veo-3.1", more);
        assert!(code == Some(2) && err.contains(says), "{more:?}: {err}");
    }
    let (code, _, err) = submit("runway/gen-4.5", &["--audio"]);
    assert!(code == Some(2) && err.contains("has no --audio"), "{err}");
    // No size of the model has this resolution.
    let seedance = ["--duration", "5", "--resolution", "1080p"];
    let (code, _, err) = submit("bytedance/seedance-2.0", &seedance);
    assert!(code == Some(1) && err.contains("`--without-estimate`"), "{err}");
    assert!(
        err.contains("help: --size, instead of --resolution and --aspect-ratio, makes the cost known"),
        "{err}"
    );
    assert!(err.contains(": 864x480, 480x864, 1280x720, 720x1280\n"), "{err}");
    let (code, _, err) = submit("new/model", &[]);
    assert!(code == Some(1) && err.contains("`--without-estimate`") && !err.contains("--size"), "{err}");
    let (code, out, _) = submit("bytedance/seedance-2.0", &[&seedance[..], &["--without-estimate"]].concat());
    assert!(code == Some(0) && out.contains("no estimate: ") && out.contains("--size gives one"), "{out}");
    let (code, out, err) = submit("bytedance/seedance-2.0", &["--duration", "5", "--size", "1280x720"]);
    assert!(code == Some(0) && out.contains("  estimate $0.7"), "{out}{err}");
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
