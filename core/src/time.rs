//! Arithmetic and text of times and durations.

use jiff::Timestamp;
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A time plus a duration, at most the latest time.
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// A time minus a duration, at least the earliest time.
pub fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The duration from `earlier` to `later`; zero if they are the other way round.
pub fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// A time in tables, sentences and log lines: in UTC, to the second, such as 2026-11-28 15:40:12Z. Options that take a time
/// read this form, too.
pub fn for_people(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Reads a duration such as 500ms, 30s, 5m, 2h or 7d.
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// A duration as an operator would write it, exactly and in one unit: "7d" and not "1week".
pub fn in_one_unit(duration: Duration) -> String {
    let unit = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")]
        .into_iter()
        .find(|(unit, _)| !duration.is_zero() && duration.as_millis().is_multiple_of(unit.as_millis()));
    match unit {
        Some((unit, name)) => format!("{}{name}", duration.as_millis() / unit.as_millis()),
        None => format!("{}ms", duration.as_millis()),
    }
}

/// A duration for people, rounded down to one unit: "1.5 s", "59 s", "25 h".
pub fn rounded(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 if millis == 0 && !duration.is_zero() => format!("{} µs", duration.as_micros()),
        0 => format!("{millis} ms"),
        1..=9 => format!("{seconds}.{} s", millis / 100),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_durations_are_short() {
        for (millis, text) in [
            (0, "0 ms"),
            (7, "7 ms"),
            (1_540, "1.5 s"),
            (59_000, "59 s"),
            (3_600_000, "60 min"),
            (90_000_000, "25 h"),
        ] {
            assert_eq!(rounded(Duration::from_millis(millis)), text);
        }
        assert_eq!(rounded(Duration::from_micros(12)), "12 µs");
    }
}
