//! Diagnosis of invalid YAML by its layout: the faulty line, and the probable intention.
//!
//! The parser reports where it stops, which for wrong indentation is often a line below the faulty one. So this checks the
//! indentation of the lines up to there, as a reader would.

use super::problem::Problem;
use serde_saphyr::Location;

/// The largest distance, in lines, between the parser's location and a faulty tab or value.
const NEARBY: usize = 2;

/// The problem of an invalid text, by its layout or by the parser's message.
pub(super) fn problem(text: &str, noticed: Location, message: &str) -> Problem {
    let lines = structure(text);
    // From 1; a text that ends too early is noticed after its last line.
    let at = usize::try_from(noticed.line()).unwrap_or(usize::MAX);
    let found = tab(&lines, at).or_else(|| indentation(&lines, at)).or_else(|| value(&lines, at, false));
    found.unwrap_or_else(|| {
        let help = "put values in quotes that begin with anything but a letter or a digit, or hold `: ` or ` #`, and close each quote \
                    and bracket; `talaria init` writes a file to compare with";
        Problem::at(noticed, format!("not YAML: {message}"), help)
    })
}

/// The problem of a text that begins a map because it has no quotes.
pub(super) fn unquoted(text: &str, noticed: Location) -> Option<Problem> {
    let at = usize::try_from(noticed.line()).ok()?;
    let lines = structure(text);
    let lines: Vec<Line<'_>> = lines.into_iter().filter(|line| line.number == at).collect();
    value(&lines, at, true)
}

/// A line with content, outside of block texts.
struct Line<'a> {
    /// Its number, from 1.
    number: usize,
    /// The leading blanks and tabs.
    indentation: &'a str,
    /// The rest, without trailing blanks.
    content: &'a str,
    /// Whether a bracket of an earlier line is open.
    is_inside: bool,
}

impl Line<'_> {
    fn indent(&self) -> usize {
        self.indentation.len()
    }

    fn problem(&self, column: usize, what: String, help: String) -> Problem {
        Problem { line: self.number as u64, column: column as u64, what, help }
    }

    /// The leading key, if there is one, and its value.
    fn key(&self) -> Option<(&str, &str)> {
        let item = self.content.trim_start_matches("- ");
        let (key, value) = match item.split_once(": ") {
            Some(split) => split,
            None => (item.strip_suffix(':')?, ""),
        };
        let is_plain = !key.is_empty() && !key.contains([' ', '{', '[', '"', '\'', '#']);
        is_plain.then_some((key, value.trim()))
    }

    /// Whether the next line may be indented deeper.
    fn is_open(&self) -> bool {
        let without_comment = self.content.split(" #").next().unwrap_or_default().trim_end();
        without_comment.ends_with(':') || without_comment == "-" || {
            // An anchor or a tag before a nested value.
            self.key().is_some_and(|(_, value)| value.starts_with(['&', '!']) && !value.contains(' '))
        }
    }
}

/// The lines that matter for the layout.
fn structure(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let (mut block, mut depth): (Option<usize>, usize) = (None, 0);
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start_matches([' ', '\t']);
        let indentation = line.get(..line.len() - content.len()).unwrap_or_default();
        let content = content.trim_end();
        if content.is_empty() || block.is_some_and(|indent| indentation.len() > indent) {
            continue;
        }
        block = None;
        if content.starts_with('#') || content == "---" {
            continue;
        }
        let line = Line { number: index + 1, indentation, content, is_inside: depth > 0 };
        depth = brackets(content, depth);
        let header = content.split(" #").next().unwrap_or_default().trim_end();
        let header = header.trim_end_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
        let is_block =
            header.ends_with(": |") || header.ends_with(": >") || header == "- |" || header == "- >";
        if is_block && depth == 0 {
            let dashes = content.len() - content.trim_start_matches("- ").len();
            block = Some(indentation.len() + dashes);
        }
        lines.push(line);
    }
    lines
}

