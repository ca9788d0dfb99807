//! Properties of the states of a delivery: a new state does not compile before it is named here.

use crate::v1::DeliveryState;

impl DeliveryState {
    /// Every state that a delivery can be in.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Delivered, Self::Ignored, Self::Parked, Self::Cancelled, Self::Ambiguous];

    /// Its name in texts, metrics and on command lines: `delivered`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Ignored => "ignored",
            Self::Parked => "parked",
            Self::Cancelled => "cancelled",
            Self::Ambiguous => "ambiguous",
        }
    }

    /// Whether nothing more happens to the delivery, unless an operator replays it.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Unspecified | Self::Waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_those_of_the_contract_under_their_names() {
        let known: Vec<_> = (1..100).filter_map(|number| DeliveryState::try_from(number).ok()).collect();
        assert_eq!(known, DeliveryState::ALL);
        for state in known {
            assert_eq!(state.as_str_name(), format!("DELIVERY_STATE_{}", state.name().to_uppercase()));
        }
    }
}
