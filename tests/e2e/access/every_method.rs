//! Each method, called with every kind of token, over gRPC and as JSON. No answer has anything of another tenant: not its name, not
//! an id, not a reason, not a byte of a payload.
//!
//! Longer than other files, because it is a table with a row for each method.

use super::{
    ask::{Answer, Somebody},
    entry,
};
use bytes::Bytes;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use talaria_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        CancelDeliveryRequest, CancelReplayJobRequest, DeliveryFilter, DeliveryState, ExplainRequest,
        GetDeliveryRequest, GetEventRequest, GetEvidenceRequest, GetJobRequest, GetMediaRequest,
        GetReplayJobRequest, GetSeriesRequest, GetSummaryRequest, ListControlActionsRequest,
        ListCostsRequest, ListDeliveriesRequest, ListEventsRequest, ListIdsRequest, ListJobsRequest,
        ListModelsRequest, ListQuarantinedRequest, ListRefusalsRequest, ListRelaysRequest,
        ListReplayJobsRequest, ListUnmatchedRequest, PauseRequest, ProbeRouteRequest,
        ReplayDeliveriesRequest, ReplayDeliveryRequest, ReplayFilter, ReplayJobState, ResumeRequest,
        StopJobRequest, SubmitJobRequest, TrackJobRequest, VideoRequest, WatchDeliveriesRequest,
        WatchDeliveriesResponse, WatchJobRequest, WatchKind, explain_request::Subject,
        list_ids_request::BeginsWith,
    },
};
use talaria_tests::{
    openrouter::{OpenRouter, event_id, payload},
    openrouter_api::OpenRouterApi,
    sink::{Does, Sink},
    stack::{Stack, stack},
    until,
};
use tonic::Code;

/// A job that both tenants have.
const SHARED: &str = "shared job";

/// The subject of a request, and so the expected answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum About {
    /// The caller's own object: answered, with it.
    Own,
    /// Everything: answered with the caller's own.
    Everything,
    /// Another tenant's object by its id: as unknown as a missing one.
    OthersId,
    /// Another tenant by its name: refused, as one is that there is not.
    OthersName,
}

/// A request, and for another tenant's object the same request for a missing one.
struct Asked {
    about: About,
    request: Bytes,
    of_nothing: Option<Bytes>,
}

#[expect(clippy::needless_pass_by_value, reason = "requests are made where they are asked")]
fn asked(about: About, request: impl Message) -> Asked {
    Asked { about, request: request.encode_to_vec().into(), of_nothing: None }
}

/// About own, another's and nothing, by id.
fn by_id<M: Message>(make: impl Fn(&str) -> M, own: &str, others: &[&str], nothing: &str) -> Vec<Asked> {
    let of_nothing = || Some(Bytes::from(make(nothing).encode_to_vec()));
    let others =
        others.iter().map(|id| Asked { of_nothing: of_nothing(), ..asked(About::OthersId, make(id)) });
    std::iter::once(asked(About::Own, make(own))).chain(others).collect()
}

/// About every tenant, the own, another and none, by name.
fn by_name<M: Message>(make: impl Fn(&str) -> M) -> Vec<Asked> {
    let of_nothing = Some(Bytes::from(make("nobody").encode_to_vec()));
    vec![
        asked(About::Everything, make("")),
        asked(About::Own, make("acme")),
        Asked { of_nothing, ..asked(About::OthersName, make("globex")) },
    ]
}

/// The objects of a tenant.
struct Known {
    event: String,
    delivery: String,
    job: String,
    /// A job at OpenRouter.
    tracked: String,
}

