//! One delivery that is called off or sent again.

use super::{are, fails, on_both_buses, pause, replay, resume};
use talaria_proto::v1::{
    CancelDeliveryRequest, ControlKind, Delivery, DeliveryState as State, GetDeliveryRequest,
    GetSummaryRequest, ReplayDeliveryRequest,
};
use talaria_tests::{
    openrouter::event_id,
    sink::{Does, Sink},
    stack::{Builder, Stack},
    until,
};
use tonic::{Code, Status};

on_both_buses! {
    waiting_deliveries_are_cancelled_and_others_are_not
    whatever_has_ended_is_sent_again_under_a_new_id
    an_event_that_no_route_wanted_is_handed_to_a_route_that_wants_it_now
    an_earlier_event_is_sent_to_a_route_that_is_new
    a_waiting_delivery_is_replayed_at_once_and_not_again_at_its_old_time
    a_replay_waits_while_its_route_is_paused_and_many_who_ask_at_once_replay_in_order
}

async fn cancel(stack: &Stack, id: &str) -> Result<Delivery, Status> {
    let request = CancelDeliveryRequest {
        delivery_id: id.into(),
        requested_by: "ana".into(),
        reason: "sent by hand".into(),
    };
    let answer = stack.control().await.cancel_delivery(request).await?;
    Ok(answer.into_inner().delivery.unwrap())
}

async fn waiting_deliveries_are_cancelled_and_others_are_not(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("a", fails());
    let keys = "pace: off\nretry: {schedule: [1h]}\ntimeout: 60s";
    let stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let found = stack.delivery_when(&event, "a", |delivery| delivery.attempts == 1).await;
    let id = found.delivery.unwrap().id;
    let cancelled = cancel(&stack, &id).await.unwrap();
    assert_eq!((cancelled.state(), cancelled.attempts), (State::Cancelled, 1));
    assert_eq!(cancelled.reason, "cancelled by ana: sent by hand");
    let again = cancel(&stack, &id).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert!(again.message().contains("is cancelled: cancelled by ana"), "{again}");

    sink.set("a", Does::Hang);
    let event = stack.openrouter("acme").send("hangs", "completed").await;
    until("the request", async || (sink.requests_to("a").len() == 2).then_some(())).await;
    let hangs = stack.event(&event).await.deliveries[0].id.clone();
    for error in [cancel(&stack, &hangs).await.unwrap_err(), replay(&stack, &hangs).await.unwrap_err()] {
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(
            error.message().contains("an attempt of dlv_") && error.message().contains("is under way"),
            "{error}"
        );
    }
    sink.set("a", Does::Accept);
    stack.finished(&event, "a").await;
    let error = cancel(&stack, &hangs).await.unwrap_err();
    assert!(error.message().contains("is delivered"), "{error}");
    assert_eq!(sink.requests_to("a").len(), 2, "nothing of what was cancelled");

    // A cancelled delivery can be replayed, and not twice by one request that comes twice.
    let request = ReplayDeliveryRequest {
        delivery_id: id.clone(),
        requested_by: "ana".into(),
        generation: Some(1),
        ..ReplayDeliveryRequest::default()
    };
    let again = stack.control().await.replay_delivery(request.clone()).await.unwrap();
    assert_eq!(again.into_inner().delivery.unwrap().generation, 2);
    are(&stack, "a", State::Delivered, 2).await;
    let error = stack.control().await.replay_delivery(request).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(
        error.message().contains("was sent again meanwhile: it is of generation 2, and not 1"),
        "{error}"
    );
    let nobody = id.replace("dlv_", "dlv_a").chars().take(id.len()).collect::<String>();
    assert_eq!(cancel(&stack, &nobody).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cancel(&stack, "rubbish").await.unwrap_err().code(), Code::InvalidArgument);
}

