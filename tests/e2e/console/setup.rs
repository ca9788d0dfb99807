//! A process with something on each page.

use crate::{access::entry, jobs};
use serde_json::json;
use talaria_proto::v1::{
    DeliveryState, JobState, PauseRequest, ProbeRouteRequest, ReplayDeliveriesRequest, ReplayFilter,
};
use talaria_tests::{
    browser::Browser,
    openrouter::{OpenRouter, payload},
    openrouter_api::{End, OpenRouterApi},
    sink::{Does, Sink},
    stack::{Builder, Stack, openrouter_secret, stack},
    until,
};
use tonic::Code;

/// Parks after one attempt.
const PARKS: &str = "pace: off\nbreaker: off\nretry: {schedule: []}\nevents: [video.generation.failed]";

/// An event and its delivery.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub event: String,
    pub delivery: String,
}

/// Tenant acme has the routes "video" for completed jobs, "broken", which parks, for failed ones, and "shut", which Hermes refuses,
/// for expired ones. Tenant beta has the route "other".
pub(super) struct World {
    pub api: OpenRouterApi,
    pub sink: Sink,
    pub stack: Stack,
}

/// Without any event.
pub(super) async fn world() -> World {
    world_of(stack()).await
}

pub(super) async fn world_of(builder: Builder) -> World {
    world_with(builder, "mode: link").await
}

/// With these keys of `media`.
pub(super) async fn world_with(builder: Builder, media: &str) -> World {
    let (api, sink) = (OpenRouterApi::start().await, Sink::start().await);
    sink.set("broken", Does::Answer(500, json!({"error": "no room"})));
    sink.set("shut", Does::Answer(401, json!({"error": "Invalid signature"})));
    let video = "pace: off\nevents: [video.generation.completed]\nprompt: 'Video {data.id} by {data.model}'";
    let stack = builder
        .with("ingress: {listen: 127.0.0.1:0, public_url: https://hooks.example.com}")
        .tenant("acme", |t| {
            t.jobs(&api, "poll: {first: 1h, every: 1h, slowest: 1h, give_up: 3h}")
                .media(media)
                .route("video", &sink.url("video"), video)
                .route("broken", &sink.url("broken"), PARKS)
                .route("shut", &sink.url("shut"), "events: [video.generation.expired]")
        })
        .tenant("beta", |t| {
            t.route("other", &sink.url("other"), "pace: off\nevents: [video.generation.completed]")
        })
        .start()
        .await;
    api.callbacks_to(stack.ingress(), &openrouter_secret("acme"));
    World { api, sink, stack }
}

impl World {
    /// Has a route that was mended probed, until it is open. The breaker's own probes may come first.
    pub(super) async fn probed_until_open(&self, route: &str) {
        let mut control = self.stack.control().await;
        until("the route to be open", async || {
            let (tenant, route, requested_by) = ("acme".into(), route.into(), "test".into());
            let request = ProbeRouteRequest { tenant, route, requested_by, ..ProbeRouteRequest::default() };
            let probed = control.probe_route(request).await;
            probed.is_err_and(|refused| refused.code() == Code::FailedPrecondition).then_some(())
        })
        .await;
    }

    pub(super) async fn browser(&self) -> Browser {
        Browser::start(self.stack.console()).await
    }

    /// Sends a callback, and waits until its delivery to the route has a state.
    pub(super) async fn sent(
        &self,
        tenant: &str,
        job: &str,
        status: &str,
        route: &str,
        state: DeliveryState,
    ) -> Ids {
        let event = self.stack.openrouter(tenant).send(job, status).await;
        let found =
            self.stack.delivery_when(&event, route, |it| it.state() == state && it.attempts > 0).await;
        Ids { event, delivery: found.delivery.unwrap().id }
    }

    pub(super) async fn delivered(&self, job: &str) -> Ids {
        self.sent("acme", job, "completed", "video", DeliveryState::Delivered).await
    }

    pub(super) async fn parked(&self, job: &str) -> Ids {
        self.sent("acme", job, "failed", "broken", DeliveryState::Parked).await
    }

    /// The first one shuts the route.
    pub(super) async fn waiting(&self, job: &str) -> Ids {
        self.sent("acme", job, "expired", "shut", DeliveryState::Waiting).await
    }

    /// An event that no route takes.
    pub(super) async fn unmatched(&self, job: &str) -> String {
        let event = self.stack.openrouter("acme").send(job, "cancelled").await;
        self.stack.event(&event).await;
        event
    }

    /// Submits a job; its id and that at OpenRouter.
    pub(super) async fn running(&self, request_id: &str) -> (String, String) {
        let answer = self.stack.jobs().await.submit_job(jobs::request(request_id)).await;
        let job = answer.unwrap().into_inner().job.unwrap();
        assert_eq!(job.state(), JobState::Running);
        (job.id, job.openrouter_id)
    }

