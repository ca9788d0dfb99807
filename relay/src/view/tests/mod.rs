mod buckets;
mod filtering;
mod folding;
mod history;
mod keeping;
mod moving;
mod projecting;
mod querying;

use super::{
    filter::{DeliveryFilter, EventFilter, Period},
    query::{DeliveryPosition, Most},
    *,
};
use history::{TestHistory, at};
use talaria_proto::v1::{Delivery, DeliveryState, EventConflict, QuarantinedCallback};
use tempfile::TempDir;

const ANY_TIME: Period = Period { since: None, until: None };

fn journal(last_commit: u64) -> Bounds {
    Bounds { source: "bus.db".into(), first_event: 1, last_event: 1_000, first_commit: 1, last_commit }
}

/// One of two partitions.
fn partition(number: u16) -> Partition {
    Partition::new(number, 2).unwrap()
}

/// A view of these commits, folded in batches of this size.
async fn view_in(commits: &[Committed], batch: usize) -> (TempDir, View) {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(directory.path(), &journal(u64::MAX >> 1)).unwrap();
    for batch in commits.chunks(batch) {
        view.apply(&batch.into()).await.unwrap();
    }
    (directory, view)
}

async fn view_of(history: &TestHistory) -> (TempDir, View) {
    view_in(&history.commits, usize::MAX).await
}

/// Every row of every table, with lanes by name.
async fn dump(view: &View) -> Vec<String> {
    const QUERIES: &[&str] = &[
        "SELECT 'cursor', * FROM cursors ORDER BY 2",
        "SELECT 'event', * FROM events ORDER BY 2",
        "SELECT 'span', * FROM spans ORDER BY 2",
        "SELECT 'delivery', event_seq, d.route, l.tenant, l.route, state, step, latency, started, started_at, delivery, attempts
         FROM deliveries d JOIN lanes l USING (lane) ORDER BY 2, 3",
        "SELECT 'conflict', * FROM conflicts ORDER BY 2, 3",
        "SELECT 'quarantined', * FROM quarantined ORDER BY 2",
        "SELECT 'lane', partition, tenant, route, held_because, held_until, cause, tries FROM lanes ORDER BY 3, 4",
        "SELECT 'count', tenant, route, state, count FROM delivery_counts JOIN lanes USING (lane) WHERE count != 0 ORDER BY 2, 3, 4",
        "SELECT 'pause', * FROM pauses ORDER BY 2, 3",
        "SELECT 'action', * FROM actions ORDER BY 2",
        "SELECT 'job', * FROM replay_jobs ORDER BY 2, 3",
        "SELECT 'bucket', * FROM series ORDER BY 2, 3, 4, 5, 6",
        "SELECT 'events', * FROM event_counts WHERE events != 0 ORDER BY 2",
    ];
    view.write(|connection| series::merge(connection)).await.unwrap();
    lines(view, QUERIES).await
}

/// The rows that these queries find.
async fn lines(view: &View, queries: &'static [&'static str]) -> Vec<String> {
    let read = move |connection: &Connection| {
        let mut lines = Vec::new();
        for query in queries {
            let mut statement = connection.prepare(query)?;
            let columns = statement.column_count();
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let line: Vec<_> =
                    (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect();
                lines.push(line.join(" "));
            }
        }
        Ok(lines)
    };
    view.read(read).await.unwrap()
}

/// The number of rows of a table.
async fn rows(view: &View, table: &'static str) -> u64 {
    view.read(move |c| c.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)))
        .await
        .unwrap()
}

/// Removes all events that were forgotten.
async fn remove_forgotten(view: &View, partition: Partition) {
    while !view.remove_forgotten(partition).await.unwrap() {}
}

fn filter() -> DeliveryFilter {
    DeliveryFilter::default()
}

/// A page of deliveries, and whether there are more.
fn deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    below: DeliveryPosition,
    max: usize,
) -> rusqlite::Result<(Vec<(DeliveryPosition, Delivery)>, bool)> {
    let (found, end) = query::deliveries(connection, filter, below, Most::page(max), |_| Ok(()))?;
    Ok((found, end.is_some()))
}

fn conflict(event_id: &str, body: u8, received: u64) -> EventConflict {
    EventConflict {
        event_id: event_id.into(),
        received_at: Some(talaria_proto::time::to_proto(at(received))),
        payload_sha256: vec![body].into(),
        payload: "x".into(),
    }
}

fn quarantined(id: &str, received: u64) -> QuarantinedCallback {
    QuarantinedCallback {
        id: id.into(),
        tenant: "acme".into(),
        received_at: Some(talaria_proto::time::to_proto(at(received))),
        ..QuarantinedCallback::default()
    }
}

/// Two hundred events: every third to route a of acme, the others to a and b of other; some delivered.
fn crowd() -> TestHistory {
    let mut history = TestHistory::default();
    for index in 0..200 {
        let (tenant, routes): (_, &[&str]) =
            if index % 3 == 0 { ("acme", &["a"]) } else { ("other", &["a", "b"]) };
        for task in history.event(tenant, routes).1 {
            if index % 2 == 0 {
                history.attempt(&task, crate::decisions::classify::Next::Delivered);
            }
        }
    }
    history
}

async fn states(view: &View) -> Vec<DeliveryState> {
    let found = view.read(|c| deliveries(c, &filter(), query::TOP, 100)).await.unwrap();
    found.0.into_iter().map(|(_, delivery)| delivery.state()).collect()
}

/// All partitions of these tests.
fn everything() -> crate::partition_set::PartitionSet {
    crate::partition_set::PartitionSet::new(Partition::all(2), 2)
}

/// The replay jobs with a running part.
fn running_jobs(connection: &Connection) -> rusqlite::Result<Vec<talaria_proto::v1::ReplayJob>> {
    let (mut jobs, _) = control::jobs(connection, &everything(), None, (i64::MAX, ""), 9)?;
    jobs.retain(|job| job.state() == talaria_proto::v1::ReplayJobState::Running);
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(jobs)
}
