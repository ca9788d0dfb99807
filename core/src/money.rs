//! Amounts of money in micros: millionths of a US dollar, which sums do not round.

/// Digits of a dollar that a micro can express.
const DIGITS: usize = 6;

const MICROS: u64 = 1_000_000;

/// The decimals that an amount always has.
const CENTS: usize = 2;

/// An amount that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// The micros, rounded half away from zero.
    pub micros: i64,
    /// Whether nothing was rounded.
    pub is_exact: bool,
}

/// Reads decimal digits such as `2`, `2.50` or `0.0000004`; `None` for anything else, and for an amount that is too large.
pub fn parse(text: &str) -> Option<Amount> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(DIGITS));
    let kept: i64 = format!("{kept:0<DIGITS$}").parse().ok()?;
    let up = i64::from(rest.as_bytes().first().is_some_and(|digit| *digit >= b'5'));
    let micros = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(kept + up)?;
    Some(Amount { micros, is_exact: rest.bytes().all(|digit| digit == b'0') })
}

/// An amount for people, with two decimals or as many as it needs: "$0.40", "$0.0817", "-$1.00".
pub fn dollars(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}${}", decimal(micros.unsigned_abs()))
}

/// The same without sign and currency: "0.40".
pub fn decimal(micros: u64) -> String {
    let decimals = format!("{:0DIGITS$}", micros % MICROS);
    let needed = decimals.trim_end_matches('0').len().max(CENTS);
    format!("{}.{}", micros / MICROS, decimals.get(..needed).unwrap_or(&decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_the_decimals_that_it_needs() {
        for (micros, text) in [
            (0, "$0.00"),
            (400_000, "$0.40"),
            (81_700, "$0.0817"),
            (1, "$0.000001"),
            (1_000_000, "$1.00"),
            (20_000_000, "$20.00"),
            (1_234_500_000, "$1234.50"),
            (-2_500_000, "-$2.50"),
            (i64::MIN, "-$9223372036854.775808"),
        ] {
            assert_eq!(dollars(micros), text);
        }
    }

    #[test]
    fn decimals_become_micros() {
        for (text, micros, is_exact) in [
            ("0", 0, true),
            ("2", 2_000_000, true),
            ("2.50", 2_500_000, true),
            ("007.1", 7_100_000, true),
            ("0.000001", 1, true),
            ("0.0000010", 1, true),
            ("0.0000014", 1, false),
            ("0.0000015", 2, false),
            ("0.9999995", 1_000_000, false),
            ("9223372036854.775807", i64::MAX, true),
        ] {
            assert_eq!(parse(text), Some(Amount { micros, is_exact }), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1_0",
            "1,5",
            "$1",
            "NaN",
            "inf",
            " 1",
            "9223372036854.7758075",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
