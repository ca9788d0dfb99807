//! Amounts of money, from millionths of a US dollar.

use talaria_proto::v1::Model;

const MICROS: u64 = 1_000_000;

/// "$0.40", "$0.0817", "-$1.00".
pub(crate) fn dollars(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}${}", decimal(micros.unsigned_abs()))
}

/// "0.20–0.40 $/s"; "-" for a price that is not understood.
pub(crate) fn per_second(model: &Model) -> String {
    let price = |micros: i64| decimal(micros.unsigned_abs());
    match (model.second_micros_from, model.second_micros_to) {
        (Some(from), Some(to)) if from != to => format!("{}–{} $/s", price(from), price(to)),
        (Some(only), _) | (None, Some(only)) => format!("{} $/s", price(only)),
        (None, None) => "-".to_owned(),
    }
}

/// At least two decimals, and no more than are needed.
fn decimal(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / MICROS, micros % MICROS);
    let needed = text.trim_end_matches('0').len();
    let cents = text.len() - 4;
    text.get(..needed.max(cents)).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_the_digits_that_it_needs() {
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
    fn a_price_is_an_amount_or_a_range() {
        let price = |from, to| {
            per_second(&Model { second_micros_from: from, second_micros_to: to, ..Model::default() })
        };
        assert_eq!(price(Some(200_000), Some(400_000)), "0.20–0.40 $/s");
        assert_eq!(price(Some(81_700), Some(81_700)), "0.0817 $/s");
        assert_eq!(price(Some(50_000), None), "0.05 $/s");
        assert_eq!(price(None, None), "-");
    }
}
