//! Names of the states of a job: a new state does not compile before it is named here.

use crate::v1::JobState;

impl JobState {
    /// Every state that a job can be in.
    pub const ALL: [Self; 10] = [
        Self::Submitting,
        Self::Running,
        Self::Unknown,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Refused,
        Self::Abandoned,
        Self::Stopped,
    ];

    /// Its name in texts and on command lines: `running`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Submitting => "submitting",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_those_of_the_contract_under_their_names() {
        let known: Vec<_> = (1..100).filter_map(|number| JobState::try_from(number).ok()).collect();
        assert_eq!(known, JobState::ALL);
        for state in known {
            assert_eq!(state.as_str_name(), format!("JOB_STATE_{}", state.name().to_uppercase()));
        }
    }
}
