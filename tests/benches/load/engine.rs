//! The engine of `talaria up` with many routes and much that waits. `make bench-engine` runs it.
//!
//! - [`neighbours`]: healthy routes beside broken ones. [`broken`]: who breaks them.
//! - [`lanes`]: many routes that all have something due.
//! - [`waiting`]: memory with a million waiting deliveries.
//! - [`console`]: pages, and deliveries while many look at them.

pub mod broken;
mod console;
mod lanes;
mod neighbours;
mod waiting;

use crate::report::Measured;
use talaria_proto::v1::{GetSummaryRequest, PauseRequest, ResumeRequest};
use talaria_tests::{stack::Stack, until_within};

/// How long a million deliveries may take to be planned.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);

/// The parts, in the order of the page.
pub const PARTS: [&str; 4] = ["neighbours", "lanes", "waiting", "console"];

/// Measures one part.
pub async fn run(part: &str) -> Measured {
    match part {
        "neighbours" => neighbours::run().await,
        "lanes" => lanes::run().await,
        "waiting" => waiting::run().await,
        "console" => console::run().await,
        other => panic!("{other} is none of {PARTS:?}"),
    }
}

/// So many names.
fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}{index}")).collect()
}

/// Waits until the status knows so many events of these tenants together; then everything is planned.
async fn until_planned(talaria: &Stack, tenants: &[String], events: usize) {
    let mut status = talaria.status().await;
    until_within(PATIENCE, "everything to be planned", async || {
        let summary = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
        let of_these = summary.tenants.iter().filter(|tenant| tenants.contains(&tenant.tenant));
        let known: u64 = of_these.map(|tenant| tenant.events).sum();
        // Seldom, because polling shares the machine with the measurement.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        (known >= events as u64).then_some(())
    })
    .await;
}

async fn pause(talaria: &Stack, tenants: &[String]) {
    let mut control = talaria.control().await;
    for tenant in tenants {
        let request =
            PauseRequest { tenant: tenant.clone(), requested_by: "bench".into(), ..PauseRequest::default() };
        control.pause(request).await.unwrap();
    }
}

async fn resume(talaria: &Stack, tenant: &str) {
    let request =
        ResumeRequest { tenant: tenant.into(), requested_by: "bench".into(), ..ResumeRequest::default() };
    talaria.control().await.resume(request).await.unwrap();
}
