//! Pausing: nothing is sent, nothing is lost.

use super::{are, ids, on_both_buses, on_nats, pause, prefix, resume};
use std::time::Duration;
use talaria_proto::v1::{
    ControlKind, DeliveryState as State, GetSummaryRequest, ListControlActionsRequest, PauseRequest,
    ResumeRequest, RouteSummary,
};
use talaria_tests::{
    sink::{Does, Sink},
    stack::{Builder, Stack, Tenant},
    until,
};
use tonic::Code;

on_both_buses! {
    a_pause_holds_a_route_across_a_kill_and_everything_goes_out_after_it
    a_tenants_pause_holds_every_route_and_a_routes_own_one_stays
    time_that_was_spent_paused_ages_nothing
    a_pause_with_an_end_of_its_own_ends_by_itself
    a_pause_outlives_the_retention_and_a_rebuilt_status
    an_attempt_under_way_ends_during_a_pause_and_an_interrupted_one_waits
}

async fn summary(stack: &Stack, route: &str) -> RouteSummary {
    let summary = until("every partition to have an owner", async || {
        let summary = stack.status().await.get_summary(GetSummaryRequest::default()).await.ok()?.into_inner();
        (!summary.incomplete && summary.view_behind == 0).then_some(summary)
    })
    .await;
    summary.routes.into_iter().find(|summary| summary.route == route).unwrap()
}

async fn a_pause_holds_a_route_across_a_kill_and_everything_goes_out_after_it(builder: Builder) {
    let sink = Sink::start().await;
    let tenant = |sink: &Sink| {
        let (a, b) = (sink.url("a"), sink.url("b"));
        move |tenant: Tenant| tenant.route("a", &a, "pace: off").route("b", &b, "pace: off")
    };
    let mut stack = builder.tenant("acme", tenant(&sink)).start().await;
    // Also before anything was ever sent there.
    pause(&stack, "acme", "a").await.unwrap();
    let shown = summary(&stack, "a").await.pause.unwrap();
    assert_eq!((shown.requested_by.as_str(), shown.reason.as_str()), ("ana", "Hermes moves"));
    assert!(summary(&stack, "a").await.backlog == 0 && shown.since.is_some());
    for job in 0..10 {
        stack.openrouter("acme").send(&format!("before {job}"), "completed").await;
    }
    are(&stack, "b", State::Delivered, 10).await;
    are(&stack, "a", State::Waiting, 10).await;
    stack.kill_and_restart().await;
    for job in 0..10 {
        stack.openrouter("acme").send(&format!("after {job}"), "completed").await;
    }
    are(&stack, "b", State::Delivered, 20).await;
    are(&stack, "a", State::Waiting, 20).await;
    assert!(sink.requests_to("a").is_empty(), "nothing while it is paused");
    assert_eq!(summary(&stack, "a").await.pause, Some(shown), "as it was before");
    resume(&stack, "acme", "a").await;
    are(&stack, "a", State::Delivered, 20).await;
    assert_eq!((ids(&sink, "a").len(), sink.requests_to("a").len()), (20, 20));
    assert_eq!(summary(&stack, "a").await.pause, None);
    // Paused and resumed again, it still goes on.
    pause(&stack, "acme", "a").await.unwrap();
    resume(&stack, "acme", "a").await;
    stack.openrouter("acme").send("last", "completed").await;
    are(&stack, "a", State::Delivered, 21).await;
}

