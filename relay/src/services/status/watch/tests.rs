use super::*;
use talaria_core::id::EventId;
use talaria_proto::{
    time::to_proto,
    v1::{
        AttemptFinished, AttemptOutcome, AttemptStarted, DeliveryMoved, DeliveryState, EventCarried,
        EventPlanned, Run, RunOutcome, RunReported,
    },
};

fn record(what: What) -> Record {
    let at = jiff::Timestamp::from_second(1_777_000_000).unwrap();
    Record { at: Some(to_proto(at)), event_seq: 7, what: Some(what) }
}

fn event() -> Event {
    Event {
        id: EventId::new("acme", "job", "video.done").to_string(),
        tenant: "acme".into(),
        r#type: "video.done".into(),
        job_id: "job".into(),
        model: Some("veo".into()),
        received_at: Some(prost_types::Timestamp { seconds: 9, nanos: 0 }),
        ..Event::default()
    }
}

fn named(route: &str) -> DeliveryRef {
    let id = DeliveryId::new(event().id.parse().unwrap(), route).to_string();
    DeliveryRef { id, tenant: "acme".into(), route: route.into() }
}

fn status(state: DeliveryState) -> DeliveryStatus {
    DeliveryStatus { step: 2, state: state.into(), reason: "so".into(), ..DeliveryStatus::default() }
}

#[test]
fn an_event_that_no_route_takes_matches_unless_routes_or_states_are_named() {
    let all = DeliveryFilter::default();
    assert!(all.includes_unmatched(&event()));
    let of = |tenant: &str| DeliveryFilter { tenant: Some(tenant.into()), ..all.clone() };
    assert!(of("acme").includes_unmatched(&event()) && !of("globex").includes_unmatched(&event()));
    assert!(!DeliveryFilter { job_id: Some("other".into()), ..all.clone() }.includes_unmatched(&event()));
    assert!(!DeliveryFilter { route: Some("a".into()), ..all.clone() }.includes_unmatched(&event()));
    let states = vec![DeliveryState::Parked];
    assert!(!DeliveryFilter { states, ..all.clone() }.includes_unmatched(&event()));
    let outcomes = vec![AttemptOutcome::Failed];
    assert!(!DeliveryFilter { outcomes, ..all.clone() }.includes_unmatched(&event()), "it has no attempt");
    let reason = Some("shut".to_owned());
    assert!(!DeliveryFilter { reason, ..all.clone() }.includes_unmatched(&event()));
    let of_type = |pattern: &str| DeliveryFilter { event_type: pattern.parse().ok(), ..all.clone() };
    assert!(
        of_type("video.*").includes_unmatched(&event()) && !of_type("image.*").includes_unmatched(&event())
    );
    let of_model = |model: &str| DeliveryFilter { model: Some(model.into()), ..all.clone() };
    assert!(of_model("veo").includes_unmatched(&event()) && !of_model("sora").includes_unmatched(&event()));
}

#[test]
fn a_record_shows_its_deliveries_as_they_were_after_it() {
    let planned = EventPlanned { event: Some(event()), routes: vec!["a".into(), "b".into()] };
    let shown = changes(&record(What::EventPlanned(planned)));
    let routes: Vec<_> = shown.iter().map(|it| (it.delivery.route.as_str(), it.delivery.state())).collect();
    assert_eq!(routes, [("a", DeliveryState::Waiting), ("b", DeliveryState::Waiting)]);
    assert_eq!((shown[0].delivery.job_id.as_str(), shown[0].lacks_facts), ("job", false));

    let finished = AttemptFinished {
        delivery: Some(named("a")),
        attempt: Some(Attempt { number: 1, ..Attempt::default() }),
        status: Some(status(DeliveryState::Delivered)),
        task: None,
    };
    let shown = changes(&record(What::AttemptFinished(finished)));
    let change = &shown[0];
    assert_eq!((change.delivery.id.clone(), change.delivery.event_id.clone()), (named("a").id, event().id));
    assert_eq!((change.delivery.state(), change.delivery.reason.as_str()), (DeliveryState::Delivered, "so"));
    assert_eq!(change.attempt.as_ref().unwrap().number, 1);
    assert!(change.lacks_facts, "the record does not name the event's type");
    let mut delivery = change.delivery.clone();
    EventFacts::of(&event()).add_to(&mut delivery);
    assert_eq!((delivery.event_type.as_str(), delivery.received_at), ("video.done", event().received_at));

    let moved = DeliveryMoved {
        delivery: Some(named("b")),
        status: Some(status(DeliveryState::Cancelled)),
        ..DeliveryMoved::default()
    };
    assert_eq!(changes(&record(What::DeliveryMoved(moved))).len(), 1);
}

