//! Invariants 5 to 9.

use super::{Backend, commit, commits_after, names, partition, tenants, waits};
use crate::{AppendError, Bus, Commits, Committed, Journal};
use std::{collections::BTreeSet, time::Duration};
use talaria_proto::v1::Commit;

/// A writer for a tenant's partition after its last commit.
async fn journal(bus: &Bus, tenant: &str) -> Journal {
    let last = commits_after(bus, tenant, 0).await.last().map_or(0, |committed| committed.seq);
    bus.journal(partition(bus, tenant), last)
}

pub async fn i05_a_commit_is_durable_as_a_whole(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let records = |name: String| commit(&name).records.remove(0);
    let large = Commit { records: (0..2_000).map(|index| records(format!("{index:0250}"))).collect() };
    let empty = Commit::default();
    let mut journal = bus.journal(partition(&bus, tenant), 0);
    let seqs = [journal.append(large.clone()).await.unwrap(), journal.append(empty.clone()).await.unwrap()];
    drop((bus, journal));
    let bus = backend.open().await;
    let found = commits_after(&bus, tenant, 0).await;
    assert_eq!(found.iter().map(|committed| committed.seq).collect::<Vec<_>>(), seqs);
    assert!(*found[0].commit == large && *found[1].commit == empty);
    assert_eq!(bus.commit_at(seqs[0]).await.unwrap(), Some(large));
    assert_eq!(bus.commit_at(seqs[1] + 1).await.unwrap(), None);
}

pub async fn i05_sequences_of_commits_rise_over_all_partitions_and_restarts(backend: &impl Backend) {
    let mut seqs = Vec::new();
    for _ in 0..3 {
        let bus = backend.open().await;
        for _ in 0..3 {
            for tenant in tenants(&bus) {
                seqs.push(journal(&bus, &tenant).await.append(commit("a")).await.unwrap());
            }
        }
    }
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
}

pub async fn i05_a_commit_that_is_too_large_is_refused_and_the_next_one_is_not(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut journal = bus.journal(partition(&bus, tenant), 0);
    let limit = bus.largest_commit();
    let refused = journal.append(commit(&"x".repeat(limit))).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { size, limit: of } if size > limit && of == limit));
    let largest = commit(&"x".repeat(limit - 100));
    let seq = journal.append(largest.clone()).await.unwrap();
    journal.append(commit("last")).await.unwrap();
    let found = commits_after(&bus, tenant, 0).await;
    assert_eq!((found.len(), found[0].seq, names(&found[1..])), (2, seq, vec!["last"]));
    assert!(*found[0].commit == largest);
}

pub async fn i06_of_two_writers_one_goes_on(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, other] = &tenants(&bus);
    let partition = partition(&bus, tenant);
    let mut first = bus.journal(partition, 0);
    let mut second = bus.journal(partition, 0);
    let last = first.append(commit("a")).await.unwrap();
    assert_eq!(second.append(commit("refused")).await, Err(AppendError::Overtaken));
    let last = first.append(commit("b")).await.map(|seq| seq.max(last)).unwrap();
    let mut third = bus.journal(partition, last);
    third.append(commit("c")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(first.append(commit("refused")).await, Err(AppendError::Overtaken));
        assert_eq!(second.append(commit("refused")).await, Err(AppendError::Overtaken));
    }
    third.append(commit("d")).await.unwrap();
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["a", "b", "c", "d"]);
    if bus.partitions() > 1 {
        journal(&bus, other).await.append(commit("of another partition")).await.unwrap();
        third.append(commit("e")).await.unwrap();
    }
}

pub async fn i06_of_many_writers_at_once_one_goes_on(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut won = Vec::new();
    for round in 0..5 {
        let last = commits_after(&bus, tenant, 0).await.last().map_or(0, |committed| committed.seq);
        let mut appending = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let mut journal = bus.journal(partition(&bus, tenant), last);
            let name = format!("{round} {writer}");
            appending.spawn(async move { journal.append(commit(&name)).await.map(|_| name) });
        }
        let (ended, refused): (Vec<_>, Vec<_>) =
            appending.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((ended.len(), refused.len()), (1, 15));
        assert!(refused.iter().all(|refused| *refused == Err(AppendError::Overtaken)), "{refused:?}");
        won.extend(ended.into_iter().flatten());
        assert_eq!(names(&commits_after(&bus, tenant, 0).await), won);
    }
}

pub async fn i06_a_second_relay_overtakes_the_first(backend: &impl Backend) {
    let bus = backend.open().await;
    let Some(second) = backend.open_second().await else { return };
    let [tenant, _] = &tenants(&bus);
    let mut before = journal(&bus, tenant).await;
    before.append(commit("a")).await.unwrap();
    let mut after = journal(&second, tenant).await;
    after.append(commit("b")).await.unwrap();
    assert_eq!(before.append(commit("refused")).await, Err(AppendError::Overtaken));
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["a", "b"]);
}

pub async fn i06_a_journal_that_ends_too_early_has_lost_its_end(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let last = journal(&bus, tenant).await.append(commit("a")).await.unwrap();
    let mut ahead = bus.journal(partition(&bus, tenant), last + 10);
    let lost = AppendError::LostEnd { last, acknowledged: last + 10 };
    assert_eq!(ahead.append(commit("refused")).await, Err(lost));
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), ["a"]);
}

pub async fn i07_a_commit_whose_acknowledgement_was_lost_is_there_once(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut journal = journal(&bus, tenant).await;
    journal.append(commit("a")).await.unwrap();
    if !backend.lose_acknowledgement(&bus).await {
        return;
    }
    let seq = journal.append(commit("b")).await.unwrap();
    journal.append(commit("c")).await.unwrap();
    let found = commits_after(&bus, tenant, 0).await;
    assert_eq!((names(&found), found[1].seq), (vec!["a", "b", "c"], seq));
}

