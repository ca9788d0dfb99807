//! The NATS that compose and the Helm chart bring, and what deploy/helm/nats-values.yaml makes of NATS' own chart: their configurations
//! in real servers, with changed ports and paths.

use super::{
    process::Process,
    users::{Keys, delivers},
};
use crate::{certificates::Authority, kubernetes::configured};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};
use talaria_tests::{binary::workspace, free_port, http, nats, sink::Sink, until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A configuration with the text that a pod or a container has another one for, and what stands for it here. Each has to be there.
fn moved(text: &str, changes: &[(&str, String)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from:?}: {text}");
        text.replace(from, to)
    })
}

/// A server that a test started.
struct Node {
    child: Child,
    directory: TempDir,
    client: u16,
    monitor: u16,
    route: u16,
}

impl Node {
    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Whether it is healthy, once it is; false if another process got one of its ports.
    async fn is_healthy(&mut self) -> Option<bool> {
        if self.child.try_wait().unwrap().is_some() {
            assert!(self.log().contains("address already in use"), "the NATS server ended: {}", self.log());
            return Some(false);
        }
        let answer = http().get(format!("http://127.0.0.1:{}/healthz", self.monitor)).send().await.ok()?;
        answer.status().is_success().then_some(true)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three servers of one configuration, which know one another by the environment.
struct Three(Vec<Node>);

impl Three {
    async fn start(text: &str, keys: &Keys, certificates: Option<&Path>) -> Self {
        loop {
            let mut nodes = Self::launch(text, keys, certificates);
            let mut all_run = true;
            for node in &mut nodes {
                all_run &= until("a server to be healthy", async || node.is_healthy().await).await;
            }
            if all_run {
                return Self(nodes);
            }
        }
    }

    fn launch(text: &str, keys: &Keys, certificates: Option<&Path>) -> Vec<Node> {
        let routes = [free_port(), free_port(), free_port()];
        let password = fs::read_to_string(keys.path("server").join("routes-password")).unwrap();
        let start = |(index, route): (usize, &u16)| {
            let (directory, client, monitor) = (tempfile::tempdir().unwrap(), free_port(), free_port());
            let root = directory.path().display();
            // As in a pod: the list of users is in a directory beside that of the configuration.
            for name in ["nats", "nats-users"] {
                fs::create_dir(directory.path().join(name)).unwrap();
            }
            let list = fs::read(keys.path("server").join("users.conf")).unwrap();
            fs::write(directory.path().join("nats-users/users.conf"), list).unwrap();
            let mut changes = vec![
                ("port: 4222", format!("port: {client}")),
                ("http_port: 8222", format!("http_port: {monitor}")),
                ("port: 6222", format!("port: {route}")),
                ("store_dir: /data", format!("store_dir: \"{root}/data\"")),
                ("pid_file: /", format!("pid_file: {root}/pid # /")),
            ];
            if let Some(certificates) = certificates {
                changes.push(("/etc/nats-tls/", format!("{}/", certificates.display())));
            }
            let file = directory.path().join("nats/nats.conf");
            fs::write(&file, moved(text, &changes)).unwrap();
            let mut command = Command::new(nats::program());
            command.arg("--config").arg(file).env("POD_NAME", format!("node-{index}"));
            command.env("SERVER_NAME", format!("node-{index}")).env("ROUTES_PASSWORD", &password);
            for (number, route) in routes.iter().enumerate() {
                let url = format!("nats://talaria:{password}@localhost:{route}");
                command.env(format!("ROUTE_{number}"), url);
            }
            let log = File::create(directory.path().join("log")).unwrap();
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            Node { child, directory, client, monitor, route: *route }
        };
        routes.iter().enumerate().map(start).collect()
    }

    fn url(&self, scheme: &str) -> String {
        self.0
            .iter()
            .map(|node| format!("{scheme}://localhost:{}", node.client))
            .collect::<Vec<_>>()
            .join("\", \"")
    }

    /// A callback goes its way through them, and strangers do not get in.
    async fn work_for_talaria(&self, scheme: &str, keys: &Keys, more: &str, ca: Option<&Path>) {
        let sink = Sink::start().await;
        let more = format!("replicas: 3\n{more}");
        let mut processes = Vec::new();
        for role in ["relay", "ingress"] {
            let written = keys.written(&self.url(scheme), &more, role, &sink);
            if let Some(ca) = ca {
                fs::copy(ca, written.path().join("ca.pem")).unwrap();
            }
            processes.push(Process::start(role, written).await);
        }
        let [relay, ingress] = &processes[..] else { panic!("a relay and an ingress") };
        delivers(ingress, relay, "job").await;
        for process in &processes {
            assert_eq!(process.readiness().await, (200, "ready\n".into()));
        }
        let password = fs::read_to_string(keys.path("server").join("routes-password")).unwrap();
        for node in &self.0 {
            assert!(!node.log().contains("Violation") && !node.log().contains(&password), "{}", node.log());
        }
    }
}

fn of_the_chart() -> String {
    configured("ha", "talaria-nats", "nats.conf")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_of_the_chart_know_one_another_and_talaria() {
    let keys = Keys::new();
    let three = Three::start(&of_the_chart(), &keys, None).await;
    three.work_for_talaria("nats", &keys, "", None).await;
    let url = format!("nats://localhost:{}", three.0[0].client);
    assert!(async_nats::connect(&url).await.is_err(), "a stranger");
    let stranger = talaria_bus::new_nats_key().unwrap();
    assert!(
        async_nats::ConnectOptions::with_nkey(stranger.expose_secret().to_owned())
            .connect(&url)
            .await
            .is_err()
    );
    keys.client(&url, "ingress").await.cannot_publish("$JS.API.STREAM.MSG.GET.talaria-journal").await;
    // What does not know the password is no server of theirs.
    let mut route = TcpStream::connect(("127.0.0.1", three.0[0].route)).await.unwrap();
    route.write_all(b"CONNECT {\"user\": \"talaria\", \"pass\": \"guessed\"}\r\n").await.unwrap();
    let mut said = String::new();
    route.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("Authorization Violation"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_of_the_chart_speak_tls_with_one_certificate() {
    let template = fs::read_to_string(workspace().join("deploy/helm/talaria/templates/_nats.tpl")).unwrap();
    let (_, tls) = template.split_once("define \"talaria.natsTls\" -}}\n").unwrap();
    let tls = format!("tls {{\n{}}}\n", tls.split_once("{{- end").unwrap().0);
    let text = tls.clone() + &moved(&of_the_chart(), &[("port: 6222", format!("port: 6222\n{tls}"))]);
    let (keys, directory) = (Keys::new(), tempfile::tempdir().unwrap());
    Authority::new().write_node(directory.path());
    for (ours, theirs) in [("ca.pem", "ca.crt"), ("server.pem", "tls.crt"), ("server-key.pem", "tls.key")] {
        fs::copy(directory.path().join(ours), directory.path().join(theirs)).unwrap();
    }
    let three = Three::start(&text, &keys, Some(directory.path())).await;
    let ca = directory.path().join("ca.crt");
    three.work_for_talaria("tls", &keys, "tls: {ca: ca.pem}", Some(&ca)).await;
}

#[test]
fn the_server_takes_the_configuration_of_compose() {
    let keys = Keys::new();
    let directory = tempfile::tempdir().unwrap();
    for name in ["nats", "nats-users"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let text = fs::read_to_string(workspace().join("deploy/compose/nats.conf")).unwrap();
    let file = directory.path().join("nats/nats.conf");
    fs::write(&file, text).unwrap();
    fs::copy(keys.path("server").join("users.conf"), directory.path().join("nats-users/users.conf")).unwrap();
    let checked = Command::new(nats::program()).arg("-t").arg("--config").arg(&file).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// A value of NATS' own chart as its templates write it: `<< X >>` is X, and a key `$include` is an include.
fn written(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let lines = members.iter().map(|(key, value)| match value {
                Value::String(file) if key.ends_with("$include") => format!("include {file};\n"),
                value => format!("{key}: {}\n", written(value)),
            });
            format!("{{\n{}}}", lines.collect::<String>())
        }
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::String(text) => {
            let bare = text.strip_prefix("<< ").and_then(|text| text.strip_suffix(" >>"));
            bare.map_or_else(|| format!("\"{text}\""), str::to_owned)
        }
        other => other.to_string(),
    }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// What the official chart makes of the values: its files/config, with these merged over it.
fn of_the_official_chart() -> String {
    let text = fs::read_to_string(workspace().join("deploy/helm/nats-values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let config = &values["config"];
    let store = &config["jetstream"]["fileStore"];
    let cluster: String = members(&config["cluster"]["merge"])
        .iter()
        .map(|(key, value)| format!("{key}: {}\n", written(value)))
        .collect();
    let top = written(&config["merge"]);
    let top = top.trim_start_matches('{').trim_end_matches('}');
    // The chart sorts the environment by name, and a variable may use those before it.
    let environment = members(&values["container"]["env"]);
    let mut names: Vec<&String> = environment.keys().filter(|name| name.starts_with("ROUTE")).collect();
    names.sort();
    assert_eq!(names, ["ROUTES_PASSWORD", "ROUTE_0", "ROUTE_1", "ROUTE_2"]);
    format!(
        "{top}\nserver_name: $SERVER_NAME\nlame_duck_grace_period: 10s\nlame_duck_duration: 30s\n\
         pid_file: /var/run/nats/nats.pid\nport: 4222\nhttp_port: 8222\n\
         jetstream {{max_memory_store: {}, store_dir: /data, max_file_store: {}}}\n\
         cluster {{\nname: talaria-nats\nport: 6222\nno_advertise: true\n{cluster}}}\n",
        config["jetstream"]["memoryStore"]["maxSize"].as_str().unwrap(),
        store["maxSize"].as_str().unwrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_of_the_values_for_the_official_chart_serve_talaria() {
    let keys = Keys::new();
    let three = Three::start(&of_the_official_chart(), &keys, None).await;
    three.work_for_talaria("nats", &keys, "", None).await;
    let url = format!("nats://localhost:{}", three.0[0].client);
    assert!(async_nats::connect(&url).await.is_err(), "a stranger");
}
