//! Copies in a directory, by their names: which are too many. Pure.
//!
//! A copy's name is `talaria-2026-11-29T03-17-00Z`, with `.db` behind it if it is a file of the embedded bus. While it grows, a dot,
//! random characters and `.partial` follow. Any other name is not touched.

use jiff::{Timestamp, Unit};

/// The time in a name: without colons, which some file systems do not take.
const TIME: &str = "%Y-%m-%dT%H-%M-%SZ";

const PREFIX: &str = "talaria-";
const PARTIAL: &str = ".partial";

/// An unfinished copy that is older was made by a process that was killed.
const ABANDONED_HOURS: f64 = 24.0;

/// The name of a copy that is begun at this time.
pub(super) fn name(time: Timestamp, suffix: &str) -> String {
    format!("{PREFIX}{}{suffix}", time.strftime(TIME))
}

/// The oldest copies beyond so many, and unfinished ones that no process writes any more.
pub(super) fn superfluous<'a>(
    names: &'a [String],
    suffix: &str,
    keep: usize,
    now: Timestamp,
) -> Vec<&'a str> {
    let names = names.iter().map(String::as_str);
    let mut whole: Vec<_> = names.clone().filter(|name| time(name, suffix).is_some()).collect();
    // Their order is that of their times.
    whole.sort_unstable();
    whole.truncate(whole.len().saturating_sub(keep));
    let is_abandoned = |name: &&str| {
        let of = name.strip_suffix(PARTIAL).and_then(|name| name.rsplit_once('.'));
        let begun = of.and_then(|(name, _)| time(name, suffix));
        let age = begun.and_then(|begun| now.since(begun).ok()?.total(Unit::Hour).ok());
        age.is_some_and(|hours| hours > ABANDONED_HOURS)
    };
    whole.extend(names.filter(is_abandoned));
    whole
}

/// The time in the name of a copy.
fn time(name: &str, suffix: &str) -> Option<Timestamp> {
    let text = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    let time = jiff::civil::DateTime::strptime(TIME, text).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    // A time that is written in another way is another's name.
    (time.strftime(TIME).to_string() == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_oldest_copies_of_a_kind_are_too_many() {
        assert_eq!(name(at("2026-11-29T03:17:00.9Z"), ""), "talaria-2026-11-29T03-17-00Z");
        let all = names(&[
            "talaria-2026-11-29T03-17-00Z",
            "talaria-2026-11-27T03-17-00Z",
            "talaria-2026-11-28T03-17-00Z",
            "talaria-2026-11-26T03-17-00Z.db",
        ]);
        let now = at("2026-11-29T03:18:00Z");
        assert_eq!(superfluous(&all, "", 1, now), [&all[1], &all[2]]);
        assert_eq!(superfluous(&all, "", 2, now), [&all[1]]);
        assert!(superfluous(&all, "", 3, now).is_empty());
        assert!(superfluous(&all, ".db", 1, now).is_empty());
        assert_eq!(superfluous(&all, ".db", 0, now), [&all[3]]);
    }

    #[test]
    fn other_names_are_not_touched() {
        let others = names(&[
            "talaria-2026-11-29T03-17-00Z-replaced-20261130T000000Z",
            "talaria-2026-11-29.db",
            "talaria-2026-1-29T03-17-00Z",
            "talaria-2026-13-29T03-17-00Z",
            "talaria-before the upgrade",
            "2026-11-29T03-17-00Z",
            "x.partial",
            "lost+found",
        ]);
        for suffix in ["", ".db"] {
            assert!(superfluous(&others, suffix, 0, at("2030-01-01T00:00:00Z")).is_empty());
        }
    }

    #[test]
    fn unfinished_copies_go_when_no_process_writes_them_any_more() {
        let all = names(&[
            "talaria-2026-11-28T03-17-00Z.aB3xYz.partial",
            "talaria-2026-11-28T03-17-00Z.db.aB3xYz.partial",
        ]);
        assert!(superfluous(&all, "", 7, at("2026-11-29T03:16:00Z")).is_empty());
        assert_eq!(superfluous(&all, "", 7, at("2026-11-29T03:18:00Z")), [&all[0]]);
        assert_eq!(superfluous(&all, ".db", 7, at("2026-11-29T03:18:00Z")), [&all[1]]);
    }
}