async fn an_event_that_no_route_wanted_is_handed_to_a_route_that_wants_it_now(builder: Builder) {
    let sink = Sink::start().await;
    let keys = "pace: off\nevents: [image.done]";
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    assert!(stack.event(&event).await.deliveries.is_empty(), "no route wants it");
    let hand_over = async |stack: &Stack, event: &str, route: &str, generation: Option<u32>| {
        let request = ReplayDeliveryRequest {
            event_id: event.into(),
            route: route.into(),
            requested_by: "ana".into(),
            reason: "the route is mended".into(),
            // It is planned once, however often the request comes.
            generation,
            ..ReplayDeliveryRequest::default()
        };
        let answer = stack.control().await.replay_delivery(request).await?;
        Ok::<_, Status>(answer.into_inner().delivery.unwrap())
    };
    let refused = hand_over(&stack, &event, "a", None).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the route acme/a does not want evt_"), "{refused}");
    let refused = hand_over(&stack, &event, "nowhere", None).await.unwrap_err();
    assert!(refused.message().contains("acme/nowhere is not configured"), "{refused}");
    let nothing = event_id("acme", "never came", "completed");
    assert_eq!(hand_over(&stack, &nothing, "a", None).await.unwrap_err().code(), Code::NotFound);
    for (event, route) in [("", "a"), (event.as_str(), ""), ("rubbish", "a")] {
        assert_eq!(hand_over(&stack, event, route, None).await.unwrap_err().code(), Code::InvalidArgument);
    }

    stack.restart_with(|text| text.replace("image.done", "\"video.generation.*\"")).await;
    until("the partition to have an owner", async || hand_over(&stack, &event, "a", Some(0)).await.ok())
        .await;
    let error = hand_over(&stack, &event, "a", Some(0)).await.unwrap_err();
    assert!(error.message().contains("of generation 1, and not 0"), "{error}");
    let found = stack.finished(&event, "a").await;
    let delivery = found.delivery.unwrap();
    assert_eq!((delivery.state(), delivery.generation, delivery.attempts), (State::Delivered, 1, 1));
    assert_eq!(sink.requests_to("a").len(), 1);
    assert_eq!(found.actions.len(), 1, "who did it is shown");
    // It is one that matched now, also when the status is rebuilt.
    for _ in 0..2 {
        let summary = until("the status to be complete", async || {
            let request = GetSummaryRequest { tenant: "acme".into() };
            let summary = stack.status().await.get_summary(request).await.ok()?.into_inner();
            (!summary.incomplete && summary.view_behind == 0).then_some(summary)
        })
        .await;
        assert_eq!((summary.tenants[0].events, summary.tenants[0].unmatched_events), (1, 0));
        std::fs::remove_file(stack.written.path().join("talaria-data/view.db")).unwrap();
        stack.kill_and_restart().await;
    }
    // Again, it is a replay as any other.
    until("the partition to have an owner", async || hand_over(&stack, &event, "a", None).await.ok()).await;
    let again = stack.delivery_when(&event, "a", |found| found.attempts == 2).await.delivery.unwrap();
    assert_eq!(again.generation, 2);
}

async fn an_earlier_event_is_sent_to_a_route_that_is_new(builder: Builder) {
    let sink = Sink::start().await;
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    stack.finished(&event, "a").await;
    let new_route = format!("      b:\n        url: {}\n        pace: off\n", sink.url("b"));
    stack
        .restart_with(|text| {
            let (before, after) = text.split_once("      a:\n").unwrap();
            let secret = after.lines().find(|line| line.trim_start().starts_with("secret:")).unwrap();
            format!("{before}{new_route}{secret}\n      a:\n{after}")
        })
        .await;
    let request = ReplayDeliveryRequest {
        event_id: event.clone(),
        route: "b".into(),
        requested_by: "ana".into(),
        ..ReplayDeliveryRequest::default()
    };
    until("the partition to have an owner", async || {
        stack.control().await.replay_delivery(request.clone()).await.ok()
    })
    .await;
    let delivery = stack.finished(&event, "b").await.delivery.unwrap();
    assert_eq!((delivery.state(), delivery.generation, delivery.attempts), (State::Delivered, 1, 1));
    assert_eq!((sink.requests_to("a").len(), sink.requests_to("b").len()), (1, 1));
}

