//! Removal of rows, and the life of the file.

use super::{folding::RETRY, *};
use talaria_proto::v1::{ReplayJobState, record::What};

#[tokio::test]
async fn a_partition_goes_with_all_its_rows_and_no_others() {
    let mut history =
        folding::random(&(0..160_u32).filter_map(|n| u8::try_from(n * 37 % 251).ok()).collect::<Vec<_>>());
    history.pause(at(1), "acme", "a", true);
    history.pause(at(1), "other", "a", true);
    let (of_0, of_1): (Vec<_>, Vec<_>) =
        history.commits.iter().cloned().partition(|commit| commit.partition == partition(0));
    let (_kept, view) = view_of(&history).await;
    let (_kept, only_0) = view_in(&of_0, 7).await;
    let (kept, only_1) = view_in(&of_1, 7).await;
    assert!(rows(&view, "events").await > rows(&only_1, "events").await);
    while !view.remove(partition(0)).await.unwrap() {}
    let without_spans = |lines: Vec<String>| -> Vec<_> {
        // They bound a search, and may be wider than necessary.
        lines.into_iter().filter(|line| !line.starts_with("Text([115, 112, 97, 110])")).collect()
    };
    assert_eq!(without_spans(dump(&view).await), without_spans(dump(&only_1).await));
    assert_eq!((view.cursor(partition(0)), view.cursor(partition(1))), (None, only_1.cursor(partition(1))));
    // Folded again, it has the same rows.
    view.apply(&of_0.as_slice().into()).await.unwrap();
    while !view.remove(partition(1)).await.unwrap() {}
    assert_eq!(without_spans(dump(&view).await), without_spans(dump(&only_0).await));
    // Nothing is folded into rows that are removed in part.
    only_1.write(|c| c.execute("UPDATE cursors SET seq = NULL", ()).map(drop)).await.unwrap();
    let again = View::open(kept.path(), &journal(u64::MAX >> 1)).unwrap();
    assert_eq!((again.cursor(partition(1)), again.stored().await.unwrap()), (None, vec![(1, true)]));
}

#[tokio::test]
async fn large_partitions_go_in_steps() {
    let mut history = TestHistory::default();
    for _ in 0..1_100 {
        history.event("acme", &["a"]);
    }
    let (_kept, view) = view_of(&history).await;
    history.forget("acme", 601);
    let forgotten = view.apply(&history.commits.as_slice().into()).await.unwrap();
    assert_eq!(forgotten, [partition(0)]);
    let steps = [
        view.remove_forgotten(partition(0)).await.unwrap(),
        view.remove_forgotten(partition(0)).await.unwrap(),
    ];
    assert_eq!((steps, rows(&view, "events").await), ([false, true], 500));
    let steps = [view.remove(partition(0)).await.unwrap(), view.remove(partition(0)).await.unwrap()];
    assert_eq!((steps, rows(&view, "deliveries").await), ([false, true], 0));
    assert_eq!((rows(&view, "lanes").await, rows(&view, "delivery_counts").await), (0, 0));
}

