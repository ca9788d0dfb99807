//! The queries of the dashboard and the alerts, read by a PromQL parser.

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, LabelModifier, VectorSelector},
};
use serde_json::Value;
use std::{collections::BTreeSet, fs};
use talaria::metrics::{CATALOGUE, Kind, Metric, Values};
use talaria_tests::binary::workspace;

/// Labels that Prometheus adds to every series; the first in Kubernetes only.
const ADDED: [&str; 3] = ["namespace", "job", "instance"];

/// Labels by which installations with a common Prometheus differ.
const INSTALLATION: [&str; 2] = ["namespace", "job"];

/// The runbook URL, until `make manifests RUNBOOKS=…` replaces it by that of the published docs/alerts.md.
const RUNBOOKS: &str = "https://talaria.example.com/docs/alerts.md";

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

pub(super) fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("deploy/observability/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

pub(super) fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/observability/dashboard.json")).unwrap()
}

/// A query, and its location.
fn questions() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> =
        alerts().iter().map(|alert| (text(&alert["alert"]), text(&alert["expr"]))).collect();
    let dashboard = dashboard();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let (metric, label) = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap();
            all.push((
                text(&variable["name"]),
                format!("sum by ({}) ({metric})", label.trim_end_matches(')')),
            ));
        }
    }
    assert!(all.len() > 60, "{}", all.len());
    all
}

/// The metric of a selector, and the labels that Prometheus adds.
fn metric(selector: &VectorSelector) -> (&'static Metric, &'static [&'static str]) {
    let name = selector.name.as_deref().expect("each selector names a metric");
    let of = |name: &str| CATALOGUE.iter().find(|metric| metric.name == name);
    if let Some(metric) = of(name).filter(|metric| metric.kind != Kind::Histogram) {
        return (metric, &[]);
    }
    let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| {
        let metric = of(name.strip_suffix(end)?).filter(|metric| metric.kind == Kind::Histogram)?;
        Some((metric, if end == "_bucket" { &["le"][..] } else { &[] }))
    });
    histogram.unwrap_or_else(|| panic!("{name} does not exist"))
}

/// Looks at a selector; the labels that its series have.
fn look_at(selector: &VectorSelector) -> BTreeSet<String> {
    if selector.name.as_deref() == Some("up") {
        return ADDED.map(str::to_owned).into();
    }
    let (metric, more) = metric(selector);
    let own = metric.labels.iter().map(|label| label.name);
    let labels: BTreeSet<String> = own.chain(more.iter().copied()).chain(ADDED).map(str::to_owned).collect();
    for Matcher { name, op, value, .. } in &selector.matchers.matchers {
        assert!(labels.contains(name), "{} has no label {name}", metric.name);
        let label = metric.labels.iter().find(|label| label.name == name);
        if let Some(Values::Known(values)) = label.map(|label| label.values) {
            let asked: Vec<&str> = match op {
                MatchOp::Equal | MatchOp::NotEqual => vec![value],
                MatchOp::Re(_) | MatchOp::NotRe(_) => value.split('|').collect(),
            };
            for value in asked {
                assert!(
                    values.split(' ').any(|known| known == value),
                    "{}: {name} is never {value}",
                    metric.name
                );
            }
        }
    }
    labels
}

