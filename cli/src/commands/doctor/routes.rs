//! The routes that the relay sends nothing to now.

use super::finding::{Finding, Level};
use crate::{
    Failure,
    args::Ask,
    client::{self, ask},
    print::route::{block, is_shut},
};
use std::path::Path;
use talaria_core::config::Role;
use talaria_proto::v1::{GetSummaryRequest, RouteSummary};

const CHECK: &str = "routes";

pub(super) async fn check(path: &Path, args: &Ask, role: Role) -> Vec<Finding> {
    if !role.has_relay() {
        return Vec::new();
    }
    match routes(path, args).await {
        Ok(routes) => {
            let blocked: Vec<_> = routes.iter().filter_map(of_route).collect();
            if blocked.is_empty() {
                vec![Finding::ok(CHECK, "none is shut, paused or down")]
            } else {
                blocked
            }
        }
        Err(failure) => {
            let Finding { what, help, .. } = Finding::of_error(CHECK, Level::Warning, &failure.to_string());
            vec![Finding::warning(CHECK, format!("the relay did not answer: {what}"), help)]
        }
    }
}

async fn routes(path: &Path, args: &Ask) -> Result<Vec<RouteSummary>, Failure> {
    let mut relay = client::status(args, path).await?;
    Ok(ask(relay.get_summary(GetSummaryRequest::default())).await?.routes)
}

fn of_route(route: &RouteSummary) -> Option<Finding> {
    let name = format!("{}/{}", route.tenant, route.route);
    let what = format!("{name} is {}", block(route));
    if route.not_configured {
        None
    } else if let Some(pause) = &route.pause {
        let target = if pause.route.is_empty() { &route.tenant } else { &name };
        Some(Finding::warning(CHECK, what, format!("`talaria resume {target}` ends the pause")))
    } else if !route.down_because.is_empty() {
        Some(Finding::fault(CHECK, what, "mend it; the relay needs no restart"))
    } else if is_shut(route) {
        let help = format!("mend the cause, and `talaria probe {name}` tries the route at once");
        Some(Finding::fault(CHECK, what, help))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::{BreakerState, Pause};

    #[test]
    fn a_route_that_is_shut_paused_or_down_is_found_with_its_cause() {
        let route = RouteSummary { tenant: "acme".into(), route: "video".into(), ..RouteSummary::default() };
        assert_eq!(of_route(&route), None);
        let shut = RouteSummary {
            breaker: BreakerState::Shut.into(),
            held_because: "401: Invalid signature".into(),
            ..route.clone()
        };
        let finding = of_route(&shut).unwrap();
        assert_eq!(finding.level, Level::Fault);
        assert_eq!(finding.what, "acme/video is shut until 1970-01-01 00:00:00Z: 401: Invalid signature");
        assert!(finding.help.contains("`talaria probe acme/video`"), "{finding:?}");
        let paused = RouteSummary { pause: Some(Pause::default()), ..route.clone() };
        let finding = of_route(&paused).unwrap();
        assert!(
            finding.level == Level::Warning && finding.help.contains("`talaria resume acme`"),
            "{finding:?}"
        );
        let down = RouteSummary { down_because: "no secret".into(), ..route.clone() };
        assert!(of_route(&down).unwrap().what.ends_with("is down: no secret"));
        assert_eq!(of_route(&RouteSummary { not_configured: true, ..shut }), None);
    }
}
