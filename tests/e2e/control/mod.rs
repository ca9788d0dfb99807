//! Operators' commands: pause, cancel, replay and probe, on both buses and with several relays.
//!
//! - [`pausing`]: nothing is sent, nothing is lost.
//! - [`probing`]: a shut route is tried now.
//! - [`one`]: one delivery that is called off or sent again.
//! - [`jobs`]: many that are sent again.
//! - [`random`]: all of it in random order, with kills between.
//! - [`commands`]: the same from the command line.

mod commands;
mod jobs;
mod one;
mod pausing;
mod probing;
mod random;

use talaria_proto::v1::{Delivery, DeliveryState, PauseRequest, ReplayDeliveryRequest, ResumeRequest};
use talaria_tests::{
    nats,
    sink::{Does, Sink},
    stack::{Builder, Stack, stack},
    until,
};
use tonic::{Code, Status};

/// A test for each name on each bus.
macro_rules! on_both_buses {
    ($($name:ident)*) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(talaria_tests::stack::stack()).await;
                }
            )*
        }
        mod nats {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::super::on_nats(&super::super::prefix()).await).await;
                }
            )*
        }
    };
}
use on_both_buses;

/// A prefix that no other test has.
fn prefix() -> String {
    format!("control-{:016x}", rand::random::<u64>())
}

async fn on_nats(prefix: &str) -> Builder {
    stack().with(&format!("bus: {{nats: {{servers: [\"{}\"], prefix: {prefix}}}}}", nats::shared().await))
}

fn fails() -> Does {
    Does::Answer(500, serde_json::json!({}))
}

async fn pause(stack: &Stack, tenant: &str, route: &str) -> Result<(), Status> {
    let request = PauseRequest {
        tenant: tenant.into(),
        route: route.into(),
        requested_by: "ana".into(),
        reason: "Hermes moves".into(),
        duration: None,
    };
    stack.control().await.pause(request).await.map(drop)
}

async fn resume(stack: &Stack, tenant: &str, route: &str) {
    let request = ResumeRequest {
        tenant: tenant.into(),
        route: route.into(),
        requested_by: "bob".into(),
        reason: String::new(),
    };
    // While a partition moves to another relay, its part of the routes has no answer.
    until("the resume to be answered", async || match stack.control().await.resume(request.clone()).await {
        Err(status) if status.code() == Code::Unavailable => None,
        answer => Some(answer.unwrap()),
    })
    .await;
}

async fn replay(stack: &Stack, id: &str) -> Result<Delivery, Status> {
    let request =
        ReplayDeliveryRequest { delivery_id: id.into(), requested_by: "ana".into(), ..Default::default() };
    let answer = stack.control().await.replay_delivery(request).await?;
    Ok(answer.into_inner().delivery.unwrap())
}

/// Waits until so many of a route's deliveries are in a state.
async fn are(stack: &Stack, route: &str, state: DeliveryState, count: usize) {
    until(&format!("{count} of {route} to be {state:?}"), async || {
        let deliveries = stack.deliveries().await;
        let are = deliveries.iter().filter(|delivery| delivery.route == route && delivery.state() == state);
        (are.count() == count).then_some(())
    })
    .await;
}

/// The ids of a route's requests, sorted, each once.
fn ids(sink: &Sink, route: &str) -> Vec<String> {
    let mut ids: Vec<_> = sink.requests_to(route).into_iter().map(|request| request.id).collect();
    ids.sort();
    ids.dedup();
    ids
}
