//! The process that runs: whether it is ready, and whether it runs what the file says.

use super::{
    super::check::running,
    finding::{Finding, Level},
};
use crate::{Failure, args::Healthcheck, commands::healthcheck};
use std::path::Path;
use talaria_core::config::{self, Missing};
use url::Url;

const CHECK: &str = "process";

pub(super) async fn check(path: &Path, admin: Option<&Url>) -> Vec<Finding> {
    let asked = Healthcheck { url: admin.cloned(), json: false };
    let mut found = vec![match healthcheck::ask(path, &asked).await {
        Ok(answer) if answer.is_ready => {
            Finding::ok(CHECK, format!("{} answers: {}", answer.url, answer.said))
        }
        Ok(answer) => Finding::fault(
            CHECK,
            format!("{} answers {}: {}", answer.url, answer.status, answer.said),
            "docs/errors/not-ready.md says what each reason means",
        ),
        Err(Failure::Unreachable(why)) => return vec![Finding::of_error(CHECK, Level::Fault, &why)],
        Err(failure) => return vec![Finding::of_error(CHECK, Level::Fault, &failure.to_string())],
    }];
    // A Talaria that is older than this may not say.
    if let Ok((role, shown)) = running::ask(path, admin, None).await {
        let settings = config::read_for(path, role, Missing::Tolerated).settings;
        let compared = running::compare(role, shown, &settings).and_then(|running| running.conclude(true));
        if let Err(failure) = compared {
            let differs = Finding::of_error(CHECK, Level::Warning, &failure.to_string());
            let help = format!("{}; `talaria check --running` lists the keys", differs.help);
            found.push(Finding { help, ..differs });
        }
    }
    found
}
