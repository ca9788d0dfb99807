//! Every way to change files: in place, replaced, behind links, removed and restored.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use talaria_proto::v1::GetSummaryRequest;
use talaria_tests::{
    binary::run,
    openrouter::OpenRouter,
    sink::{self, Sink},
    stack::{Stack, Written, openrouter_secret, stack},
    until,
};

/// A process whose one tenant has one route.
async fn one(sink: &Sink) -> Stack {
    stack().tenant("acme", |t| t.route("r", &sink.url("r"), "prompt: 'first {data.id}'")).start().await
}

/// The prompt for a new job.
async fn prompt(stack: &Stack, sink: &Sink, job: &str) -> String {
    let event = stack.openrouter("acme").send(job, "completed").await;
    stack.finished(&event, "r").await;
    sink.requests_to("r").last().unwrap().prompt()
}

fn second(text: &str) -> String {
    text.replace("first", "second")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_or_written_in_place_comes_into_force() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    assert_eq!(stack.config().await["generation"], 1);
    assert_eq!(prompt(&stack, &sink, "1").await, "first 1");
    stack.rewrite(|text| second(&text));
    stack.generation(2).await;
    assert_eq!(prompt(&stack, &sink, "2").await, "second 2");
    let text = fs::read_to_string(&stack.written.config).unwrap();
    fs::write(&stack.written.config, text.replace("second", "third")).unwrap();
    stack.generation(3).await;
    assert_eq!(prompt(&stack, &sink, "3").await, "third 3");
    stack.logged("the configuration was reloaded: changed route acme/r").await;
}

/// As Kubernetes mounts a ConfigMap: links to a link to a directory, and that link is replaced.
struct ConfigMap<'a> {
    directory: &'a Path,
    version: u32,
}

