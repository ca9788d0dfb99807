//! Filters, and pages for which not every row is read.

use super::*;
use crate::decisions::classify::Next;
use query::TOP;
use replayable::BOTTOM;
use talaria_proto::v1::{AttemptOutcome, DeliveryRef, Run, RunOutcome, RunReported, record::What};

/// Pages through all deliveries that match, and reads at most `rows` rows for each page. Gives their events' sequences, and the
/// number of pages.
async fn all(view: &View, filter: DeliveryFilter, entries: usize, rows: usize) -> (Vec<i64>, usize) {
    let (mut below, mut seqs, mut pages) = (TOP, Vec::new(), 0);
    loop {
        let asked = filter.clone();
        let (page, end) = view
            .read(move |c| query::deliveries(c, &asked, below, Most { entries, rows }, |_| Ok(())))
            .await
            .unwrap();
        assert!(page.len() <= entries && page.iter().all(|(position, _)| *position < below));
        pages += 1;
        seqs.extend(page.iter().map(|((seq, _), _)| *seq));
        match end {
            Some(end) => {
                assert!(end < below, "each page goes on");
                below = end;
            }
            None => return (seqs, pages),
        }
    }
}

/// One hundred events in turn: delivered; failed and waiting; answered 429 and then delivered; without an attempt.
fn turns() -> TestHistory {
    let mut history = TestHistory::default();
    for index in 0..100 {
        history.model = if index < 50 { "veo" } else { "" };
        let (_, tasks) = history.event(if index % 8 < 4 { "acme" } else { "other" }, &["a"]);
        match index % 4 {
            0 => drop(history.attempt(&tasks[0], Next::Delivered)),
            1 => drop(history.attempt(&tasks[0], folding::RETRY)),
            2 => {
                let next = history.attempt(&tasks[0], Next::Slower { retry_after: None }).unwrap();
                history.attempt(&next, Next::Delivered);
            }
            _ => {}
        }
    }
    history
}

