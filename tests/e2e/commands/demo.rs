//! `talaria demo`.

use super::works;
use std::fs;

#[test]
fn the_demo_delivers_everything_and_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let said = works(directory.path(), &["demo"]);
    for status in ["completed", "failed", "cancelled", "expired"] {
        assert!(said.contains(&format!("signed callback video.generation.{status}: answered 204")), "{said}");
        assert!(said.contains(&format!("demo-{status}")), "{said}");
    }
    assert_eq!(said.matches("Hermes received, with a valid signature, the prompt:").count(), 4);
    assert!(said.contains("4 of 4 delivered."), "{said}");
    for end in ["COMPLETED by a callback", "COMPLETED by polling"] {
        assert_eq!(said.matches(end).count(), 1, "{said}");
    }
    assert_eq!(said.matches("1 file kept (24 bytes)").count(), 2, "{said}");
    assert!(said.contains("its callback, on the path of its own: answered 204"), "{said}");
    assert!(said.contains("its callback is lost: Talaria asks OpenRouter, and finds the end"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}
