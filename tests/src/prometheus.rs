//! A real Prometheus: the one on PATH, or Debian's, which `make test-prometheus` puts under target/.

use crate::{binary::workspace, free_port, until};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;
use url::Url;

/// A running server on loopback. It is killed when it is dropped, and its files go with it.
#[derive(Debug)]
pub struct Prometheus {
    http: reqwest::Client,
    child: Child,
    directory: TempDir,
    port: u16,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels, with `__name__` if the query keeps it.
    pub labels: BTreeMap<String, String>,
    /// The value, which may be NaN.
    pub value: f64,
}

impl Prometheus {
    /// Starts one with this configuration file.
    pub async fn start(config: &Value) -> Self {
        loop {
            let mut server = Self::launch(config, free_port());
            if server.is_ready().await {
                return server;
            }
        }
    }

    fn launch(config: &Value, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // JSON is YAML, too.
        fs::write(path("prometheus.yaml"), config.to_string()).unwrap();
        let mut command = Command::new(program());
        command
            .arg(format!("--config.file={}", path("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.size=256MB")
            .arg("--log.level=warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(path("log")).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        Self { http: crate::http(), child, directory, port }
    }

    /// Waits until it answers. Returns false if another process got the port.
    async fn is_ready(&mut self) -> bool {
        let url = format!("http://127.0.0.1:{}/-/ready", self.port);
        until("Prometheus to be ready", async || {
            if self.child.try_wait().unwrap().is_some() {
                let log = self.log();
                assert!(log.contains("address already in use"), "Prometheus ended: {log}");
                return Some(false);
            }
            let answer = self.http.get(url.as_str()).send().await.ok()?;
            answer.status().is_success().then_some(true)
        })
        .await
    }

    /// Its warnings and errors.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The series of a query now.
    pub async fn query(&self, expr: &str) -> Vec<Sample> {
        series(expr, &self.get("query", &[("query", expr)]).await)
    }

    /// The series of a query at this time, in seconds since 1970.
    pub async fn query_at(&self, expr: &str, time: f64) -> Vec<Sample> {
        let time = time.to_string();
        series(expr, &self.get("query", &[("query", expr), ("time", time.as_str())]).await)
    }

    /// The values of a label of all series that a selector finds.
    pub async fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let values = self.get(&format!("label/{label}/values"), &[("match[]", selector)]).await;
        let values = values.as_array().unwrap().iter();
        values.map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// The rules of this file, each with its alerts that are pending or firing.
    pub async fn rules(&self, file: &Path) -> Vec<Value> {
        let groups = self.get("rules", &[]).await;
        let groups = groups["groups"].as_array().unwrap().iter();
        let of_file = groups.filter(|group| group["file"].as_str().map(Path::new) == Some(file));
        of_file.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The data of an answer, which has to be without an error and without a warning.
    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let base = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let url = Url::parse_with_params(&base, parameters).unwrap();
        let answer = self.http.get(url.as_str()).send().await.unwrap().bytes().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {answer}");
        assert!(answer.get("warnings").is_none(), "{path} {parameters:?}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn series(expr: &str, data: &Value) -> Vec<Sample> {
    assert_eq!(data["resultType"], "vector", "{expr}");
    let series = data["result"].as_array().unwrap().iter();
    series
        .map(|series| {
            let labels = series["metric"].as_object().unwrap().iter();
            Sample {
                labels: labels
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                    .collect(),
                value: series["value"][1].as_str().unwrap().parse().unwrap(),
            }
        })
        .collect()
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut on_path = Command::new("prometheus");
        on_path.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if on_path.status().is_ok_and(|status| status.success()) {
            return "prometheus".into();
        }
        let program = workspace().join("target/prometheus/prometheus");
        assert!(program.exists(), "{} is missing: `make test-prometheus` fetches it", program.display());
        program
    })
}
