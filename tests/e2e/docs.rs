//! Links and names in the documents.

use std::{
    fs,
    path::{Path, PathBuf},
};
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

#[test]
fn links_lead_to_files_that_exist() {
    for document in documents() {
        let text = fs::read_to_string(workspace().join(&document)).unwrap();
        let directory = document.parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let is_elsewhere = file.contains("://") || file.is_empty();
            assert!(
                is_elsewhere || workspace().join(directory).join(file).exists(),
                "{}: {link}",
                document.display()
            );
        }
    }
}
