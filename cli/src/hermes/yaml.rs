//! Textual edits of a Hermes home's `config.yaml`: they enable the extension and the MCP server, and can be taken back.
//!
//! Only lines are inserted, or the one line of an empty or flow list replaced, so comments and layout stay. A result is parsed, and
//! is refused if anything else changed. Shapes that are not understood are refused, too.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use talaria_core::{
    hermes::gateway::document,
    json::{Value, print::dump_line},
};

/// The extension's and the MCP server's name in the file.
pub(crate) const NAME: &str = "talaria";

/// A piece of the text before and after an edit. Both begin at the beginning of a line.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Edit {
    pub before: String,
    pub after: String,
}

/// The MCP server's entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<(&'static str, String)>,
}

impl Server {
    /// The lines of its entry, below `mcp_servers:` and with this indentation.
    fn lines(&self, indent: usize) -> Vec<String> {
        let (outer, inner) = (" ".repeat(indent), " ".repeat(indent + 2));
        // A string of JSON is one of YAML.
        let quoted = |text: &str| Value::String(text.into());
        let args: Vec<String> = self.args.iter().map(|arg| dump_line(&quoted(arg))).collect();
        let mut lines = vec![
            format!("{outer}{NAME}:"),
            format!("{inner}command: {}", dump_line(&quoted(&self.command))),
            format!("{inner}args: [{}]", args.join(", ")),
        ];
        if !self.env.is_empty() {
            let pairs = self.env.iter().map(|(name, value)| format!("{name}: {}", dump_line(&quoted(value))));
            lines.push(format!("{inner}env: {{{}}}", pairs.collect::<Vec<_>>().join(", ")));
        }
        lines
    }
}

/// What is to be written into this text by hand. A key that is there must not be written a second time.
pub(crate) fn by_hand(text: &str, server: &Server) -> Vec<String> {
    let parsed = document(text).unwrap_or(Value::Null);
    let (plugin, mcp) = enabled(text).unwrap_or_default();
    let mut lines = Vec::new();
    if is_disabled(&parsed) {
        lines.push(format!("# take {NAME} out of the list plugins.disabled"));
    }
    match parsed.get("plugins") {
        _ if plugin => {}
        None => lines.extend(["plugins:".to_owned(), format!("  enabled: [{NAME}]")]),
        Some(_) => lines.push(format!("# add {NAME} to the list plugins.enabled")),
    }
    if !mcp {
        let is_there = parsed.get("mcp_servers").is_some();
        lines.push(
            if is_there { "# below mcp_servers, beside its other entries" } else { "mcp_servers:" }
                .to_owned(),
        );
        lines.extend(server.lines(2));
    }
    lines
}

/// Whether the text enables the extension, and the MCP server.
pub(crate) fn enabled(text: &str) -> Result<(bool, bool), String> {
    let parsed = document(text)?;
    let list = parsed.get("plugins").and_then(|plugins| plugins.get("enabled")).and_then(Value::as_array);
    let plugin = list.is_some_and(|names| names.iter().any(is_ours));
    Ok((plugin, entry(&parsed).is_some()))
}

/// Whether the text disables the extension, which wins over enabling it.
pub(crate) fn disabled(text: &str) -> Result<bool, String> {
    Ok(is_disabled(&document(text)?))
}

fn is_disabled(parsed: &Value) -> bool {
    let list = parsed.get("plugins").and_then(|plugins| plugins.get("disabled")).and_then(Value::as_array);
    list.is_some_and(|names| names.iter().any(is_ours))
}

/// Enables both. Returns the text and all its edits, which are `made` if all is there. An entry that is one of the edits made
/// before, and that is another now, is replaced; one of the operator's own stays. Edits whose entry is not in the text, such as those
/// of a file that could not be written, are dropped.
pub(crate) fn enable(text: &str, server: &Server, made: &[Edit]) -> Result<(String, Vec<Edit>), String> {
    let (has_plugin, has_server) = enabled(text)?;
    let is_there = |edit: &&Edit| if removal::recorded(edit).is_some() { has_server } else { has_plugin };
    let (original, mut edits) = (text, made.iter().filter(is_there).cloned().collect::<Vec<_>>());
    let mut text = text.to_owned();
    if is_made(&text, made)? && !is(&text, server)? {
        text = removal::without_server(&text, made)?;
        edits.retain(|edit| removal::recorded(edit).is_none());
    }
    let (edited, added) = add(&text, server)?;
    edits.extend(added);
    if without_ours(&edited)? != without_ours(original)? {
        return Err("its shape is not one that can be edited safely".to_owned());
    }
    Ok((edited, edits))
}

/// Whether the MCP server's entry is this one.
pub(crate) fn is(text: &str, server: &Server) -> Result<bool, String> {
    let wanted = document(&server.lines(0).join("\n"))?;
    Ok(entry(&document(text)?)
        .is_some_and(|entry| wanted.get(NAME).is_some_and(|it| removal::same(entry, it))))
}

