//! Links and names in the documents.

use std::{
    fs,
    path::{Path, PathBuf},
};
use talaria_proto::v1::{DeliveryState, JobState};
use talaria_tests::binary::workspace;

/// Every document that is kept with the code.
fn documents() -> Vec<PathBuf> {
    let in_directory = |directory| {
        let files = fs::read_dir(workspace().join(directory)).unwrap();
        files.map(move |file| Path::new(directory).join(file.unwrap().file_name()))
    };
    let is_document = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "md");
    let documents: Vec<_> = ["", "docs", "docs/adr", "docs/errors"]
        .into_iter()
        .flat_map(in_directory)
        .filter(is_document)
        .collect();
    assert!(documents.contains(&"README.md".into()) && documents.contains(&"docs/operations.md".into()));
    documents
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|heading| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    })
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    for document in documents() {
        let text = fs::read_to_string(workspace().join(&document)).unwrap();
        let directory = workspace().join(document.parent().unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { workspace().join(&document) } else { directory.join(file) };
            assert!(target.exists(), "{}: {link}", document.display());
            let leads_to_a_heading =
                || anchors(&fs::read_to_string(&target).unwrap()).any(|heading| heading == anchor);
            assert!(anchor.is_empty() || leads_to_a_heading(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn every_state_of_a_delivery_is_explained() {
    let read = |document: &str| fs::read_to_string(workspace().join(document)).unwrap();
    let (states, readme) = (read("docs/states.md"), read("README.md"));
    for state in DeliveryState::ALL {
        let name = state.name().to_uppercase();
        assert!(states.contains(&format!("\n| `{name}` | ")), "docs/states.md: {name}");
        assert!(!state.is_final() || readme.contains(&format!("`{name}`")), "README.md: {name}");
    }
}

#[test]
fn every_state_of_a_job_is_explained() {
    let page = fs::read_to_string(workspace().join("docs/jobs.md")).unwrap();
    for state in (1..100).filter_map(|number| JobState::try_from(number).ok()) {
        let name = state.as_str_name().trim_start_matches("JOB_STATE_");
        assert!(page.contains(&format!("\n| `{name}` | ")), "docs/jobs.md: {name}");
    }
}