#[test]
fn a_run_is_shown_with_the_status_that_stays() {
    let run = Run { outcome: RunOutcome::Failed.into(), generation: 1, ..Run::default() };
    let status = DeliveryStatus { generation: 1, ..status(DeliveryState::Delivered) };
    let reported = RunReported { delivery: Some(named("a")), run: Some(run.clone()), status: Some(status) };
    let shown = changes(&record(What::RunReported(reported)));
    let change = &shown[0];
    assert_eq!((change.delivery.state(), &change.delivery.run), (DeliveryState::Delivered, &Some(run)));
    let matches = |outcome| {
        DeliveryFilter { runs: vec![outcome], ..DeliveryFilter::default() }.matches(&change.delivery, None)
    };
    assert!(matches(RunOutcome::Failed) && !matches(RunOutcome::Finished) && !matches(RunOutcome::None));
}

#[test]
fn records_that_change_nothing_shown_are_left_out() {
    for what in [
        What::AttemptStarted(AttemptStarted { delivery: Some(named("a")), ..AttemptStarted::default() }),
        What::EventCarried(EventCarried { event: Some(event()), ..EventCarried::default() }),
        What::EventPlanned(EventPlanned::default()),
        What::DeliveryMoved(DeliveryMoved::default()),
    ] {
        assert_eq!(changes(&record(what)), []);
    }
}

#[test]
fn a_filter_is_applied_as_far_as_it_can_be() {
    let moved = DeliveryMoved {
        delivery: Some(named("a")),
        status: Some(status(DeliveryState::Parked)),
        ..DeliveryMoved::default()
    };
    let shown = changes(&record(What::DeliveryMoved(moved)));
    let filter = DeliveryFilter {
        tenant: Some("acme".into()),
        route: Some("a".into()),
        job_id: Some("other".into()),
        states: vec![DeliveryState::Parked],
        ..DeliveryFilter::default()
    };
    assert!(filter.might_match(&shown[0].delivery), "the job is not known yet");
    assert!(!filter.matches(&shown[0].delivery, None));
    for wrong in [
        DeliveryFilter { tenant: Some("globex".into()), ..filter.clone() },
        DeliveryFilter { route: Some("b".into()), ..filter.clone() },
        DeliveryFilter { states: vec![DeliveryState::Waiting], ..filter.clone() },
    ] {
        assert!(!wrong.might_match(&shown[0].delivery));
    }
}

#[test]
fn a_change_matches_by_its_own_attempt() {
    let finished = AttemptFinished {
        delivery: Some(named("a")),
        attempt: Some(Attempt {
            outcome: AttemptOutcome::Failed.into(),
            http_status: Some(503),
            ..Attempt::default()
        }),
        status: Some(status(DeliveryState::Waiting)),
        task: None,
    };
    let moved = DeliveryMoved {
        delivery: Some(named("a")),
        status: Some(status(DeliveryState::Cancelled)),
        ..DeliveryMoved::default()
    };
    let finished = changes(&record(What::AttemptFinished(finished)));
    let moved = changes(&record(What::DeliveryMoved(moved)));
    let matches = |filter: DeliveryFilter| {
        [&finished[0], &moved[0]].map(|change| filter.matches(&change.delivery, change.attempt.as_ref()))
    };
    let answered = |range| DeliveryFilter { http_statuses: vec![range], ..DeliveryFilter::default() };
    assert_eq!(matches(answered(500..=599)), [true, false]);
    assert_eq!(matches(answered(404..=404)), [false, false]);
    let outcomes = vec![AttemptOutcome::Failed];
    assert_eq!(matches(DeliveryFilter { outcomes, ..DeliveryFilter::default() }), [true, false]);
    let reason = Some("so".to_owned());
    assert_eq!(matches(DeliveryFilter { reason, ..DeliveryFilter::default() }), [true, true]);
}

#[test]
fn the_facts_of_few_events_are_remembered() {
    let mut facts = FactsCache::default();
    for seq in 0..3 * REMEMBERED as u64 {
        facts.remember(seq, EventFacts::of(&event()));
        assert!(facts.of(seq).is_some() && facts.of(seq.saturating_sub(100)).is_some());
    }
    assert!(facts.young.len() + facts.old.len() <= REMEMBERED);
    assert_eq!(facts.of(0), None);
}
