//! The documents speak of what there is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use talaria_tests::{
    binary::workspace,
    openrouter::{OpenRouter, event_id},
    sink::Sink,
    stack::stack,
};

/// Every document that is kept with the code.
fn documents() -> Vec<PathBuf> {
    let in_directory = |directory| {
        let files = fs::read_dir(workspace().join(directory)).unwrap();
        files.map(move |file| Path::new(directory).join(file.unwrap().file_name()))
    };
    let is_document = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "md");
    let documents: Vec<_> =
        ["", "docs", "docs/adr"].into_iter().flat_map(in_directory).filter(is_document).collect();
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

#[tokio::test]
async fn the_metrics_in_the_documents_are_the_ones_that_there_are() {
    let text = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `talaria_")?.split('`').next())
        .map(|name| format!("talaria_{name}"))
        .collect();
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |tenant| tenant.route("r", &sink.url("r"), "pace: 1/h")).start().await;
    let stranger = OpenRouter::new(stack.ingress(), "acme", "another secret");
    assert_eq!(stranger.try_send("j", "completed").await, Some(401));
    stack.openrouter("acme").send("j", "completed").await;
    stack.finished(&event_id("acme", "j", "completed"), "r").await;
    // Beyond the pace.
    stack.openrouter("acme").send("later", "completed").await;
    let later = event_id("acme", "later", "completed");
    stack.delivery_when(&later, "r", |delivery| delivery.reason.contains("waiting for its turn")).await;
    let (_, metrics) = stack.admin_get("/metrics").await;
    let exported: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(documented, exported);
}
