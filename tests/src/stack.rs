//! A configuration in a directory of its own, and the process that runs it.
//!
//! ```ignore
//! let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
//! ```

use crate::{
    binary,
    openrouter::OpenRouter,
    openrouter_api::{self, OpenRouterApi},
    sink, until,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};
use talaria_proto::v1::{
    Delivery, DeliveryFilter, DeliveryState, GetDeliveryRequest, GetDeliveryResponse, GetEventRequest,
    GetEventResponse, ListDeliveriesRequest, control_service_client::ControlServiceClient,
    job_service_client::JobServiceClient, status_service_client::StatusServiceClient,
};
use tempfile::TempDir;
use tonic::transport::Channel;

/// The secret that OpenRouter and Talaria share for a tenant.
pub fn openrouter_secret(tenant: &str) -> String {
    format!("what OpenRouter signs {tenant}'s callbacks with")
}

/// Builds a configuration.
#[derive(Debug, Default)]
pub struct Builder {
    top: String,
    tenants: Vec<Tenant>,
    environment: Vec<(String, String)>,
    under: Vec<String>,
    flags: Vec<String>,
}

/// Builds a tenant.
#[derive(Debug, Default)]
pub struct Tenant {
    name: String,
    routes: String,
    networks: Option<String>,
    openrouter: String,
    media: String,
    only_polls: bool,
}

impl Tenant {
    /// Lets requests go to these networks, instead of this machine's own.
    #[must_use]
    pub fn networks(mut self, networks: &str) -> Self {
        self.networks = Some(networks.into());
        self
    }

    /// Lets jobs be submitted to this stand-in, with these further keys of `openrouter`, a line each.
    #[must_use]
    pub fn jobs(mut self, api: &OpenRouterApi, keys: &str) -> Self {
        self.openrouter =
            format!("      api_key: {{file: openrouter-key}}\n      base_url: {}\n", api.base_url());
        for line in keys.lines() {
            self.openrouter += &format!("      {line}\n");
        }
        self
    }

    /// Leaves `openrouter.secrets` out.
    #[must_use]
    pub fn only_polls(mut self) -> Self {
        self.only_polls = true;
        self
    }

    /// Sets the keys of `media`, on one line.
    #[must_use]
    pub fn media(mut self, keys: &str) -> Self {
        self.media = format!("    media: {{{keys}}}\n");
        self
    }

    /// Adds a route with these further keys, a line each.
    #[must_use]
    pub fn route(self, name: &str, url: &str, keys: &str) -> Self {
        self.route_with(name, url, "{file: hermes}", keys)
    }

    /// Adds a webhook that takes all notices.
    #[must_use]
    pub fn notices(self, name: &str, url: &str) -> Self {
        self.route_with(name, url, "{file: whsec}", "kind: webhook\nevents: [talaria.*]")
    }

    /// Adds a route with this source of its secret.
    #[must_use]
    pub fn route_with(mut self, name: &str, url: &str, secret: &str, keys: &str) -> Self {
        self.routes += &format!("      {name}:\n        url: {url}\n        secret: {secret}\n");
        for line in keys.lines() {
            self.routes += &format!("        {line}\n");
        }
        self
    }
}

/// Begins a configuration.
pub fn stack() -> Builder {
    Builder::default()
}

impl Builder {
    /// Adds top-level keys, a line each.
    #[must_use]
    pub fn with(mut self, keys: &str) -> Self {
        self.top += &format!("{keys}\n");
        self
    }

