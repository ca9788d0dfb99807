//! Invariant 13, and the identities of relays and streams.

use super::Backend;
use bytes::Bytes;
use std::time::Duration;

/// The pause before a message is sent again, because any of them may be lost.
pub(super) const REPEAT: Duration = Duration::from_millis(500);

pub async fn i13_relays_announce_and_ask(backend: &impl Backend) {
    let bus = backend.open().await;
    let question = Bytes::from_static(b"a question");
    let Some(second) = backend.open_second().await else {
        bus.announce(question.clone()).await.unwrap();
        assert!(bus.announcements().await.unwrap().is_none() && bus.questions().await.unwrap().is_none());
        bus.ask("relay-of-another-process", question).await.unwrap_err();
        return;
    };
    let mut announcements = second.announcements().await.unwrap().unwrap();
    let found = loop {
        bus.announce(Bytes::from_static(b"an announcement")).await.unwrap();
        if let Ok(found) = tokio::time::timeout(REPEAT, announcements.next()).await {
            break found.unwrap();
        }
    };
    assert_eq!(found, (bus.identity().relay.clone(), Bytes::from_static(b"an announcement")));

    let mut questions = second.questions().await.unwrap().unwrap();
    let answering = tokio::spawn(async move {
        loop {
            let asked = questions.next().await.unwrap();
            let answer = [b"an answer to ", &asked.question[..]].concat();
            asked.answer(answer.into()).await.unwrap();
        }
    });
    let relay = &second.identity().relay;
    let answer = loop {
        if let Ok(Ok(answer)) = tokio::time::timeout(REPEAT, bus.ask(relay, question.clone())).await {
            break answer;
        }
    };
    assert_eq!(answer, "an answer to a question");
    answering.abort();
    bus.ask("relay-that-is-not-there", question).await.unwrap_err();
}

pub async fn a_relay_keeps_its_name_and_streams_keep_their_source(backend: &impl Backend) {
    let bus = backend.open().await;
    let (first, source) = (bus.identity().clone(), bus.bounds().await.unwrap().source);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    assert!(
        !first.relay.is_empty() && first.relay.bytes().all(fits),
        "{first:?} does not fit into a subject"
    );
    assert!(!source.is_empty());
    drop(bus);
    let bus = backend.open().await;
    assert_eq!(bus.identity().relay, first.relay);
    assert!(bus.identity().run > first.run);
    assert_eq!(bus.bounds().await.unwrap().source, source);
    if let Some(second) = backend.open_second().await {
        assert_ne!(second.identity().relay, first.relay);
        assert_eq!(second.bounds().await.unwrap().source, source);
    }
}

pub async fn i13_relays_receive_the_refusals_of_ingresses(backend: &impl Backend) {
    let bus = backend.open().await;
    let second = backend.open_second().await;
    let mut refusals = second.as_ref().unwrap_or(&bus).refusals().await.unwrap();
    let publisher = bus.publisher();
    let mut ids = Vec::new();
    for what in ["one", "another"] {
        let (id, found) = loop {
            publisher.announce_refusals(Bytes::from_static(what.as_bytes())).await.unwrap();
            let Ok(found) = tokio::time::timeout(REPEAT, refusals.next()).await else { continue };
            let (id, found) = found.unwrap();
            if found == what {
                break (id, found);
            }
        };
        assert_eq!(found, what);
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1], "an ingress keeps its id");
    if second.is_none() {
        // A later subscriber gets the last announcement.
        assert_eq!(bus.refusals().await.unwrap().next().await.unwrap().1, "another");
    }
}