/// The number of open brackets after a line, without those in quotes and comments.
fn brackets(content: &str, mut depth: usize) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for c in content.chars() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open || before == '\\').then_some(open),
            // Within a word a quote is a letter.
            (None, '"' | '\'') if " [{,:".contains(before) => quote = Some(c),
            (None, '#') if before == ' ' => return depth,
            (None, '[' | '{') if depth > 0 || " [{,:".contains(before) => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
    }
    depth
}

fn tab(lines: &[Line<'_>], at: usize) -> Option<Problem> {
    let has_tab = |line: &&Line<'_>| line.indentation.contains('\t') && line.number.abs_diff(at) <= NEARBY;
    // The line itself, or the nearest one above, or below.
    let found =
        lines.iter().filter(has_tab).min_by_key(|line| (line.number > at, line.number.abs_diff(at)))?;
    let column = found.indentation.find('\t').unwrap_or_default() + 1;
    let help =
        "YAML is indented with blanks alone: write two blanks for each level, and let your editor do so";
    Some(found.problem(column, "a tab indents this line".into(), help.into()))
}

/// The first line, up to where the parser noticed, whose indentation fits none above it.
fn indentation(lines: &[Line<'_>], at: usize) -> Option<Problem> {
    let mut open: Vec<usize> = Vec::new();
    let mut above: Option<&Line<'_>> = None;
    for line in lines.iter().filter(|line| line.number <= at && !line.is_inside) {
        let indent = line.indent();
        let deepest = open.last().copied();
        while open.last().is_some_and(|level| *level > indent) {
            open.pop();
        }
        let fits = open.last() == Some(&indent);
        if let (Some(above), Some(deepest)) = (above, deepest)
            && !fits
        {
            if indent < deepest {
                let levels = levels(&open, deepest);
                let what = format!("this line is indented by {indent}, and the lines above by {levels}");
                return Some(line.problem(
                    indent + 1,
                    what,
                    format!("indent it by {levels}, as the keys that it belongs to"),
                ));
            }
            if line.key().is_some()
                && !above.is_open()
                && above.key().is_some()
                && !above.content.starts_with("- ")
            {
                let what = format!(
                    "this line is indented by {indent}, deeper than the line above, which has a value already"
                );
                let help = format!("indent it by {}, if it stands beside the one above", above.indent());
                return Some(line.problem(indent + 1, what, help));
            }
        }
        if !fits {
            open.push(indent);
        }
        // The keys of an item are indented to the text after its dash.
        let dashes = line.content.len() - line.content.trim_start_matches("- ").len();
        if dashes > 0 && line.key().is_some() {
            open.push(indent + dashes);
        }
        above = Some(line);
    }
    None
}

/// The two possible levels of a line: "4 or 6".
fn levels(open: &[usize], deepest: usize) -> String {
    match open.last() {
        Some(level) => format!("{level} or {deepest}"),
        None => deepest.to_string(),
    }
}

/// The problem of a value that needs quotes. `is_text` if a map is not allowed.
fn value(lines: &[Line<'_>], at: usize, is_text: bool) -> Option<Problem> {
    let line = lines
        .iter()
        .rev()
        .find(|line| line.number <= at && at - line.number <= NEARBY && line.key().is_some())?;
    let (key, value) = line.key()?;
    let column = line.indent() + line.content.len() - value.len() + 1;
    let first = value.chars().next()?;
    let help =
        format!("put the whole value in quotes: {key}: \"…\", or write it below {key}: |, indented deeper");
    if first == '{' && (is_text || !value.ends_with('}')) {
        let what =
            format!("the value of {key} begins with {{, which begins a map where it stands without quotes");
        return Some(line.problem(column, what, help));
    }
    if "@`%".contains(first) {
        let what = format!(
            "the value of {key} begins with {first}, which means something else where it stands without quotes"
        );
        return Some(line.problem(column, what, help));
    }
    if !"\"'{[".contains(first) && (value.contains(": ") || value.ends_with(':')) {
        let what = format!(
            "the value of {key} holds a colon, which begins another value where it stands without quotes"
        );
        return Some(line.problem(column, what, help));
    }
    None
}
