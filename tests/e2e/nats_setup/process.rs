//! `talaria ingress` and `talaria relay` as processes of their own.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};
use talaria_proto::v1::{
    Delivery, DeliveryState, GetEventRequest, GetEventResponse, ListRefusalsRequest, Refusal,
    status_service_client::StatusServiceClient,
};
use talaria_tests::{
    binary, http,
    openrouter::OpenRouter,
    stack::{Written, openrouter_secret},
    until,
};

/// A process of one role. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    written: Written,
    listening: Value,
}

/// The result of an ended process.
#[derive(Debug)]
pub(super) struct Ended {
    pub code: Option<i32>,
    /// Its last words, without its log.
    pub error: String,
    /// Its output.
    pub log: Vec<String>,
}

impl Process {
    /// Begins one, and waits for nothing.
    pub(super) fn begin(role: &str, written: Written) -> Self {
        let mut command = Command::new(binary::talaria());
        command.arg(role).arg("--config").arg(&written.config).env_remove("RUST_LOG");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, log, written, listening: Value::Null }
    }

    /// Starts one, and waits until it listens.
    pub(super) async fn start(role: &str, written: Written) -> Self {
        let mut process = Self::begin(role, written);
        process.listens().await;
        process
    }

    pub(super) async fn listens(&mut self) {
        self.listening = until("talaria to listen", async || {
            assert!(self.child.try_wait().unwrap().is_none(), "talaria ended: {:#?}", self.log());
            let lines = self.log();
            let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["admin"].is_string())
        })
        .await;
    }

    /// Starts one that has to end by itself.
    pub(super) async fn fails(role: &str, written: Written) -> Ended {
        Self::begin(role, written).ends().await
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ends(&mut self) -> Ended {
        let status = until("talaria to end", async || self.child.try_wait().unwrap()).await;
        let (error, log) = until("its last words", async || {
            let log = self.log();
            let first = log.iter().position(|line| line.starts_with("error: "))?;
            Some((log[first..].join("\n"), log))
        })
        .await;
        Ended { code: status.code(), error, log }
    }

    /// Ends it as `kill -9` does, and gives its configuration back.
    pub(super) fn kill(mut self) -> Written {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.written, talaria_tests::stack::stack().write())
    }

    /// The directory of its configuration.
    pub(super) fn path(&self) -> &Path {
        self.written.path()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn address(&self, of: &str) -> SocketAddr {
        self.listening[of].as_str().unwrap_or_else(|| panic!("no {of}: {}", self.listening)).parse().unwrap()
    }

    pub(super) fn ingress(&self) -> SocketAddr {
        self.address("ingress")
    }

    pub(super) fn openrouter(&self, tenant: &str) -> OpenRouter {
        OpenRouter::new(self.ingress(), tenant, &openrouter_secret(tenant))
    }

    /// The answer of `/readyz`.
    pub(super) async fn readiness(&self) -> (u16, String) {
        let answer = http().get(format!("http://{}/readyz", self.address("admin"))).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The refusals in the relay's status, once it has some.
    pub(super) async fn refusals(&self) -> Vec<Refusal> {
        let mut status =
            StatusServiceClient::connect(format!("http://{}", self.address("grpc"))).await.unwrap();
        until("refusals to be announced", async || {
            let list = status.list_refusals(ListRefusalsRequest::default()).await.unwrap().into_inner();
            Some(list.refusals).filter(|refusals| !refusals.is_empty())
        })
        .await
    }

    /// An event as the relay's status has it, once that is as asked for.
    pub(super) async fn event_when(
        &self,
        id: &str,
        is_so: impl Fn(&GetEventResponse) -> bool,
    ) -> GetEventResponse {
        let mut status =
            StatusServiceClient::connect(format!("http://{}", self.address("grpc"))).await.unwrap();
        let request = GetEventRequest { event_id: id.into(), include_payload: true };
        until(&format!("{id} to be as it should"), async || match status.get_event(request.clone()).await {
            Ok(answer) => Some(answer.into_inner()).filter(&is_so),
            // Nothing is there yet, or no relay owns a partition at the moment.
            Err(status) if matches!(status.code(), tonic::Code::NotFound | tonic::Code::Unavailable) => None,
            Err(status) => panic!("{status}"),
        })
        .await
    }

    /// An event's deliveries, once each of them is delivered.
    pub(super) async fn delivered(&self, id: &str) -> Vec<Delivery> {
        let is_delivered = |delivery: &Delivery| delivery.state() == DeliveryState::Delivered;
        let all = |event: &GetEventResponse| {
            !event.deliveries.is_empty() && event.deliveries.iter().all(is_delivered)
        };
        self.event_when(id, all).await.deliveries
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