/// Whether the MCP server's entry is as one of these edits wrote it.
fn is_made(text: &str, made: &[Edit]) -> Result<bool, String> {
    let parsed = document(text)?;
    let recorded = made.iter().find_map(removal::recorded);
    Ok(entry(&parsed).is_some_and(|entry| recorded.is_some_and(|it| removal::same(entry, &it))))
}

fn entry(parsed: &Value) -> Option<&Value> {
    parsed.get("mcp_servers")?.get(NAME)
}

fn add(text: &str, server: &Server) -> Result<(String, Vec<Edit>), String> {
    let parsed = document(text)?;
    if is_disabled(&parsed) {
        return Err(format!("plugins.disabled names {NAME}; take it out first"));
    }
    let (plugin, mcp) = enabled(text)?;
    let (mut edited, mut edits) = (text.to_owned(), Vec::new());
    if !plugin {
        let (at, edit) = plugin_edit(&edited, &parsed)?;
        edited.replace_range(at..at + edit.before.len(), &edit.after);
        edits.push(edit);
    }
    if !mcp {
        let (at, edit) = child_edit(&edited, &parsed, "mcp_servers", |indent| server.lines(indent))?;
        edited.replace_range(at..at + edit.before.len(), &edit.after);
        edits.push(edit);
    }
    if enabled(&edited)? != (true, true) || without_ours(&edited)? != without_ours(text)? {
        return Err("its shape is not one that can be edited safely".to_owned());
    }
    Ok((edited, edits))
}

/// Takes edits back, the last one first; the entries alone where Hermes has laid the file out in its own way since. Fails without a
/// change if they are not the entries that were made.
pub(crate) fn take_back(text: &str, edits: &[Edit]) -> Result<String, String> {
    document(text)?;
    let as_made = || {
        let mut edited = text.to_owned();
        for Edit { before, after } in edits.iter().rev() {
            let (start, end) = only(&edited, after)?;
            edited.replace_range(start..end, before);
        }
        Some(edited)
    };
    match as_made().filter(|edited| has_same_others(edited, text)) {
        Some(edited) => Ok(edited),
        None => removal::without_entries(text, edits),
    }
}

/// Whether two texts differ in our entries alone.
fn has_same_others(one: &str, other: &str) -> bool {
    without_ours(one).is_ok_and(|one| without_ours(other).is_ok_and(|other| one == other))
}

fn is_ours(name: &Value) -> bool {
    name.as_str() == Some(NAME)
}

/// The only range of a text that begins at the beginning of a line and is this piece.
fn only(text: &str, piece: &str) -> Option<(usize, usize)> {
    let is_start = |at: &usize| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n');
    let mut found = text.match_indices(piece).map(|(at, _)| at).filter(is_start);
    let at = found.next()?;
    found.next().is_none().then_some((at, at + piece.len()))
}

/// The document without our entries, and without lists and objects that are empty then.
fn without_ours(text: &str) -> Result<String, String> {
    let mut parsed = document(text)?;
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    if let Value::Object(top) = &mut parsed {
        if let Some(Value::Object(plugins)) = top.get_mut(b"plugins".as_slice()) {
            if let Some(Value::Array(names)) = plugins.get_mut(b"enabled".as_slice()) {
                names.retain(|name| !is_ours(name));
            }
            if plugins.get(b"enabled".as_slice()).is_some_and(is_empty) {
                plugins.shift_remove(b"enabled".as_slice());
            }
        }
        if let Some(Value::Object(servers)) = top.get_mut(b"mcp_servers".as_slice()) {
            servers.shift_remove(NAME.as_bytes());
        }
        for key in [b"plugins".as_slice(), b"mcp_servers".as_slice()] {
            if top.get(key).is_some_and(is_empty) {
                top.shift_remove(key);
            }
        }
    }
    Ok(if is_empty(&parsed) { "null".to_owned() } else { dump_line(&parsed) })
}

/// The edit that enables the extension, and where its lines begin in the text.
fn plugin_edit(text: &str, parsed: &Value) -> Result<(usize, Edit), String> {
    if parsed.get("plugins").and_then(|plugins| plugins.get("enabled")).is_none() {
        return child_edit(text, parsed, "plugins", |indent| {
            vec![format!("{}enabled: [{NAME}]", " ".repeat(indent))]
        });
    }
    let lines = Lines::of(text);
    let top = lines.key("plugins", 0, 0..lines.all.len())?;
    let children = lines.children(top);
    let indent = lines.indent_of_first(children.clone()).ok_or("plugins is not written as a block")?;
    let at = lines.key("enabled", indent, children.clone())?;
    let (line, value) = (lines.at(at), lines.value(at));
    if let Some(items) = value.strip_suffix(']').filter(|value| value.starts_with('[')) {
        let comma = if items.trim_start_matches('[').trim().is_empty() { "" } else { ", " };
        let replaced = line.replacen(value, &format!("{}{comma}{NAME}]", items.trim_end()), 1);
        return Ok((lines.offset(at), Edit { before: line.to_owned(), after: replaced }));
    }
    if !value.is_empty() {
        return Err("plugins.enabled is not a list that can be edited safely".to_owned());
    }
    let rest = at + 1..children.end;
    let item = rest.clone().find(|at| lines.is_content(*at));
    let deep = item.map_or(0, |at| lines.indent(at));
    let is_item = |at: usize| lines.indent(at) == deep && lines.at(at).trim_start().starts_with('-');
    match item.filter(|at| deep >= indent && is_item(*at)) {
        Some(first) => {
            let in_list = |at: &usize| !lines.is_content(*at) || lines.indent(*at) > deep || is_item(*at);
            let last = (first..rest.end).take_while(in_list).filter(|at| lines.is_content(*at)).last();
            Ok(lines.insert_after(last.unwrap_or(first), &[format!("{}- {NAME}", " ".repeat(deep))]))
        }
        None => Ok(lines.insert_after(at, &[format!("{}- {NAME}", " ".repeat(indent + 2))])),
    }
}