#[tokio::test]
async fn forgotten_events_are_removed_and_operators_actions_stay_listed() {
    let mut history = TestHistory::default();
    let (gone, tasks) = history.event("acme", &["a"]);
    history.attempt(&tasks[0], RETRY);
    let task = history.again(&tasks[0], "");
    history.again(&task, "rpl_1");
    history.conflict("acme", 1, conflict(&gone.to_string(), 1, 1));
    let (kept, _) = history.event("acme", &["a", "b"]);
    history.forget("acme", 6);
    let (_kept, view) = view_of(&history).await;
    remove_forgotten(&view, partition(0)).await;
    for (id, is_there) in [(gone, false), (kept, true)] {
        assert_eq!(view.read(move |c| query::event(c, id)).await.unwrap().is_some(), is_there);
    }
    assert_eq!(states(&view).await.len(), 2);
    assert_eq!((rows(&view, "conflicts").await, rows(&view, "actions").await), (0, 1));
    // The same job's next event is found, and not the one that was forgotten.
    let found = view.read(|c| {
        let filter = EventFilter { job_id: Some("job 2".into()), ..EventFilter::default() };
        query::events(c, &filter, 99, Most::page(9))
    });
    assert_eq!(found.await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn the_rest_goes_when_nothing_happened_to_it_for_long() {
    let mut history = TestHistory { elsewhere: "other", ..TestHistory::default() };
    let (id, tasks) = history.event("acme", &["a"]);
    history.again(&tasks[0], "");
    history.pause(at(5), "acme", "a", true);
    history.record("acme", at(10), 0, What::CallbackQuarantined(quarantined("qrt_1", 10)));
    history.record("acme", at(10), 0, What::CallbackQuarantined(quarantined("qrt_2", 10)));
    history.record("acme", at(30), 0, What::CallbackQuarantined(quarantined("qrt_2", 30)));
    for (body, received) in [(1, 10), (2, 10), (2, 30)] {
        history.conflict("acme", 1, conflict(&id.to_string(), body, received));
    }
    history.job("acme", "rpl_1", 1, 9, ReplayJobState::Done);
    history.job("acme", "rpl_2", 1, 9, ReplayJobState::Running);
    history.job("acme", "rpl_3", 1, 9, ReplayJobState::Done);
    history.job("other", "rpl_3", 1, 29, ReplayJobState::Cancelled);
    let (_kept, view) = view_of(&history).await;
    view.expire(at(20), Duration::ZERO).await.unwrap();
    let left = async |table| rows(&view, table).await;
    assert_eq!((left("quarantined").await, left("conflicts").await), (1, 1));
    assert_eq!(left("replay_jobs").await, 3, "all parts of a job, or none");
    assert_eq!(left("actions").await, 1, "what was done to a delivery that is kept");
    assert_eq!((left("pauses").await, left("events").await, left("spans").await), (1, 1, 1));
    let page = view.read(|c| query::quarantined(c, &everything(), None, (i64::MAX, ""), 9)).await.unwrap();
    assert_eq!(page.callbacks[0].0, (at(10).as_microsecond(), "qrt_2".to_owned()), "as it came first");
    history.forget("acme", 99);
    view.apply(&history.commits.as_slice().into()).await.unwrap();
    remove_forgotten(&view, partition(0)).await;
    view.expire(at(20_000), Duration::ZERO).await.unwrap();
    assert_eq!((left("replay_jobs").await, left("actions").await, left("spans").await), (1, 0, 0));
}

#[tokio::test]
async fn a_view_goes_on_where_it_was_and_is_rebuilt_when_it_cannot() {
    let history = crowd();
    let last = history.commits.last().unwrap().seq;
    let (kept, view) = view_of(&history).await;
    drop(view);
    let position =
        |kept: &TempDir, last| View::open(kept.path(), &journal(last)).unwrap().cursor(partition(0));
    assert_eq!(position(&kept, last), Some(last));
    assert_eq!(position(&kept, last - 1), None, "it knows more than the journal");
    // The process of this boot, one of another boot, one that closed it.
    for (close, boot, expected) in [(false, "another boot", None), (true, "closed", Some(last))] {
        let (kept, view) = view_of(&history).await;
        let file = Connection::open(kept.path().join(FILE)).unwrap();
        if close {
            view.close().await.unwrap();
        } else {
            file.execute("UPDATE file SET boot = ?", [boot]).unwrap();
        }
        let signed: String = file.query_row("SELECT boot FROM file", (), |row| row.get(0)).unwrap();
        assert_eq!(signed, boot);
        drop((view, file));
        assert_eq!(position(&kept, last), expected, "{boot}");
    }
    let (kept, _) = view_of(&history).await;
    Connection::open(kept.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(position(&kept, last), None, "another version");
    // Damaged where opening does not look: found by the first query that reads it, and rebuilt at the next start.
    let (kept, view) = view_of(&history).await;
    view.close().await.unwrap();
    drop(view);
    let page = Connection::open(kept.path().join(FILE)).unwrap();
    let select =
        "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'event_counts'";
    let (page, size): (usize, usize) = page.query_row(select, (), |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let mut bytes = fs::read(kept.path().join(FILE)).unwrap();
    bytes[(page - 1) * size..page * size].fill(0xFF);
    fs::write(kept.path().join(FILE), bytes).unwrap();
    let view = View::open(kept.path(), &journal(last)).unwrap();
    assert_eq!((view.cursor(partition(0)), view.damage().was_found()), (Some(last), false));
    assert!(view.read(|c| summary::tenant_summaries(c, None)).await.is_err());
    assert!(view.damage().was_found());
    drop(view);
    assert_eq!(position(&kept, last), None, "found to be damaged");
    fs::write(kept.path().join(FILE), "this is no database, but it is long enough to be looked at").unwrap();
    assert_eq!(position(&kept, last), None, "damaged");
}
