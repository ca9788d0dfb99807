//! A real Prometheus scrapes two installations with traffic of every kind, and answers what deploy/observability asks.
//!
//! The first installation has the embedded bus and is scraped as deploy/compose does it; the second one has NATS, another job and a
//! namespace.

use super::{
    asked::{alerts, dashboard, read},
    traffic::Installation,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};
use talaria_proto::v1::ProbeRouteRequest;
use talaria_tests::{
    binary::workspace,
    collector::Collector,
    nats,
    prometheus::{Prometheus, Sample},
    sink::Does,
    until,
};

const RULES: &str = "deploy/observability/alerts.yaml";

/// The alert that is raised and ends.
const SHUT: &str = "TalariaRouteShut";

/// The jobs of the two installations, and the namespace of the second one.
const JOBS: [&str; 2] = ["talaria", "talaria-staging"];
const NAMESPACE: &str = "staging";

/// Values that are chosen for variables of the dashboard; All is chosen for the others.
type Choice<'a> = &'a [(&'a str, &'a str)];

const ALL: Choice<'static> = &[];
const FIRST: Choice<'static> = &[("job", JOBS[0])];
const SECOND: Choice<'static> = &[("namespace", NAMESPACE)];
/// One value of each variable.
const CHOSEN: Choice<'static> =
    &[("namespace", NAMESPACE), ("job", JOBS[1]), ("tenant", "acme"), ("route", "refused")];

/// The variables, of which each has a query.
const VARIABLES: [&str; 4] = ["namespace", "job", "tenant", "route"];

/// Queries that count something which does not happen here, and why. Every other query that counts gives more than 0.
const QUIET: [(&str, &str, &str); 6] = [
    ("Refused and limited", "B", "a limit would turn the other traffic away"),
    ("NATS", "B", "the connection to NATS is not lost"),
    ("Lost", "A", "no stream was purged"),
    ("Lost", "B", "no journal was lost"),
    ("Lost", "C", "standard error is read"),
    ("Lost", "D", "there is little evidence to write"),
];

/// Each gives one series for each installation, once its traffic was scraped.
const SEEN: [&str; 18] = [
    "max by (job) (talaria_route_shut) == 1",
    "max by (job) (talaria_route_paused) == 1",
    "sum by (job) (talaria_pace_waits_total) > 0",
    "sum by (job) (talaria_runs_total) > 0",
    "sum by (job) (talaria_config_reloads_total) > 0",
    "sum by (job) (talaria_grpc_refused_total) > 0",
    r#"sum by (job) (talaria_events_planned_total{routes="none"}) > 0"#,
    "min by (job) (talaria_certificate_expiry_timestamp_seconds) > time()",
    "max by (job) (talaria_last_backup_timestamp_seconds) > 0",
    r#"sum by (job) (talaria_deliveries_total{tenant="films",state="delivered"}) > 0"#,
    r#"sum by (job) (talaria_deliveries_total{state="parked"}) > 0"#,
    r#"sum by (job) (talaria_deliveries_total{state="ignored"}) > 0"#,
    r#"sum by (job) (talaria_deliveries_total{state="ambiguous"}) > 0"#,
    r#"sum by (job) (talaria_notices_total{outcome="told"}) > 0"#,
    r#"sum by (job) (talaria_jobs_ended_total{state="completed"}) > 0"#,
    r#"sum by (job) (talaria_media_requests_total{outcome="ok"}) > 0"#,
    r#"sum by (job) (talaria_spans_total{result="exported"}) > 0"#,
    // One for its pace, one for the shut route.
    r#"sum by (job) (talaria_backlog{route!="paused"}) == 2"#,
];

/// Alerts that fire at once, because of what happened.
const AT_ONCE: [&str; 4] = [
    "TalariaCallbacksConflict",
    "TalariaCallbacksQuarantined",
    "TalariaDeliveriesAmbiguous",
    "TalariaDeliveriesParked",
];

