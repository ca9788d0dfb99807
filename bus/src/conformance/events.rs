//! Invariants 1 to 4.

use super::{
    Backend, callback, event, events_after, large_event, name, partition, publish, seqs, take, tenants, waits,
};
use crate::Incoming;
use std::{collections::BTreeSet, time::Duration};
use talaria_proto::v1::Event;

pub async fn i01_what_was_stored_survives_a_restart(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    publish(&bus, event(tenant, "a")).await;
    bus.publisher().quarantine(callback(tenant, "b")).await.unwrap();
    drop(bus);
    let bus = backend.open().await;
    let stored = events_after(&bus, tenant, 0, 2).await;
    let (Incoming::Event(first), Incoming::Quarantined(second)) = (&stored[0].what, &stored[1].what) else {
        panic!("{stored:?}");
    };
    assert_eq!((&**first, &**second), (&event(tenant, "a"), &callback(tenant, "b")));
}

pub async fn i01_two_bodies_under_one_id_are_both_stored(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let other = |number: u8| Event {
        payload: vec![number].into(),
        payload_sha256: vec![number].into(),
        ..event(tenant, "a")
    };
    for number in 0..3 {
        publish(&bus, other(number)).await;
    }
    let stored = events_after(&bus, tenant, 0, 3).await;
    let payloads: Vec<_> = stored
        .iter()
        .map(|stored| match &stored.what {
            Incoming::Event(event) => event.payload.to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [[0], [1], [2]]);
}

pub async fn i02_sequences_rise_over_all_partitions_and_restarts(backend: &impl Backend) {
    let mut found = Vec::new();
    for run in 0..3 {
        let bus = backend.open().await;
        let tenants = tenants(&bus);
        let partitions: BTreeSet<_> = tenants.iter().map(|tenant| partition(&bus, tenant)).collect();
        assert_eq!(partitions.len(), usize::from(bus.partitions()).min(2));
        for index in 0..4 {
            publish(&bus, event(&tenants[index % 2], &format!("{run} {index}"))).await;
        }
        let mut stored = Vec::new();
        for partition in partitions {
            let mut events = bus.events(partition, found.last().map_or(0, |(seq, _)| *seq)).await.unwrap();
            let count = if bus.partitions() == 1 { 4 } else { 2 };
            stored.extend(take(&mut events, count).await);
        }
        stored.sort_by_key(|stored| stored.seq);
        found.extend(stored.iter().map(|stored| (stored.seq, name(stored).to_owned())));
    }
    assert!(found.is_sorted_by(|one, next| one.0 < next.0), "{found:?}");
    let expected = (0..3).flat_map(|run| (0..4).map(move |index| format!("{run} {index}")));
    assert!(found.iter().map(|(_, name)| name).eq(&expected.collect::<Vec<_>>()), "{found:?}");
}

pub async fn i03_events_come_in_order_each_once_and_of_one_partition(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, other] = tenants(&bus);
    let mut one = bus.events(partition(&bus, &tenant), 0).await.unwrap();
    // Many at once, so that several are stored together.
    let mut publishing = tokio::task::JoinSet::new();
    for index in 0..300 {
        let (publisher, event) = (bus.publisher(), event(&tenant, &format!("job {index}")));
        publishing.spawn(async move { publisher.publish(event).await.unwrap() });
    }
    let first = take(&mut one, 300).await;
    publishing.join_all().await;
    assert_eq!(first.iter().map(name).collect::<BTreeSet<_>>().len(), 300, "each once");
    // Another reader gets the same entries, and continues after them.
    let mut again = bus.events(partition(&bus, &tenant), 0).await.unwrap();
    assert_eq!(seqs(&take(&mut again, 300).await), seqs(&first));
    publish(&bus, event(&tenant, "last")).await;
    assert_eq!(name(&take(&mut again, 1).await[0]), "last");
    assert_eq!(name(&take(&mut one, 1).await[0]), "last");
    if bus.partitions() > 1 {
        publish(&bus, event(&other, "of another partition")).await;
        assert!(waits(one.next(1)).await);
        publish(&bus, event(&tenant, "more")).await;
        assert_eq!(name(&take(&mut one, 1).await[0]), "more");
    }
}