impl ConfigMap<'_> {
    /// Replaces all files at once, and removes the old ones.
    fn holds(&mut self, files: &[(&str, &str)]) {
        self.version += 1;
        let (before, now) = (format!("..{}", self.version - 1), format!("..{}", self.version));
        fs::create_dir(self.directory.join(&now)).unwrap();
        for (name, text) in files {
            fs::write(self.directory.join(&now).join(name), text).unwrap();
            let link = self.directory.join(name);
            if link.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
                fs::remove_file(&link).unwrap();
            }
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), &link).unwrap();
            }
        }
        symlink(&now, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        let _ = fs::remove_dir_all(self.directory.join(before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_and_its_secrets_are_swapped() {
    let sink = Sink::start().await;
    let written =
        stack().tenant("acme", |t| t.route("r", &sink.url("r"), "prompt: 'first {data.id}'")).write();
    let (directory, text) = (written.path().to_owned(), fs::read_to_string(&written.config).unwrap());
    let (mine, theirs) = (openrouter_secret("acme"), "another");
    let mut map = ConfigMap { directory: &directory, version: 0 };
    map.holds(&[("talaria.yaml", &text), ("openrouter-acme", &mine), ("hermes", sink::SECRET)]);
    let stack = written.start().await;
    assert_eq!(prompt(&stack, &sink, "1").await, "first 1");
    for generation in 2..5 {
        let text = text.replace("first", &format!("generation {generation}"));
        map.holds(&[("talaria.yaml", &text), ("openrouter-acme", &mine), ("hermes", sink::SECRET)]);
        stack.generation(generation).await;
        let job = generation.to_string();
        assert_eq!(prompt(&stack, &sink, &job).await, format!("generation {generation} {generation}"));
    }
    let text = text.replace("first", "generation 4");
    map.holds(&[("talaria.yaml", &text), ("openrouter-acme", theirs), ("hermes", sink::SECRET)]);
    stack.generation(5).await;
    assert_eq!(stack.openrouter("acme").try_send("5", "completed").await, Some(401));
    OpenRouter::new(stack.ingress(), "acme", theirs).send("5", "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_in_its_own_file() {
    let sink = Sink::start().await;
    let stack = stack()
        .tenant("acme", |t| t.route_with("r", &sink.url("r"), "{file: elsewhere/hermes}", "pace: off"))
        .write();
    let elsewhere = stack.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("hermes"), "the old one").unwrap();
    let stack = stack.start().await;
    let old = stack.openrouter("acme").send("old", "completed").await;
    stack.finished(&old, "r").await;
    assert!(!sink.requests()[0].signed, "with what Hermes does not know");
    fs::write(elsewhere.join("new"), sink::SECRET).unwrap();
    fs::rename(elsewhere.join("new"), elsewhere.join("hermes")).unwrap();
    stack.generation(2).await;
    let new = stack.openrouter("acme").send("new", "completed").await;
    stack.finished(&new, "r").await;
    assert!(sink.requests()[1].signed);
    fs::write(stack.written.path().join("openrouter-acme"), "rotated").unwrap();
    stack.generation(3).await;
    assert_eq!(stack.openrouter("acme").try_send("stale", "completed").await, Some(401));
    OpenRouter::new(stack.ingress(), "acme", "rotated").send("fresh", "completed").await;
    for line in stack.log() {
        assert!(!line.contains("rotated\"") && !line.contains(sink::SECRET), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_valid_configuration_stays_in_force_with_a_logged_reason() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    let good = stack.rewrite(|text| second(&text));
    stack.generation(2).await;
    let bad = stack.rewrite(|text| text.replace("prompt:", "pace: fast\n        prompt:"));
    let line = bad.lines().position(|line| line.contains("pace: fast")).unwrap() + 1;
    let config = stack.config_when("a fault", |config| !config["fault"].is_null()).await;
    let problem = &config["fault"]["problems"][0];
    assert_eq!((config["generation"].clone(), problem["line"].clone()), (2.into(), line.into()));
    assert_eq!((problem["column"].clone(), problem["what"].clone()), (15.into(), "not a pace".into()));
    assert!(problem["help"].as_str().unwrap().contains("30/min"), "{problem}");
    // In the log,
    let logged: Value = serde_json::from_str(&stack.logged("not a pace").await).unwrap();
    assert_eq!(
        (&logged["level"], &logged["line"], &logged["column"]),
        (&"ERROR".into(), &line.into(), &15.into())
    );
    // in the status,
    let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    let configuration = summary.configuration.unwrap();
    let fault = configuration.fault.unwrap();
    assert_eq!(
        (configuration.generation, fault.problems[0].line, fault.problems[0].column),
        (2, line as u64, 15)
    );
    let shown = run(stack.written.path(), &["status", "--relay", &stack.relay()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let place = format!("{line}:15: not a pace");
    assert!(shown.contains("configuration 2") && shown.contains(&place), "{shown}");
    let json = run(stack.written.path(), &["status", "--json", "--relay", &stack.relay()]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["configuration"]["fault"]["problems"][0]["what"], "not a pace");
    // and in metrics.
    let metric = async |line: &str| stack.admin_get("/metrics").await.1.lines().any(|other| other == line);
    for line in [
        "talaria_config_valid 0",
        "talaria_config_generation 2",
        "talaria_config_reloads_total{result=\"applied\"} 1",
        "talaria_config_reloads_total{result=\"refused\"} 1",
    ] {
        assert!(metric(line).await, "{line}: {}", stack.admin_get("/metrics").await.1);
    }
    // It works as before.
    assert_eq!(stack.admin_get("/readyz").await.0, 200);
    assert_eq!(prompt(&stack, &sink, "1").await, "second 1");
    // A file that is only half there has no tenants, or one that is not whole.
    fs::write(&stack.written.config, &good[..good.find("tenants:").unwrap()]).unwrap();
    let no_tenants = |config: &Value| config["fault"].to_string().contains("no tenants");
    stack.config_when("another fault", no_tenants).await;
    assert_eq!(prompt(&stack, &sink, "2").await, "second 2");
    fs::write(&stack.written.config, good.replace("second", "third")).unwrap();
    stack.generation(3).await;
    assert_eq!(prompt(&stack, &sink, "3").await, "third 3");
    assert!(metric("talaria_config_valid 1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_changes_nothing_until_it_is_back() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    let text = fs::read_to_string(&stack.written.config).unwrap();
    fs::remove_file(&stack.written.config).unwrap();
    let gone = |config: &Value| config["fault"].to_string().contains("cannot read");
    stack.config_when("its absence", gone).await;
    assert_eq!(prompt(&stack, &sink, "1").await, "first 1");
    fs::write(&stack.written.config, &text).unwrap();
    stack.generation(1).await;
    let again = "valid again, and is the one that is in force";
    until("it to be valid again", async || stack.log().join("\n").contains(again).then_some(())).await;
    // So with a secret that a new configuration names and that comes later, in a directory that comes later.
    let later = stack.written.path().join("later");
    stack.rewrite(|text| second(&text).replace("{file: hermes}", "{file: later/hermes}"));
    let missing = |config: &Value| config["fault"].to_string().contains("cannot read the secret");
    stack.config_when("the missing secret", missing).await;
    fs::create_dir(&later).unwrap();
    fs::write(later.join("hermes"), sink::SECRET).unwrap();
    stack.signal("-HUP");
    stack.generation(2).await;
    assert_eq!(prompt(&stack, &sink, "2").await, "second 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_quick_changes_the_last_one_is_in_force() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    for number in 1..=50 {
        stack.rewrite(|text| {
            let (before, rest) = text.split_once("prompt: '").unwrap();
            let (_, after) = rest.split_once(' ').unwrap();
            format!("{before}prompt: 'change-{number} {after}")
        });
    }
    let last = until("the last one", async || {
        let job = format!("job {}", rand::random::<u64>());
        let prompt = prompt(&stack, &sink, &job).await;
        prompt.starts_with("change-50").then_some(prompt)
    })
    .await;
    assert!(last.starts_with("change-50 job"), "{last}");
    let config = stack.config().await;
    assert!(config["fault"].is_null() && config["generation"].as_u64().unwrap() <= 51, "{config}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_asks_for_it_and_ends_nothing() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    stack.signal("-HUP");
    until("an answer", async || {
        stack.log().iter().any(|line| line.contains("the configuration has not changed")).then_some(())
    })
    .await;
    assert_eq!(stack.config().await["generation"], 1);
    // Also where the file becomes a link to another.
    let real: PathBuf = stack.written.path().join("real.yaml");
    fs::copy(&stack.written.config, &real).unwrap();
    fs::remove_file(&stack.written.config).unwrap();
    symlink(&real, &stack.written.config).unwrap();
    fs::write(&real, second(&fs::read_to_string(&real).unwrap())).unwrap();
    stack.signal("-HUP");
    stack.generation(2).await;
    assert_eq!(prompt(&stack, &sink, "1").await, "second 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_come_and_go_while_callbacks_do() {
    let sink = Sink::start().await;
    let stack = one(&sink).await;
    let written: &Written = &stack.written;
    fs::write(written.path().join("openrouter-new"), openrouter_secret("new")).unwrap();
    assert_eq!(stack.openrouter("new").try_send("1", "completed").await, Some(401));
    let before = fs::read_to_string(&written.config).unwrap();
    stack.rewrite(|text| {
        let tenant = text.split_once("  acme:").unwrap().1.replace("openrouter-acme", "openrouter-new");
        format!("{text}  new:{tenant}")
    });
    stack.generation(2).await;
    let event = stack.openrouter("new").send("1", "completed").await;
    stack.finished(&event, "r").await;
    stack.rewrite(|_| before);
    stack.generation(3).await;
    assert_eq!(stack.openrouter("new").try_send("2", "completed").await, Some(401));
    stack.openrouter("acme").send("1", "completed").await;
}
