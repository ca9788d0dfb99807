//! Each method with one answer, asked over gRPC and as JSON.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use talaria_proto::v1::{CancelDeliveryRequest, PauseRequest, ReplayDeliveriesRequest, ReplayFilter};
use talaria_tests::{
    json::{Json, error, from_json, methods},
    openrouter::{event_id, payload},
    raw::Raw,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};
use tonic::{client::Grpc, transport::Channel};

/// Everything that requests ask about here.
struct Known {
    event: String,
    delivery: String,
    replay: String,
}

/// An event that was delivered, one that was parked, a conflict, an event that no route takes, a quarantined callback, a pause, a
/// replay, and a cancelled delivery.
async fn filled(sink: &Sink) -> (Stack, Known) {
    sink.set("broken", Does::Answer(500, json!({"error": "no room"})));
    let keys = "pace: off\nbreaker: off\nretry: {schedule: []}\nevents: ['video.*']";
    let stack = stack()
        .tenant("acme", |t| {
            t.route("video", &sink.url("video"), keys).route("broken", &sink.url("broken"), keys).route(
                "paused",
                &sink.url("paused"),
                keys,
            )
        })
        .start()
        .await;
    let mut control = stack.control().await;
    let (tenant, requested_by) = ("acme".to_owned(), "ana".to_owned());
    let pause = PauseRequest {
        tenant: tenant.clone(),
        route: "paused".into(),
        requested_by: requested_by.clone(),
        ..PauseRequest::default()
    };
    control.pause(pause).await.unwrap();
    let sender = stack.openrouter("acme");
    let mut of_job = payload("a job", "completed");
    sender.send_payload(&of_job).await;
    of_job["data"]["note"] = json!("another body");
    sender.send_payload(&of_job).await;
    sender.send_payload(&json!({"type": "audio.done", "data": {"id": "unwanted"}})).await;
    assert_eq!(sender.send_bytes(b"{\"type\": \"x\"}".to_vec()).await, Some(422));
    let event = event_id("acme", "a job", "completed");
    stack.finished(&event, "video").await;
    stack.finished(&event, "broken").await;
    let deliveries = stack.event(&event).await.deliveries;
    let waiting = deliveries.iter().find(|it| it.route == "paused").unwrap().id.clone();
    let cancel = CancelDeliveryRequest {
        delivery_id: waiting,
        requested_by: requested_by.clone(),
        ..Default::default()
    };
    control.cancel_delivery(cancel).await.unwrap();
    let replay = ReplayDeliveriesRequest {
        filter: Some(ReplayFilter { tenant, route: "broken".into(), ..ReplayFilter::default() }),
        requested_by,
        ..ReplayDeliveriesRequest::default()
    };
    let replay = control.replay_deliveries(replay).await.unwrap().into_inner().job.unwrap().id;
    let delivery = deliveries.iter().find(|it| it.route == "broken").unwrap().id.clone();
    (stack, Known { event, delivery, replay })
}

/// What methods are asked besides an empty message.
fn requests(method: &str, known: &Known) -> Vec<Value> {
    let Known { event, delivery, replay } = known;
    let nothing = event_id("acme", "nothing", "completed");
    match method {
        "GetEvent" => vec![
            json!({"eventId": event, "includePayload": true}),
            json!({"event_id": event}),
            json!({"eventId": nothing}),
            json!({"eventId": "evt_"}),
        ],
        "GetDelivery" => vec![json!({"deliveryId": delivery}), json!({"deliveryId": "dlv_x"})],
        "ListEvents" => vec![json!({"tenant": "acme", "since": "2026-01-01T00:00:00Z", "pageSize": 1})],
        "ListDeliveries" => vec![
            json!({"filter": {"states": ["DELIVERY_STATE_PARKED", "DELIVERY_STATE_DELIVERED"]}}),
            json!({"pageToken": "no token"}),
            json!({"pageSize": 1_001}),
        ],
        "GetSummary" => vec![json!({"tenant": "acme"}), json!({"tenant": "nobody"})],
        "GetSeries" => vec![
            json!({"tenant": "acme", "route": "video", "resolution": "SERIES_RESOLUTION_MINUTE"}),
            json!({"byRoute": true}),
            json!({"tenant": "acme", "route": "unknown"}),
            json!({"since": "2025-01-01T00:00:00Z"}),
        ],
        "ListQuarantined" => vec![json!({"includePayload": true})],
        "ListIds" => vec![json!({"eventId": &event[..10]}), json!({"jobId": "a job", "tenant": "acme"})],
        "Explain" => {
            vec![json!({"eventId": event}), json!({"deliveryId": delivery}), json!({"jobId": "a job"})]
        }
        "GetReplayJob" => vec![json!({"jobId": replay}), json!({"jobId": "rpl_0"})],
        "Pause" | "Resume" | "ProbeRoute" => {
            vec![
                json!({"tenant": "acme", "route": "unknown", "requestedBy": "ana"}),
                json!({"tenant": "acme"}),
            ]
        }
        "CancelDelivery" => vec![json!({"deliveryId": delivery, "requestedBy": "ana"})],
        "ReplayDelivery" => vec![json!({"deliveryId": "dlv_x", "requestedBy": "ana"})],
        "ReplayDeliveries" => {
            vec![json!({"filter": {"tenant": "acme"}, "requestedBy": "ana", "dryRun": true, "all": true})]
        }
        "CancelReplayJob" => vec![json!({"jobId": replay, "requestedBy": "ana"})],
        "SubmitJob" => {
            vec![json!({"tenant": "acme", "requestId": "r", "video": {"model": "m"}, "requestedBy": "ana"})]
        }
        _ => vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_the_same_as_over_grpc() {
    let sink = Sink::start().await;
    let (stack, known) = filled(&sink).await;
    let client = Json::new(stack.console(), None);
    let channel = Channel::from_shared(stack.relay()).unwrap().connect().await.unwrap();
    for (path, method) in methods() {
        if method.is_server_streaming() {
            continue;
        }
        let mut requests = requests(method.name(), &known);
        requests.push(json!({}));
        for request in requests {
            let message = from_json(method.input(), request.to_string().as_bytes()).encode_to_vec();
            let what = format!("{path} {request} to be answered the same");
            // The replay goes on, and the view follows: both are asked until nothing changes in between.
            until(&what, async || {
                let mut grpc = Grpc::new(channel.clone());
                grpc.ready().await.unwrap();
                let asked = tonic::Request::new(Bytes::from(message.clone()));
                let over_grpc = grpc.unary(asked, path.parse().unwrap(), Raw).await;
                let (status, json) = client.post(&path, request.to_string()).await;
                let is_same = match over_grpc {
                    Ok(answer) => {
                        // Decoded, because an empty field that is there differs from one that is not.
                        let decode = |bytes: Bytes| DynamicMessage::decode(method.output(), bytes).unwrap();
                        let found = from_json(method.output(), json.to_string().as_bytes()).encode_to_vec();
                        status == 200 && decode(found.into()) == decode(answer.into_inner())
                    }
                    Err(refused) => {
                        status >= 400 && error(&json) == (refused.code(), refused.message().to_owned())
                    }
                };
                is_same.then_some(())
            })
            .await;
        }
    }
    let (_, listed) = client.post("/talaria.v1.StatusService/ListDeliveries", "{}").await;
    assert_eq!(listed["deliveries"].as_array().unwrap().len(), 3, "there was something to compare");
}
