//! The catalogue of metrics beside docs/metrics.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};
use talaria::metrics::{CATALOGUE, Metric, Of, Values};
use talaria_proto::v1::{AttemptOutcome, DeliveryState, RunOutcome};
use talaria_tests::binary::workspace;

/// Name, type, labels, whose.
type Row = (String, String, Vec<String>, String);

fn row(metric: &Metric) -> Row {
    let of = match metric.of {
        Of::Every => "every",
        Of::Ingress => "ingress",
        Of::Relay => "relay",
        Of::Nats => "NATS",
    };
    let labels = metric.labels.iter().map(|label| label.name.to_owned()).collect();
    (metric.name.into(), metric.kind.name().into(), labels, of.into())
}

fn documented() -> Vec<Row> {
    let text = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (table, _) = text.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() >= 3);
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (names(cells[0])[0].clone(), cells[1].to_owned(), names(cells[2]), cells[3].to_owned())
    })
    .collect()
}

#[test]
fn docs_and_catalogue_name_the_same_metrics() {
    let by_name =
        |rows: Vec<Row>| rows.into_iter().map(|row| (row.0.clone(), row)).collect::<BTreeMap<_, _>>();
    assert_eq!(by_name(documented()), by_name(CATALOGUE.iter().map(row).collect()));
}

#[test]
fn names_have_units_and_labels_are_bounded() {
    for metric in CATALOGUE {
        let name = metric.name;
        assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind.name() == "counter", "{name}");
        assert!(metric.kind.name() != "histogram" || name.ends_with("_seconds"), "{name}");
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}");
        let named = ["tenant", "route", "use", "file", "version"];
        for label in metric.labels {
            let is_known = matches!(label.values, Values::Known(_));
            assert_ne!(is_known, named.contains(&label.name), "{name}: {}", label.name);
        }
    }
}

#[test]
fn states_and_outcomes_are_the_contracts() {
    let page = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let ends = DeliveryState::ALL.into_iter().filter(|state| state.is_final());
    let outcomes = (1..).map_while(|number| AttemptOutcome::try_from(number).ok());
    let outcome =
        |outcome: AttemptOutcome| outcome.as_str_name().trim_start_matches("ATTEMPT_OUTCOME_").to_lowercase();
    let states: BTreeSet<String> = ends.map(|state| state.name().to_owned()).collect();
    let runs = RunOutcome::REPORTED.map(|outcome| outcome.name().to_owned()).into();
    for (metric, name, contract) in [
        ("talaria_deliveries_total", "`state`", states),
        ("talaria_attempts_total", "`outcome`", outcomes.map(outcome).collect()),
        ("talaria_runs_total", "`outcome` of runs", runs),
    ] {
        let metric = CATALOGUE.iter().find(|found| found.name == metric).unwrap();
        let Values::Known(values) = metric.labels.last().unwrap().values else { panic!("{name}") };
        assert_eq!(values.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), contract);
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {name} | "))).unwrap();
        let documented: BTreeSet<String> = row.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(documented, contract, "docs/metrics.md");
    }
}
