//! The trace that an event belongs to, as a W3C `traceparent`.
//!
//! Source: W3C Trace Context, section 3.2: `00-<32 hex: trace>-<16 hex: parent>-<2 hex: flags>`, in lower case, and
//! neither id all zeros. A callback's trace is not signed: it is carried along, and nothing depends on it.

/// The header.
pub(crate) const HEADER: &str = "traceparent";

/// The callback's own trace if it has a valid one, or else one that begins here.
pub(crate) fn parent(header: Option<&str>, random: impl FnOnce() -> (u128, u64)) -> String {
    match header.filter(|header| is_valid(header)) {
        Some(header) => header.to_owned(),
        None => {
            let (trace, parent) = random();
            format!("00-{:032x}-{:016x}-00", trace.max(1), parent.max(1))
        }
    }
}

fn is_valid(header: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = header.split('-').collect();
    match parts.as_slice() {
        ["00", trace, parent, flags] => {
            hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && some(trace) && some(parent)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_trace_goes_on_and_anything_else_begins_a_new_one() {
        assert_eq!(parent(Some(THEIRS), || panic!("there is one")), THEIRS);
        let ours = "00-00000000000000000000000000000005-0000000000000001-00";
        let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let upper = THEIRS.to_uppercase();
        for header in
            [None, Some(""), Some("x"), Some(&THEIRS[1..]), Some(&zeros), Some(&upper), Some("00-é-1-2")]
        {
            let begun = parent(header, || (5, 0));
            assert_eq!(begun, ours, "{header:?}");
            assert!(is_valid(&begun));
        }
    }
}