/// The edit that adds a child to a key at the top, or the key with it.
fn child_edit(
    text: &str,
    parsed: &Value,
    key: &str,
    child: impl Fn(usize) -> Vec<String>,
) -> Result<(usize, Edit), String> {
    let lines = Lines::of(text);
    if parsed.get(key).is_none() {
        let mut added = vec![format!("{key}:")];
        added.extend(child(2));
        return lines.append(&added);
    }
    let at = lines.key(key, 0, 0..lines.all.len())?;
    match lines.value(at) {
        "" => {
            let indent = lines.indent_of_first(lines.children(at)).unwrap_or(2);
            Ok(lines.insert_after(at, &child(indent)))
        }
        "{}" => {
            let (offset, mut edit) = lines.insert_after(at, &child(2));
            edit.after = edit.after.replacen(" {}", "", 1);
            Ok((offset, edit))
        }
        _ => Err(format!("{key} is not written as a block")),
    }
}

/// A text's lines with their ends.
struct Lines<'a> {
    all: Vec<&'a str>,
    end: &'static str,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            all: text.split_inclusive('\n').collect(),
            end: if text.contains("\r\n") { "\r\n" } else { "\n" },
        }
    }

    fn at(&self, at: usize) -> &'a str {
        self.all.get(at).copied().unwrap_or_default()
    }

    fn indent(&self, at: usize) -> usize {
        self.at(at).bytes().take_while(|byte| *byte == b' ').count()
    }

    /// Whether it is neither blank nor a comment.
    fn is_content(&self, at: usize) -> bool {
        let line = self.at(at).trim();
        !line.is_empty() && !line.starts_with('#')
    }

    fn is_item(&self, at: usize) -> bool {
        self.at(at).trim_start().starts_with('-')
    }

    /// The only line of a key with this indentation.
    fn key(&self, key: &str, indent: usize, mut within: Range<usize>) -> Result<usize, String> {
        let is_key = |at: &usize| {
            let rest = self.at(*at).get(indent..).and_then(|line| line.strip_prefix(key));
            self.indent(*at) == indent && rest.is_some_and(|rest| rest.starts_with(':'))
        };
        let found = within.find(is_key).ok_or_else(|| format!("{key} is not written as a block"))?;
        if within.any(|at| is_key(&at)) {
            return Err(format!("{key} is written twice"));
        }
        Ok(found)
    }

    /// The text behind the colon, without a comment.
    fn value(&self, at: usize) -> &'a str {
        let value = self.at(at).split_once(':').map_or("", |(_, value)| value);
        if value.trim_start().starts_with('#') {
            return "";
        }
        value.split_once(" #").map_or(value, |(value, _)| value).trim()
    }

    /// The lines below a key at the top.
    fn children(&self, key: usize) -> Range<usize> {
        let is_outside = |at: &usize| self.is_content(*at) && self.indent(*at) == 0;
        let end = (key + 1..self.all.len()).find(is_outside).unwrap_or(self.all.len());
        key + 1..end
    }

    fn indent_of_first(&self, mut within: Range<usize>) -> Option<usize> {
        within.find(|at| self.is_content(*at)).map(|at| self.indent(at))
    }

    /// Where a line begins in the text.
    fn offset(&self, at: usize) -> usize {
        self.all.iter().take(at).map(|line| line.len()).sum()
    }

    fn insert_after(&self, at: usize, added: &[String]) -> (usize, Edit) {
        let before = self.at(at).to_owned();
        let end = if before.ends_with('\n') { "" } else { self.end };
        let after = format!("{before}{end}{}{}", added.join(self.end), self.end);
        (self.offset(at), Edit { before, after })
    }

    fn append(&self, added: &[String]) -> Result<(usize, Edit), String> {
        match self.all.last() {
            // An end of the line could belong to a text in several lines.
            Some(last) if !last.ends_with('\n') && last.starts_with(' ') => {
                Err("its last line has no end, so a key behind it cannot be added safely".to_owned())
            }
            Some(last) if !last.ends_with('\n') => Ok(self.insert_after(self.all.len() - 1, added)),
            _ => {
                let after = format!("{}{}", added.join(self.end), self.end);
                Ok((self.offset(self.all.len()), Edit { before: String::new(), after }))
            }
        }
    }
}

mod removal;
#[cfg(test)]
mod tests;