/// The id of no job.
const NO_JOB: &str = "job_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Every way to ask a method. A method that is not here fails the test: say how it is asked, and that it keeps tenants
/// apart.
#[expect(clippy::too_many_lines, reason = "a line or two for each method")]
fn ways(method: &str, own: &Known, others: &Known, of_all: &str) -> Vec<Asked> {
    let nothing = event_id("acme", "nothing", "completed");
    let no_delivery = format!("dlv_{}{}", &nothing[4..], "a".repeat(8));
    let others_delivery = [others.delivery.as_str()];
    let (by, why) = (|| "ana".to_owned(), || "asked by a test".to_owned());
    match method {
        "GetEvent" => by_id(
            |id| GetEventRequest { event_id: id.into(), include_payload: true },
            &own.event,
            &[&others.event],
            &nothing,
        ),
        "ListEvents" => {
            let mut ways =
                by_name(|tenant| ListEventsRequest { tenant: tenant.into(), ..Default::default() });
            for job in [SHARED, "globex job"] {
                let of_job = ListEventsRequest { job_id: job.into(), ..Default::default() };
                ways.push(asked(About::Everything, of_job));
            }
            ways
        }
        "GetDelivery" => by_id(
            |id| GetDeliveryRequest { delivery_id: id.into() },
            &own.delivery,
            &others_delivery,
            &no_delivery,
        ),
        "GetEvidence" => by_id(
            |id| GetEvidenceRequest { delivery_id: id.into(), attempt: 0 },
            &own.delivery,
            &others_delivery,
            &no_delivery,
        ),
        "ListDeliveries" => {
            let with = |filter| ListDeliveriesRequest { filter: Some(filter), ..Default::default() };
            let mut ways =
                by_name(|tenant| with(DeliveryFilter { tenant: tenant.into(), ..Default::default() }));
            ways.push(asked(About::Everything, ListDeliveriesRequest::default()));
            for filter in [
                DeliveryFilter { route: "globex-video".into(), ..Default::default() },
                DeliveryFilter { job_id: SHARED.into(), ..Default::default() },
                DeliveryFilter { states: vec![DeliveryState::Waiting.into()], ..Default::default() },
            ] {
                ways.push(asked(About::Everything, with(filter)));
            }
            ways
        }
        "WatchDeliveries" => by_name(|tenant| WatchDeliveriesRequest {
            filter: Some(DeliveryFilter { tenant: tenant.into(), ..Default::default() }),
            ..Default::default()
        }),
        "GetSummary" => by_name(|tenant| GetSummaryRequest { tenant: tenant.into() }),
        "GetSeries" => {
            let of = |tenant: &str, route: &str, by_route| GetSeriesRequest {
                tenant: tenant.into(),
                route: route.into(),
                by_route,
                ..Default::default()
            };
            let mut ways = by_name(|tenant| of(tenant, "", true));
            ways.push(asked(About::Everything, of("", "", false)));
            ways.push(asked(About::Own, of("acme", "acme-video", false)));
            ways.push(asked(About::OthersName, of("globex", "globex-video", false)));
            ways
        }
        "ListQuarantined" => by_name(|tenant| ListQuarantinedRequest {
            tenant: tenant.into(),
            include_payload: true,
            ..Default::default()
        }),
        "ListIds" => {
            use BeginsWith::{DeliveryId, EventId, JobId, ReplayJobId, SubmittedJobId};
            let with = |begins_with| ListIdsRequest { begins_with: Some(begins_with), ..Default::default() };
            let mut ways =
                by_name(|tenant| ListIdsRequest { tenant: tenant.into(), ..with(EventId("evt_".into())) });
            for begins_with in [
                EventId(others.event[..12].into()),
                EventId(others.event.clone()),
                DeliveryId("dlv_".into()),
                DeliveryId(others.delivery[..36].into()),
                JobId("globex".into()),
                JobId("globex job".into()),
                JobId("s".into()),
                SubmittedJobId("job_".into()),
                SubmittedJobId(others.tracked.clone()),
                ReplayJobId("rpl_".into()),
                ReplayJobId(others.job.clone()),
                ReplayJobId(of_all.into()),
            ] {
                ways.push(asked(About::Everything, with(begins_with)));
            }
            ways
        }
        "ListUnmatched" => {
            by_name(|tenant| ListUnmatchedRequest { tenant: tenant.into(), ..Default::default() })
        }
        "ListRefusals" => by_name(|tenant| ListRefusalsRequest { tenant: tenant.into() }),
        // The relays are of no tenant.
        "ListRelays" => vec![asked(About::Everything, ListRelaysRequest {})],
        "Explain" => {
            let of = |subject| ExplainRequest { subject: Some(subject), tenant: String::new() };
            let mut ways =
                by_id(|id| of(Subject::EventId(id.into())), &own.event, &[&others.event], &nothing);
            ways.extend(by_id(
                |id| of(Subject::DeliveryId(id.into())),
                &own.delivery,
                &others_delivery,
                &no_delivery,
            ));
            ways.extend(by_id(|job| of(Subject::JobId(job.into())), SHARED, &["globex job"], "nothing job"));
            ways.extend(by_name(|tenant| ExplainRequest {
                subject: Some(Subject::JobId(SHARED.into())),
                tenant: tenant.into(),
            }));
            ways
        }
        "Pause" => {
            let of = |tenant: &str, route: &str| PauseRequest {
                tenant: tenant.into(),
                route: route.into(),
                requested_by: by(),
                reason: why(),
                duration: None,
            };
            let mut ways = by_id(|route| of("acme", route), "acme-video", &["globex-video"], "nothing-video");
            ways.extend(by_name(|tenant| of(tenant, "acme-video")).into_iter().skip(1));
            ways.extend(by_name(|tenant| of(tenant, "")).into_iter().skip(2));
            ways
        }
        "Resume" => {
            let of = |tenant: &str, route: &str| ResumeRequest {
                tenant: tenant.into(),
                route: route.into(),
                requested_by: by(),
                reason: why(),
            };
            let mut ways =
                by_id(|route| of("acme", route), "acme-video", &["globex-paused"], "nothing-paused");
            ways.extend(by_name(|tenant| of(tenant, "acme-video")).into_iter().skip(1));
            ways
        }
        "ProbeRoute" => {
            // No route is shut, so the answer about the own one is a refusal.
            let of = |tenant: &str, route: &str| ProbeRouteRequest {
                tenant: tenant.into(),
                route: route.into(),
                requested_by: by(),
                reason: why(),
            };
            let mut ways = by_id(|route| of("acme", route), "acme-video", &["globex-video"], "nothing-video");
            ways.extend(by_name(|tenant| of(tenant, "acme-video")).into_iter().skip(1));
            ways
        }
        "CancelDelivery" => by_id(
            |id| CancelDeliveryRequest { delivery_id: id.into(), requested_by: by(), reason: why() },
            &own.delivery,
            &others_delivery,
            &no_delivery,
        ),
        "ReplayDelivery" => {
            let of = |delivery: &str, event: &str| ReplayDeliveryRequest {
                delivery_id: delivery.into(),
                event_id: event.into(),
                route: if event.is_empty() { "" } else { "acme-broken" }.into(),
                requested_by: by(),
                reason: why(),
                generation: None,
            };
            let mut ways = by_id(|id| of(id, ""), &own.delivery, &others_delivery, &no_delivery);
            ways.extend(by_id(|id| of("", id), &own.event, &[&others.event], &nothing));
            ways
        }
        "ReplayDeliveries" => {
            let with = |filter| ReplayDeliveriesRequest {
                filter: Some(filter),
                requested_by: by(),
                reason: why(),
                all: true,
                ..Default::default()
            };
            let mut ways =
                by_name(|tenant| with(ReplayFilter { tenant: tenant.into(), ..Default::default() }));
            let states = vec![DeliveryState::Delivered.into(), DeliveryState::Parked.into()];
            ways.push(asked(About::Everything, with(ReplayFilter { states, ..Default::default() })));
            ways
        }
        "GetReplayJob" => {
            by_id(|id| GetReplayJobRequest { job_id: id.into() }, &own.job, &[&others.job, of_all], "rpl_0")
        }
        "CancelReplayJob" => by_id(
            |id| CancelReplayJobRequest { job_id: id.into(), requested_by: by(), reason: why() },
            &own.job,
            &[&others.job, of_all],
            "rpl_0",
        ),
        "ListReplayJobs" => vec![asked(About::Everything, ListReplayJobsRequest::default())],
        "ListControlActions" => {
            by_name(|tenant| ListControlActionsRequest { tenant: tenant.into(), ..Default::default() })
        }
        "ListModels" => by_name(|tenant| ListModelsRequest { tenant: tenant.into() }),
        "ListJobs" => by_name(|tenant| ListJobsRequest { tenant: tenant.into(), ..Default::default() }),
        "ListCosts" => by_name(|tenant| ListCostsRequest { tenant: tenant.into(), ..Default::default() }),
        "SubmitJob" => by_name(|tenant| SubmitJobRequest {
            tenant: tenant.into(),
            request_id: "the-same".into(),
            video: Some(VideoRequest {
                model: "google/veo-3.1".into(),
                prompt: "a lighthouse".into(),
                duration: Some(6),
                resolution: "720p".into(),
                ..Default::default()
            }),
            requested_by: by(),
            ..Default::default()
        }),
        "TrackJob" => by_name(|tenant| TrackJobRequest {
            tenant: tenant.into(),
            openrouter_id: "another".into(),
            requested_by: by(),
            ..Default::default()
        }),
        "GetJob" => by_id(
            |id| GetJobRequest { job_id: id.into(), ..Default::default() },
            &own.tracked,
            &[&others.tracked, "globex-at-openrouter"],
            NO_JOB,
        ),
        "GetMedia" => by_id(
            |id| GetMediaRequest { job_id: id.into(), ..Default::default() },
            &own.tracked,
            &[&others.tracked, "globex-at-openrouter"],
            NO_JOB,
        ),
        "WatchJob" => by_id(
            |id| WatchJobRequest { job_id: id.into(), ..Default::default() },
            &own.tracked,
            &[&others.tracked, "globex-at-openrouter"],
            NO_JOB,
        ),
        "StopJob" => by_id(
            |id| StopJobRequest {
                job_id: id.into(),
                requested_by: by(),
                reason: why(),
                ..Default::default()
            },
            &own.tracked,
            &[&others.tracked, "globex-at-openrouter"],
            NO_JOB,
        ),
        _ => panic!("say how {method} is asked, and that it keeps tenants apart"),
    }
}

