//! Names of the outcomes of attempts: a new outcome does not compile before it is named here.

use crate::v1::AttemptOutcome;

impl AttemptOutcome {
    /// Every outcome that an attempt can have.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Delivered,
        Self::Duplicate,
        Self::Ignored,
        Self::RateLimited,
        Self::RouteFault,
        Self::Failed,
        Self::AnswerLost,
        Self::Interrupted,
        Self::NotUnderstood,
    ];

    /// Its name in texts, metrics and on command lines: `rate_limited`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::RateLimited => "rate_limited",
            Self::RouteFault => "route_fault",
            Self::Failed => "failed",
            Self::AnswerLost => "answer_lost",
            Self::Interrupted => "interrupted",
            Self::NotUnderstood => "not_understood",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_those_of_the_contract_under_their_names() {
        let known: Vec<_> = (1..100).filter_map(|number| AttemptOutcome::try_from(number).ok()).collect();
        assert_eq!(known, AttemptOutcome::ALL);
        for outcome in known {
            assert_eq!(outcome.as_str_name(), format!("ATTEMPT_OUTCOME_{}", outcome.name().to_uppercase()));
        }
    }
}
