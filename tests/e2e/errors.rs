//! docs/errors: a page for each error that an operator can meet, in the words of the program.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use talaria_tests::binary::workspace;

/// A quoted piece that is shorter could be anywhere.
const TELLING: usize = 8;

/// Every file below a directory that ends so.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The source of the product without tests, each file with its string literals joined.
fn sources() -> Vec<String> {
    let crates = ["bus", "cli", "console", "core", "ingress", "openrouter", "outbound", "relay", "telemetry"];
    let files = crates.iter().flat_map(|name| files(&workspace().join(name).join("src"), ".rs"));
    let is_test = |file: &PathBuf| {
        file.components().any(|part| part.as_os_str().to_str().unwrap().starts_with("tests"))
    };
    files
        .filter(|file| !is_test(&file.strip_prefix(workspace()).unwrap().into()))
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            unbroken(product).replace("{{", "{").replace("}}", "}")
        })
        .collect()
}

/// A literal that goes on in the next line, behind a backslash, as it is printed.
fn unbroken(source: &str) -> String {
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

fn pages() -> Vec<(String, String)> {
    let directory = workspace().join("docs/errors");
    let pages = files(&directory, ".md").into_iter().map(|file| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(file).unwrap())
    });
    let pages: Vec<_> = pages.filter(|(name, _)| name != "README.md").collect();
    assert!(pages.len() > 30, "{}", pages.len());
    pages
}

#[test]
fn each_page_quotes_the_program() {
    let sources = sources();
    for (name, text) in pages() {
        let quotes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        assert!(
            !quotes.is_empty(),
            "{name}: a page begins with what the program says, in a line that begins with >"
        );
        for quote in quotes {
            // Variable parts are … in the page, and in braces in the source.
            let pieces: Vec<&str> = quote.split('…').filter(|piece| !piece.trim().is_empty()).collect();
            let said = |source: &String| pieces.iter().all(|piece| source.contains(piece));
            assert!(
                pieces.iter().any(|piece| piece.trim().len() >= TELLING),
                "{name}: too short to be found: {quote}"
            );
            assert!(sources.iter().any(said), "{name}: the program does not say this any more: {quote}");
        }
        for part in [
            "**Where it appears:**",
            "**What it means:**",
            "**What to do:**",
            "**How to see that it is fixed:**",
        ] {
            assert!(text.contains(part), "{name}: {part}");
        }
    }
}

#[test]
fn the_index_has_every_page_with_its_title() {
    let index = fs::read_to_string(workspace().join("docs/errors/README.md")).unwrap();
    for (name, text) in pages() {
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap();
        assert!(index.contains(&format!("- [{title}]({name})")), "{name}: {title}");
    }
}

#[test]
fn every_page_that_the_program_names_is_there() {
    const DIRECTORY: &str = "docs/errors/";
    let mut named = BTreeSet::new();
    for source in sources() {
        for (at, _) in source.match_indices(DIRECTORY) {
            let page: String = source[at + DIRECTORY.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-.".contains(*c))
                .collect();
            named.insert(page.trim_end_matches('.').to_owned());
        }
    }
    assert!(!named.is_empty());
    for page in named {
        assert!(workspace().join(DIRECTORY).join(&page).exists(), "{DIRECTORY}{page}");
    }
}
