//! docs/json.md: each command runs as it is written.

use super::delivered;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};
use talaria_tests::{binary::workspace, sink::Sink};

/// Ends when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_work() {
    let sink = Sink::start().await;
    let (stack, _) = delivered(&sink).await;
    let page = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut ran = 0;
    for block in blocks {
        let command = block.replace("127.0.0.1:8090", &stack.console().to_string());
        let mut shell = Command::new("sh");
        // Without tokens any is as good as none.
        shell.args(["-c", &format!("exec {command}")]).env("TALARIA_TOKEN", "tlr_none");
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        if block.contains("--no-buffer") {
            // It goes on for ever.
            let mut watch = Running(shell.spawn().unwrap());
            let line = BufReader::new(watch.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
            assert!(line.starts_with("data: {\"kind\":\"WATCH_KIND_SNAPSHOT\""), "{line}");
        } else {
            let output = shell.output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let answer: serde_json::Value =
                serde_json::from_str(&said).unwrap_or_else(|error| panic!("{command}: {error}: {said}"));
            assert!(answer.get("code").is_none(), "{command}: {said}");
        }
        ran += 1;
    }
    assert_eq!(ran, 6);
}