pub async fn i07_a_dropped_append_is_there_as_a_whole_or_not_at_all(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut expected = Vec::new();
    for index in 0..60 {
        let name = format!("{index:0100}");
        let limit = Duration::from_micros(50 * (index % 30));
        let seq = loop {
            let mut journal = journal(&bus, tenant).await;
            match tokio::time::timeout(limit, journal.append(commit(&name))).await {
                // The commit of a dropped append arrived after the end was read.
                Ok(Err(AppendError::Overtaken)) => {}
                Ok(appended) => break Some(appended.unwrap()),
                Err(_) => break None,
            }
        };
        expected.push((seq, name));
    }
    // Overtakes a dropped append that is still in flight.
    while journal(&bus, tenant).await.append(commit("last")).await.is_err() {}
    let found = commits_after(&bus, tenant, 0).await;
    let mut found = names(&found).into_iter().zip(found.iter().map(|committed| committed.seq)).peekable();
    for (seq, name) in expected {
        let is_there = found.next_if(|(found, _)| *found == name);
        assert!(seq.is_none() || is_there.map(|(_, seq)| seq) == seq, "{name} is missing");
    }
    assert_eq!(found.map(|(name, _)| name).collect::<Vec<_>>(), ["last"], "in order, each once");
}

pub async fn i08_read_gives_commits_in_order_and_misses_none(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, other] = &tenants(&bus);
    let partition = partition(&bus, tenant);
    assert!(bus.read(partition, 0, 10).await.unwrap().is_empty());
    let mut appending = bus.journal(partition, 0);
    let (mut last, mut expected) = (0, Vec::new());
    for index in 0..50 {
        let name = index.to_string();
        let seq = appending.append(commit(&name)).await.unwrap();
        // At once after the acknowledgement.
        let found = bus.read(partition, last, 10).await.unwrap();
        assert_eq!((names(&found), found[0].seq), (vec![name.as_str()], seq));
        assert!(bus.read(partition, seq, 10).await.unwrap().is_empty());
        (last, expected) = (seq, [expected, vec![name]].concat());
        if bus.partitions() > 1 && index % 10 == 0 {
            journal(&bus, other).await.append(commit("of another partition")).await.unwrap();
        }
    }
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), expected);
    let page = bus.read(partition, 0, 20).await.unwrap();
    assert!((1..=25).contains(&page.len()), "{} are not about 20", page.len());
    drop((bus, appending));
    let bus = backend.open().await;
    assert_eq!(names(&commits_after(&bus, tenant, 0).await), expected);
    assert!(bus.read(partition, u64::MAX >> 1, 20).await.unwrap().is_empty());
}

async fn follow(following: &mut Commits, count: usize) -> Vec<Committed> {
    let mut found = Vec::new();
    while found.len() < count {
        let next = following.next(count - found.len()).await.unwrap();
        assert!((1..=count - found.len()).contains(&next.len()));
        found.extend(next);
    }
    assert!(found.is_sorted_by(|one, next| one.seq < next.seq));
    found
}

pub async fn i09_all_commits_are_followed_in_order(backend: &impl Backend) {
    let bus = backend.open().await;
    let tenants = tenants(&bus);
    let mut following = bus.commits(0).await.unwrap();
    assert!(waits(following.next(10)).await);
    let waiting = tokio::spawn(async move { (following.next(10).await.unwrap(), following) });
    let mut expected = Vec::new();
    for index in 0..30 {
        let tenant = &tenants[index % 2];
        let name = index.to_string();
        let seq = journal(&bus, tenant).await.append(commit(&name)).await.unwrap();
        expected.push((seq, partition(&bus, tenant), name));
    }
    let (mut found, mut following) = waiting.await.unwrap();
    let rest = 30 - found.len();
    found.extend(follow(&mut following, rest).await);
    let is_expected = |(committed, (seq, partition, name)): (&Committed, &(u64, _, String))| {
        (committed.seq, committed.partition, names(std::slice::from_ref(committed)))
            == (*seq, *partition, vec![name])
    };
    assert!(found.iter().zip(&expected).all(is_expected), "{found:?}");
    assert!(waits(following.next(10)).await);
    drop((bus, following));
    let bus = backend.open().await;
    for skip in [0, 1, 29] {
        let after = if skip == 0 { 0 } else { expected[skip - 1].0 };
        let found = follow(&mut bus.commits(after).await.unwrap(), 30 - skip).await;
        assert!(found.iter().zip(&expected[skip..]).all(is_expected), "{found:?}");
    }
}

pub async fn i09_a_dropped_next_loses_no_commit(backend: &impl Backend) {
    let bus = backend.open().await;
    let [tenant, _] = &tenants(&bus);
    let mut journal = journal(&bus, tenant).await;
    let mut following = bus.commits(0).await.unwrap();
    let appending = tokio::spawn(async move {
        let mut seqs = Vec::new();
        for index in 0..200 {
            seqs.push(journal.append(commit(&index.to_string())).await.unwrap());
        }
        seqs
    });
    let (mut found, mut tries) = (Vec::new(), 0);
    while found.len() < 200 {
        tries += 1;
        let limit = Duration::from_micros(200 * (tries % 25));
        if let Ok(next) = tokio::time::timeout(limit, following.next(3)).await {
            found.extend(next.unwrap());
        }
    }
    let seqs = appending.await.unwrap();
    assert_eq!(found.iter().map(|committed| committed.seq).collect::<Vec<_>>(), seqs);
    assert_eq!(names(&found).into_iter().collect::<BTreeSet<_>>().len(), 200);
}
