use super::*;
use talaria_core::id::DeliveryId;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_777_000_000 + seconds).unwrap()
}

fn payload(event: &Event) -> Value {
    serde_json::from_slice(&event.payload).unwrap()
}

fn shut(why: &str) -> RouteChanged {
    RouteChanged {
        tenant: "acme".into(),
        route: "video".into(),
        held_because: why.into(),
        held_until: Some(to_proto(at(30))),
        cause: BreakerCause::Failures.into(),
        tries: 1,
    }
}

#[test]
fn the_same_change_has_the_same_id_and_another_has_another() {
    let id = |why: &str, seconds| route(&shut(why), 7, at(seconds)).into_event(at(seconds)).id;
    assert_eq!(id("500", 0), id("500", 0));
    assert_ne!(id("500", 0), id("500", 1));
}

#[test]
fn a_payload_says_what_happened_and_which_command_shows_more() {
    let event = route(&shut("500: out of order"), 7, at(0)).into_event(at(0));
    assert_eq!((event.tenant.as_str(), event.status.as_str()), ("acme", "shut"));
    assert_eq!(event.source(), EventSource::Notice);
    assert_eq!(event.payload_sha256, Sha256::digest(&event.payload).to_vec());
    let expected = json!({
        "type": "talaria.route.shut",
        "timestamp": "2026-04-24T03:06:40Z",
        "data": {
            "tenant": "acme",
            "route": "video",
            "cause": "failures",
            "reason": "500: out of order",
            "since": "2026-04-24T03:06:40Z",
            "until": "2026-04-24T03:07:10Z",
            "waiting": 7,
            "message": "The route acme/video is shut until 2026-04-24 03:07:10Z: 500: out of order",
            "command": "talaria status --routes --tenant acme",
        },
    });
    assert_eq!(payload(&event), expected);
    let open = RouteChanged { held_until: None, ..shut("") };
    let event = route(&open, 0, at(60)).into_event(at(60));
    assert_eq!(event.r#type, "talaria.route.open");
    assert_eq!(payload(&event)["data"]["message"], "The route acme/video is open again.");
}

#[test]
fn each_kind_names_its_thing() {
    let id = DeliveryId::new(EventId::new("acme", "j", "t"), "video");
    let delivery = DeliveryRef { id: id.to_string(), tenant: "acme".into(), route: "video".into() };
    let status =
        DeliveryStatus { step: 9, attempts: 11, reason: "x".repeat(9_000), ..DeliveryStatus::default() };
    let parked = parked(&delivery, &status, at(0)).into_event(at(0));
    let data = payload(&parked)["data"].clone();
    assert_eq!(data["event"], id.event.to_string());
    assert_eq!(data["command"], format!("talaria status {id}"));
    assert!(parked.payload.len() < 2_000, "a reason of an answer is bounded");

    let job = Job { id: "job_1".into(), tenant: "acme".into(), reason: "why".into(), ..Job::default() };
    let given_up = overdue(&job, at(0));
    let missing = overdue(&Job { callback_missing: true, ..job }, at(0));
    assert_eq!((&given_up.data["state"], &given_up.data["reason"]), (&json!("abandoned"), &json!("why")));
    assert_eq!(missing.data["state"], "callback_missing");
    assert_ne!(given_up.about, missing.about);

    let callback = QuarantinedCallback {
        id: "qrt_1".into(),
        tenant: "acme".into(),
        reason: "the body is not JSON".into(),
        ..QuarantinedCallback::default()
    };
    assert_eq!(quarantined(&callback).data["callback"], "qrt_1");
}

#[test]
fn some_go_out_in_an_hour_and_the_others_are_counted() {
    let mut known = None;
    let mut told = 0;
    for second in 0..10_000 {
        let (next, is_told) = admit(known.as_ref(), true, at(second / 10));
        told += u32::from(is_told);
        known = Some(next);
    }
    let known = known.unwrap();
    assert_eq!((told, known.told, known.left_out), (MOST, MOST, 10_000 - u64::from(MOST)));
    assert!(!is_over(&known, at(3_599)) && is_over(&known, at(3_600)));
    assert!(is_over(&known, at(-1)), "the clock was set back");
    let (next, is_told) = admit(Some(&known), true, at(3_600));
    assert!(is_told && next.told == 1 && next.left_out == 0);
    let closing = left_out(NoticeKind::DeliveryParked, &NoticesTold { tenant: "acme".into(), ..known });
    assert_eq!(closing.data["left_out"], 9_990);
    assert!(!admit(None, false, at(0)).1, "too many are not published yet");
}
