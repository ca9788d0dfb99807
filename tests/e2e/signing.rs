//! The signatures, checked by the real Hermes: every scheme, and secrets while they are rotated.

use serde_json::{Value, json};
use std::fs;
use talaria_core::hermes::signature::Scheme;
use talaria_proto::v1::{Attempt, AttemptOutcome as Outcome, GetDeliveryResponse};
use talaria_tests::{
    hermes::Gateway,
    sink::SECRET,
    stack::{Tenant, stack},
};

/// 24 bytes, as Svix writes them.
const SVIX_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn route(secret: &str) -> Value {
    json!({"secret": secret, "prompt": "{prompt}", "deliver": "log"})
}

fn outcomes(found: &GetDeliveryResponse) -> Vec<Outcome> {
    found.attempts.iter().map(Attempt::outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hermes_accepts_every_scheme_and_no_wrong_secret() {
    let mut routes = json!({"whsec": route(SVIX_SECRET)});
    for name in Scheme::ALL.map(|scheme| scheme.name) {
        routes[format!("{name}-right")] = route(SECRET);
        routes[format!("{name}-wrong")] = route("another secret");
    }
    let hermes = Gateway::start(routes, 1000).await;
    let every = |tenant: Tenant| {
        let tenant = tenant.route_with("whsec", &hermes.url("whsec"), "{env: SVIX}", "signing: svix");
        Scheme::ALL.iter().fold(tenant, |tenant, scheme| {
            let name = scheme.name;
            let keys = format!("signing: {name}");
            let (right, wrong) = (format!("{name}-right"), format!("{name}-wrong"));
            tenant.route(&right, &hermes.url(&right), &keys).route(&wrong, &hermes.url(&wrong), &keys)
        })
    };
    let stack = stack().environment("SVIX", SVIX_SECRET).tenant("acme", every).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    assert_eq!(outcomes(&stack.finished(&event, "whsec").await), [Outcome::Accepted]);
    for name in Scheme::ALL.map(|scheme| scheme.name) {
        let right = stack.finished(&event, &format!("{name}-right")).await;
        assert_eq!(outcomes(&right), [Outcome::Accepted], "{name}: {right:?}");
        let wrong = stack.delivery_when(&event, &format!("{name}-wrong"), |found| found.attempts == 1).await;
        assert_eq!((outcomes(&wrong), wrong.attempts[0].http_status), (vec![Outcome::RouteFault], Some(401)));
    }
}

/// Hermes has the old secret and then the new one, while Talaria knows both.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_without_a_delivery_waiting_for_it() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("webhook_subscriptions.json");
    let subscribe = |secret: &str| {
        let routes = Scheme::ALL.map(|scheme| (scheme.name.to_owned(), route(secret)));
        fs::write(&file, json!(routes.into_iter().collect::<serde_json::Map<_, _>>()).to_string()).unwrap();
    };
    subscribe(SECRET);
    let hermes = Gateway::start_in(home, json!({}), 1000).await;
    let both = |tenant: Tenant| {
        Scheme::ALL.iter().fold(tenant, |tenant, scheme| {
            let name = scheme.name;
            let keys = format!("signing: {name}");
            tenant.route_with(name, &hermes.url(name), "[{env: NEW}, {file: hermes}]", &keys)
        })
    };
    let stack = stack().environment("NEW", "the new secret").tenant("acme", both).start().await;
    let deliver = async |job: &str, tries: &[Outcome]| {
        let event = stack.openrouter("acme").send(job, "completed").await;
        for scheme in Scheme::ALL {
            let name = scheme.name;
            let found = stack.finished(&event, name).await;
            // Svix signs with both at once.
            let expected = if scheme.takes_all_secrets { &[Outcome::Accepted] } else { tries };
            assert_eq!(outcomes(&found), expected, "{job}, {name}: {found:?}");
            assert_eq!(found.delivery.unwrap().counted_attempts, 0);
        }
    };
    deliver("the old one is found", &[Outcome::RouteFault, Outcome::Accepted]).await;
    deliver("and kept", &[Outcome::Accepted]).await;
    subscribe("the new secret");
    deliver("the new one is found", &[Outcome::RouteFault, Outcome::Accepted]).await;
    deliver("and kept, too", &[Outcome::Accepted]).await;

    // Neither: a fault of the route, after both were tried.
    subscribe("a third one");
    let event = stack.openrouter("acme").send("neither", "completed").await;
    for scheme in Scheme::ALL {
        let name = scheme.name;
        let tries = if scheme.takes_all_secrets { 1 } else { 2 };
        let held = |found: &talaria_proto::v1::Delivery| {
            found.reason.starts_with("the route is shut") && found.attempts as usize == tries
        };
        let found = stack.delivery_when(&event, name, held).await;
        assert_eq!(outcomes(&found), vec![Outcome::RouteFault; tries], "{name}: {found:?}");
    }
}
