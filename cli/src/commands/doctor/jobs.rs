//! Whether an ingress can ask OpenRouter for the tenants with an API key, and which of these only poll.

use super::finding::Finding;
use crate::{
    args::Ask,
    client::{self, JobClient},
    print::{counted, one_line},
};
use std::path::Path;
use talaria_core::config::{Config, Role};
use talaria_proto::v1::{ListModelsRequest, ListModelsResponse};
use tonic::{Code, Status};

const CHECK: &str = "jobs";

pub(super) async fn check(path: &Path, args: &Ask, config: &Config, role: Role) -> Vec<Finding> {
    let polls_only = config.tenants.values().filter(|tenant| tenant.only_polls());
    let polls_only = polls_only.map(|tenant| {
        format!("{}: polls only, without openrouter.secrets it takes no callbacks", tenant.name)
    });
    let mut found: Vec<_> = polls_only.map(|what| Finding::ok(CHECK, what)).collect();
    let tenants: Vec<_> =
        config.tenants.values().filter(|tenant| tenant.jobs.is_some()).map(|tenant| &tenant.name).collect();
    if tenants.is_empty() || !role.has_relay() {
        return found;
    }
    // A relay that does not answer is a finding of `routes`.
    let Ok(mut relay) = client::jobs(args, path).await else { return found };
    for tenant in tenants {
        found.extend(of_answer(tenant, models(&mut relay, tenant).await));
    }
    found
}

async fn models(relay: &mut JobClient, tenant: &str) -> Result<ListModelsResponse, Status> {
    let request = ListModelsRequest { tenant: tenant.to_owned() };
    Ok(relay.list_models(request).await?.into_inner())
}

fn of_answer(tenant: &str, answer: Result<ListModelsResponse, Status>) -> Option<Finding> {
    let unchecked = "whether OpenRouter takes the key is not checked, because the list needs none";
    match answer {
        Ok(models) if models.stale_because.is_empty() => {
            let count = counted(models.models.len(), "model");
            let what = format!("{tenant}: an ingress got a list of {count} from OpenRouter; {unchecked}");
            Some(Finding::ok(CHECK, what))
        }
        Ok(models) => Some(Finding::warning(
            CHECK,
            format!("{tenant}: the list of models is an old one: {}", one_line(&models.stale_because)),
            "jobs are submitted and polled again once it answers; compare openrouter.base_url and networks",
        )),
        // Who may not ask, and a relay that does not answer, are findings of `routes`.
        Err(status) => match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => None,
            Code::FailedPrecondition => Some(Finding::fault(
                CHECK,
                format!("{tenant}: {}", one_line(status.message())),
                "write the key into the file that openrouter.api_key names, where an ingress reads it",
            )),
            _ => Some(Finding::fault(
                CHECK,
                format!("{tenant}: no ingress could ask OpenRouter: {}", one_line(status.message())),
                "`talaria models` asks again; the ingress' log says more",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use talaria_proto::v1::Model;

    #[test]
    fn a_finding_says_what_was_checked() {
        let models = ListModelsResponse { models: vec![Model::default()], ..ListModelsResponse::default() };
        let stale = ListModelsResponse { stale_because: "503".into(), ..models.clone() };
        for (answer, level, says) in [
            (
                Ok(models),
                Level::Ok,
                "a list of 1 model from OpenRouter; whether OpenRouter takes the key is not checked",
            ),
            (Ok(stale), Level::Warning, "the list of models is an old one: 503"),
            (
                Err(Status::unavailable("none answers")),
                Level::Fault,
                "no ingress could ask OpenRouter: none answers",
            ),
            (Err(Status::failed_precondition("no key")), Level::Fault, "acme: no key"),
        ] {
            let finding = of_answer("acme", answer).unwrap();
            assert!(finding.level == level && finding.what.contains(says), "{finding:?}");
        }
        assert_eq!(of_answer("acme", Err(Status::permission_denied("no"))), None);
    }
}