/// Every method of the project's own services, as its path and its name.
fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let of = |file: &prost_types::FileDescriptorProto| {
        let paths = file.service.iter().flat_map(|service| {
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            service.method.iter().map(move |method| (path(method.name()), method.name().to_owned()))
        });
        paths.collect::<Vec<_>>()
    };
    files.iter().flat_map(of).collect()
}

/// A watch does not end, but its snapshot does.
fn ends_snapshot(message: &Bytes) -> bool {
    WatchDeliveriesResponse::decode(message.clone())
        .is_ok_and(|message| message.kind() == WatchKind::SnapshotDone && message.delivery.is_none())
}

async fn ask(who: &Somebody, path: &str, request: Bytes) -> Answer {
    // A watch of a job goes on until its end.
    let is_last = |message: &Bytes| {
        path.ends_with("WatchJob") || path.ends_with("WatchDeliveries") && ends_snapshot(message)
    };
    who.bytes(path, request, is_last).await
}

/// Two tenants with everything that there can be of one, each of it with the tenant's name in it.
async fn two_tenants(sink: &Sink, api: &OpenRouterApi) -> Stack {
    let tokens = [
        entry("operator", "control", None, &["all control"]),
        entry("looker", "read", None, &["all read"]),
        entry("own-operator", "control", Some("acme"), &["acme control"]),
        entry("own-agent", "submit", Some("acme"), &["acme submit"]),
        entry("own-looker", "read", Some("acme"), &["acme read"]),
    ];
    let mut builder = stack().with(&format!("relay: {{grpc: 127.0.0.1:0, tokens: [{}]}}", tokens.join(", ")));
    for tenant in ["acme", "globex"] {
        let broken = format!("{tenant}-broken");
        sink.set(&broken, Does::Answer(500, json!({"error": format!("{tenant} has no room")})));
        builder = builder.tenant(tenant, |t| {
            t.jobs(api, "")
                .route(
                    &format!("{tenant}-video"),
                    &sink.url(&format!("{tenant}-video")),
                    "pace: off\nevents: ['video.*']",
                )
                .route(
                    &broken,
                    &sink.url(&broken),
                    "pace: off\nbreaker: off\nretry: {schedule: []}\nevents: ['video.*']",
                )
                .route(
                    &format!("{tenant}-paused"),
                    &sink.url(&format!("{tenant}-paused")),
                    "pace: off\nevents: ['video.*']",
                )
        });
    }
    builder.start().await
}