#[tokio::test]
async fn deliveries_are_found_by_their_event_their_last_attempt_and_their_reason() {
    let (_kept, view) = view_of(&turns()).await;
    let of_type = |pattern: &str| DeliveryFilter { event_type: pattern.parse().ok(), ..filter() };
    let outcome = |outcomes: &[AttemptOutcome]| DeliveryFilter { outcomes: outcomes.to_vec(), ..filter() };
    let http = |range| DeliveryFilter { http_statuses: vec![range], ..filter() };
    let reason = |part: &str| DeliveryFilter { reason: Some(part.into()), ..filter() };
    let states = vec![DeliveryState::Waiting];
    let acme = Some("acme".to_owned());
    for (filter, expected) in [
        (of_type("video.done"), 100),
        (of_type("video.*"), 100),
        (of_type("image.*"), 0),
        (DeliveryFilter { model: Some("veo".into()), ..filter() }, 50),
        (DeliveryFilter { model: Some("sora".into()), ..filter() }, 0),
        (outcome(&[AttemptOutcome::Accepted]), 50),
        (outcome(&[AttemptOutcome::RateLimited]), 0),
        (outcome(&[AttemptOutcome::Accepted, AttemptOutcome::Failed]), 75),
        (http(503..=503), 25),
        (http(500..=599), 25),
        (http(200..=299), 50),
        (DeliveryFilter { model: Some("veo".into()), ..http(503..=503) }, 13),
        (DeliveryFilter { tenant: acme.clone(), ..http(503..=503) }, 13),
        (DeliveryFilter { states: states.clone(), ..http(503..=503) }, 25),
        (DeliveryFilter { states, ..http(200..=299) }, 0),
        (DeliveryFilter { outcomes: vec![AttemptOutcome::Accepted], ..http(503..=503) }, 0),
        (reason("planned"), 25),
        (reason("failed"), 25),
        (DeliveryFilter { job_id: Some("job 2".into()), ..http(503..=503) }, 1),
        (DeliveryFilter { job_id: Some("job 2".into()), ..http(200..=200) }, 0),
    ] {
        let (whole, pages) = all(&view, filter.clone(), 1_000, usize::MAX).await;
        assert_eq!((whole.len(), pages), (expected, 1), "{filter:?}");
        for (entries, rows) in [(1, 7), (3, 1), (7, 20), (1_000, 33)] {
            let (seqs, _) = all(&view, filter.clone(), entries, rows).await;
            assert_eq!(seqs, whole, "{entries} {rows} {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_page_reads_a_bounded_number_of_rows() {
    let (_kept, view) = view_of(&turns()).await;
    let nothing = || DeliveryFilter { model: Some("sora".into()), ..filter() };
    assert_eq!(all(&view, nothing(), 9, 10).await, (vec![], 11), "the last one is empty");
    // Each of two lanes has two states.
    let of_route = DeliveryFilter { route: Some("a".into()), ..nothing() };
    let (found, pages) = all(&view, of_route, 9, 20).await;
    assert!(found.is_empty() && (4..=12).contains(&pages), "{pages}");
}

#[tokio::test]
async fn the_reason_that_is_shown_is_the_one_that_is_searched() {
    let (_kept, view) = view_of(&turns()).await;
    let shut = DeliveryFilter { reason: Some("route is shut".into()), ..filter() };
    let explain = |delivery: &mut Delivery| {
        if delivery.state() == DeliveryState::Waiting {
            delivery.reason = "The route is SHUT: 401".into();
        }
        Ok(())
    };
    let found =
        view.read(move |c| query::deliveries(c, &shut, TOP, Most::page(99), explain)).await.unwrap().0;
    assert_eq!(found.len(), 50);
}

#[tokio::test]
async fn events_are_found_by_type_and_model_on_pages_of_few_rows() {
    let mut history = turns();
    history.event("acme", &[]);
    let (_kept, view) = view_of(&history).await;
    let all = async |filter: EventFilter, rows: usize| {
        let (mut below, mut seqs) = (i64::MAX, Vec::new());
        loop {
            let asked = filter.clone();
            let most = Most { entries: 7, rows };
            let (page, end) = view.read(move |c| query::events(c, &asked, below, most)).await.unwrap();
            seqs.extend(page.into_iter().map(|(seq, _)| seq));
            match end {
                Some(end) => below = end,
                None => return seqs,
            }
        }
    };
    let veo = EventFilter { model: Some("veo".into()), ..EventFilter::default() };
    let acme = Some("acme".to_owned());
    let of_type = |pattern: &str| EventFilter { event_type: pattern.parse().ok(), ..EventFilter::default() };
    let unmatched = EventFilter { unmatched: true, ..EventFilter::default() };
    let job = Some("job 101".to_owned());
    for (filter, expected) in [
        (veo.clone(), 50),
        (EventFilter { tenant: acme, ..veo.clone() }, 26),
        (of_type("video.*"), 101),
        (of_type("video"), 0),
        (unmatched.clone(), 1),
        (EventFilter { unmatched: true, ..veo }, 0),
        (EventFilter { job_id: job, ..unmatched.clone() }, 1),
        (EventFilter { job_id: Some("job 100".into()), ..unmatched }, 0),
    ] {
        let whole = all(filter.clone(), usize::MAX).await;
        assert_eq!(whole.len(), expected, "{filter:?}");
        for rows in [1, 10] {
            assert_eq!(all(filter.clone(), rows).await, whole, "{rows} {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_replay_selects_by_the_last_attempt() {
    let mut history = TestHistory::default();
    for index in 0..20 {
        let (_, tasks) = history.event("acme", &["a"]);
        let next = if index % 2 == 0 { Next::Ambiguous } else { Next::Ignored };
        history.attempt(&tasks[0], next);
    }
    let (_kept, view) = view_of(&history).await;
    let states = vec![DeliveryState::Ambiguous, DeliveryState::Ignored];
    let asked = DeliveryFilter { outcomes: vec![AttemptOutcome::NotUnderstood], states, ..filter() };
    let (wanted, count) = (asked.clone(), asked);
    let found =
        view.read(move |c| replayable::deliveries(c, partition(0), &wanted, BOTTOM, 99, 4)).await.unwrap();
    assert_eq!(found.iter().map(|((seq, _), _)| *seq).collect::<Vec<_>>(), [1, 3, 5, 7]);
    let counted = view.read(move |c| replayable::events(c, partition(0), &count, 99)).await.unwrap();
    assert_eq!(counted.values().map(Vec::len).sum::<usize>(), 10);
}

#[tokio::test]
async fn deliveries_are_found_by_the_run_under_their_generation() {
    let mut history = turns();
    for (seq, tenant, outcome, generation) in [
        (1, "acme", RunOutcome::Failed, 1),
        (2, "acme", RunOutcome::Finished, 1),
        (5, "other", RunOutcome::Failed, 2),
    ] {
        let route = talaria_core::id::RouteKey::new("a").to_i64();
        let (_kept, view) = view_of(&history).await;
        let known = view.read(move |c| query::delivery_at(c, seq, route)).await.unwrap().unwrap();
        let delivery = Some(DeliveryRef { id: known.id, tenant: known.tenant, route: known.route });
        let run = Some(Run { outcome: outcome.into(), generation, ..Run::default() });
        let reported = RunReported { delivery, run, status: None };
        history.record(tenant, at(99), seq, What::RunReported(reported));
    }
    let (_kept, view) = view_of(&history).await;
    let runs = |runs: &[RunOutcome]| DeliveryFilter { runs: runs.to_vec(), ..filter() };
    let delivered = DeliveryFilter { states: vec![DeliveryState::Delivered], ..filter() };
    let (delivered, _) = all(&view, delivered, 1_000, usize::MAX).await;
    let (failed, _) = all(&view, runs(&[RunOutcome::Failed]), 1_000, usize::MAX).await;
    assert_eq!(failed.len(), 1, "the run of another generation is not the delivery's");
    let (reported, _) =
        all(&view, runs(&[RunOutcome::Failed, RunOutcome::Finished]), 1_000, usize::MAX).await;
    assert_eq!(reported.len(), 2);
    let (none, _) = all(&view, runs(&[RunOutcome::None]), 1_000, usize::MAX).await;
    assert!(none.iter().all(|seq| delivered.contains(seq) && !reported.contains(seq)), "{none:?}");
    assert_eq!(none.len(), delivered.iter().filter(|seq| !reported.contains(seq)).count());
}