    /// Sets a variable of the process' environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the process through this command.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|&word| word.into()).collect();
        self
    }

    /// Adds an argument of the process.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds a tenant.
    #[must_use]
    pub fn tenant(mut self, name: &str, build: impl FnOnce(Tenant) -> Tenant) -> Self {
        self.tenants.push(build(Tenant { name: name.into(), ..Tenant::default() }));
        self
    }

    /// Writes the configuration and its secrets.
    pub fn write(self) -> Written {
        let directory = tempfile::tempdir().unwrap();
        let mut text = self.top;
        for (key, value) in
            [("ingress", "listen"), ("relay", "grpc"), ("console", "listen"), ("admin", "listen")]
        {
            if !text.contains(&format!("{key}:")) {
                text += &format!("{key}: {{{value}: 127.0.0.1:0}}\n");
            }
        }
        text += "tenants:\n";
        for Tenant { name, routes, networks, openrouter, media, only_polls } in &self.tenants {
            let secrets =
                if *only_polls { String::new() } else { format!("secrets: [{{file: openrouter-{name}}}]") };
            text += &match openrouter.as_str() {
                "" => format!("  {name}:\n    openrouter: {{{secrets}}}\n"),
                keys => format!("  {name}:\n    openrouter:\n      {secrets}\n{keys}"),
            };
            text += &format!("    networks: [{}]\n{media}", networks.as_deref().unwrap_or("loopback"));
            if !routes.is_empty() {
                text += &format!("    routes:\n{routes}");
            }
            fs::write(directory.path().join(format!("openrouter-{name}")), openrouter_secret(name)).unwrap();
        }
        fs::write(directory.path().join("hermes"), sink::SECRET).unwrap();
        fs::write(directory.path().join("whsec"), sink::WEBHOOK_SECRET).unwrap();
        fs::write(directory.path().join("openrouter-key"), openrouter_api::KEY).unwrap();
        let config = directory.path().join("talaria.yaml");
        fs::write(&config, text).unwrap();
        Written { directory, config, environment: self.environment, under: self.under, flags: self.flags }
    }

    /// Writes the configuration and starts a process on it.
    pub async fn start(self) -> Stack {
        self.write().start().await
    }
}

/// A configuration on disk.
#[derive(Debug)]
pub struct Written {
    directory: TempDir,
    /// The file.
    pub config: PathBuf,
    environment: Vec<(String, String)>,
    under: Vec<String>,
    flags: Vec<String>,
}

impl Written {
    /// The directory that everything is in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a process on it.
    pub async fn start(self) -> Stack {
        let process = Process::start(&self).await;
        Stack { written: self, process }
    }
}

/// A running `talaria up`.
#[derive(Debug)]
pub struct Stack {
    /// Its configuration.
    pub written: Written,
    process: Process,
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    ingress: SocketAddr,
    grpc: SocketAddr,
    console: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Process {
    async fn start(written: &Written) -> Self {
        let mut command = match written.under.split_first() {
            None => Command::new(binary::talaria()),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary::talaria());
                command
            }
        };
        command.args(["up", "--config"]).arg(&written.config).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.args(&written.flags).env_remove("RUST_LOG").envs(written.environment.iter().cloned());
        let mut child = command.spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line);
                }
            });
        }
        let listening = until("talaria to listen", async || {
            assert!(child.try_wait().unwrap().is_none(), "talaria ended: {:#?}", log.lock().unwrap());
            let log = log.lock().unwrap();
            log.iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["ingress"].is_string())
        })
        .await;
        let listens = |key: &str| listening[key].as_str().map(|address| address.parse().unwrap());
        let address = |key: &str| listens(key).unwrap();
        let (ingress, grpc, admin) = (address("ingress"), address("grpc"), address("admin"));
        Self { child, log, ingress, grpc, console: listens("console"), admin }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
    }
}

impl Stack {
    /// The ingress' address.
    pub fn ingress(&self) -> SocketAddr {
        self.process.ingress
    }

    /// The admin port's address.
    pub fn admin(&self) -> SocketAddr {
        self.process.admin
    }

    /// The relay's URL, for `--relay`.
    pub fn relay(&self) -> String {
        format!("http://{}", self.process.grpc)
    }