/// A tenant's events, conflicts, quarantined callbacks, deliveries in several states, pause, actions and replay job.
async fn fill(stack: &Stack, operator: &Somebody, tenant: &str) -> Known {
    let pause = PauseRequest {
        tenant: tenant.into(),
        route: format!("{tenant}-paused"),
        requested_by: format!("{tenant} operator"),
        reason: format!("{tenant} moves"),
        duration: None,
    };
    operator.control().pause(pause).await.unwrap();
    let (sender, job) = (stack.openrouter(tenant), format!("{tenant} job"));
    for job in [SHARED, &job] {
        let mut of_job = payload(job, "completed");
        of_job["data"]["note"] = json!(format!("{tenant} payload"));
        sender.send_payload(&of_job).await;
        of_job["data"]["note"] = json!(format!("{tenant} conflict"));
        sender.send_payload(&of_job).await;
    }
    let unwanted = json!({"type": "audio.done", "data": {"id": format!("{tenant} unwanted")}});
    sender.send_payload(&unwanted).await;
    let no_event = json!({"type": "x", "note": format!("{tenant} quarantined")});
    assert_eq!(sender.send_bytes(no_event.to_string().into_bytes()).await, Some(422));
    // Something that is refused, of the tenant's own and of an unknown one.
    let guesses = OpenRouter::new(stack.ingress(), tenant, "guessed");
    assert_eq!(guesses.try_send("refused", "completed").await, Some(401));
    let nobody = OpenRouter::new(stack.ingress(), &format!("not-{tenant}"), "guessed");
    assert_eq!(nobody.try_send("refused", "completed").await, Some(401));
    let event = event_id(tenant, &job, "completed");
    let filter = DeliveryFilter { tenant: tenant.into(), ..Default::default() };
    let list = ListDeliveriesRequest { filter: Some(filter), ..Default::default() };
    let delivery = until("the deliveries to come to where they go", async || {
        let found = operator.status().list_deliveries(list.clone()).await.unwrap().into_inner().deliveries;
        let are = |state| found.iter().filter(|delivery| delivery.state() == state).count();
        let done = are(DeliveryState::Delivered) == 2 && are(DeliveryState::Parked) == 2;
        let broken =
            found.iter().find(|delivery| delivery.event_id == event && delivery.route.ends_with("-broken"));
        done.then(|| broken.unwrap().id.clone())
    })
    .await;
    until("what was refused to be known", async || {
        let request = ListRefusalsRequest::default();
        let refusals = operator.status().list_refusals(request).await.unwrap().into_inner().refusals;
        let of_nobody = format!("/callbacks/not-{tenant}");
        let is_known = |of: &str, path: Option<&str>| {
            refusals.iter().any(|it| it.tenant == of && path.is_none_or(|path| it.path == path))
        };
        (is_known(tenant, None) && is_known("", Some(&of_nobody))).then_some(())
    })
    .await;
    until("the conflicts and what is quarantined to be known", async || {
        let request = GetSummaryRequest { tenant: tenant.into() };
        let summary = operator.status().get_summary(request).await.unwrap().into_inner().tenants.pop()?;
        (summary.conflicts == 2 && summary.quarantined == 1 && summary.unmatched_events == 1).then_some(())
    })
    .await;
    let filter = ReplayFilter { tenant: tenant.into(), ..Default::default() };
    let job = replay(operator, filter, &format!("{tenant} replays")).await;
    let track = TrackJobRequest {
        tenant: tenant.into(),
        openrouter_id: format!("{tenant}-at-openrouter"),
        context: [("note".to_owned(), format!("{tenant} context"))].into(),
        requested_by: format!("{tenant} operator"),
        ..Default::default()
    };
    let tracked = operator.jobs().track_job(track).await.unwrap().into_inner().job.unwrap().id;
    Known { event, delivery, job, tracked }
}

