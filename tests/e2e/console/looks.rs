//! Pages are accessible, in the light and in the dark, on wide and on narrow screens.

use super::setup::everything;
use std::{env, path::PathBuf};
use talaria_tests::browser::LOOKS;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn axe_finds_no_fault_on_any_page() {
    let images = env::var_os("TALARIA_SCREENSHOTS").map(PathBuf::from);
    let shown = everything().await;
    let browser = shown.world.browser().await;
    let mut faults = Vec::new();
    for look in LOOKS {
        browser.look(look).await;
        for (name, path) in shown.pages() {
            browser.open(&path).await;
            for fault in browser.inaccessible().await {
                faults.push(format!("{name}, {}: {fault}", look.name));
            }
            let width = browser.run("return document.documentElement.scrollWidth", &[]).await;
            if width.as_u64().unwrap() > look.width.into() {
                faults.push(format!("{name}, {}: it is {width} wide", look.name));
            }
            // The browser itself says that a page was not found.
            for line in browser.complaints().await.iter().filter(|line| !line.contains("404 (Not Found)")) {
                faults.push(format!("{name}, {}: {line}", look.name));
            }
            if let Some(directory) = &images {
                browser.screenshot(&directory.join(format!("{name}-{}.png", look.name))).await;
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
