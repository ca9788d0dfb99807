//! Invariant 10.

use super::{
    Backend, commit, commits_after, event, events_after, name, names, partition, publish, seqs, take, tenants,
};
use crate::{AppendError, Bounds, Bus, Floors, Journal};

/// Publishes an event and appends a commit for each job. Returns the sequences of both.
async fn fill(bus: &Bus, tenant: &str, journal: &mut Journal, jobs: &[&str]) -> (Vec<u64>, Vec<u64>) {
    let before = bus.bounds().await.unwrap().last_event;
    let mut commits = Vec::new();
    for job in jobs {
        publish(bus, event(tenant, job)).await;
        commits.push(journal.append(commit(job)).await.unwrap());
    }
    (seqs(&events_after(bus, tenant, before, jobs.len()).await), commits)
}

pub async fn i10_trim_removes_the_front_and_nothing_else(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let empty = bus.bounds().await.unwrap();
    let none = Bounds { first_event: 0, last_event: 0, first_commit: 0, last_commit: 0, ..empty.clone() };
    assert_eq!(empty, none);
    let mut journal = bus.journal(partition(&bus, tenant), 0);
    let jobs: Vec<String> = (0..30).map(|index| index.to_string()).collect();
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let (events, commits) = fill(&bus, tenant, &mut journal, &jobs).await;
    let full = bus.bounds().await.unwrap();
    assert_eq!((full.first_event, full.last_event), (events[0], events[29]));
    assert_eq!((full.first_commit, full.last_commit), (commits[0], commits[29]));

    let floors = Floors { events: events[20], journal: commits[10] };
    let nothing = Floors { events: 0, journal: 1 };
    assert_eq!(bus.trim(nothing).await.unwrap(), (0, 0));
    assert_eq!(bus.trim(floors).await.unwrap(), (20, 10));
    assert_eq!(bus.trim(floors).await.unwrap(), (0, 0));
    assert_eq!(bus.trim(Floors { events: events[5], ..floors }).await.unwrap(), (0, 0), "a lower floor");
    let check = async |bus: &Bus| {
        let left = Bounds { first_event: events[20], first_commit: commits[10], ..full.clone() };
        assert_eq!(bus.bounds().await.unwrap(), left);
        assert_eq!(names(&commits_after(bus, tenant, 0).await), jobs[10..]);
        assert_eq!(seqs(&events_after(bus, tenant, 0, 10).await), events[20..]);
        assert_eq!(seqs(&events_after(bus, tenant, events[3], 10).await), events[20..]);
        assert_eq!(bus.event_at(events[19]).await.unwrap(), None);
        assert_eq!(bus.event_at(events[20]).await.unwrap().unwrap().job_id, "20");
        assert_eq!(bus.commit_at(commits[9]).await.unwrap(), None);
        assert_eq!(bus.commit_at(commits[10]).await.unwrap(), Some(commit("10")));
        let followed = bus.commits(commits[3]).await.unwrap().next(1).await.unwrap();
        assert_eq!(names(&followed), ["10"]);
    };
    check(&bus).await;
    drop((bus, journal));
    let bus = backend.open().await;
    check(&bus).await;

    // A reader that waits at the end does not notice. Many events, as a backend removes them in steps.
    let mut waiting = bus.events(partition(&bus, tenant), full.last_event).await.unwrap();
    let mut publishing = tokio::task::JoinSet::new();
    for index in 0..1_200 {
        let (publisher, event) = (bus.publisher(), event(tenant, &format!("more {index}")));
        publishing.spawn(async move { publisher.publish(event).await.unwrap() });
    }
    publishing.join_all().await;
    let events = seqs(&events_after(&bus, tenant, full.last_event, 1_200).await);
    let floors = Floors { events: events[1_190], journal: commits[25] };
    assert_eq!(bus.trim(floors).await.unwrap(), (10 + 1_190, 15));
    assert_eq!(seqs(&take(&mut waiting, 10).await), events[1_190..]);
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), jobs[25..]);
}

pub async fn i10_all_entries_can_be_trimmed_and_sequences_continue(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let partition = partition(&bus, tenant);
    let mut journal = bus.journal(partition, 0);
    let all = async |bus: &Bus| {
        let before = bus.bounds().await.unwrap();
        let floors = Floors { events: before.last_event + 1, journal: before.last_commit + 1 };
        bus.trim(floors).await.unwrap();
        let bounds = bus.bounds().await.unwrap();
        let left = Bounds { first_event: floors.events, first_commit: floors.journal, ..before };
        assert_eq!(bounds, left);
        assert!(commits_after(bus, tenant, 0).await.is_empty());
        left
    };
    fill(&bus, tenant, &mut journal, &["a", "b", "c"]).await;
    let before = all(&bus).await;
    // The same writer continues.
    let (events, commits) = fill(&bus, tenant, &mut journal, &["d"]).await;
    assert!(events[0] > before.last_event && commits[0] > before.last_commit);
    let before = all(&bus).await;
    drop((bus, journal));
    // Over a restart, too; and with the journal of a reader that found none.
    let bus = backend.open().await;
    assert_eq!(bus.bounds().await.unwrap(), before);
    let mut journal = bus.journal(partition, 0);
    let mut other = bus.journal(partition, 0);
    let (events, commits) = fill(&bus, tenant, &mut journal, &["e", "f"]).await;
    assert!(events[0] > before.last_event && commits[0] > before.last_commit);
    assert_eq!(other.append(commit("refused")).await, Err(AppendError::Overtaken));
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["e", "f"]);
    assert_eq!(name(&events_after(&bus, tenant, 0, 1).await[0]), "e");
}

pub async fn i10_a_partition_whose_commits_were_trimmed_continues(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, other] = &tenants(&bus);
    if bus.partitions() == 1 {
        return;
    }
    let [mut journal, mut others] = [tenant, other].map(|tenant| bus.journal(partition(&bus, tenant), 0));
    journal.append(commit("a")).await.unwrap();
    let floor = others.append(commit("b")).await.unwrap();
    assert_eq!(bus.trim(Floors { events: 0, journal: floor }).await.unwrap(), (0, 1));
    assert!(commits_after(&bus, tenant, 0).await.is_empty());
    journal.append(commit("c")).await.unwrap();
    others.append(commit("d")).await.unwrap();
    let floor = journal.append(commit("e")).await.unwrap();
    bus.trim(Floors { events: 0, journal: floor }).await.unwrap();
    let mut again = bus.journal(partition(&bus, other), 0);
    again.append(commit("f")).await.unwrap();
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["e"]);
    assert_eq!(names(&commits_after(&bus, other, 0).await), ["f"]);
}