/// The configuration of deploy/compose, with the targets of these two, a short interval, and one more file of rules.
fn config(targets: [SocketAddr; 2], rules: &Path) -> Value {
    let text = read("deploy/compose/observability/prometheus.yaml");
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    for interval in ["scrape_interval", "evaluation_interval"] {
        config["global"][interval] = "2s".into();
    }
    // Where compose mounts the directory of the rules.
    assert_eq!(config["rule_files"], json!(["/etc/prometheus/talaria/alerts.yaml"]));
    config["rule_files"] = json!([workspace().join(RULES), rules]);
    let scrapes = config["scrape_configs"].as_array_mut().unwrap();
    // Of NATS itself, which has no exporter here.
    let nats = scrapes.pop().unwrap();
    assert_eq!(nats["job_name"], "nats", "no job of Talaria's, by the alerts' rules");
    assert_eq!(scrapes.len(), 1);
    assert_eq!(scrapes[0]["job_name"], JOBS[0]);
    let mut second = scrapes[0].clone();
    scrapes[0]["static_configs"][0]["targets"] = json!([targets[0].to_string()]);
    second["job_name"] = JOBS[1].into();
    second["static_configs"][0] =
        json!({"targets": [targets[1].to_string()], "labels": {"namespace": NAMESPACE}});
    scrapes.push(second);
    config
}

/// A query of a panel.
struct Target {
    panel: String,
    id: String,
    expr: String,
    legend: String,
}

impl Target {
    /// Whether it shows events, and not a state.
    fn counts(&self) -> bool {
        self.expr.contains("rate(talaria_") || self.expr.contains("increase(talaria_")
    }

    fn is_quiet(&self) -> bool {
        QUIET.iter().any(|(panel, id, _)| (*panel, *id) == (self.panel.as_str(), self.id.as_str()))
    }

    /// Whether what it gives for All is the sum of what it gives for each installation.
    fn adds_up(&self) -> bool {
        self.expr.starts_with("sum") && !self.expr.contains("/ count(")
    }

    async fn ask(&self, prometheus: &Prometheus, choice: Choice<'_>, time: f64) -> Vec<Sample> {
        prometheus.query_at(&filled(&self.expr, choice), time).await
    }
}

fn targets() -> Vec<Target> {
    let dashboard = dashboard();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (panel, id) = (text(&panel["title"]), text(&target["refId"]));
            all.push(Target {
                panel,
                id,
                expr: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            });
        }
    }
    assert!(all.len() > 50, "{}", all.len());
    for (panel, id, why) in QUIET {
        assert!(all.iter().any(|it| it.panel == panel && it.id == id), "there is no {panel} {id}: {why}");
    }
    all
}

/// A query as Grafana sends it. Its interval of rates is that of a graph of some days, so that the traffic stays in it.
fn filled(expr: &str, choice: Choice<'_>) -> String {
    let mut expr = expr.replace("$__rate_interval", "1h").replace("$__range", "6h");
    for variable in VARIABLES {
        let chosen = choice.iter().find(|(name, _)| *name == variable).map_or(".*", |(_, value)| *value);
        expr = expr.replace(&format!("${variable}"), chosen);
    }
    assert!(!expr.contains('$'), "{expr}");
    expr
}

/// The options of a variable.
async fn options(prometheus: &Prometheus, variable: &str, choice: Choice<'_>) -> Vec<String> {
    let dashboard = dashboard();
    let mut all = dashboard["templating"]["list"].as_array().unwrap().iter();
    let found = all.find(|it| it["name"] == variable).unwrap();
    assert_eq!((&found["includeAll"], &found["allValue"]), (&json!(true), &json!(".*")), "{variable}");
    let query = found["definition"].as_str().unwrap();
    assert_eq!(found["query"]["query"], query);
    let (selector, label) = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap();
    prometheus.label_values(&filled(selector, choice), label.trim_end_matches(')')).await
}

/// Waits until a query gives one series for each installation.
async fn seen(prometheus: &Prometheus, query: &str) {
    until(query, async || (prometheus.query(query).await.len() == JOBS.len()).then_some(())).await;
}

