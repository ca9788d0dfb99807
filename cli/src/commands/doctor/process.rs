//! The running process: whether it is ready, and whether it has the settings of the file.

use super::finding::{Finding, Level};
use crate::{Failure, client::admin, compare::compare};
use std::path::Path;
use talaria_core::config::{self, Missing};
use url::Url;

const CHECK: &str = "process";

pub(super) async fn check(path: &Path, admin: Option<&Url>) -> Vec<Finding> {
    let mut found = vec![match admin::ready(path, admin).await {
        Ok(answer) if answer.status.is_success() => {
            Finding::ok(CHECK, format!("{} answers: {}", answer.url, answer.text))
        }
        Ok(answer) => Finding::fault(
            CHECK,
            format!("{} answers {}: {}", answer.url, answer.status, answer.text),
            "docs/errors/not-ready.md explains each reason",
        ),
        Err(Failure::Unreachable(why)) => return vec![Finding::of_error(CHECK, Level::Fault, &why)],
        Err(failure) => return vec![Finding::of_error(CHECK, Level::Fault, &failure.to_string())],
    }];
    // Older versions do not answer at /config.
    if let Ok((role, process)) = admin::config(path, admin, None).await {
        let settings = config::read_for(path, role, Missing::Tolerated).settings;
        let compared = compare(role, process, &settings).and_then(|comparison| comparison.result());
        if let Err(failure) = compared {
            let differs = Finding::of_error(CHECK, Level::Warning, &failure.to_string());
            let help = format!("{}; `talaria check --running` lists the keys", differs.help);
            found.push(Finding { help, ..differs });
        }
    }
    found
}
