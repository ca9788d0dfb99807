//! `--tunnel`, with a stand-in that speaks as cloudflared does.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
};
use talaria_tests::{
    binary::{self, workspace},
    openrouter::OpenRouter,
    sink::Sink,
    stack::{Builder, Stack, openrouter_secret, stack},
    until,
};
use tempfile::TempDir;

/// A scripted cloudflared in a directory of its own.
struct Cloudflared(TempDir);

impl Cloudflared {
    fn that(does: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        symlink(workspace().join("tests/cloudflared/cloudflared"), directory.path().join("cloudflared"))
            .unwrap();
        let cloudflared = Self(directory);
        cloudflared.does(does);
        cloudflared
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cloudflared")
    }

    fn does(&self, what: &str) {
        // Whole, or not at all: it may be read right now.
        fs::write(self.0.path().join("next"), what).unwrap();
        fs::rename(self.0.path().join("next"), self.0.path().join("does")).unwrap();
    }

    fn die(&self) {
        fs::write(self.0.path().join("die"), "").unwrap();
    }

    /// How it was called each time.
    fn calls(&self) -> Vec<Value> {
        let calls = fs::read_to_string(self.0.path().join("calls.jsonl")).unwrap_or_default();
        calls.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn lives(&self, call: usize) -> bool {
        let pid = self.calls()[call]["pid"].to_string();
        Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().unwrap().success()
    }
}

fn with(cloudflared: &Cloudflared, keys: &str) -> Builder {
    let path = cloudflared.path();
    stack().with(&format!("tunnel: {{cloudflared: {}{keys}}}", path.display())).flag("--tunnel")
}

/// The JSON lines of the log.
fn log(stack: &Stack) -> Vec<Value> {
    stack.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The callback URLs that were shown so far, with their levels.
fn shown(stack: &Stack) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let lines = log(stack).into_iter().filter(|line| line["callback_url"].is_string());
    lines.map(|line| (text(&line["level"]), text(&line["callback_url"]))).collect()
}

fn arguments(call: &Value) -> Vec<&str> {
    call["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_tunnel_leads_here_and_its_new_url_is_shown_when_it_died() {
    let sink = Sink::start().await;
    let cloudflared = Cloudflared::that("serve");
    let mut stack = with(&cloudflared, "")
        .with("ingress: {listen: 0.0.0.0:0}")
        .environment("TUNNEL_NAME", "another-tunnel")
        .environment("MY_SECRET", "hunter2")
        .tenant("acme", |t| t.route("r", &sink.url("r"), ""))
        .tenant("me", |t| t)
        .start()
        .await;
    let urls = |run: u32, level: &str| {
        ["acme", "me"].map(|tenant| {
            let url = format!("https://some-words-{run}.trycloudflare.com/callbacks/{tenant}");
            (level.to_owned(), url)
        })
    };
    until("the URLs", async || (shown(&stack) == urls(1, "INFO")).then_some(())).await;
    until("the connection", async || {
        let connected = |line: &Value| line["message"] == "the tunnel is connected to Cloudflare";
        log(&stack).iter().any(connected).then_some(())
    })
    .await;

    // Where it leads is where callbacks come in.
    let call = &cloudflared.calls()[0];
    let ["tunnel", "--config=", "--no-autoupdate", "--metrics", "127.0.0.1:0", "--url", origin] =
        arguments(call)[..]
    else {
        panic!("{call}")
    };
    let origin = origin.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(stack.ingress().port(), std::net::SocketAddr::port(&origin));
    let event = OpenRouter::new(origin, "acme", &openrouter_secret("acme")).send("job", "completed").await;
    stack.finished(&event, "r").await;
    let environment = call["env"].as_object().unwrap();
    assert!(environment.contains_key("PATH"), "{environment:?}");
    assert!(!environment.contains_key("MY_SECRET") && !environment.contains_key("TUNNEL_NAME"));

    cloudflared.die();
    let both = [urls(1, "INFO"), urls(2, "WARN")].concat();
    until("the new URLs", async || (shown(&stack) == both).then_some(())).await;
    let said = log(&stack);
    let restart = said.iter().find(|line| line["said"].is_string()).unwrap();
    assert_eq!(restart["message"], "cloudflared ended (exit status: 1); it is started again in 1s");
    assert!(restart["said"].as_str().unwrap().contains("control stream encountered a failure"), "{restart}");

    // It goes as the process does.
    assert!(cloudflared.lives(1));
    assert_eq!(stack.terminate().await, Some(0));
    assert!(!cloudflared.lives(1));
    assert_eq!(cloudflared.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_at_once_is_tried_less_and_less_often_and_callbacks_are_taken_meanwhile() {
    let sink = Sink::start().await;
    let cloudflared = Cloudflared::that("fail");
    let mut stack = with(&cloudflared, "").tenant("acme", |t| t.route("r", &sink.url("r"), "")).start().await;
    let pauses = || -> Vec<String> {
        let lines = log(&stack).into_iter().filter(|line| line["said"].is_string());
        lines
            .map(|line| {
                assert!(
                    line["said"].as_str().unwrap().starts_with("failed to request quick Tunnel"),
                    "{line}"
                );
                let message = line["message"].as_str().unwrap().to_owned();
                message
                    .strip_prefix("cloudflared ended (exit status: 1); it is started again in ")
                    .unwrap()
                    .into()
            })
            .collect()
    };
    until("three failures", async || (pauses().len() >= 3).then_some(())).await;
    assert_eq!(pauses()[..3], ["1s", "2s", "4s"]);
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.finished(&event, "r").await;
    // Once it is mended it comes up.
    cloudflared.does("serve");
    until("the URL", async || shown(&stack).pop()).await;
    assert_eq!(stack.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_a_url_is_ended_and_started_again() {
    let cloudflared = Cloudflared::that("nothing");
    let stack = with(&cloudflared, "").tenant("acme", |t| t).start().await;
    until("its end", async || {
        let nameless = |line: &Value| {
            line["message"]
                == "cloudflared had no public URL after 20s and was ended; it is started again in 1s"
        };
        log(&stack).iter().any(nameless).then_some(())
    })
    .await;
    assert!(!cloudflared.lives(0));
    cloudflared.does("serve");
    until("the URL", async || shown(&stack).pop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_tunnel_that_cloudflare_has_forgotten_is_replaced() {
    let cloudflared = Cloudflared::that("refused");
    let stack = with(&cloudflared, "").tenant("acme", |t| t).start().await;
    until("the first URL", async || shown(&stack).pop()).await;
    cloudflared.does("serve");
    let second = until("the second URL", async || shown(&stack).into_iter().nth(1)).await;
    let said = log(&stack);
    let forgotten = "Cloudflare does not know the tunnel any more: cloudflared was ended";
    assert!(said.iter().any(|line| line["message"].as_str().unwrap_or_default().starts_with(forgotten)));
    assert_eq!(second.0, "WARN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_gets_its_token_in_its_environment() {
    let token = "eyJhIjoiaHVudGVyMiJ9";
    let cloudflared = Cloudflared::that("serve");
    fs::write(cloudflared.0.path().join("token"), token).unwrap();
    let keys = format!(", token: {{file: {}}}", cloudflared.0.path().join("token").display());
    let mut stack = with(&cloudflared, &keys)
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com/}")
        .environment("RUST_LOG", "debug")
        .tenant("acme", |t| t)
        .start()
        .await;
    let url = until("the URL", async || shown(&stack).pop()).await;
    assert_eq!(url, ("INFO".into(), "https://hooks.example.com/callbacks/acme".into()));
    until("it to run", async || (!cloudflared.calls().is_empty()).then_some(())).await;
    let call = &cloudflared.calls()[0];
    assert_eq!(
        arguments(call),
        ["tunnel", "--config=", "--no-autoupdate", "--metrics", "127.0.0.1:0", "run"]
    );
    assert_eq!(call["env"]["TUNNEL_TOKEN"], token);
    // A permanent URL is announced once, also after a restart.
    cloudflared.die();
    until("the restart", async || (cloudflared.calls().len() == 2).then_some(())).await;
    until("its log", async || {
        let said = |line: &Value| line["message"] == "cloudflared: the token is (secret)";
        (log(&stack).iter().filter(|line| said(line)).count() == 2).then_some(())
    })
    .await;
    assert_eq!(shown(&stack), [url]);
    assert_eq!(stack.terminate().await, Some(0));
    assert!(stack.log().iter().all(|line| !line.contains(token)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cloudflared_is_an_error_with_instructions_before_anything_starts() {
    let written = stack().tenant("acme", |t| t).write();
    let said = |path: &str| {
        let mut talaria = Command::new(binary::talaria());
        let output =
            talaria.args(["up", "--tunnel"]).current_dir(written.path()).env("PATH", path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let nowhere = said("/nowhere");
    assert!(
        nowhere.contains("error: --tunnel needs the program cloudflared, and it is not on the PATH"),
        "{nowhere}"
    );
    assert!(nowhere.contains("brew install cloudflared") && nowhere.contains("package"), "{nowhere}");
    assert!(!written.path().join("talaria-data").exists());

    let text = fs::read_to_string(&written.config).unwrap();
    let rename = |cloudflared: &str| {
        fs::write(&written.config, format!("tunnel: {{cloudflared: {cloudflared}}}\n{text}")).unwrap();
        said("/usr/bin:/bin")
    };
    let elsewhere = rename("bin/cloudflared");
    let path = written.path().join("bin/cloudflared");
    let expected = format!("error: there is no {}, which tunnel.cloudflared names", path.display());
    assert!(elsewhere.contains(&expected), "{elsewhere}");
    let not_a_program = rename("talaria.yaml");
    assert!(
        not_a_program.contains("cannot run ") && not_a_program.contains("Permission denied"),
        "{not_a_program}"
    );
    let another = rename("/bin/false");
    assert!(another.contains("`/bin/false --version` failed"), "{another}");
    assert!(!written.path().join("talaria-data").exists());
}
