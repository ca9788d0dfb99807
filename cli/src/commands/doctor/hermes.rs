//! Each route's Hermes: whether it answers, serves the route and has the secret, and whether the files of a Hermes home on this
//! machine agree.

use super::{
    finding::{Finding, Level},
    of_problem,
};
use crate::{
    Failure,
    hermes::{
        extension::{VERSION, console_url, faults},
        file, home,
    },
};
use std::{path::Path, sync::Arc};
use talaria_core::{
    config::{Config, Role, Route, RouteKind, SecretOrigin},
    hermes::gateway::Gateway,
};
use talaria_relay::Handshake;
use tokio::{sync::Semaphore, task::JoinSet};

const CHECK: &str = "hermes";

/// Handshakes under way at once.
const CONCURRENCY: usize = 16;

pub(super) async fn check(config: &Config, role: Role, home: Option<&Path>) -> Vec<Finding> {
    if !role.has_relay() {
        return Vec::new();
    }
    let (permits, mut asking) = (Arc::new(Semaphore::new(CONCURRENCY)), JoinSet::new());
    // A request would be an event to the receiver of a webhook.
    let routes = config.routes().filter(|(_, route)| route.kind == RouteKind::Hermes);
    for (index, (tenant, route)) in routes.enumerate() {
        let (name, route, permits) =
            (format!("{}/{}", tenant.name, route.name), Arc::clone(route), Arc::clone(&permits));
        asking.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (index, of_handshake(&name, &route, &talaria_relay::handshake(&route).await))
        });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    let mut found: Vec<_> = found.into_iter().map(|(_, finding)| finding).collect();
    if config.routes().next().is_none() {
        found.push(Finding::warning(
            CHECK,
            "there is no route, so nothing is handed over",
            "write one under routes of a tenant",
        ));
    }
    match (home::warnings(config, home), home::subscriptions(config, home)) {
        (Ok(warnings), Ok(subscriptions)) => {
            let warnings = warnings.iter().chain(&subscriptions);
            found.extend(warnings.map(|problem| of_problem(CHECK, Level::Warning, problem)));
        }
        (Err(error), _) | (_, Err(error)) => {
            found.push(Finding::of_error(CHECK, Level::Warning, &error.to_string()));
        }
    }
    match extensions(config, home) {
        Ok(extensions) => found.extend(extensions),
        Err(error) => found.push(Finding::of_error(CHECK, Level::Warning, &error.to_string())),
    }
    found
}

/// Whether the extension reports the runs of each route, in the homes of this machine that have its subscription.
fn extensions(config: &Config, named: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let (url, mut found) = (console_url(config), Vec::new());
    let runs = |route: &Route| Gateway::is_here(&route.url) && !route.deliver_only;
    for (tenant, route) in config.routes().filter(|(_, route)| runs(route)) {
        let Some(at_hermes) = route.hermes_name() else { continue };
        let name = format!("{}/{}", tenant.name, route.name);
        for home in home::directories(named) {
            let directory = home.display();
            let help = format!(
                "`talaria hermes {name} --install {directory} --enable`, and a restart of the gateway"
            );
            match faults(&home, at_hermes, (tenant.name.as_str(), route.name.as_str()), url.as_deref())? {
                Some(faults) if faults.is_empty() => found.push(Finding::ok(
                    CHECK,
                    format!("{name}: the extension in {directory} is that of version {VERSION}, and enabled"),
                )),
                Some(faults) => found.push(Finding::warning(
                    CHECK,
                    format!("{name}: the extension in {directory} may report no runs: {}", faults.join("; ")),
                    format!("{help} mend it; --force also replaces files that were changed by hand"),
                )),
                None if file::read(&file::target(&home)?)?.contains_key(at_hermes) => found.push(Finding {
                    help: format!("{help} let it report how runs end"),
                    ..Finding::ok(CHECK, format!("{name}: no extension in {directory} reports its runs"))
                }),
                None => {}
            }
        }
    }
    Ok(found)
}

fn of_handshake(name: &str, route: &Route, handshake: &Handshake) -> Finding {
    let (url, secret) = (&route.url, &route.secret_origin);
    let shown = match secret {
        SecretOrigin::File(path) => path.display().to_string(),
        SecretOrigin::Env(name) => format!("${name}"),
    };
    match handshake {
        Handshake::Agrees { secret: 0 } => {
            Finding::ok(CHECK, format!("{name}: Hermes serves {url} and has the route's secret"))
        }
        Handshake::Agrees { secret } => Finding::warning(
            CHECK,
            format!(
                "{name}: Hermes serves {url} and has the route's secret number {}, not the newest",
                secret + 1
            ),
            format!(
                "`talaria hermes {name} --install DIR` gives it the newest one; then remove the others here"
            ),
        ),
        Handshake::Disagrees => Finding::fault(
            CHECK,
            format!("{name}: Hermes serves {url} and has another secret than {shown}"),
            format!(
                "`talaria hermes {name} --install DIR` gives it that one, or write its own into that file; with a signing \
                 scheme that holds a time, compare the clocks too"
            ),
        ),
        Handshake::Unverified => Finding::fault(
            CHECK,
            format!(
                "{name}: {url} takes requests that are wrongly signed, so any client that reaches it can run the agent"
            ),
            format!("`talaria hermes {name} --install DIR` gives the subscription a secret"),
        ),
        Handshake::Fault(why) => Finding::fault(CHECK, format!("{name}: {url}: {why}"), help(why, name)),
    }
}

/// Advice for a failed handshake.
fn help(why: &str, name: &str) -> String {
    if why.starts_with("404") && why.contains("Unknown route") {
        return format!(
            "`talaria hermes {name} --install DIR` subscribes it, or compare the name behind /webhooks/"
        );
    }
    if why.starts_with("not sent") {
        return "start Hermes with `hermes gateway run` and webhooks enabled, or compare the route's url"
            .into();
    }
    if why.contains("cannot be read here") {
        return "write the secret into the file that the route names; `talaria secrets` creates missing ones"
            .into();
    }
    "compare the route's url with where Hermes is; docs/errors has a page for each of its answers".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::config::testing;

    #[test]
    fn a_finding_names_the_route_and_advice_and_no_secret() {
        let text = "tenants: {acme: {networks: [loopback], openrouter: {secrets: [{file: secret}]}, routes: {video: {url: \
                    'http://127.0.0.1:8644/webhooks/v', secret: {file: secret}}}}}";
        let config = testing::config(text, "hidden-from-everybody");
        let route = config.route("acme", "video").unwrap();
        for (handshake, level, says, helps) in [
            (Handshake::Agrees { secret: 0 }, Level::Ok, "has the route's secret", ""),
            (Handshake::Agrees { secret: 1 }, Level::Warning, "number 2", "--install"),
            (
                Handshake::Disagrees,
                Level::Fault,
                "another secret than",
                "talaria hermes acme/video --install",
            ),
            (Handshake::Unverified, Level::Fault, "wrongly signed", "--install"),
            (
                Handshake::Fault("404: Hermes does not serve this route: Unknown route: v".into()),
                Level::Fault,
                "acme/video: http://127.0.0.1:8644/webhooks/v: 404",
                "subscribes it",
            ),
            (Handshake::Fault("not sent: refused".into()), Level::Fault, "not sent", "hermes gateway run"),
        ] {
            let finding = of_handshake("acme/video", route, &handshake);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(says) && finding.help.contains(helps), "{finding:?}");
            assert!(!format!("{finding:?}").contains("hidden-from-everybody"));
        }
    }
}
