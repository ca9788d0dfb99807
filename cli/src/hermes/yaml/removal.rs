//! Taking our entries out of a file that Hermes has laid out in its own way since they were written.

use super::{Edit, Lines, NAME, entry, has_same_others, is_made, only};
use talaria_core::{
    hermes::gateway::document,
    json::{Value, print::dump_line},
};

const CHANGED: &str = "the lines that enable it were changed";

const ENTANGLED: &str = "other lines depend on those that enable it";

/// The MCP server's entry that an edit wrote.
pub(super) fn recorded(edit: &Edit) -> Option<Value> {
    entry(&document(&edit.after).ok()?).cloned()
}

/// Whether two entries have the same members. Hermes orders them.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return false };
    let is_in_other =
        |(key, value): (_, &Value)| other.get(key).is_some_and(|found| dump_line(found) == dump_line(value));
    one.len() == other.len() && one.iter().all(is_in_other)
}

/// The text without the entries that the edits made.
pub(super) fn without_entries(text: &str, edits: &[Edit]) -> Result<String, String> {
    let (servers, plugins): (Vec<_>, Vec<_>) = edits.iter().partition(|edit| recorded(edit).is_some());
    let mut text = text.to_owned();
    if !servers.is_empty() && entry(&document(&text)?).is_some() {
        text = without_server(&text, edits)?;
    }
    if !plugins.is_empty() && super::enabled(&text)?.0 {
        text = without_plugin(&text, &plugins)?;
    }
    Ok(text)
}

/// The text without the MCP server's entry, which has to be the one that the edits made.
pub(super) fn without_server(text: &str, edits: &[Edit]) -> Result<String, String> {
    if !is_made(text, edits)? {
        return Err(CHANGED.to_owned());
    }
    let as_made =
        edits.iter().filter(|edit| recorded(edit).is_some()).find_map(|edit| without_edit(text, edit));
    if let Some(edited) = as_made {
        return Ok(edited);
    }
    let lines = Lines::of(text);
    let top = lines.key("mcp_servers", 0, 0..lines.all.len())?;
    let children = lines.children(top);
    let indent = lines.indent_of_first(children.clone()).ok_or(CHANGED)?;
    let first = lines.key(NAME, indent, children.clone())?;
    let is_next = |at: &usize| lines.is_content(*at) && lines.indent(*at) <= indent;
    let end = (first + 1..children.end).find(is_next).unwrap_or(children.end);
    let last = (first..end).rev().find(|at| lines.is_content(*at)).unwrap_or(first);
    let is_alone = !children.clone().any(|at| !(first..=last).contains(&at) && lines.is_content(at));
    // Without a child the key would be null.
    let goes = |at: &usize| (first..=last).contains(at) || (is_alone && *at == top);
    checked(text, (0..lines.all.len()).filter(|at| !goes(at)).map(|at| lines.at(at)).collect())
}

/// The text without one edit, if its lines are there and only our entries change.
fn without_edit(text: &str, edit: &Edit) -> Option<String> {
    let (start, end) = only(text, &edit.after)?;
    let mut edited = text.to_owned();
    edited.replace_range(start..end, &edit.before);
    has_same_others(&edited, text).then_some(edited)
}

/// The edited text, unless it changes more than our entries.
fn checked(text: &str, edited: String) -> Result<String, String> {
    if has_same_others(&edited, text) { Ok(edited) } else { Err(ENTANGLED.to_owned()) }
}

/// The text without our name in the list of plugins.
fn without_plugin(text: &str, edits: &[&Edit]) -> Result<String, String> {
    if let Some(edited) = edits.iter().find_map(|edit| without_edit(text, edit)) {
        return Ok(edited);
    }
    let lines = Lines::of(text);
    let top = lines.key("plugins", 0, 0..lines.all.len())?;
    let children = lines.children(top);
    let indent = lines.indent_of_first(children.clone()).ok_or(CHANGED)?;
    let at = lines.key("enabled", indent, children.clone())?;
    let (line, value) = (lines.at(at), lines.value(at));
    let is_ours = |name: &str| name.trim().trim_matches(['"', '\'']) == NAME;
    if let Some(items) = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
        let others: Vec<_> = items.split(',').map(str::trim).filter(|name| !is_ours(name)).collect();
        let replaced = line.replacen(value, &format!("[{}]", others.join(", ")), 1);
        return checked(text, replace(&lines, at, &replaced));
    }
    // Not one with a comment, which the operator has written.
    let is_item = |at: &usize| lines.at(*at).trim().strip_prefix("- ").is_some_and(is_ours);
    let item = (at + 1..children.end).find(is_item).ok_or(CHANGED)?;
    let is_next = |at: &usize| lines.is_content(*at) && lines.indent(*at) <= indent && !lines.is_item(*at);
    let end = (at + 1..children.end).find(is_next).unwrap_or(children.end);
    let is_alone = !(at + 1..end).any(|at| at != item && lines.is_content(at));
    let without = replace(&lines, item, "");
    if !is_alone {
        return checked(text, without);
    }
    let empty = line.replacen("enabled:", "enabled: []", 1);
    checked(text, replace(&Lines::of(&without), at, &empty))
}

/// The text with another line in place of one.
fn replace(lines: &Lines<'_>, at: usize, by: &str) -> String {
    (0..lines.all.len()).map(|line| if line == at { by } else { lines.at(line) }).collect()
}
