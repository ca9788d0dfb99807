//! The parsed text of `/metrics`.

use std::collections::BTreeMap;

/// The metrics of one request.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Each metric's type.
    pub types: BTreeMap<String, String>,
    /// Each metric's help.
    pub helps: BTreeMap<String, String>,
    /// Each series.
    pub series: Vec<Series>,
}

/// One series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The name; a histogram has three.
    pub name: String,
    /// The labels, with a histogram's `le`.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Scrape {
    /// Reads Prometheus' text format.
    pub fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let described = line.strip_prefix("# ").map(|line| line.splitn(3, ' ').collect::<Vec<_>>());
            match described.as_deref() {
                Some(["TYPE", name, kind]) => {
                    let twice = scrape.types.insert((*name).to_owned(), (*kind).to_owned());
                    assert_eq!(twice, None, "{name} is there twice");
                }
                Some(["HELP", name, help]) => {
                    drop(scrape.helps.insert((*name).to_owned(), (*help).to_owned()));
                }
                Some(_) => panic!("{line}"),
                None => scrape.series.push(series(line)),
            }
        }
        scrape
    }

    /// The sum of all series of a name that have this label, or of all.
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let has = |series: &&Series| {
            series.name == name
                && label.is_none_or(|(key, value)| series.labels.get(key).is_some_and(|it| it == value))
        };
        self.series.iter().filter(has).map(|series| series.value).sum()
    }

    /// The metric that a series is part of.
    pub fn metric<'a>(&self, series: &'a Series) -> &'a str {
        let name = series.name.as_str();
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        match histogram {
            Some(histogram) if self.types.get(histogram).is_some_and(|kind| kind == "histogram") => histogram,
            _ => name,
        }
    }
}

fn series(line: &str) -> Series {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) =
        head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
    // No value here has a quotation mark or a comma.
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once('=').unwrap();
        (key.to_owned(), value.trim_matches('"').to_owned())
    });
    Series { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
}