    /// The address of its JSON over HTTP.
    pub fn console(&self) -> SocketAddr {
        self.process.console.unwrap()
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The lines that the process has logged.
    pub fn log(&self) -> Vec<String> {
        self.process.log.lock().unwrap().clone()
    }

    /// Waits for a line in the log. Lines are written with a delay of some milliseconds.
    pub async fn logged(&self, what: &str) -> String {
        until(what, async || self.log().into_iter().find(|line| line.contains(what))).await
    }

    /// A sender of a tenant's callbacks.
    pub fn openrouter(&self, tenant: &str) -> OpenRouter {
        OpenRouter::new(self.ingress(), tenant, &openrouter_secret(tenant))
    }

    /// Kills the process and starts another on the same files.
    pub async fn kill_and_restart(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
        self.process = Process::start(&self.written).await;
    }

    /// Kills the process and starts another with a changed configuration.
    pub async fn restart_with(&mut self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(&self.written.config).unwrap();
        fs::write(&self.written.config, change(text)).unwrap();
        self.kill_and_restart().await;
    }

    /// Replaces the configuration as editors do, for the process to notice. Returns the new text.
    pub fn rewrite(&self, change: impl FnOnce(String) -> String) -> String {
        let (config, new) = (&self.written.config, self.written.path().join(".talaria.yaml.new"));
        let text = change(fs::read_to_string(config).unwrap());
        fs::write(&new, &text).unwrap();
        fs::rename(new, config).unwrap();
        text
    }

    /// The page `/config`.
    pub async fn config(&self) -> Value {
        let (status, body) = self.admin_get("/config").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until `/config` meets a condition.
    pub async fn config_when(&self, what: &str, is_met: impl Fn(&Value) -> bool) -> Value {
        until(what, async || Some(self.config().await).filter(|config| is_met(config))).await
    }

    /// Waits until the configuration of this generation is in force.
    pub async fn generation(&self, generation: u64) -> Value {
        let what = format!("configuration {generation}");
        self.config_when(&what, |config| config["generation"] == generation && config["fault"].is_null())
            .await
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Sends SIGTERM and waits for the end. Returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        until("talaria to stop", async || self.process.child.try_wait().unwrap()).await.code()
    }

    /// A client of its status service.
    pub async fn status(&self) -> StatusServiceClient<Channel> {
        StatusServiceClient::connect(self.relay()).await.unwrap()
    }

    /// A client of its job service.
    pub async fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::connect(self.relay()).await.unwrap()
    }

    /// A client of its control service.
    pub async fn control(&self) -> ControlServiceClient<Channel> {
        ControlServiceClient::connect(self.relay()).await.unwrap()
    }

    /// An event with its deliveries, once it is planned.
    pub async fn event(&self, id: &str) -> GetEventResponse {
        let mut status = self.status().await;
        let request = GetEventRequest { event_id: id.into(), include_payload: true };
        until(&format!("{id} to be planned"), async || match status.get_event(request.clone()).await {
            Ok(answer) => Some(answer.into_inner()),
            // Unavailable while a partition has no owner, for the moments of a takeover.
            Err(status) => {
                let passes = matches!(status.code(), tonic::Code::NotFound | tonic::Code::Unavailable);
                (!passes).then(|| panic!("{status}"))
            }
        })
        .await
    }

    /// An event's delivery to a route with its attempts, once it is in a final state.
    pub async fn finished(&self, event: &str, route: &str) -> GetDeliveryResponse {
        self.delivery_when(event, route, |delivery| delivery.state() != DeliveryState::Waiting).await
    }

    /// An event's delivery to a route with its attempts, once it is as asked for.
    pub async fn delivery_when(
        &self,
        event: &str,
        route: &str,
        is_met: impl Fn(&Delivery) -> bool,
    ) -> GetDeliveryResponse {
        let planned = self.event(event).await;
        let id = planned
            .deliveries
            .iter()
            .find(|delivery| delivery.route == route)
            .map(|delivery| delivery.id.clone());
        let request = GetDeliveryRequest {
            delivery_id: id.unwrap_or_else(|| panic!("{event} does not go to {route}")),
        };
        let mut status = self.status().await;
        until(&format!("the delivery of {event} to {route}"), async || {
            let answer = status.get_delivery(request.clone()).await.unwrap().into_inner();
            is_met(answer.delivery.as_ref().unwrap()).then_some(answer)
        })
        .await
    }

    /// All deliveries, newest first.
    pub async fn deliveries(&self) -> Vec<Delivery> {
        let mut status = self.status().await;
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListDeliveriesRequest {
                filter: Some(DeliveryFilter::default()),
                page_size: 1000,
                page_token,
            };
            // Unavailable while partitions move.
            let page =
                until("a page of deliveries", async || match status.list_deliveries(request.clone()).await {
                    Err(status) if status.code() == tonic::Code::Unavailable => None,
                    page => Some(page.unwrap().into_inner()),
                })
                .await;
            all.extend(page.deliveries);
            if page.next_page_token.is_empty() {
                return all;
            }
            page_token = page.next_page_token;
        }
    }

    /// An answer of the admin port.
    pub async fn admin_get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin());
        let response = crate::http().get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}
