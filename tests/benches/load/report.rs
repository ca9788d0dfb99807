//! The tables in docs/performance.md.

use serde_json::Value;
use std::{fs, thread};
use talaria_tests::binary::workspace;

const BEGIN: &str = "<!-- Written by `make bench` from here -->\n";
const END: &str = "<!-- to here -->\n";

/// A line of the table.
pub struct Row {
    what: String,
    ours: String,
    beside: String,
    ratio: String,
    aim: String,
}

impl Row {
    /// What was measured, and what it was.
    pub fn new(what: &str, ours: String) -> Self {
        Self { what: what.into(), ours, beside: String::new(), ratio: String::new(), aim: String::new() }
    }

    /// What was measured beside it.
    pub fn beside(mut self, beside: String) -> Self {
        self.beside = beside;
        self
    }

    /// Ours by what was beside it: the median of the rounds' ratios.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2}");
        self
    }

    /// What we want it to be.
    pub fn aim(mut self, aim: &str) -> Self {
        self.aim = aim.into();
        self
    }
}

/// As it stands in a table.
pub fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

/// As it stands in a table.
pub fn millis(millis: f64) -> String {
    format!("{millis:.1} ms")
}

/// Writes the tables into the page, and to standard output.
pub fn write(rows: &[Row]) {
    let mut text = format!(
        "Measured on {} shared cores. A ratio is the median of the rounds' ratios.\n\n\
         | | Talaria | beside it | ratio | aim |\n|---|--:|--:|--:|---|\n",
        thread::available_parallelism().unwrap()
    );
    for Row { what, ours, beside, ratio, aim } in rows {
        text += &format!("| {what} | {ours} | {beside} | {ratio} | {aim} |\n");
    }
    text += "\n| one decision, on the documented payload of a finished video | |\n|---|--:|\n";
    for decision in ["verify", "normalize", "render"] {
        text += &format!("| {decision} | {:.1} µs |\n", criterion(decision) / 1000.0);
    }
    println!("{text}");
    let file = workspace().join("docs/performance.md");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    fs::write(file, format!("{before}{BEGIN}\n{text}\n{END}{after}")).unwrap();
}

/// What criterion measured last, in nanoseconds.
fn criterion(name: &str) -> f64 {
    let file = workspace().join(format!("target/criterion/{name}/new/estimates.json"));
    let text = fs::read_to_string(&file).expect("`make bench` runs the decisions' benchmark first");
    let estimates: Value = serde_json::from_str(&text).unwrap();
    estimates["median"]["point_estimate"].as_f64().unwrap()
}