async fn whatever_has_ended_is_sent_again_under_a_new_id(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("a", fails());
    let keys = "pace: off\nretry: {schedule: [10ms]}";
    let mut stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let parked = stack.finished(&event, "a").await.delivery.unwrap();
    assert_eq!((parked.state(), parked.attempts), (State::Parked, 2));
    // Its schedule begins again.
    let waits = replay(&stack, &parked.id).await.unwrap();
    assert!(waits.generation == 2 && waits.reason.contains("ana") || waits.attempts > 2, "{waits:?}");
    let parked =
        stack.delivery_when(&event, "a", |found| found.attempts == 4 && found.state() == State::Parked).await;
    assert_eq!(parked.delivery.unwrap().generation, 2);
    sink.set("a", Does::Accept);
    for (generation, attempts) in [(3, 5), (4, 6)] {
        replay(&stack, &waits.id).await.unwrap();
        let found = stack
            .delivery_when(&event, "a", |found| {
                found.generation == generation && found.state() == State::Delivered
            })
            .await;
        assert_eq!(found.attempts.len(), attempts, "each attempt keeps its number");
    }
    let seen: Vec<_> = sink.requests_to("a").iter().map(|request| request.id.clone()).collect();
    let expected = [1, 1, 2, 2, 3, 4].map(|generation| format!("{}.{generation}", waits.id));
    assert_eq!(seen, expected, "Hermes takes each replay for a new delivery");
    stack.kill_and_restart().await;
    until("it to know everything again", async || (stack.admin_get("/readyz").await.0 == 200).then_some(()))
        .await;
    let request = GetDeliveryRequest { delivery_id: waits.id.clone() };
    let found = stack.status().await.get_delivery(request).await.unwrap().into_inner();
    let actions: Vec<_> =
        found.actions.iter().map(|done| (done.kind(), done.requested_by.as_str())).collect();
    assert_eq!(actions, [(ControlKind::Replayed, "ana"); 3]);

    // Without its route there is nowhere to send it.
    stack.restart_with(|text| text.replace("      a:", "      b:")).await;
    let error = until("it to know everything again", async || {
        replay(&stack, &waits.id).await.err().filter(|error| error.code() != Code::Unavailable)
    })
    .await;
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("acme/a is not configured"), "{error}");
}

async fn a_waiting_delivery_is_replayed_at_once_and_not_again_at_its_old_time(builder: Builder) {
    let sink = Sink::start().await;
    sink.set("a", fails());
    let keys = "pace: off\nretry: {schedule: [3s, 1h], jitter: 0%}";
    let stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), keys)).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let waits = stack.delivery_when(&event, "a", |found| found.attempts == 1).await.delivery.unwrap();
    sink.set("a", Does::Accept);
    let replayed = replay(&stack, &waits.id).await.unwrap();
    assert_eq!(replayed.generation, 2);
    stack.finished(&event, "a").await;
    let due = talaria_proto::time::from_proto(waits.next_attempt_at.as_ref());
    until("the old schedule to pass", async || (jiff::Timestamp::now() > due).then_some(())).await;
    // Whatever was due by then has gone out before this.
    let other = stack.openrouter("acme").send("other", "completed").await;
    stack.finished(&other, "a").await;
    let ids: Vec<_> = sink.requests_to("a").into_iter().map(|request| request.id).collect();
    assert_eq!(ids[..2], [format!("{}.1", waits.id), format!("{}.2", waits.id)]);
    assert_eq!(ids.len(), 3);
}

async fn a_replay_waits_while_its_route_is_paused_and_many_who_ask_at_once_replay_in_order(builder: Builder) {
    let sink = Sink::start().await;
    let stack = builder.tenant("acme", |t| t.route("a", &sink.url("a"), "pace: off")).start().await;
    let event = stack.openrouter("acme").send("job", "completed").await;
    let id = stack.finished(&event, "a").await.delivery.unwrap().id;
    pause(&stack, "acme", "a").await.unwrap();
    let mut control = Vec::new();
    for _ in 0..8 {
        control.push(replay(&stack, &id));
    }
    // The first one revives it, the others supersede the waiting one.
    for replayed in futures_util::future::join_all(control).await {
        assert!(replayed.is_ok() || replayed.unwrap_err().code() == Code::FailedPrecondition);
    }
    let waits = stack.delivery_when(&event, "a", |found| found.state() == State::Waiting).await;
    let replays = waits.actions.len();
    assert!(replays >= 1);
    assert_eq!(waits.delivery.unwrap().generation as usize, 1 + replays);
    assert_eq!(sink.requests_to("a").len(), 1);
    resume(&stack, "acme", "a").await;
    stack.finished(&event, "a").await;
    let ids: Vec<_> = sink.requests_to("a").into_iter().map(|request| request.id).collect();
    assert_eq!(ids, [format!("{id}.1"), format!("{id}.{}", 1 + replays)]);
}