/// Walks through an expression; the labels that its result may have.
fn walk(expr: &Expr) -> BTreeSet<String> {
    let grouped = |labels: BTreeSet<String>, modifier: Option<&LabelModifier>| match modifier {
        None => BTreeSet::new(),
        Some(LabelModifier::Include(by)) => {
            let by: BTreeSet<String> = by.labels.iter().cloned().collect();
            assert!(by.is_subset(&labels), "{by:?} of {labels:?}");
            by
        }
        Some(LabelModifier::Exclude(without)) => {
            labels.into_iter().filter(|label| !without.labels.contains(label)).collect()
        }
    };
    match expr {
        Expr::VectorSelector(selector) => look_at(selector),
        Expr::MatrixSelector(matrix) => look_at(&matrix.vs),
        Expr::Aggregate(aggregate) => grouped(walk(&aggregate.expr), aggregate.modifier.as_ref()),
        Expr::Binary(binary) => {
            let (left, right) = (walk(&binary.lhs), walk(&binary.rhs));
            let on = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
            if let Some(LabelModifier::Include(on)) = on {
                assert!(
                    on.labels.iter().all(|label| left.contains(label) || left.is_empty()),
                    "{on:?} of {left:?}"
                );
                assert!(on.labels.iter().all(|label| right.contains(label)), "{on:?} of {right:?}");
            }
            // A number has no labels.
            if left.is_empty() { right } else { left }
        }
        Expr::Call(call) => call.args.args.iter().flat_map(|argument| walk(argument)).collect(),
        Expr::Paren(inner) => walk(&inner.expr),
        Expr::Unary(inner) => walk(&inner.expr),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => BTreeSet::new(),
        other => panic!("not looked at: {other:?}"),
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_and_labels_that_exist() {
    for (place, question) in questions() {
        walk(&parsed(&place, &question));
    }
}

/// A question, with values for Grafana's own variables.
fn parsed(place: &str, question: &str) -> Expr {
    let mut question = question.replace("$__rate_interval", "5m");
    for variable in ["$namespace", "$job", "$tenant", "$route"] {
        question = question.replace(variable, ".*");
    }
    parser::parse(&question).unwrap_or_else(|error| panic!("{place}: {question}: {error}"))
}

/// Two installations in one Prometheus neither hide nor raise each other's alerts, and the dashboard shows one of them.
#[test]
fn installations_differ_by_namespace_and_job() {
    let alerts = alerts();
    for alert in &alerts {
        let (name, question) = (alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap());
        let labels = walk(&parsed(name, question));
        assert!(INSTALLATION.iter().all(|label| labels.contains(*label)), "{name}: {labels:?}");
    }
    let names: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    let of_dashboard = questions().into_iter().filter(|(place, _)| !names.contains(place.as_str()));
    for (place, question) in of_dashboard.filter(|(place, _)| !INSTALLATION.contains(&place.as_str())) {
        let selectors = question.matches("talaria_").count() + question.matches("process_").count();
        let chosen = question.matches(r#"{namespace=~"$namespace",job=~"$job""#).count();
        assert_eq!(chosen, selectors, "{place}: {question}");
    }
}

/// Each metric is used: the dashboard shows it, or an alert looks at it.
#[test]
fn every_metric_of_talarias_own_is_asked_for() {
    let questions: String = questions().into_iter().map(|(_, question)| question + "\n").collect();
    for metric in CATALOGUE.iter().filter(|metric| metric.name.starts_with("talaria_")) {
        assert!(questions.contains(metric.name), "{}", metric.name);
    }
}

#[test]
fn each_alert_has_a_description_and_a_section_with_a_remedy() {
    let page = read("docs/alerts.md");
    let documented: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut names = BTreeSet::new();
    let alerts = alerts();
    for alert in &alerts {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).unwrap().to_owned();
        let name = alert["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} is there twice");
        assert!(matches!(text(&alert["labels"]["severity"]).as_str(), "critical" | "warning"), "{name}");
        for annotation in ["summary", "description"] {
            text(&alert["annotations"][annotation]);
        }
        let runbook = text(&alert["annotations"]["runbook_url"]);
        assert_eq!(runbook, format!("{RUNBOOKS}#{}", name.to_lowercase()));
        let section =
            page.split(&format!("## {name}\n")).nth(1).map(|rest| rest.split("\n## ").next().unwrap());
        assert!(
            section.is_some_and(|text| text.trim().len() > 80),
            "{name} has no section that says what to do"
        );
    }
    assert_eq!(names, documented);
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{}", panel["title"]);
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
}
