//! The status of the configuration, as a message.

use talaria_core::config::{ConfigStatus, Problem};
use talaria_proto::{
    time::to_proto,
    v1::{Configuration, ConfigurationFault, ConfigurationProblem},
};

pub(super) fn configuration(config_status: &ConfigStatus) -> Configuration {
    Configuration {
        generation: config_status.generation,
        loaded_at: Some(to_proto(config_status.loaded_at)),
        needs_restart: config_status.needs_restart.iter().map(ToString::to_string).collect(),
        fault: config_status.fault.as_ref().map(|fault| ConfigurationFault {
            at: Some(to_proto(fault.at)),
            problems: fault.problems.iter().map(problem).collect(),
        }),
    }
}

fn problem(Problem { line, column, what, help }: &Problem) -> ConfigurationProblem {
    ConfigurationProblem { line: *line, column: *column, what: what.clone(), help: help.clone() }
}
