//! The status of the configuration, as a message.

use talaria_core::config::{ConfigStatus, Problem};
use talaria_proto::{
    time::to_proto,
    v1::{Configuration, ConfigurationFault, ConfigurationProblem},
};

pub(super) fn configuration(standing: &ConfigStatus) -> Configuration {
    Configuration {
        generation: standing.generation,
        loaded_at: Some(to_proto(standing.loaded_at)),
        needs_restart: standing.needs_restart.iter().map(ToString::to_string).collect(),
        fault: standing.fault.as_ref().map(|fault| ConfigurationFault {
            at: Some(to_proto(fault.at)),
            problems: fault.problems.iter().map(problem).collect(),
        }),
    }
}

fn problem(Problem { line, column, what, help }: &Problem) -> ConfigurationProblem {
    ConfigurationProblem { line: *line, column: *column, what: what.clone(), help: help.clone() }
}