/// The time of the last scrape of both installations, which is after all that has been seen so far.
async fn last_scrape(prometheus: &Prometheus) -> f64 {
    let newest = prometheus.query("max(timestamp(up))").await[0].value;
    until("both to be scraped", async || {
        let oldest = prometheus.query("min(timestamp(up))").await[0].value;
        (oldest >= newest).then_some(oldest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's prometheus: make test-prometheus"]
async fn a_real_prometheus_answers_the_dashboard_and_raises_the_alerts() {
    let collector = Collector::start().await;
    let (server, prefix) = (nats::shared().await, format!("prometheus-{:016x}", rand::random::<u64>()));
    let on_nats = format!("bus: {{nats: {{servers: [\"{server}\"], prefix: {prefix}, max_bytes: 64MiB}}}}");
    let first = Installation::start(&collector.config()).await;
    let second = Installation::start(&format!("{}\n{on_nats}", collector.config())).await;

    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("at-once.yaml");
    fs::write(&copy, at_once(SHUT).to_string()).unwrap();
    let config = config([first.stack.admin(), second.stack.admin()], &copy);
    let prometheus = Prometheus::start(&config).await;
    // Counters are scraped while they are 0, so that what happens raises them.
    seen(&prometheus, "talaria_ready == 1").await;
    first.traffic(3).await;
    second.traffic(1).await;
    for query in SEEN {
        seen(&prometheus, query).await;
    }
    let time = last_scrape(&prometheus).await;

    variables_have_the_options_of_the_choice(&prometheus).await;
    every_panel_shows_the_traffic(&prometheus, time).await;
    installations_are_not_mixed(&prometheus, time).await;
    rules_are_evaluated_without_a_fault(&prometheus).await;
    a_shut_route_raises_an_alert_until_it_is_open(&prometheus, &first, &copy).await;
}

async fn variables_have_the_options_of_the_choice(prometheus: &Prometheus) {
    let dashboard = dashboard();
    let list = dashboard["templating"]["list"].as_array().unwrap().iter();
    let names: Vec<&str> =
        list.filter(|it| it["type"] == "query").map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, VARIABLES);
    assert_eq!(options(prometheus, "namespace", ALL).await, [NAMESPACE]);
    assert_eq!(options(prometheus, "job", ALL).await, JOBS);
    assert_eq!(options(prometheus, "job", SECOND).await, [JOBS[1]]);
    for choice in [ALL, FIRST, SECOND] {
        assert_eq!(options(prometheus, "tenant", choice).await, ["acme", "films"]);
        let tenant = [choice, &[("tenant", "films")][..]].concat();
        assert_eq!(options(prometheus, "route", &tenant).await, ["video"]);
    }
}

async fn every_panel_shows_the_traffic(prometheus: &Prometheus, time: f64) {
    let mut faults = Vec::new();
    for target in targets() {
        let name = format!("{} {}: {}", target.panel, target.id, target.expr);
        let all = target.ask(prometheus, ALL, time).await;
        let values: Vec<f64> = all.iter().map(|it| it.value).filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            faults.push(format!("no data: {name}"));
        } else if target.counts() && values.iter().any(|value| *value > 0.0) == target.is_quiet() {
            faults.push(format!("{values:?}: {name}"));
        }
        let legend = target.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
        for label in legend {
            if all.iter().any(|it| !it.labels.contains_key(label)) {
                faults.push(format!("no label {label}: {name}"));
            }
        }
        // Each answer has to be without an error.
        for choice in [&CHOSEN[2..3], &CHOSEN[3..], CHOSEN] {
            target.ask(prometheus, choice, time).await;
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The value of each series.
type ByLabels = BTreeMap<BTreeMap<String, String>, f64>;

async fn installations_are_not_mixed(prometheus: &Prometheus, time: f64) {
    let by_labels =
        |samples: Vec<Sample>| -> ByLabels { samples.into_iter().map(|it| (it.labels, it.value)).collect() };
    let mut of_both = 0;
    for target in targets() {
        let [first, second] =
            [target.ask(prometheus, FIRST, time).await, target.ask(prometheus, SECOND, time).await];
        for (samples, job) in [(&first, JOBS[0]), (&second, JOBS[1])] {
            let is_own = |it: &Sample| it.labels.get("job").is_none_or(|of| of == job);
            assert!(samples.iter().all(is_own), "{}: {samples:?}", target.panel);
        }
        if !target.adds_up() {
            continue;
        }
        let all = by_labels(target.ask(prometheus, ALL, time).await);
        let (first, second) = (by_labels(first), by_labels(second));
        assert!(first.keys().chain(second.keys()).all(|labels| all.contains_key(labels)), "{}", target.panel);
        for (labels, value) in all {
            let of = |samples: &ByLabels| samples.get(&labels).copied().unwrap_or_default();
            let (first, second) = (of(&first), of(&second));
            let difference = (value - first - second).abs();
            let panel = &target.panel;
            assert!(
                difference <= 1e-6 * value.abs(),
                "{panel} of {labels:?}: {first} + {second} is not {value}"
            );
            of_both += usize::from(first > 0.0 && second > 0.0);
        }
    }
    assert!(of_both > 20, "only {of_both} are known to differ from the sum");
    // Each has two besides those for the paused route.
    let waiting = targets().into_iter().find(|target| target.panel == "Waiting").unwrap();
    for (choice, expected) in [(FIRST, 5.0), (SECOND, 3.0), (ALL, 8.0)] {
        let samples = waiting.ask(prometheus, choice, time).await;
        assert_eq!(samples.len(), 1, "{choice:?}");
        assert!((samples[0].value - expected).abs() < 0.5, "{choice:?}: {samples:?}");
    }
}

/// A copy of a rule that waits for no time, as a file of rules.
fn at_once(alert: &str) -> Value {
    let mut rule = alerts().into_iter().find(|rule| rule["alert"] == alert).unwrap();
    rule["for"] = "0s".into();
    json!({"groups": [{"name": "at once", "rules": [rule]}]})
}

/// The jobs of the installations for which an alert fires.
fn firing(rules: &[Value], alert: &str) -> BTreeSet<String> {
    let rule =
        rules.iter().find(|rule| rule["name"] == alert).unwrap_or_else(|| panic!("{alert} is missing"));
    let alerts = rule["alerts"].as_array().unwrap().iter();
    let firing = alerts.filter(|alert| alert["state"] == "firing");
    firing.map(|alert| alert["labels"]["job"].as_str().unwrap().to_owned()).collect()
}

async fn rules_are_evaluated_without_a_fault(prometheus: &Prometheus) {
    let file = workspace().join(RULES);
    let rules = until("the alerts of what happened", async || {
        let rules = prometheus.rules(&file).await;
        AT_ONCE.iter().all(|alert| firing(&rules, alert).len() == JOBS.len()).then_some(rules)
    })
    .await;
    let names: Vec<&Value> = rules.iter().map(|rule| &rule["name"]).collect();
    let shipped = alerts();
    assert_eq!(names, shipped.iter().map(|rule| &rule["alert"]).collect::<Vec<_>>());
    for rule in &rules {
        let error = rule["lastError"].as_str().unwrap_or_default();
        assert_eq!((rule["health"].as_str(), error), (Some("ok"), ""), "{rule}");
        // A template that cannot be expanded becomes a text.
        assert!(!rule["alerts"].to_string().contains("error expanding template"), "{rule}");
    }
}

/// Waits until the alert of a shut route fires for these jobs and no other.
async fn raised(prometheus: &Prometheus, copy: &Path, jobs: &[&str]) -> Vec<Value> {
    until(&format!("the alert of {jobs:?}"), async || {
        let rules = prometheus.rules(copy).await;
        firing(&rules, SHUT).iter().eq(jobs).then_some(rules)
    })
    .await
}

/// By a copy of the rule: the shipped one waits for a quarter of an hour.
async fn a_shut_route_raises_an_alert_until_it_is_open(
    prometheus: &Prometheus,
    first: &Installation,
    copy: &Path,
) {
    let rules = raised(prometheus, copy, &JOBS).await;
    for alert in rules[0]["alerts"].as_array().unwrap() {
        assert_eq!(alert["annotations"]["summary"], "acme/refused is shut", "{alert}");
    }
    first.sink.set("refused", Does::Accept);
    let probe = ProbeRouteRequest {
        tenant: "acme".into(),
        route: "refused".into(),
        requested_by: "ana".into(),
        reason: "Hermes serves it".into(),
    };
    // It is refused if the route has just been probed by itself.
    let _ = first.stack.control().await.probe_route(probe).await;
    // Only that of the other installation is left.
    raised(prometheus, copy, &JOBS[1..]).await;
}