async fn a_pause_with_an_end_of_its_own_ends_by_itself(builder: Builder) {
    let sink = Sink::start().await;
    let route = |name: &str| sink.url(name);
    let tenant = |t: Tenant| t.route("a", &route("a"), "pace: off").route("b", &route("b"), "pace: off");
    let mut stack = builder.tenant("acme", tenant).start().await;
    let paused = async |stack: &Stack, route: &str, seconds: i64| {
        let request = PauseRequest {
            tenant: "acme".into(),
            route: route.into(),
            requested_by: "ana".into(),
            duration: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..PauseRequest::default()
        };
        stack.control().await.pause(request).await
    };
    for seconds in [0, -1, 367 * 24 * 3_600] {
        assert_eq!(paused(&stack, "a", seconds).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let shown = paused(&stack, "b", 3_600).await.unwrap().into_inner().pause.unwrap();
    assert_eq!(shown.until.unwrap().seconds - shown.since.unwrap().seconds, 3_600);
    // Longer than planning takes; the owner after the kill ends the pause.
    paused(&stack, "a", 2).await.unwrap();
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.event(&event).await;
    stack.kill_and_restart().await;
    are(&stack, "a", State::Delivered, 1).await;
    assert_eq!(summary(&stack, "a").await.pause, None);
    let request = ListControlActionsRequest { tenant: "acme".into(), ..Default::default() };
    let actions = stack.control().await.list_control_actions(request).await.unwrap().into_inner().actions;
    let last = &actions[0];
    assert_eq!((last.kind(), last.route.as_str()), (ControlKind::Resumed, "a"));
    assert_eq!((last.requested_by.as_str(), last.reason.as_str()), ("ana", "its time was over"));
    assert_eq!(summary(&stack, "b").await.pause, Some(shown), "its time is not over, also after a kill");
    are(&stack, "b", State::Waiting, 1).await;
    // Paused again without an end, it has none any more.
    pause(&stack, "acme", "b").await.unwrap();
    assert_eq!(summary(&stack, "b").await.pause.unwrap().until, None);
}

async fn a_tenants_pause_holds_every_route_and_a_routes_own_one_stays(builder: Builder) {
    let sink = Sink::start().await;
    let route = |name: &'static str, sink: &Sink| (name, sink.url(name));
    let (a, b, other) = (route("a", &sink), route("b", &sink), route("c", &sink));
    let stack = builder
        .tenant("acme", |t| t.route(a.0, &a.1, "pace: off").route(b.0, &b.1, "pace: off"))
        .tenant("other", |t| t.route(other.0, &other.1, "pace: off"))
        .start()
        .await;
    pause(&stack, "acme", "").await.unwrap();
    pause(&stack, "acme", "a").await.unwrap();
    for tenant in ["acme", "other"] {
        stack.openrouter(tenant).send("job", "completed").await;
    }
    are(&stack, "c", State::Delivered, 1).await;
    are(&stack, "a", State::Waiting, 1).await;
    are(&stack, "b", State::Waiting, 1).await;
    assert_eq!(summary(&stack, "b").await.pause.unwrap().route, "", "it is the tenant's");
    assert_eq!(summary(&stack, "a").await.pause.unwrap().route, "a");
    let tenants = stack.status().await.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
    let paused: Vec<_> = tenants.tenants.iter().map(|tenant| tenant.pause.is_some()).collect();
    assert_eq!(paused, [true, false]);
    let request = |route: &str| ResumeRequest {
        tenant: "acme".into(),
        route: route.into(),
        requested_by: "bob".into(),
        reason: String::new(),
    };
    let mut control = stack.control().await;
    let answer = control.resume(request("b")).await.unwrap().into_inner();
    assert!(answer.ended.is_none() && answer.remaining.is_some(), "only the tenant is paused");
    let answer = control.resume(request("")).await.unwrap().into_inner();
    assert!(answer.ended.is_some() && answer.remaining.is_none());
    are(&stack, "b", State::Delivered, 1).await;
    assert!(sink.requests_to("a").is_empty());
    resume(&stack, "acme", "a").await;
    are(&stack, "a", State::Delivered, 1).await;

    for (tenant, route) in [("acme", "x"), ("nobody", ""), ("nobody", "a")] {
        let error = pause(&stack, tenant, route).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.message().contains("there is: acme/a, acme/b, other/c"), "{error}");
    }
    let nobody = ResumeRequest { requested_by: String::new(), ..request("a") };
    assert_eq!(control.resume(nobody).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn time_that_was_spent_paused_ages_nothing(builder: Builder) {
    let sink = Sink::start().await;
    let keys = "pace: off\nretry: {schedule: [100ms], max_age: 2s}";
    let stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await;
    pause(&stack, "acme", "a").await.unwrap();
    let event = stack.openrouter("acme").send("job", "completed").await;
    let received = stack.event(&event).await.event.unwrap().received_at;
    let too_old = talaria_proto::time::from_proto(received.as_ref()) + Duration::from_millis(2_100);
    until("it to be too old otherwise", async || (jiff::Timestamp::now() > too_old).then_some(())).await;
    resume(&stack, "acme", "a").await;
    assert_eq!(stack.finished(&event, "a").await.delivery.unwrap().state(), State::Delivered);
}

async fn an_attempt_under_way_ends_during_a_pause_and_an_interrupted_one_waits(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("a", Does::Hang);
    let mut stack =
        builder.tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off\ntimeout: 60s")).start().await;
    let event = stack.openrouter("acme").send("ends", "completed").await;
    until("the request", async || (sink.requests_to("a").len() == 1).then_some(())).await;
    pause(&stack, "acme", "a").await.unwrap();
    sink.set("a", Does::Accept);
    assert_eq!(stack.finished(&event, "a").await.delivery.unwrap().state(), State::Delivered);

    resume(&stack, "acme", "a").await;
    sink.set("a", Does::Hang);
    let event = stack.openrouter("acme").send("breaks off", "completed").await;
    until("the request", async || (sink.requests_to("a").len() == 2).then_some(())).await;
    pause(&stack, "acme", "a").await.unwrap();
    stack.kill_and_restart().await;
    sink.set("a", Does::Accept);
    sink.forget_ids();
    stack.openrouter("acme").send("waits", "completed").await;
    are(&stack, "a", State::Waiting, 2).await;
    assert_eq!(sink.requests_to("a").len(), 2, "nothing while it is paused");
    resume(&stack, "acme", "a").await;
    let found = stack.finished(&event, "a").await;
    assert_eq!(found.delivery.unwrap().state(), State::Delivered);
    assert_eq!(found.attempts.len(), 2, "the one that broke off is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_on_every_relay_and_any_of_them_ends_it() {
    let sink = Sink::start().await;
    let prefix = prefix();
    let routes = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut relays = Vec::new();
    for _ in 0..2 {
        let tenant = |mut tenant: Tenant| {
            for route in routes {
                tenant = tenant.route(route, &sink.url(route), "pace: off");
            }
            tenant
        };
        relays.push(on_nats(&prefix).await.tenant("acme", tenant).start().await);
    }
    let [one, other] = &mut relays[..] else { panic!() };
    // Either may own the tenant's partition, and either answers for it.
    for relay in [&*one, &*other] {
        until("it to own its partitions", async || (relay.admin_get("/readyz").await.0 == 200).then_some(()))
            .await;
    }
    let event = one.openrouter("acme").send("first", "completed").await;
    for route in routes {
        other.finished(&event, route).await;
    }
    pause(one, "acme", "").await.unwrap();
    until("the other one to know", async || summary(other, "a").await.pause.map(drop)).await;
    let before = sink.requests().len();
    for job in 0..5 {
        other.openrouter("acme").send(&format!("held {job}"), "completed").await;
    }
    for route in routes {
        are(one, route, State::Waiting, 5).await;
    }
    one.kill_and_restart().await;
    until("it to know everything again", async || (one.admin_get("/readyz").await.0 == 200).then_some(()))
        .await;
    assert!(summary(one, "a").await.pause.is_some());
    assert_eq!(sink.requests().len(), before, "nothing while it is paused");
    resume(other, "acme", "").await;
    for route in routes {
        are(one, route, State::Delivered, 6).await;
        are(other, route, State::Delivered, 6).await;
    }
    assert_eq!(sink.requests().len(), before + 5 * routes.len());
}

/// The journal is trimmed behind the retention; the owner first repeats the pauses.
async fn a_pause_outlives_the_retention_and_a_rebuilt_status(builder: Builder) {
    let sink = Sink::start().await;
    let mut stack = builder
        .with("retention: 2s")
        .tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off\nretry: {max_age: 2s}"))
        .start()
        .await;
    pause(&stack, "acme", "a").await.unwrap();
    let since = summary(&stack, "a").await.pause.unwrap().since;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.delivery_when(&event, "a", |delivery| delivery.state() == State::Waiting).await;
    let long_ago = jiff::Timestamp::now() + Duration::from_secs(5);
    until("twice the retention to pass", async || (jiff::Timestamp::now() > long_ago).then_some(())).await;
    stack.terminate().await;
    for derived in ["view.db", "replica.db"] {
        // Over NATS both.
        let _ = std::fs::remove_file(stack.written.path().join("talaria-data").join(derived));
    }
    stack.restart_with(|text| text).await;
    until("it to know everything again", async || (stack.admin_get("/readyz").await.0 == 200).then_some(()))
        .await;
    assert_eq!(summary(&stack, "a").await.pause.unwrap().since, since);
    stack.delivery_when(&event, "a", |delivery| delivery.state() == State::Waiting).await;
    assert!(sink.requests().is_empty());
    resume(&stack, "acme", "a").await;
    until("the request", async || (sink.requests_to("a").len() == 1).then_some(())).await;
}
