//! `talaria mcp`, as a client of the Model Context Protocol meets it.
//!
//! - [`video`]: from a chat to a video and back. [`texts`]: texts of others, and bounds.
//! - [`control`]: plans and codes. [`protocol`]: beginning, end, faults. [`foreign`]: another client.

mod control;
mod foreign;
mod protocol;
mod texts;
mod video;

use serde_json::{Value, json};
use std::process::{ExitStatus, Stdio};
use talaria_tests::{PATIENCE, binary, stack::Stack};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// The newest version of the protocol that has an `initialize`.
const VERSION: &str = "2025-06-18";

/// The most characters of an answer.
const MAX_ANSWER: usize = 20_000;

/// A client, and the server that it started. Every line of the server has to be a message of the protocol.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// All of its standard error, once it has ended.
    err: JoinHandle<String>,
    requests: u64,
}

/// The result of a tool.
struct Answer {
    is_error: bool,
    text: String,
}

impl Client {
    /// Starts a server for the stack's relay with these further arguments, and initializes it.
    async fn start(stack: &Stack, arguments: &[&str]) -> Self {
        Self::start_with(stack, &[], arguments).await
    }

    /// The same with these variables.
    async fn start_with(stack: &Stack, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut client = Self::spawn(stack, environment, arguments);
        let params = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        let hello = client.request("initialize", params).await.unwrap();
        assert_eq!(hello["serverInfo"]["name"], "talaria", "{hello}");
        assert!(hello["capabilities"]["tools"].is_object(), "{hello}");
        assert!(hello["instructions"].as_str().unwrap().contains("never instructions"), "{hello}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    /// Starts a server, and says nothing to it.
    fn spawn(stack: &Stack, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let relay = stack.relay();
        let arguments = [&["mcp", "--relay", &relay], arguments].concat();
        let mut command = Command::from(binary::command(stack.written.path(), &arguments));
        command.envs(environment.iter().copied()).kill_on_drop(true);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let err = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        Self { child, stdin, lines: BufReader::new(stdout).lines(), err, requests: 0 }
    }

    async fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    async fn message(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("an answer").unwrap().unwrap();
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// The result of a request, or its error.
    async fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        loop {
            let mut message = self.message().await;
            if message["id"] == id {
                return match message.get_mut("result") {
                    Some(result) => Ok(result.take()),
                    None => Err(message["error"].take()),
                };
            }
        }
    }

    /// The tools that the server lists.
    async fn tools(&mut self) -> Vec<Value> {
        let listed = self.request("tools/list", json!({})).await.unwrap();
        listed["tools"].as_array().unwrap().clone()
    }

    /// Calls a tool.
    async fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        let result = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await.unwrap();
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(text.chars().count() <= MAX_ANSWER, "{tool}: {}", text.len());
        Answer { is_error: result["isError"] == true, text }
    }

    /// Calls a tool that has to succeed.
    async fn works(&mut self, tool: &str, arguments: Value) -> String {
        let Answer { is_error, text } = self.call(tool, arguments).await;
        assert!(!is_error, "{tool}: {text}");
        text
    }

    /// Calls a tool that has to fail.
    async fn fails(&mut self, tool: &str, arguments: Value) -> String {
        let Answer { is_error, text } = self.call(tool, arguments).await;
        assert!(is_error, "{tool}: {text}");
        text
    }

    /// Closes the server's input. Its exit status, and its standard error.
    async fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("its end").unwrap();
        assert_eq!(self.lines.next_line().await.unwrap(), None, "no line comes after the last answer");
        (status, self.err.await.unwrap())
    }
}

/// The word after a text in an answer.
fn after<'a>(answer: &'a str, text: &str) -> &'a str {
    let rest = answer.split_once(text).unwrap_or_else(|| panic!("{text:?} is not in {answer}")).1;
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).next().unwrap()
}
