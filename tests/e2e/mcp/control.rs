//! Interventions: a plan, a code, and then the action.

use super::{Client, after};
use serde_json::{Value, json};
use talaria_proto::v1::{ControlAction, ControlKind, DeliveryState, ListControlActionsRequest};
use talaria_tests::{
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};

async fn actions(stack: &Stack) -> Vec<ControlAction> {
    let request = ListControlActionsRequest::default();
    stack.control().await.list_control_actions(request).await.unwrap().into_inner().actions
}

/// Waits until so many deliveries of the route are in a state.
async fn are(stack: &Stack, state: DeliveryState, count: usize) {
    until(&format!("{count} to be {state:?}"), async || {
        let deliveries = stack.deliveries().await;
        (deliveries.iter().filter(|delivery| delivery.state() == state).count() == count).then_some(())
    })
    .await;
}

fn code(plan: &str) -> Value {
    json!({"code": after(plan, "confirm with code ")})
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_controlled_without_the_option() {
    let sink = Sink::start().await;
    let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
    let reading = ["video_models", "video_status", "video_link", "deliveries", "why"];
    for (arguments, count, submits) in
        [(&["--allow", "read"][..], 5, false), (&[], 6, true), (&["--allow", "control"], 12, true)]
    {
        let mut client = Client::start(&stack, arguments).await;
        let tools = client.tools().await;
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(reading.iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(names.contains(&"video_submit"), submits, "{names:?}");
        for tool in &tools {
            let name = tool["name"].as_str().unwrap();
            assert_eq!(
                tool["annotations"]["readOnlyHint"],
                !["video_submit", "confirm"].contains(&name),
                "{tool}"
            );
            assert_eq!(tool["annotations"]["destructiveHint"], name == "confirm", "{tool}");
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        }
        if count < 12 {
            let said = client.fails("plan_pause", json!({"target": "acme", "reason": "r"})).await;
            assert!(said.contains("not allowed here") && said.contains("--allow control"), "{said}");
            let said = client.fails("confirm", json!({"code": "AAAA"})).await;
            assert!(said.contains("not allowed here"), "{said}");
        }
    }
    assert!(actions(&stack).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_needs_a_code_for_its_own_plan() {
    let sink = Sink::start().await;
    let keys = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}";
    let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), keys)).start().await;
    let mut client = Client::start(&stack, &["--allow", "control"]).await;

    // A pause, by a code that is good once.
    let pause = json!({"target": "acme/video", "for": "2h", "reason": "Hermes moves"});
    let plan = client.works("plan_pause", pause).await;
    assert!(plan.contains("Plan: pause 1 route, for 7200 s") && plan.contains("Nothing was done"), "{plan}");
    let wrong = client.fails("confirm", json!({"code": "AAAAAAAAAAAAAAAA"})).await;
    assert!(wrong.contains("no plan has this code"), "{wrong}");
    assert!(actions(&stack).await.is_empty(), "a plan and a wrong code do nothing");
    let done = client.works("confirm", code(&plan)).await;
    assert!(done.contains("Done: ") && done.contains("by mcp: Hermes moves"), "{done}");
    let used = client.fails("confirm", code(&plan)).await;
    assert!(used.contains("no plan has this code"), "{used}");
    assert_eq!(actions(&stack).await.len(), 1);

    // One that waits is cancelled, once.
    let event = stack.openrouter("acme").send("j1", "completed").await;
    let delivery = stack.event(&event).await.deliveries[0].id.clone();
    let cancel = json!({"delivery": delivery, "reason": "sent by hand"});
    let (one, two) = (
        client.works("plan_cancel", cancel.clone()).await,
        client.works("plan_cancel", cancel.clone()).await,
    );
    assert!(one.contains("cancel 1 waiting delivery") && one.contains(&delivery), "{one}");
    assert!(client.works("confirm", code(&one)).await.contains("CANCELLED"));
    let late = client.fails("confirm", code(&two)).await;
    assert!(late.contains("the delivery is CANCELLED"), "{late}");
    let late = client.fails("plan_cancel", cancel).await;
    assert!(late.contains("only a waiting one"), "{late}");

    // A plan of another state does nothing.
    let replay = json!({"delivery": delivery, "reason": "after all"});
    let (one, two) =
        (client.works("plan_replay", replay.clone()).await, client.works("plan_replay", replay).await);
    assert!(client.works("confirm", code(&one)).await.contains("WAITING"));
    let changed = client.fails("confirm", code(&two)).await;
    assert!(changed.contains("it has changed since it was planned"), "{changed}");

    let resume = json!({"target": "acme/video", "reason": "Hermes is back"});
    let plan = client.works("plan_resume", resume.clone()).await;
    assert!(plan.contains("end a pause. Deliveries that wait, 1 now") && plan.contains("by mcp"), "{plan}");
    assert!(client.works("confirm", code(&plan)).await.contains("the pause has ended"));
    are(&stack, DeliveryState::Delivered, 1).await;
    let nothing = client.fails("plan_resume", resume).await;
    assert!(nothing.contains("is not paused"), "{nothing}");
    let open = client.fails("plan_probe", json!({"target": "acme/video", "reason": "r"})).await;
    assert!(open.contains("the route is not shut"), "{open}");

    let mut did: Vec<_> = actions(&stack).await;
    did.reverse();
    let kinds: Vec<_> = did.iter().map(ControlAction::kind).collect();
    assert_eq!(
        kinds,
        [ControlKind::Paused, ControlKind::Cancelled, ControlKind::Replayed, ControlKind::Resumed]
    );
    assert!(did.iter().all(|action| action.requested_by == "mcp"), "{did:?}");
    let reasons: Vec<_> = did.iter().map(|action| action.reason.as_str()).collect();
    assert_eq!(reasons, ["Hermes moves", "sent by hand", "after all", "Hermes is back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_replayed_only_as_they_were_counted() {
    let sink = Sink::start().await;
    sink.set("video", Does::Answer(500, json!({})));
    let keys = "pace: off\nbreaker: off\nretry: {schedule: [1ms]}";
    let stack = stack()
        .tenant("acme", |t| {
            t.route("video", &sink.url("video"), keys).route(
                "late",
                &sink.url("late"),
                "events: [video.generation.failed]",
            )
        })
        .start()
        .await;
    let event = stack.openrouter("acme").send("j1", "completed").await;
    stack.openrouter("acme").send("j2", "completed").await;
    are(&stack, DeliveryState::Parked, 2).await;
    let mut client = Client::start(&stack, &["--allow", "control"]).await;
    for (arguments, says) in [
        (json!({"filter": {}, "reason": "r"}), "would replay everything"),
        (json!({"filter": {"states": ["parked"]}, "reason": "r"}), "would replay everything"),
        (json!({"filter": {"tenant": "acme"}, "reason": " "}), "reason is empty"),
        (json!({"filter": {"tenant": "acme"}}), "missing field `reason`"),
        (
            json!({"filter": {"tenant": "acme", "states": ["ambiguous"]}, "reason": "r"}),
            "Nothing can be replayed",
        ),
        (json!({"event": event, "reason": "r"}), "write one of"),
        (json!({"event": event, "route": "late", "reason": "r"}), "has to take the event"),
    ] {
        let said = client.fails("plan_replay", arguments.clone()).await;
        assert!(said.contains(says), "{arguments}: {said}");
    }
    let replay = json!({"filter": {"tenant": "acme", "http": ["5xx"]}, "reason": "Hermes is well again"});
    let plan = client.works("plan_replay", replay.clone()).await;
    assert!(
        plan.contains("replay 2 of 2 matching deliveries") && plan.matches("dlv_").count() == 2,
        "{plan}"
    );
    stack.openrouter("acme").send("j3", "completed").await;
    are(&stack, DeliveryState::Parked, 3).await;
    let changed = client.fails("confirm", code(&plan)).await;
    assert!(changed.contains("it has changed"), "{changed}");
    sink.set("video", Does::Accept);
    let plan = client.works("plan_replay", replay).await;
    let done = client.works("confirm", code(&plan)).await;
    assert!(done.contains("Done: 3 deliveries are being replayed") && done.contains("rpl_"), "{done}");
    are(&stack, DeliveryState::Delivered, 3).await;
    let plan =
        client.works("plan_replay", json!({"event": event, "route": "video", "reason": "once more"})).await;
    assert!(plan.contains("replay 1 delivery, which is DELIVERED"), "{plan}");
    assert!(client.works("confirm", code(&plan)).await.contains("Done:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_route_is_probed() {
    let sink = Sink::start().await;
    sink.set("video", Does::Answer(401, json!({})));
    let stack = stack().tenant("acme", |t| t.route("video", &sink.url("video"), "pace: off")).start().await;
    stack.openrouter("acme").send("j1", "completed").await;
    let mut client = Client::start(&stack, &["--allow", "control"]).await;
    let probe = json!({"target": "acme/video", "reason": "Hermes has the secret now"});
    let plan = until("the route to be shut", async || {
        let plan = client.call("plan_probe", probe.clone()).await;
        (!plan.is_error).then_some(plan.text)
    })
    .await;
    assert!(plan.contains("probe a shut route with 1 of 1 waiting deliveries"), "{plan}");
    sink.set("video", Does::Accept);
    let done = client.works("confirm", code(&plan)).await;
    assert!(done.contains("one delivery probes the route"), "{done}");
    are(&stack, DeliveryState::Delivered, 1).await;
}
