//! Invariants 7, 11 and 12, with a backend that can be broken.

use super::{
    Backend, callback, commit, commits_after, event, name, names, partition, publish, take, tenants,
};
use crate::Bus;

pub async fn i07_an_append_survives_broken_writes(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut journal = bus.journal(partition(&bus, tenant), 0);
    let before = journal.append(commit("before")).await.unwrap();
    if !backend.break_writes(&bus).await {
        return;
    }
    let appending = tokio::spawn(async move { (journal.append(commit("during")).await.unwrap(), journal) });
    for _ in 0..3 {
        bus.publisher().publish(event(tenant, "refused")).await.unwrap_err();
    }
    assert!(!appending.is_finished());
    backend.mend(&bus).await;
    let (during, mut journal) = appending.await.unwrap();
    let after = journal.append(commit("after")).await.unwrap();
    let found = commits_after(&bus, tenant, 0).await;
    assert_eq!(names(&found), ["before", "during", "after"]);
    assert_eq!(found.iter().map(|committed| committed.seq).collect::<Vec<_>>(), [before, during, after]);
    drop((bus, journal));
    let bus = backend.open().await;
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["before", "during", "after"]);
}

pub async fn i11_what_cannot_be_made_durable_is_an_error_and_succeeds_later(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    publish(&bus, event(tenant, "before")).await;
    if !backend.break_writes(&bus).await {
        return;
    }
    let publisher = bus.publisher();
    publisher.publish(event(tenant, "refused")).await.unwrap_err();
    publisher.publish(event(tenant, "during")).await.unwrap_err();
    publisher.quarantine(callback(tenant, "callback")).await.unwrap_err();
    publisher.check().await.unwrap_err();
    bus.check().await.unwrap_err();
    backend.mend(&bus).await;
    bus.check().await.unwrap();
    publisher.check().await.unwrap();
    publish(&bus, event(tenant, "during")).await;
    publisher.quarantine(callback(tenant, "callback")).await.unwrap();
    assert_eq!(acknowledged(&bus, tenant, "callback").await, ["before", "during", "callback"]);
    drop((bus, publisher));
    let bus = backend.open().await;
    publish(&bus, event(tenant, "after")).await;
    assert_eq!(acknowledged(&bus, tenant, "after").await, ["before", "during", "callback", "after"]);
}

/// The events up to this one, without the one that was refused: it may be stored all the same, because a connection
/// that is lost leaves open what became of a message.
async fn acknowledged(bus: &Bus, tenant: &str, last: &str) -> Vec<String> {
    let mut events = bus.events(partition(bus, tenant), 0).await.unwrap();
    let mut found = Vec::new();
    while found.last().is_none_or(|found| found != last) {
        found.push(name(&take(&mut events, 1).await[0]).to_owned());
        found.retain(|name| name != "refused");
    }
    found
}

pub async fn i12_a_healthy_bus_passes_its_check(backend: &impl Backend) {
    let bus = backend.open().await;
    let before = bus.bounds().await.unwrap();
    bus.check().await.unwrap();
    bus.publisher().check().await.unwrap();
    assert_eq!(bus.bounds().await.unwrap(), before, "a check stores nothing that others read");
}
