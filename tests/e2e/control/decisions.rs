//! A decision over a wire that is cut in the middle is made once, and whoever made it hears so.

use super::prefix;
use std::{path::Path, time::Duration};
use talaria_bus::{Bus, Clock};
use talaria_core::config::Nats;
use talaria_proto::v1::{ControlAction, Fact, fact::What};
use talaria_tests::{gate::Gate, nats, until};
use tokio::time::Instant;

/// Longer than an answer is waited for: by then it was asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(7);

fn action(name: &str) -> Fact {
    let action = ControlAction { requested_by: name.into(), ..ControlAction::default() };
    Fact { what: Some(What::Acted(action)), ..Fact::default() }
}

async fn bus(url: &str, prefix: &str, directory: &Path) -> Bus {
    let config = Nats {
        servers: vec![url.to_owned()],
        creds: None,
        tls: None,
        replicas: 1,
        prefix: prefix.to_owned(),
        max_bytes: None,
    };
    Bus::nats(&config, directory, Clock::System).await.unwrap()
}

/// Who decided, in order.
async fn decided(bus: &Bus) -> Vec<String> {
    let newest = bus.journal_bounds().await.unwrap().newest;
    let (mut after, mut names) = (0, Vec::new());
    while after < newest {
        let page = bus.journal(after, 1000).await.unwrap();
        for (_, fact) in page.facts {
            let Some(What::Acted(action)) = &fact.what else { panic!("{fact:?}") };
            names.push(action.requested_by.clone());
        }
        after = page.through;
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_whose_answer_is_lost_is_made_once_and_one_that_came_too_late_is_not() {
    let (url, prefix) = (nats::shared().await, prefix());
    let gate = Gate::to(url.trim_start_matches("nats://").parse().unwrap()).await;
    let [near, far] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let cut_off = bus(&format!("nats://{}", gate.address), &prefix, near.path()).await;
    let other = bus(url, &prefix, far.path()).await;

    // Sent twice, and the first time was right: the second one is refused because of it.
    let turn = cut_off.turn().await.unwrap();
    gate.close();
    let bus = cut_off.clone();
    let deciding = tokio::spawn(async move { bus.decide(turn, vec![action("cut off")], vec![]).await });
    let start = Instant::now();
    until("it to be sent again", async || (start.elapsed() > ASKED_AGAIN).then_some(())).await;
    gate.open();
    assert!(deciding.await.unwrap().unwrap(), "it was made");
    assert_eq!(decided(&other).await, ["cut off"], "once");

    // Somebody else decides while the wire is cut: then it is refused.
    let turn = cut_off.turn().await.unwrap();
    gate.close();
    let bus = cut_off.clone();
    let deciding = tokio::spawn(async move { bus.decide(turn, vec![action("too late")], vec![]).await });
    assert!(other.decide(other.turn().await.unwrap(), vec![action("other")], vec![]).await.unwrap());
    let start = Instant::now();
    until("it to be sent again", async || (start.elapsed() > ASKED_AGAIN).then_some(())).await;
    gate.open();
    assert!(!deciding.await.unwrap().unwrap(), "another one came before");
    assert_eq!(decided(&other).await, ["cut off", "other"]);
}