/// Replays parked deliveries, and waits until they are parked again.
async fn replay(operator: &Somebody, filter: ReplayFilter, reason: &str) -> String {
    let request = ReplayDeliveriesRequest {
        filter: Some(filter),
        requested_by: "operator of all".into(),
        reason: reason.into(),
        all: true,
        ..Default::default()
    };
    let begun = operator.control().replay_deliveries(request).await.unwrap().into_inner();
    assert!(begun.replayable >= 2, "{begun:?}");
    let request = GetReplayJobRequest { job_id: begun.job.unwrap().id };
    until("the job to end", async || {
        let job = operator.control().get_replay_job(request.clone()).await.unwrap().into_inner().job.unwrap();
        (job.state() == ReplayJobState::Done).then_some(())
    })
    .await;
    let waiting = DeliveryFilter { states: vec![DeliveryState::Waiting.into()], ..Default::default() };
    let list = ListDeliveriesRequest { filter: Some(waiting), ..Default::default() };
    until("what was replayed to end", async || {
        let found = operator.status().list_deliveries(list.clone()).await.unwrap().into_inner().deliveries;
        found.iter().all(|delivery| delivery.route.ends_with("-paused")).then_some(())
    })
    .await;
    request.job_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_never_sees_another_tenant_by_any_method() {
    let sink = Sink::start().await;
    let api = OpenRouterApi::start().await;
    let stack = two_tenants(&sink, &api).await;
    let operator = Somebody::with(&stack.relay(), Some("all control")).await;
    let (own, others) = (fill(&stack, &operator, "acme").await, fill(&stack, &operator, "globex").await);
    let of_all = replay(&operator, ReplayFilter::default(), "globex and acme moved").await;
    let everything = async |path: &str| ask(&operator, path, Bytes::new()).await;
    let before = everything("/talaria.v1.ControlService/ListControlActions").await.messages;

    for (may, token) in ["acme read", "acme submit", "acme control"].into_iter().enumerate() {
        let [grpc, json] = Somebody::by_both(&stack, Some(token)).await;
        let of_both = methods()
            .into_iter()
            .flat_map(|(path, method)| [(&grpc, path.clone(), method.clone()), (&json, path, method)]);
        for (who, path, method) in of_both {
            let needs = match method.as_str() {
                "SubmitJob" | "TrackJob" | "StopJob" => 1,
                _ if ["Get", "List", "Watch", "Explain"].iter().any(|verb| method.starts_with(verb)) => 0,
                _ => 2,
            };
            for Asked { about, request, of_nothing } in ways(&method, &own, &others, &of_all) {
                let answer = ask(who, &path, request.clone()).await;
                let context = format!("{token}: {path}, {about:?}: {answer:?}");
                // An answer may repeat the request.
                let said = |answer: &Answer| {
                    let ids = [
                        &*others.event,
                        &others.delivery,
                        &others.job,
                        &others.tracked,
                        &of_all,
                        NO_JOB,
                        "globex-at-openrouter",
                        "globex job",
                        "globex-video",
                    ];
                    let ids = ids.iter().chain(&[
                        "globex-paused",
                        "nothing job",
                        "nothing-video",
                        "nothing-paused",
                    ]);
                    let nothing = event_id("acme", "nothing", "completed");
                    let ids = ids.copied().chain(["rpl_0", &nothing, &nothing[4..]]);
                    let text = ids.fold(answer.text.clone(), |text, id| {
                        text.replace(id, "ID").replace("dlv_IDaaaaaaaa", "ID")
                    });
                    // How far the status is behind the journal tells nothing of a tenant.
                    let hints = [
                        ", or it is not kept any more",
                        ": it never came, waits to be planned, or is not kept any more",
                    ];
                    let text = hints.iter().fold(text, |text, hint| text.replace(hint, ""));
                    match text.split_once(": the status is ") {
                        Some((before, after)) => {
                            before.to_owned() + after.split_once("ask again soon").unwrap().1
                        }
                        None => text,
                    }
                };
                let unsaid = Answer { text: said(&answer), ..answer };
                for mark in ["globex", &others.event, &others.delivery, &others.job, &others.tracked] {
                    assert!(!unsaid.mentions(mark), "{mark}: {context}");
                }
                if needs > may {
                    assert_eq!(unsaid.code, Code::PermissionDenied, "{context}");
                    continue;
                }
                match about {
                    About::Own => {
                        let refused = [Code::NotFound, Code::PermissionDenied, Code::Unauthenticated];
                        assert!(!refused.contains(&unsaid.code), "{context}");
                    }
                    About::Everything => assert_eq!(unsaid.code, Code::Ok, "{context}"),
                    About::OthersId => assert_eq!(unsaid.code, Code::NotFound, "{context}"),
                    About::OthersName => assert_eq!(unsaid.code, Code::PermissionDenied, "{context}"),
                }
                if let Some(of_nothing) = of_nothing {
                    let nothing = ask(who, &path, of_nothing).await;
                    assert_eq!((nothing.code, said(&nothing)), (unsaid.code, unsaid.text), "{context}");
                }
            }
        }
    }

    // That something was looked for that there is: with a token for all it is there.
    for path in
        ["ListEvents", "ListDeliveries", "GetSummary", "ListQuarantined", "ListRefusals", "ListUnmatched"]
    {
        let answer = everything(&format!("/talaria.v1.StatusService/{path}")).await;
        assert!(answer.mentions("globex") && answer.mentions("acme"), "{path}");
    }
    // And nothing was done to the other tenant.
    let after = everything("/talaria.v1.ControlService/ListControlActions").await;
    let of_others = |messages: &[Bytes]| {
        let decode = |bytes: &Bytes| talaria_proto::v1::ListControlActionsResponse::decode(bytes.clone());
        let actions = messages.iter().flat_map(|bytes| decode(bytes).unwrap().actions);
        actions.filter(|action| action.tenant != "acme").collect::<Vec<_>>()
    };
    assert_eq!(of_others(&after.messages), of_others(&before));
    assert!(after.mentions("own-operator"), "what was done is recorded with the name of the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_counts_and_watches_of_a_tenants_token_hold_nothing_of_another() {
    let sink = Sink::start().await;
    let api = OpenRouterApi::start().await;
    let stack = two_tenants(&sink, &api).await;
    let operator = Somebody::with(&stack.relay(), Some("all control")).await;
    // The other tenant's come between the own.
    let (_, _) = (fill(&stack, &operator, "acme").await, fill(&stack, &operator, "globex").await);
    for job in ["acme 2", "acme 3"] {
        stack.openrouter("acme").send(job, "completed").await;
        stack.openrouter("globex").send(&job.replace("acme", "globex"), "completed").await;
    }
    let who = Somebody::with(&stack.relay(), Some("acme read")).await;
    let list = ListEventsRequest { page_size: 1, ..Default::default() };
    until("five events to be planned", async || {
        let (mut found, mut request) = (Vec::new(), list.clone());
        loop {
            let page = who.status().list_events(request.clone()).await.unwrap().into_inner();
            found.extend(page.events);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert!(found.iter().all(|event| event.tenant == "acme"), "{found:?}");
        (found.len() == 5).then_some(())
    })
    .await;
    let request = ListQuarantinedRequest::default();
    assert_eq!(who.status().list_quarantined(request).await.unwrap().into_inner().total, 1);
    let request = ListReplayJobsRequest { page_size: 1, page_token: String::new() };
    let jobs = who.control().list_replay_jobs(request).await.unwrap().into_inner();
    assert_eq!((jobs.jobs.len(), jobs.next_page_token.as_str()), (1, ""), "no page of others' jobs follows");

    // From the beginning of the journal, then new changes; also with the token of another tenant's watch.
    for token in ["w:0", "w:3"] {
        let resume_token = data_encoding::BASE64URL_NOPAD.encode(token.as_bytes());
        let request = WatchDeliveriesRequest { resume_token, ..Default::default() };
        let mut changes = who.status().watch_deliveries(request).await.unwrap().into_inner();
        let last = format!("acme after {token}");
        stack.openrouter("globex").send("globex later", "completed").await;
        stack.openrouter("acme").send(&last, "completed").await;
        loop {
            let message = changes.message().await.unwrap().unwrap();
            assert!(!format!("{message:?}").contains("globex"), "{message:?}");
            // That no route takes an event is a message without one.
            let Some(delivery) = message.delivery else { continue };
            if delivery.job_id == last && delivery.state() == DeliveryState::Delivered {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_health_is_answered_to_those_who_show_no_token_that_is_known() {
    let sink = Sink::start().await;
    let api = OpenRouterApi::start().await;
    let stack = two_tenants(&sink, &api).await;
    let reflection = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let reflection = Bytes::from(reflection.encode_to_vec());
    let paths = || methods().into_iter().map(|(path, _)| (path, Bytes::new()));
    let reflections = ["v1", "v1alpha"].map(|version| {
        (format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"), reflection.clone())
    });
    // First, so that a line about it is among those that the log takes.
    let stranger = Somebody::with(&stack.relay(), Some("tlr_unknown")).await;
    ask(&stranger, "/talaria.v1.StatusService/GetSummary", Bytes::new()).await;
    for token in [None, Some(""), Some("tlr_unknown"), Some("all contro"), Some("all control x")] {
        let [grpc, json] = Somebody::by_both(&stack, token).await;
        for (path, request) in paths().chain(reflections.clone()) {
            for stranger in [&grpc, &json] {
                let answer = ask(stranger, &path, request.clone()).await;
                assert_eq!(answer.code, Code::Unauthenticated, "{token:?}: {path}: {answer:?}");
                assert!(!answer.mentions("acme") && !answer.mentions("operator"), "{answer:?}");
            }
        }
        let health = ask(&grpc, "/grpc.health.v1.Health/Check", Bytes::new()).await;
        assert_eq!(health.code, Code::Ok, "{token:?}");
    }
    let looker = Somebody::with(&stack.relay(), Some("acme read")).await;
    for (path, request) in reflections {
        assert_eq!(looker.bytes(&path, request, |_| true).await.code, Code::Ok, "{path}");
    }
    let unknown = ask(&looker, "/talaria.v1.StatusService/Nothing", Bytes::new()).await;
    assert_eq!(unknown.code, Code::Unimplemented);

    let log = until("the refusals to be logged", async || {
        let log = stack.log().join("\n");
        (log.contains("refused a gRPC request") && log.contains("unknown_token")).then_some(log)
    })
    .await;
    assert!(!log.contains("tlr_unknown") && !log.contains("all contro"), "no token is ever logged: {log}");
    let (_, metrics) = stack.admin_get("/metrics").await;
    for reason in ["no_token", "unknown_token", "no_such_method"] {
        let none = format!("talaria_grpc_refused_total{{reason=\"{reason}\"}} 0\n");
        assert!(!metrics.contains(&none), "{reason}: {metrics}");
    }
}
