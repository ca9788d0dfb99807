//! The tables in docs/performance.md.

use crate::measure::median;
use serde_json::Value;
use std::{fs, thread};
use talaria_tests::binary::workspace;

const BEGIN: &str = "<!-- Written by `make bench` from here -->\n";
const BEGIN_NATS: &str = "<!-- Written by `make bench-nats` from here -->\n";
const BEGIN_ENGINE: &str = "<!-- Written by `make bench-engine` from here -->\n";
const END: &str = "<!-- to here -->\n";

/// The page's longest line, and the indentation of items.
const LINE: usize = 120;
const INDENT: usize = 2;

/// A measurement: its description and its result.
pub struct Measured {
    /// The sentence.
    pub how: String,
    /// The lines of the table.
    pub rows: Vec<Row>,
}

/// A line of the table.
pub struct Row {
    what: String,
    ours: String,
    baseline: String,
    ratio: Option<f64>,
    aim: String,
}

impl Row {
    /// A name and its value.
    pub fn new(what: &str, ours: String) -> Self {
        Self { what: what.into(), ours, baseline: String::new(), ratio: None, aim: String::new() }
    }

    /// The medians of two sides' rounds, which took turns, and the median of the rounds' ratios.
    pub fn compare(what: &str, ours: &[f64], baseline: &[f64], write: fn(f64) -> String) -> Self {
        let ratios = ours.iter().zip(baseline).map(|(ours, baseline)| ours / baseline).collect();
        let [ours, baseline] = [ours, baseline].map(|values| write(median(values.to_vec())));
        Self::new(what, ours).baseline(baseline).ratio(median(ratios))
    }

    /// The medians of two sides' rounds, and their ratio: for values that vary more between rounds than between sides.
    pub fn of_medians(what: &str, ours: &[f64], baseline: &[f64], write: fn(f64) -> String) -> Self {
        let [ours, baseline] = [ours, baseline].map(|values| median(values.to_vec()));
        Self::new(what, write(ours)).baseline(write(baseline)).ratio(ours / baseline)
    }

    /// The values for comparison.
    pub fn baseline(mut self, baseline: String) -> Self {
        self.baseline = baseline;
        self
    }

    /// The median of the rounds' ratios, ours by the other.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    /// The goal.
    pub fn aim(mut self, aim: &str) -> Self {
        self.aim = aim.into();
        self
    }

    /// The goal for the ratio, and whether it is met.
    pub fn at_least(self, aim: f64) -> Self {
        let met = self.ratio.is_some_and(|ratio| ratio >= aim);
        self.aim(&format!("at least {aim}: {}", verdict(met)))
    }

    /// The goal for the ratio, and whether it is met.
    pub fn at_most(self, aim: f64) -> Self {
        let met = self.ratio.is_some_and(|ratio| ratio <= aim);
        self.aim(&format!("at most {aim}: {}", verdict(met)))
    }
}

/// The cell of a table.
pub fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

/// The cell of a table.
pub fn millis(millis: f64) -> String {
    format!("{millis:.1} ms")
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Writes the results of one process into the page, and to standard output.
pub fn write(rows: &[Row]) {
    let mut text = format!("{}\n{}", measured_on(), table("Talaria", rows));
    text += "\n| one decision, on the documented payload of a finished video | |\n|---|--:|\n";
    for decision in ["verify", "normalize", "render"] {
        text += &format!("| {decision} | {:.1} µs |\n", criterion(decision) / 1000.0);
    }
    put(BEGIN, &text);
}

/// Writes the results over NATS into the page, and to standard output.
pub fn write_nats(measured: &[Measured]) {
    put(BEGIN_NATS, &explained("over NATS", measured));
}

/// Writes the results of the engine into the page, and to standard output.
pub fn write_engine(measured: &[Measured]) {
    put(BEGIN_ENGINE, &explained("Talaria", measured));
}

/// Prints results that are not written into the page.
pub fn print(ours: &str, measured: &[Measured]) {
    println!("{}", explained(ours, measured));
}

fn explained(ours: &str, measured: &[Measured]) -> String {
    let how: String = measured.iter().map(|measured| format!("- {}\n", wrapped(&measured.how))).collect();
    let rows = measured.iter().flat_map(|measured| &measured.rows);
    format!("{how}\n{}\n{}", measured_on(), table(ours, rows))
}

fn measured_on() -> String {
    let cores = thread::available_parallelism().unwrap();
    format!("Measured on {cores} shared cores. A ratio is the median of the rounds' ratios.\n")
}

fn table<'a>(ours: &str, rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = format!("| | {ours} | beside it | ratio | aim |\n|---|--:|--:|--:|---|\n");
    for Row { what, ours, baseline, ratio, aim } in rows {
        let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        text += &format!("| {what} | {ours} | {baseline} | {ratio} | {aim} |\n");
    }
    text
}

/// An item of a list, in lines as long as the page's.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = INDENT;
    for word in text.split_whitespace() {
        let width = word.chars().count() + 1;
        if length > INDENT {
            let breaks = length + width > LINE;
            lines += if breaks { "\n  " } else { " " };
            length = if breaks { INDENT } else { length };
        }
        lines += word;
        length += width;
    }
    lines
}

fn put(begin: &str, text: &str) {
    println!("{text}");
    let file = workspace().join("docs/performance.md");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    fs::write(file, format!("{before}{begin}\n{text}\n{END}{after}")).unwrap();
}

/// The last result of criterion, in nanoseconds.
fn criterion(name: &str) -> f64 {
    let file = workspace().join(format!("target/criterion/{name}/new/estimates.json"));
    let text = fs::read_to_string(&file).expect("`make bench` runs the decisions' benchmark first");
    let estimates: Value = serde_json::from_str(&text).unwrap();
    estimates["median"]["point_estimate"].as_f64().unwrap()
}
