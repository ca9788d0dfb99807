//! A shut route that an operator has probed now.

use super::{are, on_both_buses, pause, resume};
use serde_json::json;
use talaria_proto::v1::{
    BreakerState, ControlKind, DeliveryState as State, GetSummaryRequest, ListControlActionsRequest,
    ProbeRouteRequest, ProbeRouteResponse, RouteSummary,
};
use talaria_tests::{
    binary,
    sink::{Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};
use tonic::{Code, Status};

on_both_buses! {
    a_shut_route_is_probed_at_once_opens_where_it_was_mended_and_stays_shut_where_not
    a_refused_probe_has_a_reason
}

async fn probe(stack: &Stack, route: &str) -> Result<ProbeRouteResponse, Status> {
    let request = ProbeRouteRequest {
        tenant: "acme".into(),
        route: route.into(),
        requested_by: "ana".into(),
        reason: "it has the secret now".into(),
    };
    Ok(stack.control().await.probe_route(request).await?.into_inner())
}

/// The route, once it is as it should be.
async fn route_when(stack: &Stack, what: &str, is_so: impl Fn(&RouteSummary) -> bool) -> RouteSummary {
    until(what, async || {
        let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.ok()?.into_inner();
        summary.routes.into_iter().find(|route| route.route == "a").filter(&is_so)
    })
    .await
}

async fn is_shut(stack: &Stack) -> RouteSummary {
    route_when(stack, "the route to be shut", |route| route.breaker() == BreakerState::Shut).await
}

async fn a_shut_route_is_probed_at_once_opens_where_it_was_mended_and_stays_shut_where_not(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("a", Does::Answer(401, json!({"error": "Invalid signature"})));
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    let event = stack.openrouter("acme").send("job 1", "completed").await;
    is_shut(&stack).await;
    // The one that met the fault is due later than the route's next probe, and is the only one that can probe.
    let before = sink.requests_to("a").len();
    assert!(!probe(&stack, "a").await.unwrap().already_probing);
    until("the probe", async || (sink.requests_to("a").len() > before).then_some(())).await;
    let shut = is_shut(&stack).await;
    assert!(shut.held_because.contains("401"), "{shut:?}");

    // Over a restart the new owner knows when it is probed next, and is asked the same.
    stack.kill_and_restart().await;
    is_shut(&stack).await;
    sink.set("a", Does::Accept);
    until("the probe to be taken", async || match probe(&stack, "a").await {
        Ok(_) => Some(()),
        Err(status) if status.code() == Code::Unavailable => None,
        Err(status) => panic!("{status}"),
    })
    .await;
    // It was not due for most of a minute.
    are(&stack, "a", State::Delivered, 1).await;
    let found = stack.finished(&event, "a").await;
    assert_eq!(found.delivery.unwrap().counted_attempts, 0, "probes of a configuration use nothing up");
    route_when(&stack, "the route to be open", |route| route.breaker() == BreakerState::Admitting).await;

    let request = ListControlActionsRequest { tenant: "acme".into(), ..Default::default() };
    let actions = stack.control().await.list_control_actions(request).await.unwrap().into_inner().actions;
    let first = actions.last().unwrap();
    assert_eq!((first.kind(), first.route.as_str()), (ControlKind::Probed, "a"));
    assert_eq!((first.requested_by.as_str(), first.reason.as_str()), ("ana", "it has the secret now"));
}

async fn a_refused_probe_has_a_reason(builder: Builder) {
    let sink = Sink::start().await;
    let stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    let refused = async |route: &str| {
        let status = until("the owner to answer", async || match probe(&stack, route).await {
            Err(status) if status.code() == Code::Unavailable => None,
            answer => Some(answer.unwrap_err()),
        });
        let status = status.await;
        (status.code(), status.message().to_owned())
    };
    assert_eq!(
        refused("a").await,
        (Code::FailedPrecondition, "acme/a is not shut: it is open for deliveries already".into())
    );
    assert_eq!(refused("x").await.0, Code::NotFound);
    assert_eq!(refused("").await.0, Code::InvalidArgument);

    sink.set("a", Does::Answer(404, json!({"error": "Unknown route: a"})));
    let event = stack.openrouter("acme").send("job", "completed").await;
    let found = stack.delivery_when(&event, "a", |delivery| delivery.attempts == 1).await;
    is_shut(&stack).await;
    pause(&stack, "acme", "a").await.unwrap();
    let (code, message) = refused("a").await;
    assert!(code == Code::FailedPrecondition && message.contains("resume it first"), "{message}");
    resume(&stack, "acme", "a").await;

    // Probed while a probe is under way: nothing is done twice.
    sink.set("a", Does::Hang);
    let before = sink.requests_to("a").len();
    probe(&stack, "a").await.unwrap();
    until("the probe", async || (sink.requests_to("a").len() > before).then_some(())).await;
    assert!(probe(&stack, "a").await.unwrap().already_probing);
    sink.set("a", Does::Answer(404, json!({"error": "Unknown route: a"})));
    is_shut(&stack).await;
    assert_eq!(sink.requests_to("a").len(), before + 1);

    let id = found.delivery.unwrap().id;
    let cancel = talaria_proto::v1::CancelDeliveryRequest {
        delivery_id: id,
        requested_by: "ana".into(),
        reason: String::new(),
    };
    stack.control().await.cancel_delivery(cancel).await.unwrap();
    let (code, message) = refused("a").await;
    assert!(code == Code::FailedPrecondition && message.contains("nothing waits"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_advises_to_probe_a_shut_route_and_the_command_works() {
    let sink = Sink::start().await;
    sink.set("a", Does::Answer(404, json!({"error": "Unknown route: a"})));
    let stack = stack().tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    stack.openrouter("acme").send("job", "completed").await;
    is_shut(&stack).await;
    let run = |arguments: &[&str]| {
        let relay = stack.relay();
        let output =
            binary::run(stack.written.path(), &[arguments, &["--as", "ana", "--relay", &relay]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for target in ["acme/a", "acme"] {
        let said = run(&["resume", target]);
        assert!(said.contains("But acme/a is shut until") && said.contains("talaria probe acme/a"), "{said}");
    }
    sink.set("a", Does::Accept);
    let said = run(&["probe", "acme/a", "--reason", "it is subscribed now"]);
    assert!(said.contains("acme/a is probed now") && said.contains("talaria status --routes"), "{said}");
    are(&stack, "a", State::Delivered, 1).await;
    let actions = binary::run(stack.written.path(), &["actions", "--relay", &stack.relay()]);
    let actions = String::from_utf8(actions.stdout).unwrap();
    assert!(actions.contains("probed") && actions.contains("it is subscribed now"), "{actions}");
}