pub async fn i03_the_first_event_is_waited_for(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = tenants(&bus);
    let mut events = bus.events(partition(&bus, &tenant), 0).await.unwrap();
    assert!(waits(events.next(10)).await);
    let waiting = tokio::spawn(async move { (events.next(10).await.unwrap(), events) });
    publish(&bus, event(&tenant, "a")).await;
    let (found, mut events) = waiting.await.unwrap();
    assert_eq!(found.iter().map(name).collect::<Vec<_>>(), ["a"]);
    assert!(waits(events.next(10)).await, "each comes once");
    bus.publisher().quarantine(callback(&tenant, "b")).await.unwrap();
    assert_eq!(name(&take(&mut events, 1).await[0]), "b");
}

pub async fn i03_events_begin_after_any_sequence(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = tenants(&bus);
    // More than a backend keeps in memory.
    for index in 0..24 {
        publish(&bus, large_event(&tenant, &index.to_string())).await;
    }
    let all = events_after(&bus, &tenant, 0, 24).await;
    assert!(all.iter().map(name).eq(&(0..24).map(|index| index.to_string()).collect::<Vec<_>>()));
    for skip in [1, 2, 12, 22, 23] {
        let found = events_after(&bus, &tenant, all[skip - 1].seq, 24 - skip).await;
        assert_eq!(seqs(&found), seqs(&all[skip..]));
    }
    assert!(waits(events_after(&bus, &tenant, all[23].seq, 1)).await);
}

pub async fn i03_a_dropped_next_loses_no_event(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = tenants(&bus);
    let mut events = bus.events(partition(&bus, &tenant), 0).await.unwrap();
    let (publisher, other) = (bus.publisher(), tenant.clone());
    let publishing = tokio::spawn(async move {
        for index in 0..200 {
            publisher.publish(event(&other, &index.to_string())).await.unwrap();
        }
    });
    let (mut found, mut tries) = (Vec::new(), 0);
    while found.len() < 200 {
        tries += 1;
        let limit = Duration::from_micros(200 * (tries % 25));
        if let Ok(next) = tokio::time::timeout(limit, events.next(3)).await {
            found.extend(next.unwrap());
        }
    }
    publishing.await.unwrap();
    assert!(found.iter().map(name).eq(&(0..200).map(|index| index.to_string()).collect::<Vec<_>>()));
}

pub async fn i04_an_event_comes_back_byte_for_byte(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let event = Event {
        status: "failed".into(),
        generation_id: Some("gen".into()),
        model: Some(String::new()),
        created_at: Some("2026-01-01T00:00:00Z".into()),
        unsigned_urls: vec!["https://a".into(), "https://b?é=\u{1f600}".into()],
        error: Some("line\r\nand line\0".into()),
        received_at: Some(prost_types::Timestamp { seconds: 1_777_000_000, nanos: 123_456_789 }),
        idempotency_key: Some("k".into()),
        idempotency_key_matches: true,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        ..large_event(tenant, "a job: \"é\" \\ 100%")
    };
    publish(&bus, event.clone()).await;
    bus.publisher().quarantine(callback(tenant, "b")).await.unwrap();
    let stored = events_after(&bus, tenant, 0, 2).await;
    let Incoming::Event(found) = &stored[0].what else { panic!("{stored:?}") };
    assert_eq!(**found, event);
    drop(bus);
    let bus = backend.open().await;
    assert_eq!(bus.event_at(stored[0].seq).await.unwrap().as_deref(), Some(&event));
    assert_eq!(bus.event_at(stored[1].seq).await.unwrap(), None, "a quarantined callback is no event");
    for seq in [0, stored[1].seq + 1, u64::MAX >> 1] {
        assert_eq!(bus.event_at(seq).await.unwrap(), None);
    }
}
