//! The table in docs/hermes.md: what Talaria relies on, tried at each installed version of Hermes.
//!
//! - [`adapter`]: the webhook adapter alone. [`agents`]: the whole gateway.
//!
//! A version that behaves differently is a cell that says so, and no failure, except for the version that all tests run against.

mod adapter;
mod agents;

use std::{env, fs};
use talaria_tests::{binary::workspace, hermes::Version};

const PAGE: &str = "docs/hermes.md";

const HEAD: &str = "| Hermes | Answers | Signatures | Rendering | Guard | Run outcomes |";

/// The row of the version that all tests run against.
const TESTED: &str = "| hermes-agent 0.19.0 | all 12 | all 9 | all 12 | all 18 | all 5 |";

/// A behaviour, in words, and what was expected and found of it.
struct Tried {
    what: String,
    expected: String,
    found: String,
}

impl Tried {
    fn new(what: impl Into<String>, expected: impl Into<String>, found: String) -> Self {
        Self { what: what.into(), expected: expected.into(), found }
    }
}

/// A cell of the table: how many are as expected, and the others.
fn cell(tried: &[Tried]) -> String {
    let differs = |it: &&Tried| it.found != it.expected;
    let others: Vec<_> =
        tried.iter().filter(differs).map(|it| format!("{}: {}", it.what, it.found)).collect();
    match others.len() {
        0 => format!("all {}", tried.len()),
        count => {
            format!("{} of {}; {}", tried.len() - count, tried.len(), others.join("; ").replace('|', "\\|"))
        }
    }
}

/// A version's row of the table.
async fn row(version: &Version) -> String {
    let (columns, outcomes) = tokio::join!(adapter::columns(version), agents::run_outcomes(version));
    let cells: Vec<_> = columns.iter().chain([&outcomes]).map(|tried| cell(tried)).collect();
    format!("| {} | {} |", version.name, cells.join(" | "))
}

/// The row that a page has of a version.
fn found<'a>(page: &'a str, version: &Version) -> Option<&'a str> {
    page.lines().find(|line| line.starts_with(&format!("| {} |", version.name)))
}

/// The page with a row, which takes the position of the version's row, or is the last.
fn with(page: &str, version: &Version, row: &str) -> String {
    if let Some(old) = found(page, version) {
        return page.replace(old, row);
    }
    let start = page.find(HEAD).unwrap_or_else(|| panic!("{PAGE} has no table {HEAD}"));
    let table: usize =
        page[start..].split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    let (before, after) = page.split_at(start + table);
    format!("{before}{row}\n{after}")
}

#[test]
fn the_page_has_the_row_of_the_tested_version() {
    let page = fs::read_to_string(workspace().join(PAGE)).unwrap();
    assert_eq!(found(&page, &Version::tested()), Some(TESTED));
    assert!(page.contains(HEAD), "{PAGE}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs other versions of Hermes; `make hermes-versions` installs them and runs it"]
async fn each_version_does_what_its_row_says() {
    let mut tried = Vec::new();
    for version in Version::installed() {
        let row = row(&version).await;
        eprintln!("{row}");
        tried.push((version, row));
    }
    let file = workspace().join(PAGE);
    let page = fs::read_to_string(&file).unwrap();
    if env::var_os("TALARIA_WRITE_DOCS").is_some() {
        let new = tried.iter().fold(page.clone(), |page, (version, row)| with(&page, version, row));
        fs::write(&file, new).unwrap();
    } else {
        let faults: Vec<String> = tried
            .iter()
            .filter(|(version, row)| found(&page, version) != Some(row.as_str()))
            .map(|(version, row)| {
                format!("{PAGE} says:\n{}\nfound was:\n{row}", found(&page, version).unwrap_or("no row"))
            })
            .collect();
        assert!(
            faults.is_empty(),
            "{}\n`TALARIA_WRITE_DOCS=1 make hermes-versions` writes what was found",
            faults.join("\n")
        );
    }
    let of_tested = tried.iter().find(|(version, _)| version.name == Version::tested().name);
    assert_eq!(of_tested.map(|(_, row)| row.as_str()), Some(TESTED));
}
