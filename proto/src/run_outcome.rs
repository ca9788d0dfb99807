//! Names of the outcomes of runs: a new outcome does not compile before it is named here.

use crate::v1::{Delivery, Run, RunOutcome};

impl RunOutcome {
    /// Every outcome that a filter can name.
    pub const ALL: [Self; 5] = [Self::Finished, Self::Failed, Self::Interrupted, Self::Command, Self::None];

    /// Every outcome that a report can have.
    pub const REPORTED: [Self; 4] = [Self::Finished, Self::Failed, Self::Interrupted, Self::Command];

    /// Its name in reports, metrics and on command lines: `finished`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Command => "command",
            Self::None => "none",
        }
    }
}

impl Delivery {
    /// The run under its current generation, if one was reported.
    pub fn current_run(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| run.generation == self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_those_of_the_contract_under_their_names() {
        let known: Vec<_> = (1..100).filter_map(|number| RunOutcome::try_from(number).ok()).collect();
        assert_eq!(known, RunOutcome::ALL);
        for outcome in known {
            assert_eq!(outcome.as_str_name(), format!("RUN_OUTCOME_{}", outcome.name().to_uppercase()));
        }
    }
}
