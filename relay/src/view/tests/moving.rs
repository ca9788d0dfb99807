//! The view of a bus that moved to NATS shows what it showed before.

use super::*;
use crate::{
    decisions::classify::Next,
    move_in::divide::{Division, Survey},
};
use std::sync::Arc;
use talaria_bus::Committed;
use talaria_proto::v1::{Commit, ReplayJobState, record::What};

const TENANTS: [&str; 4] = ["acme", "bravo", "charlie", "delta"];

/// Everything that answers show, without the partitions and the sequences of commits.
const SHOWN: &[&str] = &[
    "SELECT 'event', seq, job, tenant, event, unmatched FROM events ORDER BY seq",
    "SELECT 'span', * FROM spans ORDER BY 2",
    "SELECT 'delivery', event_seq, d.route, l.tenant, l.route, state, step, latency, started, started_at, delivery, attempts
     FROM deliveries d JOIN lanes l USING (lane) ORDER BY 2, 3",
    "SELECT 'conflict', * FROM conflicts ORDER BY 2, 3",
    "SELECT 'quarantined', id, tenant, received_at, touched_at, callback FROM quarantined ORDER BY id",
    "SELECT 'lane', tenant, route, held_because, held_until, cause, tries FROM lanes ORDER BY 2, 3",
    "SELECT 'count', tenant, route, state, count FROM delivery_counts JOIN lanes USING (lane) WHERE count != 0 ORDER BY 2, 3, 4",
    "SELECT 'pause', tenant, route, pause FROM pauses ORDER BY 2, 3",
    "SELECT 'action', at, tenant, event_seq, route, listed, action FROM actions ORDER BY at, tenant, event_seq, place",
    "SELECT 'bucket', width, start, tenant, route, counts FROM series WHERE tenant != '' ORDER BY 2, 3, 4, 5",
    "SELECT 'events', * FROM event_counts WHERE events != 0 ORDER BY 2",
    "SELECT 'cost', day, tenant, model, routes, events, without_cost, micros FROM costs ORDER BY 2, 3, 4, 5",
];

fn divided(commits: &[Committed]) -> Vec<Committed> {
    let mut survey = Survey::default();
    for commit in commits {
        survey.commit(&commit.commit);
    }
    let mut division = Division::new(survey, 1 << 20);
    let mut all = Vec::new();
    for Committed { seq, commit, .. } in commits {
        all.extend(division.commit(*seq, Commit::clone(commit)).unwrap());
    }
    all.extend(division.end());
    let numbered = (1..).zip(all);
    numbered
        .map(|(seq, (partition, commit))| Committed { seq, partition, commit: Arc::new(commit) })
        .collect()
}

async fn shown(view: &View) -> Vec<String> {
    view.write(|connection| series::merge(connection)).await.unwrap();
    lines(view, SHOWN).await
}

#[tokio::test]
async fn a_divided_journal_shows_the_same_history() {
    let mut history = TestHistory { model: "google/veo-3.1", ..TestHistory::default() };
    let mut forgotten = 0;
    for round in 0..60_u64 {
        for (index, tenant) in (0_u64..).zip(TENANTS) {
            let routes: &[&str] = if (round + index) % 5 == 0 { &[] } else { &["a", "b"] };
            let (id, tasks) = history.event(tenant, routes);
            for task in &tasks {
                history.start(task);
                let next = [Next::Delivered, Next::Ignored, folding::RETRY];
                if let Some(task) = history.attempt(task, next[usize::try_from(round % 3).unwrap()].clone())
                    && round % 2 == 0
                {
                    history.attempt(&task, Next::Delivered);
                }
            }
            if let Some(task) = tasks.first().filter(|_| round % 7 == 0) {
                history.again(task, if index == 0 { "rpl_1" } else { "" });
            }
            let seq = history.events;
            history.conflict(tenant, seq, conflict(&id.to_string(), 7, seq));
            history.pause(at(5_000 + round), tenant, "a", round % 4 == 0);
        }
        // A commit of several tenants.
        history.join(12);
        if round == 20 {
            forgotten = history.commits.len() as u64;
        }
    }
    history.record("", at(9_000), 0, What::CallbackQuarantined(quarantined("q", 3)));
    history.job("acme", "rpl_1", 2_000, 9, ReplayJobState::Done);
    // Commits that were joined leave gaps.
    for (seq, commit) in (1..).zip(&mut history.commits) {
        commit.seq = seq;
    }
    history.forget("acme", forgotten / 2);

    let (_one, before) = view_of(&history).await;
    let moved = divided(&history.commits);
    let (_many, after) = view_in(&moved, 100).await;
    assert_eq!(shown(&after).await, shown(&before).await);

    // What was forgotten goes from both.
    remove_forgotten(&before, Partition::ONLY).await;
    let partitions: std::collections::BTreeSet<Partition> =
        moved.iter().map(|commit| commit.partition).collect();
    assert_eq!(partitions.len(), TENANTS.len());
    for partition in partitions {
        remove_forgotten(&after, partition).await;
    }
    let left = shown(&after).await;
    assert_eq!(left, shown(&before).await);
    let events = left.iter().filter(|line| line.starts_with("Text([101, 118, 101, 110, 116]")).count();
    assert!((1..240).contains(&events), "{events}");
}