    /// Makes these the relay's tokens.
    pub(super) async fn take_tokens(&self, tokens: &[String]) {
        let generation = self.stack.config().await["generation"].as_u64().unwrap();
        self.stack.rewrite(|text| {
            let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("relay:")).collect();
            format!("relay: {{grpc: 127.0.0.1:0, tokens: [{}]}}\n{}\n", tokens.join(", "), rest.join("\n"))
        });
        self.stack.generation(generation + 1).await;
    }
}

/// An entry of `relay.tokens`, and its token.
pub(super) fn token(name: &str, scope: &str, tenant: Option<&str>) -> (String, String) {
    let token = format!("tlr_{name}");
    (entry(name, scope, tenant, &[&token]), token)
}

/// What [`everything`] has.
pub(super) struct Everything {
    pub world: World,
    pub delivered: Ids,
    pub parked: Ids,
    pub waiting: Ids,
    pub unmatched: String,
    pub running: String,
    pub completed: String,
}

/// Deliveries in several states, a conflict, an event that no route takes, a quarantined and a refused callback, jobs, a pause,
/// and a replay.
pub(super) async fn everything() -> Everything {
    let world = world().await;
    let delivered = world.delivered("job-delivered").await;
    let parked = world.parked("job-parked").await;
    let waiting = world.waiting("job-waiting").await;
    world.sent("beta", "job-of-beta", "completed", "other", DeliveryState::Delivered).await;
    let unmatched = world.unmatched("job-unmatched").await;
    let sender = world.stack.openrouter("acme");
    let mut other = payload("job-delivered", "completed");
    other["data"]["usage"]["cost"] = json!(9.99);
    sender.send_payload(&other).await;
    assert_eq!(sender.send_bytes(b"{\"type\": \"no event\"}".to_vec()).await, Some(422));
    let stranger = OpenRouter::new(world.stack.ingress(), "acme", "a wrong secret");
    assert_eq!(stranger.try_send("job-refused", "completed").await, Some(401));
    let (running, _) = world.running("first").await;
    let (completed, there) = world.running("second").await;
    world.api.end(&there, End::completed(0.75)).await;
    world.delivered_job(&there).await;
    let mut control = world.stack.control().await;
    let pause = PauseRequest {
        tenant: "beta".into(),
        route: "other".into(),
        requested_by: "ana".into(),
        reason: "Hermes moves".into(),
        ..PauseRequest::default()
    };
    control.pause(pause).await.unwrap();
    let replay = ReplayDeliveriesRequest {
        filter: Some(ReplayFilter {
            tenant: "acme".into(),
            route: "broken".into(),
            ..ReplayFilter::default()
        }),
        requested_by: "ana".into(),
        reason: "Hermes is mended".into(),
        ..ReplayDeliveriesRequest::default()
    };
    control.replay_deliveries(replay).await.unwrap();
    Everything { world, delivered, parked, waiting, unmatched, running, completed }
}

impl World {
    /// Waits until a job's end is delivered.
    async fn delivered_job(&self, openrouter_id: &str) {
        until("the job's end to be delivered", async || {
            let deliveries = self.stack.deliveries().await;
            let of_job = |it: &&talaria_proto::v1::Delivery| it.job_id == openrouter_id;
            deliveries.iter().find(of_job).filter(|it| it.state() == DeliveryState::Delivered).map(drop)
        })
        .await;
    }
}

impl Everything {
    /// Every page, with a name for its image.
    pub(super) fn pages(&self) -> Vec<(&'static str, String)> {
        vec![
            ("overview", "/".to_owned()),
            ("inbox", "/inbox".to_owned()),
            ("inbox-unmatched", "/inbox?show=unmatched".to_owned()),
            ("inbox-quarantined", "/inbox?show=quarantined".to_owned()),
            ("inbox-refused", "/inbox?show=refused".to_owned()),
            ("deliveries", "/deliveries".to_owned()),
            ("deliveries-none", "/deliveries?state=ambiguous&tenant=beta".to_owned()),
            ("delivery", format!("/deliveries/{}", self.delivered.delivery)),
            ("delivery-parked", format!("/deliveries/{}", self.parked.delivery)),
            ("delivery-waiting", format!("/deliveries/{}", self.waiting.delivery)),
            ("attempt", format!("/deliveries/{}/attempts/1", self.parked.delivery)),
            ("event", format!("/events/{}", self.delivered.event)),
            ("event-unmatched", format!("/events/{}", self.unmatched)),
            ("jobs", "/jobs".to_owned()),
            ("job-running", format!("/jobs/{}", self.running)),
            ("job-completed", format!("/jobs/{}", self.completed)),
            ("routes", "/routes".to_owned()),
            ("route", "/routes/acme/video?preview=example".to_owned()),
            ("route-shut", "/routes/acme/shut".to_owned()),
            ("replays", "/replays".to_owned()),
            ("actions", "/actions".to_owned()),
            ("configuration", "/configuration".to_owned()),
            ("relays", "/relays".to_owned()),
            ("search", "/search?q=dlv_".to_owned()),
            ("search-none", "/search?q=nothing".to_owned()),
            ("unknown", "/no-such-page".to_owned()),
            ("login", "/login".to_owned()),
        ]
    }
}
